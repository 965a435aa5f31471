"""ggml's newest types, 40 to 42, in whole files: the logits are those of the numbers that their
blocks stand for by the slow twins."""

from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from tests.architectures.cases import randomize
from tests.architectures.running import load, logits
from tests.weights.formats.test_dequantize import q1_0_slowly, q2_0_slowly
from tests.weights.tiny import LLAMA_NAMES, LLAMA_TOP, finished, gguf_stem
from thirdeye.model.native.library import Library
from thirdeye.weights.formats.gguf.format import TENSOR_TYPES

IDS = [3, 14, 15, 92, 65, 35, 89, 79]
SIZES = {
    "vocab_size": 97, "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
    "tie_word_embeddings": False,
}  # fmt: skip


def numbers(number: int, raw: np.ndarray) -> np.ndarray:
    """What rows of blocks stand for."""
    if number == 40:
        return gguf.dequantize(raw, gguf.GGMLQuantizationType.NVFP4)
    slowly = {41: q1_0_slowly, 42: q2_0_slowly}[number]
    return np.array([slowly(row.tobytes()) for row in raw], np.float32)


def random_rows(number: int, rows: int, width: int) -> np.ndarray:
    """Any numbers, with scales that a model may have."""
    kind, generator = TENSOR_TYPES[number], np.random.default_rng(rows + width)
    shape = (rows, width // kind.block_size, kind.block_bytes)
    raw = generator.integers(0, 256, shape, np.uint8)
    if number == 40:
        raw[..., :4] = generator.integers(0x10, 0x20, (*shape[:2], 4))  # floats of 8 bits
    else:
        scales = generator.uniform(0.05, 0.2, shape[:2]).astype(np.float16)
        raw[..., :2] = scales[..., None].view(np.uint8)
    return raw.reshape(rows, -1)


@pytest.fixture(params=[40, 41, 42])
def model_and_file(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Qwen2ForCausalLM, Path]:
    """Every matrix, the embeddings too, is of one type."""
    number: int = request.param
    kind = TENSOR_TYPES[number]
    monkeypatch.setitem(gguf.GGML_QUANT_SIZES, number, (kind.block_size, kind.block_bytes))
    model = Qwen2ForCausalLM(Qwen2Config(**SIZES)).eval()
    randomize(model)
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "qwen2")
    writer.add_context_length(64)
    writer.add_embedding_length(128)
    writer.add_block_count(2)
    writer.add_feed_forward_length(256)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(model.config.rms_norm_eps)
    writer.add_rope_freq_base(model.config.rope_parameters["rope_theta"])
    for name, tensor in model.state_dict().items():
        stem, leaf = name.rsplit(".", 1)
        own = f"{gguf_stem(stem, LLAMA_TOP, LLAMA_NAMES)}.{leaf}"
        if tensor.dim() == 1:
            writer.add_tensor(own, tensor.numpy())
            continue
        raw = random_rows(number, *tensor.shape)
        tensor.copy_(torch.from_numpy(numbers(number, raw).reshape(tensor.shape)))
        writer.add_tensor(own, raw, raw_dtype=number)
    return model, finished(writer, tmp_path / "m.gguf")


@torch.inference_mode()
def test_logits(model_and_file: tuple[Qwen2ForCausalLM, Path], native: Library) -> None:
    model, file = model_and_file
    theirs = model(torch.tensor([IDS])).logits[0]
    assert theirs.std() > 0.1
    for kernels in (None, native):
        ours = logits(load(file, native=kernels), IDS)
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
