"""The inspector's address carries what is shown: text, layer, head, token and edits."""

from typing import Any
from urllib.parse import parse_qs, quote

import pytest

from tests.api.support import Served, fake_engine, says
from tests.browser.conftest import ask, connected, stay, until, visit
from tests.browser.inspector.looks import OFF, READY, SETTLED, edits_of, looks_for

ADDRESS = "decodeURIComponent(location.hash)"


def fields(page: Any) -> dict[str, str]:
    """Of the address."""
    _, _, query = page.evaluate("location.hash").partition("?")
    return {name: value for name, (value,) in parse_qs(query, strict_parsing=True).items()}


def test_the_address_follows_what_is_shown_and_brings_it_back(browser: Any, shared: Served) -> None:
    engine = shared.use(fake_engine())
    with visit(browser, shared.url, "/#inspector") as seen:
        page = seen.page
        page.wait_for_selector("#next .next")
        text = "a/b? c&d=#é"
        page.fill("#look-text", text)
        page.click("#look-form button")
        until(page, "document.querySelectorAll('#tokens .token').length === 12")
        page.wait_for_selector(READY)
        page.click("[aria-label='Layer 2, head 1']")
        page.click("#tokens .token:nth-child(4)")
        page.click("#leave-out")
        page.wait_for_selector("#cause table")
        until(page, f"{ADDRESS}.includes('edits')")
        wanted = {"text": text, "layer": "2", "head": "1", "token": "3"}
        wanted["edits"] = '[{"at":"head","layer":2,"head":1,"set":"zero"}]'
        assert fields(page) == wanted
        page.reload()
        page.wait_for_selector("#cause table")
        assert page.input_value("#look-text") == text
        assert (page.input_value("#layer"), page.input_value("#head")) == ("2", "1")
        assert page.get_attribute("#tokens .token:nth-child(4)", "aria-pressed") == "true"
        assert page.inner_text("#says").startswith("“?” looks at ")
        assert "added to “?”" in page.inner_text("#contribution-of")
        (edit,) = edits_of(engine)
        assert (edit.at, edit.layer, edit.index, edit.change) == ("head", 2, 1, "zero")
        assert page.locator(".thumb.off").count() == 1
        page.click("#cause-edits button")  # taken back
        until(page, f"!{ADDRESS}.includes('edits')")
        assert page.locator("#cause table, .thumb.off, .cause-edit").count() == 0


def test_a_link_is_followed_while_the_page_is_open(browser: Any, shared: Served) -> None:
    """And what is shown stays through other views and their addresses."""
    engine = shared.use(fake_engine())
    with visit(browser, shared.url, f"/#inspector?text=abc&layer=1&head=1&edits={quote(OFF)}") as v:
        page = v.page
        page.wait_for_selector("#cause table")
        assert page.inner_text("#cause-says").startswith("With these 2 changes the next token")
        assert [edit.change for edit in edits_of(engine)] == ["mean", "zero"]
        page.evaluate("location.hash = 'inspector?text=abcd&layer=0&head=1'")
        until(page, "document.querySelectorAll('#tokens .token').length === 4")
        page.wait_for_selector(SETTLED)
        assert page.locator(".cause-edit").count() == 0
        assert (page.input_value("#layer"), page.input_value("#head")) == ("0", "1")
        count = len(engine.inspections)
        page.click("nav a[href='#timeline']")
        until(page, "!document.querySelector('#timeline').hidden")
        page.click("nav a[href='#inspector']")
        until(page, "location.hash === '#inspector?text=abcd&layer=0&head=1'")
        assert len(engine.inspections) == count


HOSTILE = [
    '[{"at":"head","layer":"x","head":1,"set":"zero"},7,null]',
    '{"at": "head"}',
    "[[[",
    '[{"at":"pattern","layer":0,"head":0,"set":"uniform","vector":[1]}]',
    '[{"at":"resid_pre","layer":0,"set":"source","positions":[0],"source_positions":"x"}]',
]


@pytest.mark.parametrize("edits", HOSTILE)
def test_what_does_not_belong_in_a_link_is_left_out(
    browser: Any, shared: Served, edits: str
) -> None:
    engine = shared.use(fake_engine())
    link = f"#inspector?text=abc&layer=99&head=-1&token=44&edits={quote(edits)}&beside="
    with stay(browser, shared.url, link) as seen:
        page = seen.page
        page.wait_for_selector(READY)
        until(page, f"{ADDRESS} === '#inspector?text=abc&layer=0&head=0'")
        assert page.locator(".cause-edit").count() == 0
        assert not any(request.edits for request in engine.inspections)


def test_a_conversation_is_kept_by_its_tokens(browser: Any, shared: Served) -> None:
    """Its template's tokens could not be told from the same letters in a text."""
    engine = shared.use(fake_engine(says("xyz")))
    with visit(browser, shared.url) as seen:
        page = seen.page
        connected(page)
        ask(page, "Hi")
        page.click(".assistant:not(.waiting) button:has-text('Look inside')")
        until(page, f"{ADDRESS}.includes('ids=')")
        asked = [*engine.inspections[-1].token_ids]
        text = page.input_value("#look-text")
        page.reload()
        page.wait_for_selector("#next .next")
        assert [*engine.inspections[-1].token_ids] == asked
        assert page.input_value("#look-text") == text
        assert page.locator("#tokens .token.answer").count() == 3


def test_a_neuron_is_switched_off(browser: Any, shared: Served) -> None:
    """Those are offered that say most of the chosen token; on top of a head, if that is wanted."""
    engine = shared.use(fake_engine())
    with visit(browser, shared.url, "/#inspector?text=abc&layer=1&head=0&token=1") as seen:
        page = seen.page
        page.wait_for_selector(READY)
        page.click("#leave-out")
        page.wait_for_selector("#cause table")
        page.select_option("#cause-part", "neuron")
        until(page, "document.querySelectorAll('#cause-neuron option').length === 20")
        asked = looks_for(engine, "neurons")[-1]
        assert ([*asked.layers], [*asked.positions]) == ([1], [1])
        page.check("#cause-more")
        page.click("#leave-out")
        until(page, "document.querySelectorAll('.cause-edit').length === 2")
        page.wait_for_selector("#cause table")
        edits = [(edit.at, edit.layer, edit.index) for edit in edits_of(engine)]
        assert edits == [("head", 1, 0), ("neuron", 1, 1)]
        assert page.inner_text(".cause-edit >> nth=1").startswith("off: neuron 1 of layer 1")
        page.select_option("#layer", "2")
        until(page, "document.querySelectorAll('#cause-neuron option').length === 20")
        page.uncheck("#cause-more")
        page.click("#leave-out")
        until(page, "document.querySelectorAll('.cause-edit').length === 1")
        page.wait_for_selector("#cause table")
        assert [edit.layer for edit in edits_of(engine)] == [2]
