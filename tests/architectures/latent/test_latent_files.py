"""Models with latents as they are published: FP8 blocks, a GGUF file's blocks, Kimi's name."""

import json
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch

from tests.architectures.cases import Case, randomized
from tests.architectures.latent.latent_cases import v2, v3
from tests.architectures.latent.latent_gguf import latent_gguf
from tests.architectures.running import load, logits
from tests.architectures.test_architectures import TOKENS, close, theirs_of
from tests.weights.formats.quantized.float_forms import FLOAT_FORMS
from tests.weights.formats.quantized.forms import save_quantized
from thirdeye.model.native.library import Library
from thirdeye.model.native.products.stored_linear import StoredLinearKernel
from thirdeye.model.transformer import Transformer
from thirdeye.server.launch.commands.info_command import file_sizes
from thirdeye.weights.checkpoint import open_checkpoint
from thirdeye.weights.errors import ModelFormatError

Q8_0 = gguf.GGMLQuantizationType.Q8_0
WIDE = {  # blocks of 32 fit everywhere, and a head's matrix to its keys lies across them
    "hidden_size": 64, "intermediate_size": 96, "moe_intermediate_size": 32, "kv_lora_rank": 32,
    "q_lora_rank": 32, "qk_nope_head_dim": 32, "v_head_dim": 32,
}  # fmt: skip


@pytest.fixture(autouse=True)
def plainly(tmp_path: Path) -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.inference_mode():
        yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("case", [v2(q_lora_rank=None), v3()], ids=["v2", "v3"])
def test_fp8_blocks(case: Case, tmp_path: Path) -> None:
    """As V3 is published. Blocks of 40 rows end within heads, and rows come in another order."""
    model = randomized(case)
    path = save_quantized(model, tmp_path / "fp8", FLOAT_FORMS["fp8-blocks-cut"])
    close(logits(load(path), TOKENS), theirs_of(model))


def test_blocks_are_multiplied_as_they_are(tmp_path: Path, native: Library) -> None:
    """But for the matrices of single heads, which are widened, as the estimate of memory says."""
    model = randomized(v3(**WIDE, num_experts_per_tok=8, n_group=1, topk_group=1))  # all of them
    path = latent_gguf(model, tmp_path / "m.gguf", Q8_0)
    ours = load(path, native=native, quantize="stored")
    assert kept_of(ours) == {StoredLinearKernel}
    far = (logits(ours, TOKENS, 7) - theirs_of(model)).abs()
    assert far.mean() < 0.05 * theirs_of(model).std()  # rounding; rows of another part: all of it
    assert torch.equal(logits(ours, TOKENS, 7), logits(ours, TOKENS))
    sizes = file_sizes(open_checkpoint(path))
    assert sizes is not None
    assert sizes.widened == 3 * 6 * (32 + 32) * 32 * 34 // 32  # layers, heads; 34 bytes a block


def kept_of(model: Transformer) -> set[type]:
    return {
        type(getattr(block.self_attention.qkv, name).kept)  # type: ignore[operator, union-attr]
        for block in model.blocks
        for name in ("query_down", "query", "latent")
    }


def test_kimi_is_a_deepseek(tmp_path: Path) -> None:
    """By a name of its own, of a class that transformers does not have."""
    model = randomized(v3(n_group=1, topk_group=1))
    model.save_pretrained(tmp_path)
    expected = logits(load(tmp_path), TOKENS)
    rewrite(tmp_path, model_type="kimi_k2", topk_method="noaux_tc", scoring_func="sigmoid")
    assert open_checkpoint(tmp_path).config.architecture == "deepseek_v3"
    assert torch.equal(logits(load(tmp_path), TOKENS), expected)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"num_key_value_heads": 3}, "must equal 'num_attention_heads'"),
        ({"rope_interleave": False}, "'rope_interleave': is not supported"),
        ({"scoring_func": "softmax"}, "'scoring_func': is not supported"),
        ({"qk_rope_head_dim": 7}, "must be even"),
        ({"head_dim": 20}, "'head_dim': is not supported"),
        ({"moe_layer_freq": 2}, "'moe_layer_freq': is not supported"),
    ],
)
def test_what_is_refused(changes: dict[str, Any], problem: str, tmp_path: Path) -> None:
    v3().make().save_pretrained(tmp_path)
    rewrite(tmp_path, **changes)
    with pytest.raises(ModelFormatError, match=problem):
        open_checkpoint(tmp_path)


def rewrite(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
