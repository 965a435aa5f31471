"""The timeline over a real engine whose KV pool is too small: what it draws when it gets tight."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.browser.conftest import connected, until, visit
from tests.e2e.in_process import served_here
from tests.tiny import tiny_llama

SETTINGS = {
    "kv_memory": 0.0002, "prefix_caching": False, "quantize": "none", "max_num_seqs": 4,
    "speculation": "off",
}  # fmt: skip

REDRAWN = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
HAS_COLOR = """(name) => {
  const probe = document.createElement('i');
  probe.style.color = `var(--step-${name})`;
  document.body.append(probe);
  const wanted = getComputedStyle(probe).color.match(/\\d+/g).map(Number);
  probe.remove();
  const canvas = document.querySelector('#steps');
  const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  for (let i = 0; i < data.length; i += 4) {
    if (wanted.every((value, k) => data[i + k] === value)) return true;
  }
  return false;
}"""


@pytest.fixture(scope="module")
def starved(tmp_path_factory: Any) -> Iterator[str]:
    """The address of a server with 26 blocks of 16 tokens; a context has 16."""
    path = tmp_path_factory.mktemp("tiny")
    tiny_llama(path)
    with served_here(path, **SETTINGS) as url:
        yield url


def crowd(url: str) -> None:
    """Six answers of 150 tokens, four at a time, where two and a half find room."""

    def ask(i: int) -> int:
        body = {"model": "tiny", "prompt": f"{i} noodles", "max_tokens": 150, "ignore_eos": True}
        return httpx.post(
            f"{url}/v1/completions", json=body, trust_env=False, timeout=60
        ).status_code

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(ask, range(6))) == [200] * 6


def test_every_state_has_its_color(browser: Any, starved: str) -> None:
    """Queued, preempted and finished are seen on the way back in time, and are told in words."""
    with visit(browser, starved, "/#timeline") as seen:
        page = seen.page
        connected(page)
        crowd(starved)
        until(page, "document.querySelector('#steps-empty').hidden")
        page.focus("#steps")
        wanted = {"prefill", "decode", "queued", "preempted", "finished"}
        for _ in range(60):
            wanted -= {kind for kind in wanted if page.evaluate(HAS_COLOR, kind)}
            if not wanted:
                break
            page.keyboard.press("PageUp")
            page.evaluate(REDRAWN)
        assert not wanted


def test_a_look_inside_has_its_own_row(browser: Any, starved: str) -> None:
    """Seen live, and read with the keyboard alone: the newest step, its row by walking down."""
    with visit(browser, starved, "/#timeline") as seen:
        page = seen.page
        connected(page)
        body = {"prompt": "noodles", "model": "tiny"}
        answer = httpx.post(f"{starved}/v1/inspect", json=body, trust_env=False, timeout=60)
        until(page, f"({HAS_COLOR})('inspected')")
        page.focus("#steps")
        page.keyboard.press("ArrowRight")
        until(page, "document.querySelector('#step-says').textContent.includes('Step')")
        assert page.get_attribute("#pause", "aria-pressed") == "true"
        for _ in range(8):
            if "looks inside" in page.inner_text("#step-says"):
                break
            page.keyboard.press("ArrowDown")
            page.evaluate(REDRAWN)
        says = page.inner_text("#step-says")
        assert says.startswith(f"{answer.json()['id']} looks inside, for ")
        assert "0 tokens of 0 requests" in says
