"""A hundred damaged files in the push gate; `make prove` opens 5,000 of each format and cuts
each at every one of its first 4,096 bytes (tests/prove/test_damaged_files.py)."""

import json
import sys
from collections.abc import Iterator

import pytest

from tests.draws import also_at_night, count
from tests.weights.hostile.inflated import INFLATED, QUICK
from tests.weights.hostile.mutations import mutated
from tests.weights.hostile.originals import Original, write_originals
from tests.weights.hostile.trial import check, try_file

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the kernel counts the memory")

FORMATS = ("GGUF", "safetensors", "index", "config.json", "tokenizer.json", "tokenizer.model",
           "tokenizer_config.json", "generation_config.json")  # fmt: skip
DAMAGED = 8
CUTS = (0, 3, 7, 8, 9, 15, 24, 60, 200, 340, 700, 1500, 4000)


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Original]:
    """Each was opened once: what is imported at the first time is no file's cost."""
    written = write_originals(tmp_path_factory.mktemp("originals"))
    for path in {original.checkpoint for original in written.values()}:
        assert try_file(path).refusals == ()
    return written


@pytest.fixture
def file(request: pytest.FixtureRequest, originals: dict[str, Original]) -> Iterator[Original]:
    """The original of a format, which is put back."""
    original = originals[request.param]
    raw = original.file.read_bytes()
    yield original
    original.file.write_bytes(raw)


def opened(original: Original, raw: bytes) -> tuple[str, ...]:
    original.file.write_bytes(raw)
    trial = try_file(original.checkpoint)
    check(original.checkpoint, trial)
    return trial.refusals


def test_originals_open(originals: dict[str, Original]) -> None:
    for original in originals.values():
        assert opened(original, original.file.read_bytes()) == ()


@pytest.mark.parametrize("file", FORMATS, indirect=True, ids=FORMATS)
def test_damaged(file: Original) -> None:
    raw = file.file.read_bytes()
    refused = sum(bool(opened(file, mutated(raw, file.kind, seed))) for seed in range(DAMAGED))
    assert refused, "some damage is seen"


@pytest.mark.parametrize("file", FORMATS, indirect=True, ids=FORMATS)
def test_cut(file: Original) -> None:
    raw = file.file.read_bytes()
    for size in CUTS:
        if size < len(raw):
            assert opened(file, raw[:size])


@pytest.mark.parametrize(
    ("file", "name"), [(INFLATED[name][0], name) for name in QUICK], indirect=["file"], ids=QUICK
)
def test_inflated(file: Original, name: str) -> None:
    assert opened(file, INFLATED[name][1]())


@also_at_night
@pytest.mark.parametrize("file", ["config.json"], indirect=True)
@pytest.mark.parametrize(
    "change",
    [{"num_hidden_layers": 1 << count(9, 12)}, {"vocab_size": 1 << 22}, {"hidden_size": 1 << 18}],
    ids=str,
)
def test_sizes_that_the_tensors_do_not_have(file: Original, change: dict[str, int]) -> None:
    """Said before anything of that size is made."""
    settings = json.loads(file.file.read_bytes())
    assert opened(file, json.dumps(settings | change).encode())


@pytest.mark.parametrize("file", ["tokenizer.json"], indirect=True)
def test_an_id_far_away(file: Original, originals: dict[str, Original]) -> None:
    """One token at the end of a claimed vocabulary of four millions."""
    config = originals["config.json"].file
    before = config.read_text()
    config.write_text(json.dumps(json.loads(before) | {"vocab_size": 1 << 22}))
    tokenizer = json.loads(file.file.read_bytes())
    tokenizer["added_tokens"][0] |= {"id": (1 << 22) - 1, "content": "far"}
    tokenizer["pre_tokenizer"] = {"type": "ByteLevel", "add_prefix_space": True, "use_regex": True}
    try:
        assert opened(file, json.dumps(tokenizer).encode())
    finally:
        config.write_text(before)
