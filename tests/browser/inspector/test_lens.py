"""The lens follows the model's answer: how far down the guesses it is in each layer."""

from typing import Any

from tests.api.support import Served, fake_engine
from tests.browser.conftest import stay, until
from tests.browser.inspector.looks import SETTLED


def test_the_answers_place_is_told_layer_by_layer(browser: Any, shared: Served) -> None:
    engine = shared.use(fake_engine())
    with stay(browser, shared.url, "#inspector?text=abc&layer=1&head=1") as seen:
        page = seen.page
        page.wait_for_selector(SETTLED)
        assert [*engine.inspections[-1].lens_tokens] == [0]  # the likeliest of the fake's guesses
        assert page.inner_text("#lens th.rank") == "place of ␀"
        places = page.locator("#lens td.rank").all_inner_texts()
        assert len(places) == 3 + 1
        says = page.inner_text("#lens-rank")
        assert says.startswith(f"The answer “␀” is no. {places[0]} of the guesses before layer 0")
        page.focus("#lens td[tabindex='0']")
        for _ in range(3):
            page.keyboard.press("ArrowRight")
        told = f"For layer 0 “␀” is no. {places[0]} of the guesses after “c”."
        assert page.inner_text("#lens-says") == told


def test_guesses_without_the_answer_are_grey(browser: Any, shared: Served) -> None:
    """Those after the last token alone: of the others it is no answer."""
    shared.use(fake_engine())
    with stay(browser, shared.url, "#inspector?text=abc&layer=1&head=1") as seen:
        page = seen.page
        page.wait_for_selector(SETTLED)
        page.evaluate(
            """async () => {
              const { addRanks } = await import('/web/inspector/charts.js');
              const table = document.querySelector('#lens table');
              for (const row of table.rows) row.lastChild.remove();
              addRanks(table, [4000, 100, 99, 0], 'x', 'c', () => {});
            }"""
        )
        grey = "[...document.querySelectorAll('#lens tbody tr')].map((row) => "
        grey += "[...row.cells].map((cell) => cell.classList.contains('early')))"
        early, late = [False, False, False, True, True], [False] * 5
        until(page, "document.querySelectorAll('#lens td.rank').length === 4")
        assert page.evaluate(grey) == [early, early, late, late]
        assert page.inner_text("#lens td.rank >> nth=0") == "4,001"
