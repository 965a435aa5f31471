"""docs/models.md, made from the table of architectures: a test holds the two together.

python -m tests.architectures.page     writes it anew
"""

from collections.abc import Iterable
from pathlib import Path

from thirdeye.weights.architectures.architecture import Architecture
from thirdeye.weights.architectures.common.rope_scaling import KINDS
from thirdeye.weights.architectures.registry import ARCHITECTURES
from thirdeye.weights.architectures.wrappers.table import HEARING, SEEING
from thirdeye.weights.formats.quantized.methods import METHODS

CONVERTED = {  # to files of a relative
    "mistral": ("llama",),
    "mixtral": ("llama",),
    "deepseek_v2": ("deepseek2",),
    "glm4_moe_lite": ("deepseek2",),
    "youtu": ("deepseek2",),
    "internlm3": ("llama",),
    "olmo3": ("olmo2",),
    "gemma4_unified_text": ("gemma4",),
    "granitemoehybrid": ("granite",),  # where every layer attends
}
PAGE = Path(__file__).resolve().parents[2] / "docs" / "models.md"
HEAD = """# Models

What a checkpoint must be to be served: an architecture of this list, in a format of the next, with
a tokenizer of the last. Anything else is refused in one line that names what is missing.

This page is written from the table in `weights/architectures/registry.py`, where a new architecture
is one row.

## Architectures

`model_type` stands in config.json, the other name in a GGUF file (`general.architecture`), where
several go by one; where there is none, that form is not read. A Mixtral's GGUF file
may hold each expert's matrices as tensors of their own, as files of early 2024 do. Of models that
also see or hear, the part that reads and writes text is served, and of these alone:
{seeing}; {hearing}.
Their chat templates often read a list of parts, and are then given a message's text as one.

| models | `model_type` | in GGUF |
|---|---|---|
"""
TAIL = """
Each is held against transformers' own class with every parameter random (`tests/architectures/`):
logits of whole prompts, of chunks and of cached decoding, past windows and past the knees of rotary
positions; greedy tokens; the GGUF form, written as llama.cpp's converter does; our kernels on a
CPU, alone and from tape; those of a GPU in triton's interpreter; a look inside; two ranks.

Nothing in a description is passed over in silence. Every setting of transformers' configuration
class is read, refused by name, or listed as harmless with the reason
(`tests/architectures/walk/harmless.py`), and each that is read is changed, one after the other:
logits change as transformers' do, or the file is refused. Of a GGUF file a setting that nobody asks
for is refused by name, but for those in `weights/formats/gguf/metadata_keys.py`.

Where attention is over latents (DeepSeek V2 and V3, Kimi K2, GLM-4.7-Flash, Youtu-LLM, Mistral
Small 4), a token leaves one in each layer and nothing else: 576 numbers of DeepSeek, so in 16 bits
31,104 bytes a token of V2-Lite and 70,272 of V3. It is computed on the latents themselves, for
prompts as for single tokens. A head's matrices from latents to its keys and values (`kv_b_proj`, or
`attn_k_b` and `attn_v_b`) are kept in the model's own dtype, however the rest is; adapters that
would change them are refused.

Layers that keep a state in place of keys and values (a short convolution in LFM2, a gated delta net
in Qwen3-Next and Qwen3.5, Mamba-2 in Granite 4, Nemotron-H and, beside attention, in Falcon-H1) are
computed token by token, on a CPU in C, on a GPU in triton, where their steps are not launched ahead
nor recorded as graphs.
What that means for prefixes and memory: [scheduling.md](scheduling.md), "States". The head
that guesses one more token (`mtp`) of Qwen3-Next, Qwen3.5, GLM-4.5 and DeepSeek V3 is read where
`--speculation mtp` asks for it ([speculation.md](speculation.md)).
Of a GGUF file with a gated delta net the heads lie in an order
that `--tensor-parallel` cannot deal out; it refuses, and takes the same model in safetensors.
Mamba-2's heads are dealt out by their groups: `--tensor-parallel` must divide their number, which
is 1 in most.

Layers may differ in their heads, and may read the keys and values of an earlier layer, which are
kept once (Gemma 4): what a token leaves in the cache is the sum over the layers that keep any, as
`thirdeye info` says. The table by which Gemma 4's small models tell each layer something of each
token is kept on a CPU as its file has it, and a row decoded when it is looked up.

Of a layer with experts a token takes those that its router chooses; each expert's weights are read
once a step. On a CPU they are kept as `--quantize` says, on a GPU in the model's own precision.

Rotary positions may be of the kinds {kinds}; in Hunyuan also
of NTK by `alpha`, in Gemma 4 `proportional`. A scaling that
depends on the text's length is fixed once for all texts, by the context that is served
(`--max-model-len`, else the model's own), since cached keys must stay comparable: with LongRoPE the
long factors hold where that is longer than the original context.

## Formats

* safetensors in Hugging Face layout, one file or sharded: in floating point, or quantized as below.
* GGUF, one file or split, every type of ggml that weights are stored in: F32 to BF16, Q1_0 to Q8_0,
  the K and IQ types, ternary, MXFP4, and NVFP4 with the scales beside it (`blk.0.ffn_up.scale`).

Quantized safetensors are known by `quantization_config`, or a file beside config.json, and decoded
to 32 bits as they are loaded; then they are kept as `--quantize` and `--dtype` say. What a method
says of activations and cached keys is not done: they stay in the model's own precision.

| `quant_method` | what is read |
|---|---|
{methods}
## Tokenizers

Byte-level BPE, byte-fallback BPE (SentencePiece) and Unigram, from tokenizer.json, tokenizer.model,
vocab.json with merges.txt, or a GGUF file's own vocabulary: [tokenizers.md](tokenizers.md). Others
are refused by name.
"""


def gguf_names(found: Architecture) -> tuple[str, ...]:
    """What its GGUF files say they are."""
    return found.gguf_architectures + CONVERTED.get((*found.model_types, *found.other_types)[0], ())


def page() -> str:
    rows = (
        f"| {found.models} | {_names(found.model_types + found.other_types)} "
        f"| {_names(gguf_names(found))} |\n"
        for found in ARCHITECTURES
    )
    methods = "".join(f"| `{name}` | {found.reads} |\n" for name, found in METHODS.items())
    head = HEAD.format(seeing=_names(SEEING), hearing=_names(HEARING))
    return head + "".join(rows) + TAIL.format(kinds=", ".join(KINDS), methods=methods)


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "none"


if __name__ == "__main__":
    PAGE.write_text(page())
