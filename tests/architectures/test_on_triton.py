"""Each architecture by the GPU's kernels, in triton's interpreter: a chunk, then one token.

They are slow there, so a push tries one model of each class, few tokens long; `-m prove` all cases.
"""

import pytest
import torch

from tests.architectures.conftest import Written
from tests.architectures.running import load, make_cache, step
from tests.architectures.table import CASES
from tests.architectures.test_architectures import TOKENS, close, theirs_of

triton = pytest.importorskip("triton", reason="no triton: the GPU's kernels cannot be tried")

from thirdeye.model.attention.triton import TritonAttention  # noqa: E402

CLASSES = [name for name in CASES if "-" not in name]


def check(written: Written, name: str, chunk: int) -> None:
    hf, path, _ = written(name)
    ids = TOKENS[: chunk + 1]
    model = load(path, attention=TritonAttention(num_multiprocessors=4), is_fused=True)
    cache = make_cache(model)
    first, last = step(model, cache, ids[:chunk], 0), step(model, cache, ids[chunk:], chunk)
    close(torch.cat((first, last)), theirs_of(hf, ids))


@pytest.mark.parametrize("name", CLASSES)
def test_a_chunk_and_a_token(written: Written, name: str) -> None:
    check(written, name, 3)


@pytest.mark.prove
@pytest.mark.parametrize("name", CASES)
def test_past_windows_and_blocks(written: Written, name: str) -> None:
    check(written, name, 20)
