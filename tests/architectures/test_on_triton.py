"""Each architecture by the GPU's kernels, in triton's interpreter: a chunk, then one token.

They are slow there, so a push tries few tokens by such models as have between them whatever a model
of any class can have; `-m prove` all cases.
"""

import pytest
import torch

from tests.architectures.conftest import Written
from tests.architectures.running import load, make_cache, step
from tests.architectures.table import CASES, CLASSES
from tests.architectures.test_architectures import TOKENS, close, theirs_of
from tests.architectures.walk.features import features

triton = pytest.importorskip("triton", reason="no triton: the GPU's kernels cannot be tried")

from thirdeye.model.attention.triton import TritonAttention  # noqa: E402
from thirdeye.weights.checkpoint import open_checkpoint  # noqa: E402

AT_A_PUSH = [
    "gpt_oss", "falcon_h1", "nemotron_h", "qwen3_next", "bloom", "falcon", "olmo2", "ministral3",
    "olmo", "lfm2", "gemma2", "granite", "hunyuan_v1_dense", "apertus", "gemma4_unified_text",
    "gptj", "opt", "deepseek_v2", "deepseek_v3", "llama4_text", "hyperclovax",
]  # fmt: skip


def check(written: Written, name: str, chunk: int) -> None:
    hf, path, _ = written(name)
    ids = TOKENS[: chunk + 1]
    model = load(path, attention=TritonAttention(num_multiprocessors=4), is_fused=True)
    cache = make_cache(model)
    first, last = step(model, cache, ids[:chunk], 0), step(model, cache, ids[chunk:], chunk)
    close(torch.cat((first, last)), theirs_of(hf, ids))


@pytest.mark.parametrize("name", AT_A_PUSH)
def test_a_chunk_and_a_token(written: Written, name: str) -> None:
    check(written, name, 3)


def test_a_push_tries_all_that_a_class_can_have(written: Written) -> None:
    """Who is missing in `AT_A_PUSH` has nothing that another one there lacks."""
    found = {name: features(open_checkpoint(written(name)[1]).config) for name in CLASSES}
    tried = set().union(*(found[name] for name in AT_A_PUSH))
    assert {name: found[name] - tried for name in CLASSES if found[name] - tried} == {}


@pytest.mark.prove
@pytest.mark.parametrize("name", CASES)
def test_past_windows_and_blocks(written: Written, name: str) -> None:
    check(written, name, 20)
