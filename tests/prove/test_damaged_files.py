"""Five thousand damaged files of each format, and each cut at every one of its first 4,096 bytes:
what tests/weights/hostile does a few hundred times."""

import pytest

from tests.weights.hostile.inflated import INFLATED
from tests.weights.hostile.mutations import mutated
from tests.weights.hostile.originals import Original
from tests.weights.hostile.test_hostile_files import (  # noqa: F401 (fixtures)
    FORMATS,
    file,
    opened,
    originals,
)

pytestmark = [pytest.mark.prove, pytest.mark.timeout(7200)]


@pytest.mark.parametrize("file", FORMATS, indirect=True, ids=FORMATS)
def test_damaged(file: Original) -> None:  # noqa: F811
    """Some are damaged alike, up to a third of a small file's: the same bytes are opened once."""
    raw = file.file.read_bytes()
    seen = {raw}
    for seed in range(5000):
        damaged = mutated(raw, file.kind, seed)
        if damaged not in seen:
            seen.add(damaged)
            opened(file, damaged)


@pytest.mark.parametrize("file", FORMATS, indirect=True, ids=FORMATS)
def test_cut(file: Original) -> None:  # noqa: F811
    raw = file.file.read_bytes()
    for size in range(min(4096, len(raw.rstrip()))):
        assert opened(file, raw[:size])


@pytest.mark.parametrize(
    ("file", "name"), [(kind, name) for name, (kind, _) in INFLATED.items()],
    indirect=["file"], ids=list(INFLATED),
)  # fmt: skip
def test_inflated(file: Original, name: str) -> None:  # noqa: F811
    assert opened(file, INFLATED[name][1]())
