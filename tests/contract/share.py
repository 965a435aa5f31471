"""The checks of `checks.py`, over a share of the boundaries: what a push walks.

Of each operation all of the first ones, which are the document's own examples, defaults and
enumerations, then one of a few, the same ones each time. `make prove` walks them all.
"""

from collections import Counter
from typing import Any

import schemathesis

from tests.contract import checks

__all__ = ["checks"]

FIRST = 30  # of an operation: as many as most have
ONE_OF = 24  # of the others

_num_made: Counter[str] = Counter()


@schemathesis.hook
def filter_case(context: Any, case: Any) -> bool:
    if case.meta is None or case.meta.phase.name != "coverage":
        return True
    _num_made[case.operation.label] += 1
    made = _num_made[case.operation.label]
    return made <= FIRST or made % ONE_OF == 0
