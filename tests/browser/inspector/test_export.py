"""What the inspector shows, taken along: a link, JSON, a picture, Python that asks the same."""

import base64
import io
import json
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.api.support import Served, fake_engine
from tests.browser.conftest import stay, until, visit
from tests.browser.inspector.looks import OFF, READY, SETTLED
from thirdeye.clients.types import Inspection

LINK = f"#inspector?text=abc&layer=1&head=1&token=1&edits={quote(OFF)}"
TEXT = "document.querySelector('#keep-python code').textContent"


def saved(page: Any, button: str, path: Path) -> bytes:
    with page.expect_download() as download:
        page.click(f"#keep button:has-text('{button}')")
    download.value.save_as(path)
    return path.read_bytes()


def run(code: str) -> str:
    """What the program prints."""
    out = io.StringIO()
    with redirect_stdout(out):
        exec(compile(code, "look.py", "exec"), {})  # noqa: S102  # it is what is to be tested
    return out.getvalue()


def program(page: Any) -> str:
    page.evaluate(f"{TEXT} = ''")  # what another test has read there
    page.click("#keep-python summary")
    until(page, f"{TEXT} !== ''")
    code: str = page.evaluate(TEXT)
    return code


def test_json_has_all_that_is_shown(browser: Any, shared: Served, tmp_path: Path) -> None:
    """In the API's own form: the Python client reads it."""
    shared.use(fake_engine())
    with stay(browser, shared.url, LINK) as seen:
        page = seen.page
        page.wait_for_selector("#cause table")
        found = json.loads(saved(page, "Save JSON", tmp_path / "look.json"))
    inside = Inspection.read(found)
    assert inside.tokens == ["a", "b", "c"]
    pattern = inside.arrays["pattern"]
    assert pattern.values.shape == (3, 2, 3, 3)
    assert pattern.at(layer=1, head=1)[1].tolist() == [0.5, 0.5, 0.0]
    assert inside.arrays["norms.attn_out"].values.shape == (3, 3)
    assert inside.arrays["surprisal.nats"].values.tolist() == [1.0, 1.0]
    assert found["chosen"] == {"layer": 1, "head": 1, "token": 1}
    assert found["changed"]["edits"] == json.loads(OFF)
    assert found["changed"]["answer"]["changed"]["kl"] == 1.0


def test_the_picture_is_of_the_large_map(browser: Any, shared: Served, tmp_path: Path) -> None:
    """Its cells in the map's own colors, and names beside them: more than the map alone."""
    shared.use(fake_engine())
    pixels = """async (data) => {
      const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
      const picture = await createImageBitmap(new Blob([bytes]));
      const canvas = new OffscreenCanvas(picture.width, picture.height);
      const pen = canvas.getContext('2d');
      pen.drawImage(picture, 0, 0);
      const { data: found } = pen.getImageData(0, 0, picture.width, picture.height);
      const own = document.querySelector('.heat').getContext('2d').getImageData(0, 0, 3, 3).data;
      const same = (a, i, b, j) => [0, 1, 2].every((k) => a[i + k] === b[j + k]);
      const count = (at) => {
        let sum = 0;
        for (let i = 0; i < found.length; i += 4) sum += same(found, i, own, at);
        return sum;
      };
      return [picture.width, picture.height, count(0), count(4), count(16)];
    }"""
    with visit(browser, shared.url, f"/{LINK}", color_scheme="dark") as seen:
        page = seen.page
        page.wait_for_selector("#cause table")
        png = saved(page, "Save PNG", tmp_path / "look.png")
        assert png[:8] == b"\x89PNG\r\n\x1a\n"
        width, height, first, hidden, half = page.evaluate(pixels, base64.b64encode(png).decode())
    cell = (2 * 420 / 3) ** 2
    assert height > width > 2 * 420
    assert first == pytest.approx(cell, rel=0.05)
    assert hidden == pytest.approx(3 * cell, rel=0.05)
    assert half == pytest.approx(2 * cell, rel=0.05)


@pytest.mark.parametrize("text", ["abc", 'a"\\\n\u2028\u00e9{b}'])
def test_the_python_runs_and_asks_the_same(browser: Any, shared: Served, text: str) -> None:
    engine = shared.use(fake_engine())
    link = LINK.replace("abc", quote(text))
    with stay(browser, shared.url, link) as seen:
        page = seen.page
        page.wait_for_selector("#cause table")
        page.wait_for_selector(SETTLED)
        code = program(page)
        assert code.count("add_special_tokens=False") == 2  # as the page reads what is typed
        before = len(engine.inspections)
        out = run(code)
        look, changed = engine.inspections[before:]
        assert look.token_ids == changed.token_ids == list(text.encode())
        assert [*look.layers] == [1]
        assert [(edit.at, edit.change) for edit in changed.edits] == [
            ("head", "mean"),
            ("mlp_out", "zero"),
        ]
        assert "0.500 'a'" in out
        assert "KL 1 nats; rounding alone: 1" in out
        page.click("#tokens .token:nth-child(1)")  # the program follows
        until(page, f"{TEXT}.includes('pattern[0]')")


def test_the_python_of_a_conversation_has_its_tokens(browser: Any, shared: Served) -> None:
    engine = shared.use(fake_engine())
    with stay(browser, shared.url, "#inspector?ids=258,97,98&layer=0&head=0") as seen:
        page = seen.page
        page.wait_for_selector(SETTLED)
        code = program(page)
        assert "prompt = [258,97,98]" in code
        assert "interventions" not in code
        run(code)
        assert [*engine.inspections[-1].token_ids] == [258, 97, 98]


def test_the_link_is_copied_or_shown(browser: Any, shared: Served) -> None:
    """A browser that refuses the clipboard gets it to select."""
    shared.use(fake_engine())
    with visit(browser, shared.url, "/#inspector?text=abc&layer=1&head=1") as seen:
        page = seen.page
        page.wait_for_selector(READY)
        page.evaluate("document.execCommand = () => false; 0")
        page.evaluate("navigator.clipboard.writeText = async () => { throw new Error(); }; 0")
        page.click("#keep button:has-text('Copy link')")
        until(page, "getSelection().toString().includes('#inspector?')")
        wanted = f"{shared.url}/#inspector?text=abc&layer=1&head=1"
        assert page.evaluate("getSelection().toString()") == wanted
