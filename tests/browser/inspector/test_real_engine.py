"""The inspector over a real engine: its numbers are the server's, and those of its own Python."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from tests.browser.conftest import texts, visit
from tests.browser.inspector.looks import SETTLED
from tests.browser.inspector.test_export import program, run, saved
from tests.e2e.in_process import served_here
from tests.tiny import tiny_llama

TEXT = "Greasy fried noodles"
OFF = {"at": "head", "layer": 0, "head": 2, "set": "zero"}
LINK = f"/#inspector?text={quote(TEXT)}&layer=1&head=3&token=2"


@pytest.fixture(scope="module")
def real(tmp_path_factory: Any) -> Iterator[str]:
    path = tmp_path_factory.mktemp("tiny")
    tiny_llama(path)
    with served_here(path, quantize="none", speculation="off") as url:
        yield url


def inspected(url: str, **fields: Any) -> Any:
    body = {"prompt": TEXT, "add_special_tokens": False, "include": [], **fields}
    answer = httpx.post(f"{url}/v1/inspect", json=body, trust_env=False, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_what_is_exported_is_what_the_server_says(browser: Any, real: str, tmp_path: Path) -> None:
    """The JSON's patterns, and the effect that the page, its Python and the server tell alike."""
    with visit(browser, real, f"{LINK}&edits={quote(json.dumps([OFF]))}") as seen:
        page = seen.page
        page.wait_for_selector("#cause table")
        found = json.loads(saved(page, "Save JSON", tmp_path / "look.json"))
        says = page.inner_text("#cause-says")
        out = run(program(page))
    wanted = inspected(real, include=["pattern"], encoding_format="base64")
    for own, other in zip(found["layers"], wanted["layers"], strict=True):
        assert own["pattern"] == other["pattern"]
    effect = inspected(real, interventions=[OFF])
    kl = effect["changed"]["kl"]
    assert kl > effect["noise"]["kl_max"]
    told = re.search(r"moves by (\S+) nats", says)
    printed = re.search(r"KL (\S+) nats", out)
    assert told is not None
    assert printed is not None
    assert float(told[1]) == pytest.approx(kl, rel=0.06)  # two digits
    assert float(printed[1]) == pytest.approx(kl, rel=0.006)
    assert found["changed"]["answer"]["changed"]["kl"] == kl


def test_the_answers_places_are_the_servers(browser: Any, real: str) -> None:
    with visit(browser, real, LINK) as seen:
        page = seen.page
        page.wait_for_selector(SETTLED)
        places = [int(text.replace(",", "")) for text in texts(page, SETTLED)]
    likeliest = inspected(real)["next_token"][0][0]["id"]
    answer = inspected(real, lens_tokens=[likeliest])
    ranks = [layer["lens_tokens"][0][0]["rank"] for layer in answer["layers"]]
    assert places == [rank + 1 for rank in ranks] + [1]
    assert max(places) > 1


def test_a_patch_between_two_texts_is_the_servers(browser: Any, real: str) -> None:
    """The edit that the page makes of a drag, asked of the server directly: the same divergence."""
    other = "Sherry fried noodles"
    ids = httpx.post(
        f"{real}/tokenize", json={"prompt": other, "add_special_tokens": False}, trust_env=False
    ).json()["tokens"]
    edit = {"at": "resid_pre", "layer": 1, "set": "source", "positions": [2]}
    edit["source_positions"] = [1]
    link = f"{LINK}&beside={quote(other)}&edits={quote(json.dumps([edit | {'from': 'beside'}]))}"
    with visit(browser, real, link) as seen:
        page = seen.page
        page.wait_for_selector("#beside table")
        page.wait_for_selector("#cause table")
        says = page.inner_text("#cause-says")
        out = run(program(page))
    effect = inspected(real, interventions=[edit], source=ids)
    kl = effect["changed"]["kl"]
    told, printed = re.search(r"by (\S+) nats", says), re.search(r"KL (\S+) nats", out)
    assert told is not None
    assert printed is not None
    assert kl > 0
    assert float(told[1]) == pytest.approx(kl, rel=0.06)
    assert float(printed[1]) == pytest.approx(kl, rel=0.006)
