"""Heads that lie: each is refused in a line that names the file and the tensor, before the model's
own weights are read where its description shows it, in 2 s and 200 MB."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.architectures.mtp.mtp_files import write
from tests.architectures.mtp.test_heads import load_head
from tests.weights.hostile.trial import check_cost
from thirdeye.server.load.drafting.load_head import find_head
from thirdeye.weights.checkpoint import open_checkpoint
from thirdeye.weights.errors import ModelError
from thirdeye.weights.load import check_described

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the kernel counts the memory")

Tensors = dict[str, Tensor]
LAYER = "model.layers.3."  # behind the last of the tiny model


def without(name: str) -> Callable[[Tensors], None]:
    def change(tensors: Tensors) -> None:
        del tensors[LAYER + name]

    return change


def having(name: str, tensor: Tensor) -> Callable[[Tensors], None]:
    return lambda tensors: tensors.update({LAYER + name: tensor})


def twice(tensors: Tensors) -> None:
    tensors["layers.3.enorm.weight"] = tensors[LAYER + "enorm.weight"].clone()


DESCRIBED: dict[str, tuple[Callable[[Tensors], None], str]] = {
    "no norm of embeddings": (without("enorm.weight"), "join.embedding_norm"),
    "no queries": (without("self_attn.q_proj.weight"), "qkv"),
    "no router": (without("mlp.gate.weight"), "router"),
    "a norm there twice": (twice, "enorm.weight"),
    "a projection of integers": (
        having("eh_proj.weight", torch.ones(8, 8, dtype=torch.int64)), "eh_proj",
    ),
    "a norm of booleans": (having("hnorm.weight", torch.ones(8, dtype=torch.bool)), "hnorm"),
}  # fmt: skip
SHAPED: dict[str, Callable[[Tensors], None]] = {
    "a projection that is transposed": lambda tensors: tensors.update(
        {LAYER + "eh_proj.weight": tensors[LAYER + "eh_proj.weight"].t().contiguous()}
    ),
    "a projection of nothing": having("eh_proj.weight", torch.ones(0, 8)),
    "a huge projection": having("eh_proj.weight", torch.ones(3000, 3000)),
    "a norm that is a matrix": having("enorm.weight", torch.ones(8, 8)),
    "a norm that is a number": having("enorm.weight", torch.ones(())),
    "queries of one row": having("self_attn.q_proj.weight", torch.ones(1, 8)),
}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("head")
    write(path, "glm4_moe")
    find_head(open_checkpoint(path))
    load_head(path)  # what is imported at the first time is no file's cost
    return path


def damaged(written: Path, path: Path, change: Callable[[Tensors], None], **settings: Any) -> Path:
    tensors = load_file(written / "model.safetensors")
    change(tensors)
    save_file({n: t.contiguous() for n, t in tensors.items()}, path / "model.safetensors")
    said = json.loads((written / "config.json").read_text()) | settings
    (path / "config.json").write_text(json.dumps(said))
    return path


def refusal(path: Path, work: Callable[[], object]) -> str:
    told: list[str] = []

    def tried() -> None:
        with pytest.raises((ModelError, ValueError)) as found:
            work()
        told.append(str(found.value))

    check_cost(tried)
    assert "\n" not in told[0]
    assert len(told[0]) < 2000
    assert str(path) in told[0]
    return told[0]


@pytest.mark.parametrize(("change", "name"), DESCRIBED.values(), ids=DESCRIBED)
def test_what_its_description_shows(
    written: Path, tmp_path: Path, change: Callable[[Tensors], None], name: str
) -> None:
    """Before a weight is read, of the model's too."""
    path = damaged(written, tmp_path, change)
    assert name in refusal(path, lambda: find_head(open_checkpoint(path)))


@pytest.mark.parametrize("change", SHAPED.values(), ids=SHAPED)
def test_shapes(written: Path, tmp_path: Path, change: Callable[[Tensors], None]) -> None:
    """As its description says them: before a weight is read, of the model's too."""
    path = damaged(written, tmp_path, change)
    told = refusal(path, lambda: find_head(open_checkpoint(path)))
    assert "must have the shape" in told
    assert "use 'ngram'" in told
    assert "must have the shape" in refusal(path, lambda: load_head(path))


@pytest.mark.parametrize("number", [-1, 2, 1 << 40, "x", [1], None, 1.5])
def test_a_number_of_layers_that_is_none(written: Path, tmp_path: Path, number: Any) -> None:
    """Read or refused, and nothing else; layers that are there and not said are no model's."""
    path = damaged(written, tmp_path, lambda _: None, num_nextn_predict_layers=number)
    try:
        load_head(path)
    except ModelError:
        refusal(path, lambda: load_head(path))


def test_more_layers_than_it_says(written: Path, tmp_path: Path) -> None:
    def change(tensors: Tensors) -> None:
        own = {name: tensor for name, tensor in tensors.items() if name.startswith(LAYER)}
        for number in range(4, 40):
            prefix = f"model.layers.{number}."
            tensors.update({prefix + n.removeprefix(LAYER): t.clone() for n, t in own.items()})

    path = damaged(written, tmp_path, change)
    assert "no place for 1548 tensors: model.layers.10." in refusal(
        path, lambda: check_described(open_checkpoint(path))
    )
