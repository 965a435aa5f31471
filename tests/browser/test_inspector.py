"""The inspector in a real browser: it draws every head, answers to the pointer and the keyboard."""

from typing import Any

from tests.browser.conftest import connected, served, until, visit


def test_it_draws_the_first_example_by_itself(browser: Any) -> None:
    """All heads, the lens, the next tokens and the parameters, without a click."""
    with served() as (url, _), visit(browser, url, "/#inspector") as seen:
        page = seen.page
        page.wait_for_selector("#next .next")
        text = "Greasy fried noodles will be my lunch"
        assert page.input_value("#look-text") == text
        assert page.locator("#tokens .token").count() == len(text)
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
        assert colors[0] == len(text)
        assert len(set(colors[1:])) == 3  # all of the first, a tenth, and what the mask hides


def test_pointing_at_a_token_says_what_it_looks_at(browser: Any) -> None:
    """The fake model looks at all tokens alike: the fourth takes a quarter from each."""
    with served() as (url, _), visit(browser, url, "/#inspector") as seen:
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


def test_heads_are_chosen_by_click_and_by_keys(browser: Any) -> None:
    with served() as (url, _), visit(browser, url, "/#inspector") as seen:
        page = seen.page
        page.wait_for_selector("#next .next")
        page.click("[aria-label='Layer 1, head 0']")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowDown")
        assert (page.input_value("#layer"), page.input_value("#head")) == ("2", "1")
        pressed = page.locator(".thumb[aria-pressed=true]")
        assert pressed.get_attribute("aria-label") == "Layer 2, head 1"


def test_a_click_on_a_guess_continues_the_text(browser: Any) -> None:
    with served() as (url, engine), visit(browser, url, "/#inspector") as seen:
        page = seen.page
        page.wait_for_selector("#next .next")
        page.fill("#look-text", "ab")
        page.click("#look-form button")
        until(page, "document.querySelectorAll('#tokens .token').length === 2")
        page.click("#next .next:nth-child(2)")
        until(page, "document.querySelectorAll('#tokens .token').length === 3")
        assert page.input_value("#look-text") == "ab\x01"
        assert engine.inspections[-1].token_ids == [97, 98, 1]


def test_the_lens_and_the_contributions_are_told_in_words(browser: Any) -> None:
    """By the pointer and by the keyboard: colors alone tell nobody a number."""
    with served() as (url, _), visit(browser, url, "/#inspector") as seen:
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
  const { habit } = await import('/web/pattern.js');
  const size = 6, values = new Float32Array(size * size);
  for (let query = 0; query < size; query++) {
    values[query * size + Math.max(0, offset === null ? 0 : query - offset)] = 1;
  }
  return habit({ values, size, heads: 1 }, 0);
}"""


def test_a_head_is_told_by_its_habit(browser: Any) -> None:
    """Most heads have one of three; the fake's look everywhere."""
    with served() as (url, _), visit(browser, url, "/#inspector") as seen:
        page = seen.page
        page.wait_for_selector("#next .next")
        assert "looks at several tokens" in page.inner_text("#says")
        for offset, name in ((None, "the first token,"), (1, "the token before"), (0, "itself")):
            says = page.evaluate(HABIT, offset)
            assert name in says
            assert says.endswith("(100 %)")


def test_enter_looks(browser: Any) -> None:
    """As it sends in the chat; it is no new line."""
    with served() as (url, _), visit(browser, url, "/#inspector") as seen:
        page = seen.page
        page.wait_for_selector("#next .next")
        page.fill("#look-text", "abc")
        page.press("#look-text", "Enter")
        until(page, "document.querySelectorAll('#tokens .token').length === 3")
        assert page.input_value("#look-text") == "abc"


def test_look_inside_leads_here_from_a_message(browser: Any) -> None:
    """A long message is cut to its last tokens, and the page says so."""
    with served(list(b"x" * 120)) as (url, _), visit(browser, url) as seen:
        page = seen.page
        connected(page)
        page.fill("#prompt", "Hi")
        page.press("#prompt", "Enter")
        page.click(".assistant:not(.waiting) button:has-text('Look inside')")
        until(page, "document.querySelectorAll('#tokens .token').length === 96")
        assert "its last 96 are shown" in page.inner_text("#cut")


def test_a_part_is_left_out_and_the_next_token_compared(browser: Any) -> None:
    """The chosen head, or its layer's MLP; the sentence says what rounding alone would do."""
    with served() as (url, engine), visit(browser, url, "/#inspector") as seen:
        page = seen.page
        page.wait_for_selector("#next .next")
        page.click("[aria-label='Layer 1, head 0']")
        page.click("#leave-out")
        page.wait_for_selector("#cause table")
        (edit,) = engine.inspections[-1].edits
        assert (edit.at, edit.change, edit.layer, edit.index) == ("head", "zero", 1, 0)
        says = page.inner_text("#cause-says")
        assert says.startswith("Without head 0 of layer 1 the next token moves by 1.0 nats (KL)")
        assert "so this says nothing" in says  # the fake's noise is as large
        assert page.locator("#cause tbody tr").count() == 6
        page.select_option("#cause-part", "mlp_out")
        page.select_option("#cause-set", "mean")
        page.click("#leave-out")
        until(page, "document.getElementById('cause-says').textContent.startsWith('With the MLP')")
        assert engine.inspections[-1].edits[0].change == "mean"


def test_every_head_is_tried_and_noise_is_grey(browser: Any) -> None:
    with served() as (url, _), visit(browser, url, "/#inspector") as seen:
        page = seen.page
        page.wait_for_selector("#next .next")
        page.click("#every-head")
        page.wait_for_selector(".cause-cell")
        assert page.locator(".cause-cell").count() == 6
        assert page.locator(".cause-cell.nothing").count() == 2
        assert page.inner_text("#cause-says").startswith("4 of 6 heads change the next token")
        page.click(".cause-cell[aria-label^='Layer 2, head 1']")
        assert (page.input_value("#layer"), page.input_value("#head")) == ("2", "1")
        page.fill("#look-text", "x" * 70)
        page.click("#look-form button")
        until(page, "document.querySelectorAll('#tokens .token').length === 70")
        assert page.locator(".cause-cell").count() == 0
        assert page.is_disabled("#every-head")


def test_each_token_shows_its_surprise(browser: Any) -> None:
    with served() as (url, _), visit(browser, url, "/#inspector") as seen:
        page = seen.page
        page.wait_for_selector("#tokens small")
        assert page.locator("#tokens small").count() == 36  # of all but the first
        title = page.get_attribute("#tokens .token:nth-child(2)", "title")
        assert title.endswith("; 1.00 nats of surprise, 1 tokens were likelier")
