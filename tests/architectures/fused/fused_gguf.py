"""A GGUF file as `convert_hf_to_gguf.py --fuse-qkv --fuse-gate-up-exps` writes it: what is read
together lies in one tensor."""

from collections.abc import Mapping
from pathlib import Path

import gguf
import numpy as np

TOGETHER = {  # one name -> those whose rows it has, one after the other
    "attn_qkv.weight": ("attn_q.weight", "attn_k.weight", "attn_v.weight"),
    "attn_qkv.bias": ("attn_q.bias", "attn_k.bias", "attn_v.bias"),
    "ffn_gate_up_exps.weight": ("ffn_gate_exps.weight", "ffn_up_exps.weight"),
}
ROWS = {"ffn_gate_up_exps.weight": 1}  # the axis they are on, where it is not the first


def fused(path: Path, to: Path) -> int:
    """Write `to`; how many tensors were made. A layer that lacks one of them stays as it is."""
    reader = gguf.GGUFReader(path)
    tensors = {one.name: one.data for one in reader.tensors}
    made = 0
    for layer in {name.rsplit(".", 2)[0] for name in tensors if name.startswith("blk.")}:
        for name, parts in TOGETHER.items():
            names = [f"{layer}.{part}" for part in parts]
            if all(one in tensors for one in names):
                found = [tensors.pop(one) for one in names]
                tensors[f"{layer}.{name}"] = np.concatenate(found, axis=ROWS.get(name, 0))
                made += 1
    write(reader, tensors, to)
    return made


def write(
    reader: gguf.GGUFReader,
    tensors: dict[str, np.ndarray],
    to: Path,
    types: Mapping[str, gguf.GGMLQuantizationType] | None = None,
) -> None:
    """`types`: of those that are no numbers but blocks."""
    writer = gguf.GGUFWriter(to, str(reader.fields["general.architecture"].contents()))
    for name, found in reader.fields.items():
        if not name.startswith("GGUF.") and name != "general.architecture":
            kind = found.types[-1] if found.types[0] == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(name, found.contents(), found.types[0], kind)
    for name, tensor in tensors.items():
        writer.add_tensor(name, np.ascontiguousarray(tensor), raw_dtype=(types or {}).get(name))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
