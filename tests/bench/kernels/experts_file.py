"""A GGUF file of random blocks, a few layers of Qwen3-30B-A3B, which any engine of GGUF opens."""

from pathlib import Path

import gguf
import numpy as np

from tests.bench.kernels.bench_stored_linear import random_blocks

HIDDEN, HEADS, KV_HEADS, HEAD_DIM = 2048, 32, 4, 128
EXPERTS, CHOSEN, WIDTH, VOCAB = 128, 8, 768, 4096
MIXES = {"Q4_0": ("Q4_0", "Q4_0"), "Q4_K_M": ("Q4_K", "Q6_K")}  # most tensors; those of `is_finer`
FILE_TYPES = {
    "Q4_0": gguf.LlamaFileType.MOSTLY_Q4_0,
    "Q4_K_M": gguf.LlamaFileType.MOSTLY_Q4_K_M,
}


def is_finer(layer: int, num_layers: int) -> bool:
    """Whether llama.cpp's mixes keep a layer's values and last products in more bits."""
    first = num_layers // 8
    return layer < first or layer >= 7 * num_layers // 8 or (layer - first) % 3 == 2


def write_experts_file(path: Path, mix: str, num_layers: int) -> Path:
    """The vocabulary is small: a head costs what it does in a dense model."""
    most, finer = MIXES[mix]
    writer = gguf.GGUFWriter(path, "qwen3moe")
    _describe(writer, num_layers, mix)
    put(writer, "token_embd.weight", most, (VOCAB, HIDDEN))
    put(writer, "output.weight", "Q6_K", (VOCAB, HIDDEN))
    put_ones(writer, "output_norm.weight", HIDDEN)
    draw = np.random.default_rng(0)
    for layer in range(num_layers):
        own, last = f"blk.{layer}.", finer if is_finer(layer, num_layers) else most
        put(writer, f"{own}attn_q.weight", most, (HEADS * HEAD_DIM, HIDDEN))
        put(writer, f"{own}attn_k.weight", most, (KV_HEADS * HEAD_DIM, HIDDEN))
        put(writer, f"{own}attn_v.weight", last, (KV_HEADS * HEAD_DIM, HIDDEN))
        put(writer, f"{own}attn_output.weight", most, (HIDDEN, HEADS * HEAD_DIM))
        for name, size in (("attn", HIDDEN), ("ffn", HIDDEN), ("attn_q", HEAD_DIM)):
            put_ones(writer, f"{own}{name}_norm.weight", size)
        put_ones(writer, f"{own}attn_k_norm.weight", HEAD_DIM)
        router = draw.standard_normal((EXPERTS, HIDDEN), np.float32) * 0.02
        writer.add_tensor(f"{own}ffn_gate_inp.weight", router)
        put(writer, f"{own}ffn_gate_exps.weight", most, (EXPERTS, WIDTH, HIDDEN))
        put(writer, f"{own}ffn_up_exps.weight", most, (EXPERTS, WIDTH, HIDDEN))
        put(writer, f"{own}ffn_down_exps.weight", last, (EXPERTS, HIDDEN, WIDTH))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _describe(writer: gguf.GGUFWriter, num_layers: int, mix: str) -> None:
    writer.add_file_type(FILE_TYPES[mix])
    writer.add_context_length(4096)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(num_layers)
    writer.add_feed_forward_length(6144)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_key_length(HEAD_DIM)
    writer.add_value_length(HEAD_DIM)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(1e6)
    writer.add_expert_count(EXPERTS)
    writer.add_expert_used_count(CHOSEN)
    writer.add_expert_feed_forward_length(WIDTH)
    letters = _byte_letters()
    words = [f"<|{number}|>" for number in range(VOCAB - len(letters) - 1)]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list([*letters, "ab", *words])
    writer.add_token_types(
        [gguf.TokenType.NORMAL] * (len(letters) + 1) + [gguf.TokenType.CONTROL] * len(words)
    )
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(VOCAB - 1)


def _byte_letters() -> list[str]:
    """What stands for each byte in a byte-level vocabulary."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in shown]
    letters = dict(zip(shown, shown, strict=True))
    letters |= {byte: 256 + place for place, byte in enumerate(others)}
    return [chr(letters[byte]) for byte in range(256)]


def put(writer: gguf.GGUFWriter, name: str, format_name: str, shape: tuple[int, ...]) -> None:
    """Rows of random blocks; of a stack each matrix has its own."""
    rows = int(np.prod(shape[:-1]))
    blocks = random_blocks(format_name, rows, shape[-1]).blocks
    raw = np.ascontiguousarray(blocks).view(np.uint8).reshape(*shape[:-1], -1)
    writer.add_tensor(name, raw, raw_dtype=gguf.GGMLQuantizationType[format_name])


def put_ones(writer: gguf.GGUFWriter, name: str, size: int) -> None:
    writer.add_tensor(name, np.ones(size, np.float32))
