"""A GGUF file of random blocks: a Llama of 1.1 B, with the vocabulary of a file that there is.

    python -m tests.bench.kernels.llama_file OUT.gguf [--vocabulary FILE]

22 layers, 2048 wide, 5632, 32 heads on 4: products in Q4_0, embedding and head (each its own) in
Q8_0. Words are the default model's, so that a prompt has as many tokens. Any engine of GGUF opens
it: for speed and for memory, not for answers.
"""

import argparse
from pathlib import Path

import gguf

from tests.bench.kernels.experts_file import put, put_ones
from thirdeye.weights.resolve import resolve_model

LAYERS, HIDDEN, WIDTH, HEADS, KV_HEADS, CONTEXT = 22, 2048, 5632, 32, 4, 4096
HEAD_DIM = HIDDEN // HEADS
SHAPES = {
    "attn_q": (HIDDEN, HIDDEN),
    "attn_k": (KV_HEADS * HEAD_DIM, HIDDEN),
    "attn_v": (KV_HEADS * HEAD_DIM, HIDDEN),
    "attn_output": (HIDDEN, HIDDEN),
    "ffn_gate": (WIDTH, HIDDEN),
    "ffn_up": (WIDTH, HIDDEN),
    "ffn_down": (HIDDEN, WIDTH),
}


def write_llama_file(path: Path, vocabulary: Path, num_layers: int = LAYERS) -> Path:
    """`vocabulary`: a GGUF file of whose tokenizer everything is taken."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_0)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(num_layers)
    writer.add_feed_forward_length(WIDTH)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_dimension_count(HEAD_DIM)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(1e4)
    num_tokens = _copy_tokenizer(writer, vocabulary)
    put(writer, "token_embd.weight", "Q8_0", (num_tokens, HIDDEN))
    put(writer, "output.weight", "Q8_0", (num_tokens, HIDDEN))
    put_ones(writer, "output_norm.weight", HIDDEN)
    for layer in range(num_layers):
        for name, shape in SHAPES.items():
            put(writer, f"blk.{layer}.{name}.weight", "Q4_0", shape)
        put_ones(writer, f"blk.{layer}.attn_norm.weight", HIDDEN)
        put_ones(writer, f"blk.{layer}.ffn_norm.weight", HIDDEN)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _copy_tokenizer(writer: gguf.GGUFWriter, vocabulary: Path) -> int:
    """How many tokens there are."""
    fields = gguf.GGUFReader(vocabulary).fields
    for name, field in fields.items():
        if name.startswith("tokenizer."):
            inner = field.types[1] if field.types[0] is gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(name, field.contents(), field.types[0], inner)
    num_tokens = len(fields["tokenizer.ggml.tokens"].data)
    writer.add_vocab_size(num_tokens)
    return num_tokens


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--vocabulary", type=Path, help="[the default model]")
    args = parser.parse_args()
    path = write_llama_file(args.out, args.vocabulary or resolve_model(None))
    print(f"{path}: {path.stat().st_size / 1e6:,.1f} MB")


if __name__ == "__main__":
    main()
