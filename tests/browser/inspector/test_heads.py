"""Heads by what they do, and the first token out of the way: for display, and said so."""

from typing import Any

from tests.api.support import Served, fake_engine
from tests.browser.conftest import until, visit
from tests.browser.inspector.looks import SETTLED
from tests.browser.test_axe import found_in_all_looks
from tests.draws import also_at_night

LINK = "/#inspector?text=abcd&layer=1&head=1"
ADDRESS = "location.hash"
KEEP = """async (scores) => {
  const kinds = await import('/web/inspector/kinds.js');
  kinds.keep({ kinds: scores });
  document.querySelector('#order').dispatchEvent(new Event('change'));
}"""
SCORES = {  # kind, layer, head
    "previous_token": [[0.1, 0.9], [0.2, 0.35], [0.05, 0.0]],
    "duplicate_token": [[0.0, 0.1], [0.8, 0.0], [0.0, 0.1]],
    "induction": [[0.0, 0.0], [0.1, 0.0], [0.1, 0.7]],
}


def order_of(page: Any) -> list[str]:
    thumbs = page.locator("#heads .thumb").all()
    return [f"{one.get_attribute('data-layer')}.{one.get_attribute('data-head')}" for one in thumbs]


@also_at_night
def test_heads_are_sorted_by_what_they_do(browser: Any, shared: Served) -> None:
    shared.use(fake_engine())
    with visit(browser, shared.url, LINK) as seen:
        page = seen.page
        page.wait_for_selector(SETTLED)
        page.evaluate(KEEP, SCORES)
        title = page.get_attribute("[aria-label='Layer 0, head 1']", "title")
        assert title == "Layer 0, head 1: previous token, 90 %"
        assert page.get_attribute("[aria-label='Layer 2, head 0']", "data-kind") is None
        page.select_option("#order", "previous_token")
        assert order_of(page) == ["0.1", "1.1", "1.0", "0.0", "2.0", "2.1"]
        shares = page.locator(".ranked small:last-child").all_inner_texts()
        assert shares[:3] == ["90 %", "35 %", "20 %"]
        page.focus(".thumb[aria-pressed=true]")
        page.keyboard.press("ArrowLeft")
        assert (page.input_value("#layer"), page.input_value("#head")) == ("0", "1")
        page.keyboard.press("ArrowLeft")  # there is none
        assert (page.input_value("#layer"), page.input_value("#head")) == ("0", "1")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowRight")
        assert (page.input_value("#layer"), page.input_value("#head")) == ("1", "0")
        page.select_option("#order", "induction")
        assert order_of(page)[0] == "2.1"
        assert found_in_all_looks(page) == []
        for width in (390, 1280):
            page.set_viewport_size({"width": width, "height": 844})
            assert page.evaluate("document.querySelector('#inspector').scrollWidth") <= width
        page.select_option("#order", "")
        assert order_of(page) == ["0.0", "0.1", "1.0", "1.1", "2.0", "2.1"]


def test_a_head_that_goes_by_position_is_called_that(browser: Any, shared: Served) -> None:
    """The strongest one of a pair too: what looks like sense may be the token before."""
    shared.use(fake_engine())
    with visit(browser, shared.url, LINK) as seen:
        page = seen.page
        page.wait_for_selector(SETTLED)
        page.evaluate(KEEP, SCORES)
        page.click("[aria-label='Layer 0, head 1']")
        page.hover("#tokens .token:nth-child(2)")
        remark = "This head looks at the token before whatever it says (a previous-token head)"
        assert remark in page.inner_text("#says")  # the fake's first of two alike is the one before
        page.hover("#tokens .token:nth-child(3)")  # it looks at the first one, not the one before
        assert "looks at the token before" not in page.inner_text("#says")
        page.click("[aria-label='Layer 1, head 0']")
        page.hover("#tokens .token:nth-child(2)")
        assert "looks at the token before" not in page.inner_text("#says")
        page.locator(".heat").scroll_into_view_if_needed()
        box = page.locator(".heat").bounding_box()
        page.mouse.move(box["x"] + 0.5 * box["width"] / 4, box["y"] + 1.5 * box["height"] / 4)
        says = page.inner_text("#says")
        assert "Of all heads that are here layer 0, head 0 takes most from it, 50 %." in says


def test_the_first_token_is_hidden_on_display_alone(browser: Any, shared: Served) -> None:
    """Rows are rescaled and it is said; the numbers of the model and of its export stay."""
    shared.use(fake_engine())
    with visit(browser, shared.url, LINK) as seen:
        page = seen.page
        page.wait_for_selector(SETTLED)
        # Of four tokens that look everywhere, the three with a choice give it 1/2, 1/3 and 1/4.
        assert "the first token, “a”, gets 36 % of all" in page.inner_text("#sink-says")
        page.click("#tokens .token:nth-child(3)")
        assert "“c” looks at “a” 33 %, “b” 33 %" in page.inner_text("#says")
        page.check("#hide-first")
        says = page.inner_text("#says")
        page.mouse.move(0, 0)
        page.hover("#tokens .token:nth-child(3)")
        says = page.inner_text("#says")
        assert says.startswith("“c” looks at “b” 50 %, “c” 50 %, “a” 0.0 %")
        assert says.endswith("the rest rescaled to 100 %; the model is as it was.")
        colors = """[...[[0, 2], [1, 2], [0, 0]].map(([x, y]) => [...document.querySelector('.heat')
          .getContext('2d').getImageData(x, y, 1, 1).data].join())]"""
        hidden, half, only = page.evaluate(colors)
        assert hidden != half
        assert hidden == only  # the first token has nothing else to look at: its row is blank
        until(page, f"{ADDRESS}.includes('first=hidden')")
        page.reload()
        page.wait_for_selector(SETTLED)
        assert page.is_checked("#hide-first")
        assert page.evaluate(colors) == [hidden, half, only]
        page.uncheck("#hide-first")
        until(page, f"!{ADDRESS}.includes('first=hidden')")
        assert page.evaluate(colors)[0] != hidden
