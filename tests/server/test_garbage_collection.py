"""Once loading is over, no collection has much to do."""

import json
import subprocess
import sys

GARBAGE = """
import gc, json, sys
from collections import deque
loaded = [[i] for i in range(400_000)]
if "frozen" in sys.argv:
    from thirdeye.server.garbage_collection import freeze_heap
    freeze_heap()
found = [0]
gc.callbacks.append(lambda _, info: found.append(info["collected"]))  # 0 at its start
alive = deque(maxlen=3000)
for _ in range(400_000):
    cycle = []
    cycle.append(cycle)
    alive.append(cycle)
print(json.dumps([max(found), gc.get_freeze_count() >= len(loaded), gc.isenabled()]))
"""


def most_collected_at_once(*how: str) -> tuple[int, bool, bool]:
    """Of cycles that live for a while each; whether what was loaded is frozen; whether the
    collector is on."""
    done = subprocess.run(
        [sys.executable, "-c", GARBAGE, *how], capture_output=True, text=True, check=True
    )
    most, is_frozen, is_on = json.loads(done.stdout)
    return most, is_frozen, is_on


def test_few_objects_are_taken_apart_at_once() -> None:
    most, is_frozen, is_on = most_collected_at_once("frozen")
    assert most < 12_000
    assert is_frozen
    assert is_on


def test_python_alone_lets_them_pile_up() -> None:
    """Else the test above would say nothing."""
    most, is_frozen, _ = most_collected_at_once()
    assert most > 25_000
    assert not is_frozen
