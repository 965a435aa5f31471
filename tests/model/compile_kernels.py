"""Compile the GPU's kernels for an H100, which takes no GPU.

    python -m tests.model.compile_kernels

The interpreter forgives what the compiler does not (types of loop variables, shapes of products),
so both are asked. Not a test itself: a process that has the interpreter cannot compile.
"""

from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile

from model.kernels import paged_attention, rms_norm, rope_kv, silu_mul

H100 = GPUTarget("cuda", 90, 32)
LLAMA_8B = {
    "GROUP": 4,
    "NUM_KV_HEADS": 8,
    "NUM_HEADS": 32,
    "BLOCK_SIZE": 16,
    "HEAD_DIM": 128,
    "BLOCK_D": 128,
    "BLOCK_N": 64,
    "KEYS_PER_SPLIT": 256,
}
PLAIN = {"WINDOW": 0, "HAS_SOFTCAP": False, "HAS_SINKS": False}
EVERYTHING = {"WINDOW": 128, "HAS_SOFTCAP": True, "HAS_SINKS": True}
DECODE = {"BLOCK_Q": 1, "BLOCK_M": 16, "IS_DECODE": True}
CHUNK = {"BLOCK_Q": 16, "BLOCK_M": 64, "IS_DECODE": False, "NUM_LANES": 1}
TYPES = {
    "*bf16": (
        *("output", "query", "key_cache", "value_cache", "normed", "stream", "x", "delta"),
        *("weight", "gate_up", "qkv", "cos", "sin", "query_norm", "key_norm"),
    ),
    "*i64": ("slot_mapping",),
    "*i32": ("block_table", "seq_lens", "query_start_loc"),
    "*fp32": ("sinks", "split_maximum", "split_total", "split_mixed"),
    "fp32": ("scale", "softcap", "value_scale", "eps"),
}


def signature(names: list[str], constants: dict[str, object], kv_type: str) -> dict[str, str]:
    types = {name: kind for kind, owners in TYPES.items() for name in owners}
    types |= {"key_cache": kv_type, "value_cache": kv_type} | dict.fromkeys(constants, "constexpr")
    return {name: types.get(name, "i32") for name in names}


def compile_kernel(kernel, constants: dict[str, object], kv_type: str = "*bf16") -> None:
    constants = {name: constants[name] for name in kernel.arg_names if name in constants}
    types = signature(kernel.arg_names, constants, kv_type)
    source = ASTSource(fn=kernel, signature=types, constexprs=constants)
    binary = compile(source, target=H100, options={"num_warps": 4, "num_stages": 2})
    print(kernel.__name__, len(binary.asm["cubin"]), "bytes of machine code")


def main() -> None:
    attention = paged_attention.paged_attention_kernel
    compile_kernel(attention, LLAMA_8B | PLAIN | CHUNK)
    compile_kernel(attention, LLAMA_8B | EVERYTHING | DECODE | {"NUM_LANES": 8}, "*fp8e4nv")
    compile_kernel(attention, LLAMA_8B | PLAIN | DECODE | {"NUM_LANES": 1})
    compile_kernel(paged_attention.merge_splits_kernel, LLAMA_8B | EVERYTHING)
    for has_delta in (False, True):
        compile_kernel(rms_norm.rms_norm_kernel, {"HAS_DELTA": has_delta, "BLOCK": 4096})
    compile_kernel(silu_mul.silu_mul_kernel, {"BLOCK": silu_mul.BLOCK})
    for has_norm in (False, True):
        compile_kernel(rope_kv.rope_kv_kernel, LLAMA_8B | {"HALF": 64, "HAS_NORM": has_norm})


if __name__ == "__main__":
    main()
