"""Two texts side by side, and a token's stream of one in place of one of the other."""

import json
from typing import Any
from urllib.parse import quote

from tests.api.support import Served, fake_engine
from tests.browser.conftest import until, visit
from tests.browser.inspector.looks import SETTLED, edits_of
from tests.browser.inspector.test_link import fields
from tests.browser.test_axe import found_in_all_looks
from tests.draws import also_at_night

LINK = "/#inspector?text=abcd&layer=1&head=1"
DRAWN = "#beside table"
PATCH = {
    "at": "resid_pre", "layer": 1, "set": "source", "positions": [2], "source_positions": [0],
    "from": "beside",
}  # fmt: skip


def put_beside(page: Any, text: str) -> None:
    page.wait_for_selector(SETTLED)
    page.fill("#beside-text", text)
    page.keyboard.press("Enter")
    page.wait_for_selector(DRAWN)


def patched(page: Any) -> None:
    page.wait_for_selector(".cause-edit")
    page.wait_for_selector("#cause table")


@also_at_night
def test_two_texts_side_by_side(browser: Any, shared: Served) -> None:
    """The same head's map of both, and the next token of either; another head, and both follow."""
    engine = shared.use(fake_engine())
    with visit(browser, shared.url, LINK) as seen:
        page = seen.page
        put_beside(page, "xyz")
        assert page.locator("#beside .heat").count() == 2
        assert page.locator(".beside-tokens >> nth=1 >> button").all_inner_texts() == [*"xyz"]
        assert page.inner_text("#beside thead").strip() == "next token\tthis text\tthe other"
        assert "36 % of the weight" in page.inner_text("#beside .caption >> nth=0")
        assert "42 % of the weight" in page.inner_text("#beside .caption >> nth=1")
        page.locator("#beside .heat >> nth=1").hover(position={"x": 5, "y": 5})
        assert page.inner_text("#beside-says").startswith("“x” takes 100 % from “x”")
        page.click("[aria-label='Layer 2, head 0']")
        until(page, "document.querySelector('#beside .caption').textContent.startsWith('Layer 2')")
        asked = [one for one in engine.inspections if [*one.token_ids] == [*b"xyz"]]
        assert [[*one.layers] for one in asked] == [[1], [2]]
        assert found_in_all_looks(page) == []
        for width in (390, 1280):
            page.set_viewport_size({"width": width, "height": 844})
            assert page.evaluate("document.querySelector('#inspector').scrollWidth") <= width
        page.click("#beside-off")
        assert page.is_hidden("#beside")


def test_a_token_is_dragged_onto_another(browser: Any, shared: Served) -> None:
    """Of the other text onto this one, and of this one onto itself; never onto the other."""
    engine = shared.use(fake_engine())
    with visit(browser, shared.url, LINK, viewport={"width": 1280, "height": 3400}) as seen:
        page = seen.page
        put_beside(page, "xyz")
        other, own = ".beside-tokens >> nth=1 >> button >> nth={}", "#tokens button >> nth={}"
        drag(page, other.format(0), own.format(2))
        patched(page)
        (edit,) = edits_of(engine)
        assert (edit.at, edit.layer, edit.change) == ("resid_pre", 1, "source")
        assert ([*edit.positions], [*edit.from_positions]) == ([2], [0])
        sources = [[*request.texts] for request in engine.inspections if request.edits]
        assert [[*text] for text in sources[-1]] == [[*b"xyz"]]
        words = "With “x” in place of “c” before layer 1 the next token moves by 1.0 nats"
        assert page.inner_text("#cause-says").startswith(words)
        assert page.get_attribute("#tokens .token:nth-child(3)", "aria-pressed") == "false"
        count = len([request for request in engine.inspections if request.edits])
        drag(page, own.format(1), other.format(1))
        assert page.locator(".drop, .dragged").count() == 0
        drag(page, own.format(1), ".beside-tokens >> nth=0 >> button >> nth=3")
        until(page, "document.querySelector('#cause-says').textContent.startsWith('With “b”')")
        page.wait_for_selector("#cause table")
        found = [request for request in engine.inspections if request.edits]
        assert len(found) == count + 1
        assert [[*text] for text in found[-1].texts] == [[*b"abcd"]]


def drag(page: Any, start: str, end: str) -> None:
    for place, act in ((start, page.mouse.down), (end, page.mouse.up)):
        for _ in range(2):  # a sentence on the way may have another number of lines
            box = page.locator(place).bounding_box()
            page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, steps=4)
        act()


SWIPE = """(() => {
  const [from, to] = [0, 2].map((i) => document.querySelectorAll('#tokens button')[i]);
  const told = (kind, node) => {
    const { x, y } = node.getBoundingClientRect();
    const at = { clientX: x + 2, clientY: y + 2 };
    const event = { pointerType: 'touch', bubbles: true, button: 0, ...at };
    node.dispatchEvent(new PointerEvent(kind, event));
  };
  told('pointerdown', from);
  told('pointermove', to);
  told('pointermove', to);
  const lifted = document.querySelectorAll('.dragged, .drop').length;
  told('pointerup', to);
  return lifted;
})()"""


def test_a_finger_rests_and_then_drags(browser: Any, shared: Served) -> None:
    """On a phone: what moves at once scrolls, what rests takes the token along."""
    engine = shared.use(fake_engine())
    with visit(browser, shared.url, LINK, viewport={"width": 390, "height": 844}) as seen:
        page = seen.page
        page.wait_for_selector(SETTLED)
        assert page.evaluate(SWIPE) == 0
        assert not [request for request in engine.inspections if request.edits]
        finger = page.context.new_cdp_session(page)
        finger.send("Emulation.setTouchEmulationEnabled", {"enabled": True})

        def touch(kind: str, *places: int) -> None:
            boxes = [page.locator("#tokens button").nth(place).bounding_box() for place in places]
            points = [{"x": box["x"] + 4, "y": box["y"] + 4} for box in boxes]
            finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

        touch("touchStart", 0)
        page.wait_for_selector("#tokens .dragged")
        touch("touchMove", 2)
        page.wait_for_selector("#tokens .drop")
        touch("touchEnd")
        patched(page)
        (edit,) = edits_of(engine)
        assert ([*edit.positions], [*edit.from_positions]) == ([2], [0])
        assert page.locator(".drop, .dragged").count() == 0
        finger.detach()  # and its touch with it: others have this page too


def test_a_patch_by_the_keyboard(browser: Any, shared: Served) -> None:
    """From lists; a click on a token of the pair chooses it there."""
    engine = shared.use(fake_engine())
    with visit(browser, shared.url, LINK) as seen:
        page = seen.page
        put_beside(page, "xyz")
        assert page.inner_text("#patch-layer") == "before layer 1"
        page.focus(".beside-tokens >> nth=1 >> button >> nth=2")
        page.keyboard.press("Enter")
        assert page.input_value("#patch-from") == "beside/2"
        page.focus("#patch-to")
        page.select_option("#patch-to", "0")
        page.focus("#patch-form button")
        page.keyboard.press("Enter")
        patched(page)
        (edit,) = edits_of(engine)
        assert ([*edit.positions], [*edit.from_positions]) == ([0], [2])
        page.click("#beside-off")  # and what came from there goes with it
        until(page, "document.querySelectorAll('.cause-edit').length === 0")
        assert page.locator("#patch-from option").count() == 4


def test_a_link_carries_both_texts_and_the_patch(browser: Any, shared: Served) -> None:
    engine = shared.use(fake_engine())
    link = f"{LINK}&edits={quote(json.dumps([PATCH]))}"
    with visit(browser, shared.url, f"{link}&beside=xyz") as seen:
        page = seen.page
        page.wait_for_selector(DRAWN)
        patched(page)
        assert [[*edit.from_positions] for edit in edits_of(engine)] == [[0]]
        until(page, "location.hash.includes('edits') && location.hash.includes('beside')")
        assert json.loads(fields(page)["edits"]) == [PATCH]
        assert fields(page)["beside"] == "xyz"
    shared.use(fake_engine())
    with visit(browser, shared.url, link) as seen:  # without the text that it needs
        seen.page.wait_for_selector(SETTLED)
        until(seen.page, "location.hash === '#inspector?text=abcd&layer=1&head=1'")
        assert seen.page.locator(".cause-edit").count() == 0


def test_what_is_no_longer_wanted_is_not_called_a_failure(browser: Any, shared: Served) -> None:
    """A layer of the other text is on its way while a third text is put in its place."""
    shared.use(fake_engine())
    with visit(browser, shared.url, LINK) as seen:
        page = seen.page
        put_beside(page, "wxyz")
        page.route("**/v1/inspect", lambda _: None)  # never answered
        with page.expect_request("**/v1/inspect"):
            page.select_option("#layer", "0")
        page.fill("#beside-text", "uvw")
        with page.expect_request("**/v1/inspect"):
            page.press("#beside-text", "Enter")
        assert page.inner_text("#beside-says") == "Looking inside…"
