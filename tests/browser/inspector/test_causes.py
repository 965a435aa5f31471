"""The inspector leaves parts out, by interventions, and shows how little a token was expected."""

from typing import Any

from tests.api.support import Served, fake_engine
from tests.browser.conftest import served, stay, until, visit
from tests.browser.inspector.looks import edits_of, looks_for


def test_a_part_is_left_out_and_the_next_token_compared(browser: Any) -> None:
    """The chosen head, or its layer's MLP; the sentence says what rounding alone would do."""
    with served() as (url, engine), visit(browser, url, "/#inspector") as seen:
        page = seen.page
        page.wait_for_selector("#next .next")
        page.click("[aria-label='Layer 1, head 0']")
        page.click("#leave-out")
        page.wait_for_selector("#cause table")
        (edit,) = edits_of(engine)
        assert (edit.at, edit.change, edit.layer, edit.index) == ("head", "zero", 1, 0)
        says = page.inner_text("#cause-says")
        assert says.startswith("Without head 0 of layer 1 the next token moves by 1.0 nats (KL)")
        assert "so this says nothing" in says  # the fake's noise is as large
        assert page.locator("#cause tbody tr").count() == 6
        page.click("text=Let both go on")
        page.wait_for_selector(".cause-continued dd")
        assert engine.inspections[-1].num_continued == 16
        assert edits_of(engine) == [edit]
        assert page.locator(".cause-continued dt").all_inner_texts() == ["as it is", "changed"]
        assert page.inner_text("#cause-says") == says
        page.select_option("#cause-part", "mlp_out")
        page.select_option("#cause-set", "mean")
        page.click("#leave-out")
        until(page, "document.getElementById('cause-says').textContent.startsWith('With the MLP')")
        assert edits_of(engine)[0].change == "mean"


def test_every_head_is_tried_and_noise_is_grey(browser: Any, shared: Served) -> None:
    shared.use(fake_engine())
    with stay(browser, shared.url, "#inspector?text=abcd") as seen:
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


def test_each_token_shows_its_surprise(browser: Any, shared: Served) -> None:
    shared.use(fake_engine())
    with stay(browser, shared.url, "#inspector?text=abcd") as seen:
        page = seen.page
        page.wait_for_selector("#tokens small")
        assert page.locator("#tokens small").count() == 3  # of all but the first
        title = page.get_attribute("#tokens .token:nth-child(2)", "title")
        assert title.endswith("; 1.00 nats of surprise, 1 tokens were likelier")


def test_a_head_is_told_by_what_it_does_with_random_tokens(browser: Any) -> None:
    """Asked for once a model, with the first text; the fake's heads are of every kind."""
    with served() as (url, engine), visit(browser, url, "/#inspector") as seen:
        page = seen.page
        page.wait_for_selector("#next .next")
        words = (
            "With random tokens 100 % of its weight goes to the token before: it goes by position"
        )
        until(page, f"document.getElementById('says').textContent.includes('{words}')")
        assert looks_for(engine, "surprisal")[-1].endings == ["surprisal", "head_scores"]
        page.fill("#look-text", "ab")
        page.click("#look-form button")
        until(page, "document.querySelectorAll('#tokens .token').length === 2")
        until(page, "document.querySelectorAll('#tokens small').length === 1")
        assert looks_for(engine, "surprisal")[-1].endings == ["surprisal"]
        assert words in page.inner_text("#says")
