"""The inspector in a real browser: it draws every head, answers to the pointer and the keyboard."""

from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.api.support import Served, fake_engine, live, ready_state, says
from tests.browser.conftest import ask, connected, served, stay, until, visit
from tests.browser.inspector.looks import SETTLED
from tests.engine.process.fake_traces import FAKE_HEADS, FAKE_LAYERS, FAKE_WIDTH
from thirdeye.server.api.state.server_state import ModelInfo

TEXT = "Greasy fried noodles will be my lunch"
LUNCH = f"#inspector?text={quote(TEXT)}"
LETTERS = "#inspector?text=abcdef"


def test_it_draws_the_first_example_by_itself(browser: Any) -> None:
    """All heads, the lens, the next tokens and the parameters, without a click."""
    with served() as (url, _), visit(browser, url, "/#inspector") as seen:
        page = seen.page
        page.wait_for_selector("#next .next")
        assert page.input_value("#look-text") == TEXT
        assert page.locator("#tokens .token").count() == len(TEXT)
        assert page.locator("#heads .thumb").count() == 3 * 2
        assert page.locator("#lens tbody tr").count() == 3 + 1
        assert page.locator("#next button.next").count() == 10
        assert page.inner_text("#next .rest").startswith("all others")
        assert page.locator("#contributions li").count() == 3
        assert page.locator(".scale").inner_text().split() == ["0", "100", "%", "masked"]
        assert "attention has 33 %" in page.inner_text("#parameter-share")
        colors = page.evaluate(
            """() => { const c = document.querySelector('.heat');
              const at = (x, y) => [...c.getContext('2d').getImageData(x, y, 1, 1).data].join();
              return [c.width, at(0, 0), at(0, 9), at(9, 0)]; }"""
        )
        assert colors[0] == len(TEXT)
        assert len(set(colors[1:])) == 3  # all of the first, a tenth, and what the mask hides


def test_pointing_at_a_token_says_what_it_looks_at(browser: Any, shared: Served) -> None:
    """The fake model looks at all tokens alike: the fourth takes a quarter from each."""
    shared.use(fake_engine())
    with stay(browser, shared.url, LUNCH) as seen:
        page = seen.page
        page.wait_for_selector("#next .next")
        page.hover("#tokens .token:nth-child(4)")
        assert page.inner_text("#says").startswith("“a” looks at “G” 25 %, “r” 25 %, “e” 25 %")
        assert page.locator("#arcs path").count() == 4
        assert page.locator("#tokens .token.unseen").count() == 33
        page.locator(".heat").scroll_into_view_if_needed()
        box = page.locator(".heat").bounding_box()
        cell = box["width"] / 37
        page.mouse.move(box["x"] + 20.5 * cell, box["y"] + 10.5 * cell)
        assert "That is the causal mask" in page.inner_text("#says")
        page.mouse.move(box["x"] + 2.5 * cell, box["y"] + 10.5 * cell)
        assert "takes 9.1 % from “e”" in page.inner_text("#says")


def test_heads_are_chosen_by_click_and_by_keys(browser: Any, shared: Served) -> None:
    shared.use(fake_engine())
    with stay(browser, shared.url, LETTERS) as seen:
        page = seen.page
        page.wait_for_selector("#next .next")
        page.click("[aria-label='Layer 1, head 0']")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowDown")
        assert (page.input_value("#layer"), page.input_value("#head")) == ("2", "1")
        pressed = page.locator(".thumb[aria-pressed=true]")
        assert pressed.get_attribute("aria-label") == "Layer 2, head 1"


def test_a_click_on_a_guess_continues_the_text(browser: Any, shared: Served) -> None:
    engine = shared.use(fake_engine())
    with stay(browser, shared.url, LETTERS) as seen:
        page = seen.page
        page.wait_for_selector("#next .next")
        page.fill("#look-text", "ab")
        page.click("#look-form button")
        until(page, "document.querySelectorAll('#tokens .token').length === 2")
        page.click("#next .next:nth-child(2)")
        until(page, "document.querySelectorAll('#tokens .token').length === 3")
        assert page.input_value("#look-text") == "ab\x01"
        assert engine.inspections[-1].token_ids == [97, 98, 1]


def test_the_lens_and_the_contributions_are_told_in_words(browser: Any, shared: Served) -> None:
    """By the pointer and by the keyboard: colors alone tell nobody a number."""
    shared.use(fake_engine())
    with stay(browser, shared.url, "#inspector?text=Greasy") as seen:
        page = seen.page
        page.wait_for_selector("#next .next")
        page.hover("#lens tbody tr:nth-child(2) td:nth-child(4)")
        says = page.inner_text("#lens-says")
        assert says == "After “e” layer 1 finds “␀” 61 %, “␁” 22 %, “␂” 8.2 %."
        page.focus("#lens td[tabindex='0']")
        for key in ("ArrowRight", "ArrowDown", "ArrowDown", "ArrowDown", "ArrowLeft", "ArrowLeft"):
            page.keyboard.press(key)
        assert page.inner_text("#lens-says").startswith("After “G” the model says ")
        assert page.locator("#lens td[tabindex='0']").count() == 1
        page.hover("#contributions li:nth-child(3)")
        assert page.inner_text("#contributions-says").startswith("Layer 2: attention adds ")
        page.click("#tokens .token:nth-child(3)")
        assert "added to “e” attention has 50 %" in page.inner_text("#contribution-of")


HABIT = """async (offset) => {
  const { habit } = await import('/web/inspector/pattern.js');
  const size = 6, values = new Float32Array(size * size);
  for (let query = 0; query < size; query++) {
    values[query * size + Math.max(0, offset === null ? 0 : query - offset)] = 1;
  }
  return habit({ values, size, heads: 1 }, 0);
}"""


def test_a_head_is_told_by_its_habit(browser: Any, shared: Served) -> None:
    """Most heads have one of three; the fake's look everywhere."""
    shared.use(fake_engine())
    with stay(browser, shared.url, LETTERS) as seen:
        page = seen.page
        page.wait_for_selector("#next .next")
        assert "looks at several tokens" in page.inner_text("#says")
        for offset, name in ((None, "the first token,"), (1, "the token before"), (0, "itself")):
            says = page.evaluate(HABIT, offset)
            assert name in says
            assert says.endswith("(100 %)")


def test_enter_looks(browser: Any, shared: Served) -> None:
    """As it sends in the chat; it is no new line."""
    shared.use(fake_engine())
    with stay(browser, shared.url, LETTERS) as seen:
        page = seen.page
        page.wait_for_selector("#next .next")
        page.fill("#look-text", "abc")
        page.press("#look-text", "Enter")
        until(page, "document.querySelectorAll('#tokens .token').length === 3")
        assert page.input_value("#look-text") == "abc"


def test_keys_step_through_the_tokens(browser: Any, shared: Served) -> None:
    """Each tells on its way whom it looks at."""
    shared.use(fake_engine())
    with stay(browser, shared.url, LETTERS) as seen:
        page = seen.page
        page.wait_for_selector("#next .next")
        tokens = page.locator("#tokens .token")
        tokens.nth(2).focus()
        for key, at in (("ArrowRight", 3), ("ArrowLeft", 2), ("End", -1), ("ArrowRight", -1)):
            page.keyboard.press(key)
            at = at % tokens.count()
            assert page.evaluate("document.activeElement.dataset.index") == str(at)
            assert "asking" in (tokens.nth(at).get_attribute("class") or "")


def test_an_empty_box_asks_for_a_text(browser: Any, shared: Served) -> None:
    """In the page's own words, and nobody is asked."""
    engine = shared.use(fake_engine())
    with stay(browser, shared.url, LETTERS) as seen:
        page = seen.page
        page.wait_for_selector(SETTLED)
        count = len(engine.inspections)
        page.fill("#look-text", "")
        page.click("#look-form button")
        assert page.inner_text("#look-status") == "Write a text, and the model reads it."
        assert len(engine.inspections) == count
        page.click("#tokens [data-index='2']")  # what is shown can still be worked with
        page.click("#leave-out")
        page.wait_for_selector("#cause table")


def test_what_a_model_cannot_tell_is_not_asked(browser: Any) -> None:
    """One whose layers keep a state has no scores of heads: all else is shown."""
    info = ModelInfo(FAKE_LAYERS, FAKE_HEADS, 1, FAKE_WIDTH, {"mlp": 8, "query": 4})
    untold = {"head_scores": "some of this model's layers keep a state"}
    state = ready_state(fake_engine(), info=replace(info, untold=untold))
    with live(state) as url, visit(browser, url, "/#inspector") as seen:
        seen.page.wait_for_selector("#next .next")
        assert seen.page.locator("#heads .thumb").count() == FAKE_LAYERS * FAKE_HEADS


def test_look_inside_shows_what_the_model_really_saw(browser: Any, shared: Served) -> None:
    """The conversation through the template, with its answer's tokens marked; of its last 512
    tokens, which are as many as the server looks into."""
    shared.use(fake_engine(says("x" * 120)))
    with visit(browser, shared.url) as seen:
        page = seen.page
        ask(page, "Hi")
        page.click(".assistant:not(.waiting) button:has-text('Look inside')")
        until(page, "document.querySelectorAll('#tokens .token.answer').length === 120")
        assert page.input_value("#look-text") == "<|turn|>user\nHi<|turn|>assistant\n" + "x" * 120
        assert page.locator("#tokens .token").count() == 120 + 19
        assert page.is_hidden("#cut")
        page.wait_for_selector("#inspection:not([aria-busy])")
        page.fill("#look-text", "y" * 600)
        page.click("#look-form button")
        until(page, "document.querySelectorAll('#tokens .token').length === 512")
        assert "its last 512 are shown" in page.inner_text("#cut")
        assert page.locator("#tokens .token.answer").count() == 0


def test_patterns_that_are_too_many_come_as_layers_are_chosen(browser: Any, shared: Served) -> None:
    """What the server gives in one answer is bounded; here by what two of three layers have."""
    engine = shared.use(fake_engine())
    script = Path(str(files("thirdeye.server.web"))) / "inspector/reading.js"
    small = script.read_text().replace("30 * 2 ** 20", str(2 * 4 * FAKE_HEADS * 37**2))
    with visit(browser, shared.url) as seen:
        page = seen.page
        page.route(
            "**/reading.js",
            lambda route: route.fulfill(body=small, content_type="text/javascript"),
        )
        connected(page)
        page.click("nav a[href='#inspector']")
        page.wait_for_selector("#inspection:not([aria-busy])")
        assert page.locator("#heads .layer-name").all_inner_texts() == ["0", "2"]
        assert page.locator("#contributions li").count() == 3
        assert "2 layers' patterns at once" in page.inner_text("#look-status")
        page.select_option("#layer", "1")
        until(page, "document.querySelectorAll('#heads .layer-name').length === 3")
        assert page.locator("#heads .layer-name").all_inner_texts() == ["0", "1", "2"]
        pressed = page.locator(".thumb[aria-pressed=true]")
        assert pressed.get_attribute("aria-label") == "Layer 1, head 0"
        asked = [(request.arrays, request.layers) for request in engine.inspections]
        assert [(set(names), list(layers)) for names, layers in asked if names][-3:] == [
            ({"norms"}, [0, 1, 2]),
            ({"pattern"}, [0, 2]),
            ({"pattern"}, [1]),
        ]


def test_the_lens_keeps_its_heads_and_hides_no_row(browser: Any, shared: Served) -> None:
    """Its sentence stands above it, its tokens and layers stay in view while it scrolls."""
    info = ModelInfo(60, FAKE_HEADS, 1, FAKE_WIDTH, {"mlp": 8, "query": 4})
    shared.use(fake_engine(), info=info)
    places = """() => {
      const box = (where) => document.querySelector(where).getBoundingClientRect();
      document.querySelector('#lens').scrollTo(300, 500);
      const [frame, token, layer] = [box('#lens'), box('#lens th:nth-child(9)'),
        box('#lens tr:nth-child(30) th')];
      const isAbove = box('#lens-says').bottom <= frame.top;
      return [isAbove, token.top - frame.top, layer.left - frame.left];
    }"""
    with visit(browser, shared.url, "/#inspector") as seen:
        page = seen.page
        page.wait_for_selector("#next .next")
        page.wait_for_selector("#inspection:not([aria-busy])")
        is_above, top, left = page.evaluate(places)
        assert is_above
        assert (abs(top) <= 2, abs(left) <= 2) == (True, True)
