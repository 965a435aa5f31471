"""The plan: every row there is, in order."""

from tests.trust.access_rows import ACCESS_ROWS
from tests.trust.input_rows import INPUT_ROWS
from tests.trust.load_rows import LOAD_ROWS

ROWS = tuple(sorted((*LOAD_ROWS, *INPUT_ROWS, *ACCESS_ROWS), key=lambda row: row.number))
