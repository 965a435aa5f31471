"""Mixtrals as GGUF files kept them until April 2024: each expert's matrices are tensors of their
own, which many a downloaded file still has."""

from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from tests.architectures.cases import randomized
from tests.architectures.expert_cases import mixtral
from tests.architectures.expert_gguf import expert_gguf
from tests.architectures.running import load, logits
from thirdeye.weights.errors import ModelFormatError

F32, Q8_0 = gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.Q8_0
IDS = [5, 17, 3, 80, 2, 9, 11, 40, 41, 8]
WIDE = {"hidden_size": 64, "intermediate_size": 64, "num_attention_heads": 4}  # whole blocks


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    return randomized(mixtral(**WIDE))


def one_by_one(new: Path, old: Path, *, left_out: str = "", beside: str = "") -> Path:
    """The file `new` with its stacks cut into tensors, but for `left_out`; `beside`: a stack that
    stays as well."""
    reader = gguf.GGUFReader(new)
    writer = gguf.GGUFWriter(old, "llama")
    for field in reader.fields.values():
        if not field.name.startswith("GGUF.") and field.name != "general.architecture":
            array = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(field.name, field.contents(), field.types[0], array)
    for tensor in reader.tensors:
        if not tensor.name.endswith("_exps.weight"):
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
            continue
        if tensor.name == beside:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
        for expert, part in enumerate(tensor.data):
            name = tensor.name.replace("_exps.", f".{expert}.")
            if name != left_out:
                one = np.ascontiguousarray(part)
                writer.add_tensor(name, one, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return old


@pytest.mark.parametrize("kind", [F32, Q8_0], ids=lambda kind: kind.name)
def test_the_same_model(
    model: PreTrainedModel, tmp_path: Path, kind: gguf.GGMLQuantizationType
) -> None:
    new = expert_gguf(model, tmp_path / "new.gguf", kind)
    old = one_by_one(new, tmp_path / "old.gguf")
    found = logits(load(old), IDS)
    assert torch.equal(found, logits(load(new), IDS))
    if kind is F32:
        with torch.inference_mode():
            theirs = model(torch.tensor([IDS])).logits[0]
        torch.testing.assert_close(found, theirs, atol=1e-4, rtol=1e-4)


def test_what_is_missing_is_named(model: PreTrainedModel, tmp_path: Path) -> None:
    new = expert_gguf(model, tmp_path / "new.gguf")
    old = one_by_one(new, tmp_path / "old.gguf", left_out="blk.1.ffn_up.3.weight")
    with pytest.raises(ModelFormatError, match=r"blocks\.1\.mlp\.experts\.3\.gate_up"):
        load(old)


def test_an_expert_too_many_is_named(model: PreTrainedModel, tmp_path: Path) -> None:
    new = expert_gguf(model, tmp_path / "new.gguf")
    old = one_by_one(new, tmp_path / "old.gguf", beside="blk.1.ffn_down_exps.weight")
    with pytest.raises(ModelFormatError, match="a second time"):
        load(old)
