"""The tour in a real browser, over the fake engine: every step, by click, by key and by address."""

from dataclasses import replace
from typing import Any

import pytest

from tests.api.support import Served, fake_engine, live, ready_state, served_model
from tests.browser.conftest import connected, served, texts, until, visit
from tests.browser.test_axe import violations
from tests.browser.test_basics import CONTRAST, UNNAMED
from tests.draws import also_at_night, is_night
from thirdeye.server.api.http.api_config import ApiConfig
from thirdeye.server.api.state.model_design import ModelDesign

STEPS = 16
SHORT = "Greasy lunch"  # its maps have a seventh of the cells that the tour's own sentence has
SHOWN = "document.querySelector('.tour-figure:not([aria-busy])')?.dataset.step"


CAPTION = "document.querySelector('figcaption').textContent"
WIDTH = "document.querySelector('#tour').scrollWidth"


def at_step(page: Any, number: int) -> None:
    """Its picture is there."""
    until(page, f"{SHOWN} === '{number}'")


def go(page: Any, number: int) -> None:
    page.evaluate(f"location.hash = 'tour/{number}'")
    at_step(page, number)


def trouble(page: Any) -> str:
    """What is said in place of a picture."""
    said: str = page.evaluate("document.querySelector('.tour-figure .error')?.textContent ?? ''")
    return said


@also_at_night
@pytest.mark.parametrize(("scheme", "judged"), [("light", 1280), ("dark", 390)])
def test_every_step_is_for_all(browser: Any, shared: Served, scheme: str, judged: int) -> None:
    """A picture with its text for who cannot see it, wide and narrow; axe finds nothing. It takes
    its time, so it judges one width of each scheme: colors are the same in both. At a push
    each step is seen in one scheme; in the dark, where the large maps are, axe judges those of a
    short sentence, and the widths are those of the tour's."""
    shared.use(fake_engine())
    with visit(browser, shared.url, "/#tour", color_scheme=scheme) as seen:
        page = seen.page
        steps = [*range(1, STEPS + 1)]
        if not is_night():
            steps = [*steps[scheme == "dark" :: 2]]
        is_short = not is_night() and scheme == "dark"
        if is_short:
            at_step(page, 1)
            page.fill(".tour-form textarea", SHORT)
            page.press(".tour-form textarea", "Enter")
        for number in steps:
            go(page, number)
            assert trouble(page) == ""
            assert page.inner_text("#tour-title").startswith(f"{number}. ")
            assert len(page.inner_text("figcaption")) > 20
            assert len(page.text_content("#tour-alt")) > 40
            assert page.locator(".tour-map .lit").count() >= 1
            assert page.locator(".tour-stage > *").count() == 1
            for details in page.locator(".tour-fold summary").all():
                details.click()
            until(page, "document.querySelectorAll('.tour-fold .katex').length >= 1")
            assert page.evaluate("document.querySelector('.katex-error')") is None
            for width in (1280, 390):
                page.set_viewport_size({"width": width, "height": 844})
                if width == judged:  # at a push, what is around all steps once
                    is_whole = is_night() or number == steps[0]
                    where = ["html" if is_whole else "#tour"]
                    assert violations(page, include=where) == [], number
                assert page.evaluate(UNNAMED) == []
                assert page.evaluate(CONTRAST) == []
                assert page.evaluate(WIDTH) <= width
        if is_short:
            page.click("text=The tour's sentence")
            for number in steps:
                go(page, number)
                for width in (1280, 390):
                    page.set_viewport_size({"width": width, "height": 844})
                    assert page.evaluate(WIDTH) <= width, number


def test_keys_links_and_addresses_lead_from_step_to_step(browser: Any) -> None:
    with served() as (url, _), visit(browser, url, "/#tour/6") as seen:
        page = seen.page
        at_step(page, 6)
        page.keyboard.press("ArrowRight")
        at_step(page, 7)
        assert page.evaluate("location.hash") == "#tour/7"
        page.keyboard.press("ArrowLeft")
        at_step(page, 6)
        page.focus(".tour-cells")  # there the keys move the cell
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowDown")
        assert page.evaluate("location.hash") == "#tour/6"
        assert "gives" in page.inner_text(".tour-says")
        page.click("text=Next →")
        at_step(page, 7)
        page.click(".tour-steps a:nth-child(16)")
        at_step(page, 16)
        page.keyboard.press("ArrowRight")  # there is nothing behind
        assert page.evaluate("location.hash") == "#tour/16"
        assert page.get_attribute(".tour-steps a:nth-child(16)", "aria-current") == "step"
        page.go_back()
        at_step(page, 7)
        page.click("nav a[href='#inspector']")
        page.wait_for_selector("#next .next")
        page.click("#inspector a[href='#tour']")
        at_step(page, 1)


def test_who_walks_on_is_not_waited_for(browser: Any) -> None:
    """Steps that are passed by ask for nothing; the last one is drawn."""
    with served() as (url, engine), visit(browser, url, "/#tour/1") as seen:
        page = seen.page
        at_step(page, 1)
        before = len(engine.inspections)
        page.evaluate("for (let i = 2; i <= 12; i++) location.hash = `tour/${i}`")
        at_step(page, 12)
        parts = [request.arrays for request in engine.inspections[before:]]
        assert parts[-1] == ["neurons"]
        assert ["scores"] not in parts
        assert ["norms"] not in parts


def test_the_readers_own_sentence(browser: Any) -> None:
    """Goes through the same steps, cut where it is long; the tour's own one comes back."""
    with served() as (url, engine), visit(browser, url, "/#tour/4") as seen:
        page = seen.page
        at_step(page, 4)
        page.fill(".tour-form textarea", "abc")
        page.press(".tour-form textarea", "Enter")
        until(page, "document.querySelectorAll('.tour-cells g').length === 9")
        assert engine.inspections[-1].token_ids == [97, 98, 99]
        page.fill(".tour-form textarea", "x" * 40)
        page.click("text=Read this")
        until(page, "document.querySelectorAll('.tour-cells g').length === 32 * 32")
        assert "8 more" in page.inner_text(".tour-figure .note")
        page.click("text=The tour's sentence")
        until(page, "document.querySelector('.tour-form textarea').value.startsWith('Greasy')")
        until(page, "document.querySelector('.tour-figure .note').textContent.startsWith('The f')")
        go(page, 15)
        page.fill(".tour-form textarea", "ab")
        page.click("text=Read this")
        until(page, "document.querySelectorAll('.tour-chips small').length === 2")
        page.click("button:text-is('Draw a token')")
        until(page, "document.querySelectorAll('.tour-chips small').length === 3")


def test_a_choice_keeps_the_focus_and_asks_for_its_part_alone(browser: Any) -> None:
    with served() as (url, engine), visit(browser, url, "/#tour/7") as seen:
        page = seen.page
        at_step(page, 7)
        page.focus(".tour-controls select >> nth=1")
        page.select_option(".tour-controls select >> nth=1", "1")
        until(page, "document.querySelector('.tour-controls select:focus')?.value === '1'")
        at_step(page, 7)
        assert [*engine.inspections[-1].heads] == [1]
        assert len(engine.inspections[-1].layers) == 1


def test_heads_are_switched_off_one_by_one(browser: Any) -> None:
    with served() as (url, engine), visit(browser, url, "/#tour/10") as seen:
        page = seen.page
        at_step(page, 10)
        edits = [request.edits[0].change for request in engine.inspections if request.edits]
        assert edits == ["zero", "mean"]
        assert page.locator(".nothing .tour-table").count() == 1  # the fake's noise is as large
        page.click("text=Try every head")
        page.wait_for_selector(".tour-heads")
        assert page.locator(".tour-head").count() == 6
        assert page.locator(".tour-head.kind-nothing").count() == 2
        page.click("[aria-label^='Layer 2, head 1']")
        until(
            page, "document.querySelector('figcaption').textContent.includes('head 1 of layer 2')"
        )
        at_step(page, 10)
        assert page.locator(".tour-head").count() == 6  # what was found stays
        page.keyboard.press("ArrowLeft")  # and so does the focus
        focused = page.evaluate("document.activeElement.getAttribute('aria-label')")
        assert focused.startswith("Layer 2, head 0")
        assert page.evaluate("location.hash") == "#tour/10"


@also_at_night
@pytest.mark.parametrize(
    ("level", "refused", "first"), [("read", {10, 16}, 2), ("off", set(range(2, 17)), 1)]
)
def test_a_server_that_shows_less_says_so(
    browser: Any, level: str, refused: set[int], first: int
) -> None:
    """In the picture's place, in plain words; the text stays, and tokens are told in any case. At a
    push each step is seen at one of the levels."""
    with (
        live(ready_state(fake_engine()), ApiConfig(inspect=level)) as url,
        visit(browser, url, "/#tour/1") as seen,
    ):
        page = seen.page
        connected(page)
        for number in range(1, STEPS + 1) if is_night() else range(first, STEPS + 1, 2):
            go(page, number)
            assert (f"--inspect {level}" in trouble(page)) == (number in refused), number
            assert len(page.inner_text(".tour-words")) > 100
        assert {error for error in seen.errors if "403" not in error} == set()
        seen.errors.clear()  # the browser's own word for each refusal


def test_learned_positions_are_shown_without_their_tokens(browser: Any, shared: Served) -> None:
    design = ModelDesign(norm="layer_norm", positions="learned")
    engine = shared.use(fake_engine(), info=replace(served_model().info, design=design))
    with visit(browser, shared.url, "/#tour/3") as seen:
        at_step(seen.page, 3)
        assert "is added" in seen.page.inner_text("figcaption")
        (edit,) = engine.inspections[-1].edits
        assert (edit.at, edit.change) == ("embed", "zero")


def test_layers_that_are_one_thing_alone_are_told_apart(browser: Any, shared: Served) -> None:
    """A state, an MLP alone, heads that see their own stretch: the line about the model counts
    them, steps about MLPs are of layers that have one, and steps about heads of those."""
    design = ModelDesign(
        positions="none", state_layers=[0, 1], lone_mlps=[1], chunks=[None, None, 4]
    )
    engine = shared.use(fake_engine(), info=replace(served_model().info, design=design))
    with visit(browser, shared.url, "/#tour/6") as seen:
        page = seen.page
        at_step(page, 6)
        strip = page.inner_text(".tour-strip")
        for said in (
            "in 1 of 3 layers", "a state in place of heads in 1 layer", "stretches of 4 tokens",
            "an MLP alone in 1 layer, and none in the others",
        ):  # fmt: skip
            assert said in strip
        assert "\N{MULTIPLICATION SIGN} 1 of 3 layers" in page.text_content(".tour-map")
        caption = page.inner_text("figcaption")
        assert "takes away 944 of 1024 scores, with those of other stretches of 4" in caption
        go(page, 5)
        assert "is of another stretch of 4 tokens" in page.inner_text("figcaption")
        for number in (11, 12):
            go(page, number)
            assert texts(page, ".tour-controls select >> nth=0") == ["1"]
            assert "layer 1" in page.inner_text("figcaption")
        assert engine.inspections[-1].layers == [1]
        go(page, 7)
        assert engine.inspections[-1].layers == [2]
        for number, said in (
            (3, "layers that keep a state"), (9, "heads in 1 of 3 layers"),
            (13, "or a state, and the MLP, whichever the layer is"), (14, "more than one shape"),
        ):  # fmt: skip
            go(page, number)
            assert said in page.inner_text(".tour-words"), number
