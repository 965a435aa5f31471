"""The timeline in a real browser: it moves under load, pauses, saves and replays."""

import json
from pathlib import Path
from typing import Any

import httpx

from tests.api.support import COMPLETION
from tests.browser.conftest import served, until, visit


def ask(url: str, num_tokens: int) -> None:
    body = COMPLETION | {"max_tokens": num_tokens}
    answer = httpx.post(f"{url}/v1/completions", json=body, trust_env=False, timeout=20)
    assert answer.status_code == 200


def shown_step(page: Any, step: int) -> None:
    until(page, f"document.querySelector('#now-step').textContent === '{step}'")


def test_it_moves_pauses_and_replays(browser: Any, tmp_path: Path) -> None:
    with served(list(b"x" * 40)) as (url, _), visit(browser, url, "/#timeline") as seen:
        page = seen.page
        page.wait_for_selector("#steps-empty")
        ask(url, 10)
        shown_step(page, 9)
        page.click("#pause")
        ask(url, 5)
        page.hover("#steps", position={"x": 6, "y": 8})
        until(page, "document.querySelector('#step-says').textContent.includes('prefill')")
        assert page.inner_text("#now-step") == "9"
        assert page.inner_text("#timeline-status").startswith("Paused")
        assert "Step 0: 2 tokens of 1 request (1 prefill)" in page.inner_text("#step-says")
        page.click("#pause")
        shown_step(page, 14)
        with page.expect_download() as download:
            page.click("#save-trace")
        path = tmp_path / "trace.jsonl"
        download.value.save_as(path)
        trace = [json.loads(line) for line in path.read_text().splitlines()]
        assert [record["step"] for record in trace] == list(range(15))
        path.write_text("\n".join(json.dumps(r | {"step": r["step"] + 100}) for r in trace[:3]))
        page.set_input_files("#trace-file", path)
        shown_step(page, 102)
        assert "Replaying trace.jsonl" in page.inner_text("#timeline-status")
        page.click("#live")
        shown_step(page, 14)


def test_a_file_that_is_no_trace_is_refused(browser: Any, tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text('{"rows": 3}')
    with served() as (url, _), visit(browser, url, "/#timeline") as seen:
        until(
            seen.page, "document.querySelector('#timeline-status').textContent !== ''"
        )  # it is there
        seen.page.set_input_files("#trace-file", path)
        seen.page.wait_for_selector("#timeline-status:has-text('no saved trace')")
