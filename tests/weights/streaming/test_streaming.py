"""Loading streams: at its peak there is the model, and beside it one tensor."""

import json
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import gguf
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from tests.draws import also_at_night, count
from tests.weights import tiny
from tests.weights.formats.quantized.forms import write_settings

ROOT = Path(__file__).resolve().parents[3]
# Freed memory goes back at once, so that what is resident is what is held.
AT_ONCE = ["env", "MALLOC_MMAP_THRESHOLD_=65536", "MALLOC_TRIM_THRESHOLD_=65536"]
SLACK = 8 << 20  # the allocator's, pages of tables and of tensors at both borders
LAYERS = count(4, 10)
SIZES = {
    "vocab_size": 2048, "hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": LAYERS,
    "num_attention_heads": 8, "num_key_value_heads": 8, "max_position_embeddings": 128,
    "tie_word_embeddings": True,
}  # fmt: skip
MODEL = 4 * (2048 * 512 + LAYERS * (4 * 512 * 512 + 3 * 512 * 2048))  # bytes in fp32, norms apart
LARGEST = 4 * 512 * 2048


def sharded(model: LlamaForCausalLM, path: Path) -> Path:
    return tiny.save(deepcopy(model).bfloat16(), path, max_shard_size="30MB")


def blocks(model: LlamaForCausalLM, path: Path) -> Path:
    return tiny.llama_gguf(model, path.with_suffix(".gguf"), kind=gguf.GGMLQuantizationType.Q8_0)


def fp8(model: LlamaForCausalLM, path: Path) -> Path:
    """Any numbers: it is their memory that counts."""
    model.save_pretrained(path)
    tensors = load_file(path / "model.safetensors")
    for name in [name for name in tensors if "proj" in name]:
        tensors[name] = tensors[name].to(torch.float8_e4m3fn)
        tensors[f"{name}_scale"] = torch.ones(1)
    save_file(tensors, path / "model.safetensors")
    write_settings(path, {"quant_method": "fp8"})
    return path


@also_at_night
@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's own measure is asked")
def test_peak_is_the_model_and_one_tensor(tmp_path: Path) -> None:
    """Fails by the size of the file, 18 MB and more, at night 45, if what was read stays
    resident."""
    model = LlamaForCausalLM(LlamaConfig(**SIZES, head_dim=64))
    paths = [str(write(model, tmp_path / write.__name__)) for write in (sharded, blocks, fp8)]
    program = [sys.executable, "-m", "tests.weights.streaming.measure_peak", *paths]
    done = subprocess.run(
        [*AT_ONCE, *program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for path, found in zip(paths, json.loads(done.stdout.splitlines()[-1]), strict=True):
        beside = found["peak"] - found["before"] - MODEL
        assert beside < LARGEST + SLACK, f"{path}: {beside:,} bytes beside the model of {MODEL:,}"
