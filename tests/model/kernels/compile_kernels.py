"""Compile the GPU's kernels for an H100, which takes no GPU.

    python -m tests.model.kernels.compile_kernels            each kernel, in its fullest forms
    python -m tests.model.kernels.compile_kernels --every    all forms that a server may ask for

The interpreter forgives what the compiler does not (types of loop variables, shapes of products),
so both are asked. Not a test itself: a process that has the interpreter cannot compile. One line of
JSON: each kernel, and how many bytes of machine code one of its forms has.
"""

import json
import sys
from typing import Any

from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile

from thirdeye.model.few_rows.around import FEW_ROWS
from thirdeye.model.kernels import gated_mul, paged_attention, philox, rms_norm, rope_kv
from thirdeye.model.kernels.products import (
    dequantize,
    few_rows_kernel,
    few_rows_matmul,
    fixed_matmul,
    grouped_matmul,
    lora_matmul,
    quantize_rows,
    quantized_matmul,
)

H100 = GPUTarget("cuda", 90, 32)
LLAMA_8B = {
    "GROUP": 4,
    "NUM_KV_HEADS": 8,
    "NUM_HEADS": 32,
    "BLOCK_SIZE": 16,
    "HEAD_DIM": 128,
    "BLOCK_D": 128,
    "VALUE_DIM": 128,
    "BLOCK_V": 128,
    "NUM_SCALES": 8,
    "BLOCK_N": 64,
    "KEYS_PER_SPLIT": 256,
}
DEEPSEEK_V3 = LLAMA_8B | {  # heads that look at one latent, 16 at a time
    "GROUP": 16,
    "NUM_HEADS": 128,
    "HEAD_DIM": 576,
    "BLOCK_D": 1024,
    "VALUE_DIM": 512,
    "BLOCK_V": 512,
    "NUM_SCALES": 1,
    "BLOCK_N": 16,
}
PLAIN = {"WINDOW": 0, "CHUNK": 0, "HAS_SOFTCAP": False, "HAS_SINKS": False, "HAS_SLOPES": False}
EVERYTHING = {
    "WINDOW": 128,
    "CHUNK": 8192,
    "HAS_SOFTCAP": True,
    "HAS_SINKS": True,
    "HAS_SLOPES": True,
}
TURNS = ("HAS_NORM", "NORM_IS_LAST", "SCALES_QUERY", "NORMS_VALUES")
KEPT_BEFORE = dict.fromkeys(("KEEPS", *TURNS), False) | {"HALF": 0}
KEEPING = dict.fromkeys(("KEEPS", *TURNS), True) | {"HALF": 64}
DECODE = {"BLOCK_Q": 1, "BLOCK_M": 16, "IS_DECODE": True} | KEPT_BEFORE
CHUNK = {"BLOCK_Q": 16, "BLOCK_M": 64, "IS_DECODE": False, "HAS_LANES": False} | KEPT_BEFORE
TYPES = {
    "*bf16": (
        *("output", "query", "key_cache", "value_cache", "normed", "stream", "x", "delta"),
        *("weight", "gate_up", "qkv", "cos", "sin", "query_norm", "key_norm", "bias"),
        *("query_scale", "gain", "residual"),
    ),
    "*i64": ("slot_mapping",),
    "*u8": ("key_exponents", "value_exponents", "exponents"),
    "*i32": ("block_table", "seq_lens", "query_start_loc"),
    "*fp32": ("sinks", "slopes", "split_maximum", "split_total", "split_mixed"),
    "fp32": ("scale", "softcap", "eps", "value_eps"),
}


FP8_CACHE = {"key_cache": "*fp8e4nv", "value_cache": "*fp8e4nv"}
INT8 = {"numbers": "*i8", "scales": "*fp32"}
FP8 = {"numbers": "*fp8e4nv", "scales": "*fp32"}
INT4 = {"numbers": "*u8", "scales": "*bf16"}
FEW = {"BLOCK_M": 16, "BLOCK_N": 64, "NUM_SPLITS": 8, "HAS_BIAS": True}
MANY = {"BLOCK_M": 64, "BLOCK_N": 128, "NUM_SPLITS": 1, "HAS_BIAS": False}

FEW_ALONE = {
    **dict.fromkeys(("HAS_DELTA", "HAS_NORM", "HAS_BIAS", "HAS_RESIDUAL"), False),
    "KIND": "",
    "ROWS": FEW_ROWS,
    "BLOCK_N": 16,
    "WAYS": few_rows_matmul.WAYS,
    "LINES": few_rows_matmul.LINES,
}
FEW_BEHIND = {"HAS_BIAS": True, "HAS_RESIDUAL": True}
FEW_BEFORE = {"HAS_DELTA": True, "HAS_NORM": True, "KIND": "silu"}


def signature(
    names: list[str], constants: dict[str, object], own: dict[str, str]
) -> dict[str, str]:
    types = {name: kind for kind, owners in TYPES.items() for name in owners}
    types |= own | dict.fromkeys(constants, "constexpr")
    return {name: types.get(name, "i32") for name in names}


SIZES: list[tuple[str, int]] = []  # bytes of machine code of each kernel, form by form


def compile_kernel(kernel, constants: dict[str, object], **own: str) -> None:
    """`own` are types that are not those of `TYPES`."""
    constants = {"DEPENDENT": True} | constants
    constants = {name: constants[name] for name in kernel.arg_names if name in constants}
    types = signature(kernel.arg_names, constants, own)
    source = ASTSource(fn=kernel, signature=types, constexprs=constants)
    binary = compile(source, target=H100, options={"num_warps": 4, "num_stages": 2})
    SIZES.append((kernel.__name__, len(binary.asm["cubin"])))


def main(is_every: bool) -> None:
    def forms(*all_: Any) -> tuple[Any, ...]:
        """The fullest comes last."""
        return all_ if is_every else all_[-1:]

    attention = paged_attention.paged_attention_kernel
    plain_cache, scaled_cache = ({"HAS_SCALES": False}, {}), ({"HAS_SCALES": True}, FP8_CACHE)
    for cache, own in forms(plain_cache, scaled_cache):
        compile_kernel(attention, LLAMA_8B | EVERYTHING | CHUNK | cache, **own)
        lanes = DECODE | {"HAS_LANES": True} | KEEPING
        compile_kernel(attention, LLAMA_8B | EVERYTHING | lanes | cache, **own)
    for cache, own in (plain_cache, scaled_cache) if is_every else ():
        compile_kernel(attention, LLAMA_8B | PLAIN | CHUNK | cache, **own)
        compile_kernel(attention, LLAMA_8B | PLAIN | DECODE | {"HAS_LANES": False} | cache, **own)
    compile_kernel(attention, DEEPSEEK_V3 | PLAIN | DECODE | {"HAS_LANES": True} | plain_cache[0])
    compile_kernel(paged_attention.merge_splits_kernel, LLAMA_8B | EVERYTHING)
    for has_delta in forms(False, True):
        compile_kernel(rms_norm.rms_norm_kernel, {"HAS_DELTA": has_delta, "BLOCK": 4096})
    for kind in sorted(kind.value for kind in gated_mul.KINDS):
        form = {"KIND": kind, "BLOCK": gated_mul.BLOCK}
        compile_kernel(gated_mul.gated_mul_kernel, form)
    tile = {name: getattr(grouped_matmul, name) for name in ("BLOCK_M", "BLOCK_N", "BLOCK_K")}
    groups = dict.fromkeys(("starts", "first_tiles", "tile_experts"), "*i32")
    for has_bias in forms(False, True):
        kernel = grouped_matmul.grouped_matmul_kernel
        compile_kernel(kernel, tile | {"HAS_BIAS": has_bias}, **groups)
    for has_norm in forms(False, True):
        for cache, own in forms(plain_cache, scaled_cache):
            for half in forms(0, 64):
                steps = {"NORM_IS_LAST": has_norm and half > 0, "SCALES_QUERY": half > 0}
                values = {"HAS_VALUES": half == 0, "NORMS_VALUES": half > 0}
                heads = {"HALF": half, "HAS_NORM": has_norm} | steps | values
                compile_kernel(rope_kv.rope_kv_kernel, LLAMA_8B | heads | cache, **own)
    matmul = quantized_matmul.quantized_matmul_kernel
    for kind, group in ((INT8, 0), (FP8, 0), (INT4, 128)):
        for cut in forms(MANY, FEW):
            compile_kernel(matmul, cut | {"GROUP": group, "BLOCK_K": 128}, **kind)
        dense = {"GROUP": group, "BLOCK": dequantize.BLOCK}
        compile_kernel(dequantize.dequantize_kernel, dense, **kind)
    shares = {"NUM_SPLITS": 8, "HAS_BIAS": True, "BLOCK": 256}
    compile_kernel(quantized_matmul.add_splits_kernel, shares, shares="*fp32")
    for around in forms(FEW_ALONE, FEW_ALONE | FEW_BEHIND, FEW_ALONE | FEW_BEFORE):
        for kind, inputs, group in (({}, 64, 0), (INT8, 128, 0), (FP8, 128, 0), (INT4, 128, 128)):
            own = {"weight": kind.get("numbers", "*bf16"), "scales": kind.get("scales", "*fp32")}
            cut = {"GROUP": group, "HAS_SCALES": bool(kind) and not group, "BLOCK_K": inputs}
            compile_kernel(few_rows_kernel.few_rows_matmul_kernel, around | cut, **own)
    sizes = {
        name: getattr(lora_matmul, name)
        for name in ("WIDTH", "FIELDS", "RANKS", "INPUTS", "OUTPUTS")
    }
    own = {"slots": "*i32", "table": "*i64", "inner": "*fp32", "y": "*bf16"}
    for kernel in (lora_matmul.reduce_kernel, lora_matmul.expand_kernel):
        compile_kernel(kernel, sizes | {"PIECES": lora_matmul.MAX_PIECES}, **own)
    low = fixed_matmul.LOW
    tile = {"BLOCK_M": low.rows, "BLOCK_N": low.columns, "GROUP_M": 16}
    tile |= {name: getattr(fixed_matmul, name) for name in ("BLOCK_K", "SPLIT")}
    for lanes, into in forms((1, "*bf16"), (4, "*fp32")):
        cut = tile | {"NUM_LANES": lanes, "HAS_BIAS": True}
        compile_kernel(fixed_matmul.fixed_matmul_kernel, cut, output=into)
    names = ("NUM_ROUNDS", "MULTIPLIER", "KEY_STEP", "FLOAT_BITS", "BLOCK")
    rounds = {name: getattr(philox, name) for name in names}
    words = {"output": "*fp32", "seeds": "*i64", "positions": "*i64"}
    compile_kernel(philox.philox_kernel, rounds, **words)
    floats = {"LARGEST": 448.0, "SMALLEST": 1e-30, "BLOCK": 4096}
    compile_kernel(quantize_rows.quantize_rows_kernel, floats, **FP8)


if __name__ == "__main__":
    main("--every" in sys.argv)
    print(json.dumps(SIZES))
