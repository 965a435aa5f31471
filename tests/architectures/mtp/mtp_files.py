"""Tiny checkpoints with a head that guesses one more token (MTP), and the head written plainly.

transformers has no such head, but all its parts: the file is a model's, with the one layer, the
norm and three tensors of a second one, by the names that are published; and the oracle is that
second model, asked with vectors in place of tokens (DeepSeek-V3, arXiv:2412.19437, section 2.2).
In GGUF files llama.cpp's converters put it behind the last layer, whatever model it is of.
"""

import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel

from tests.architectures.cases import Case
from tests.architectures.expert_cases import glm as glm4_moe
from tests.architectures.expert_gguf import expert_gguf
from tests.architectures.latent.latent_cases import glm as glm4_moe_lite
from tests.architectures.latent.latent_cases import v3
from tests.architectures.latent.latent_gguf import latent_gguf
from tests.architectures.states.state_cases import FEW, FULL, delta
from tests.architectures.states.state_gguf import qwen_gguf

BEHIND = {  # of the layer behind the last
    "embedding": "enorm.weight", "hidden": "hnorm.weight", "projection": "eh_proj.weight",
    "norm": "shared_head.norm.weight", "head": "shared_head.head.weight",
    "embed": "embed_tokens.weight",
}  # fmt: skip
BESIDE = {
    "embedding": "pre_fc_norm_embedding.weight", "hidden": "pre_fc_norm_hidden.weight",
    "projection": "fc.weight", "norm": "norm.weight",
}  # fmt: skip
ONE_FULL = {"num_hidden_layers": 1, "layer_types": [FULL]}
ONE_SPARSE = {"num_hidden_layers": 1, "first_k_dense_replace": 0}
Pair = tuple[Case, Case]  # the model, and a model of one layer like its last


def lite(**changes: Any) -> Pair:
    sparse = {"num_hidden_layers": 1, "mlp_layer_types": ["sparse"]}
    whole = glm4_moe_lite(mlp_layer_types=["dense", "sparse", "sparse"], **changes)
    return whole, glm4_moe_lite(**sparse, **changes)


CASES: dict[str, Callable[..., Pair]] = {
    "deepseek_v3": lambda **changes: (v3(**changes), v3(**ONE_SPARSE, **changes)),
    "glm4_moe": lambda **changes: (glm4_moe(**changes), glm4_moe(**ONE_SPARSE, **changes)),
    "glm4_moe_lite": lite,
    "qwen3_next": lambda **changes: (
        delta("qwen3_next", **FEW, **changes),
        delta("qwen3_next", **FEW, **ONE_FULL, **changes),
    ),
    "qwen3_5_text": lambda **changes: (
        delta("qwen3_5_text", **changes),
        delta("qwen3_5_text", **ONE_FULL, **changes),
    ),
}


@dataclass(frozen=True, slots=True)
class Head:
    """The oracle. Norms' weights are as they are multiplied."""

    trunk: PreTrainedModel
    embedding_norm: Tensor
    hidden_norm: Tensor
    projection: Tensor

    def __call__(self, token_ids: list[int], hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [T, vocab_size] and the normed hidden states behind them [T, hidden_size], of a
        whole text; `hidden` [T, hidden_size] is of the token before each."""
        eps = self.trunk.config.rms_norm_eps
        x = self.trunk.get_input_embeddings()(torch.tensor(token_ids))
        both = [rms_norm(x, self.embedding_norm, eps), rms_norm(hidden, self.hidden_norm, eps)]
        stream = torch.cat(both, dim=-1) @ self.projection.T
        with torch.no_grad():
            found = self.trunk(inputs_embeds=stream[None], output_hidden_states=True)
        return found.logits[0], found.hidden_states[-1][0]


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * weight


@dataclass(frozen=True, slots=True)
class Made:
    """A model, one of a single layer like its last, and what the head has besides, as published."""

    name: str
    model: PreTrainedModel
    trunk: PreTrainedModel
    embedding: Tensor
    hidden: Tensor
    projection: Tensor

    @property
    def is_behind(self) -> bool:
        """In the layer behind the last; else beside the model, with norms' weights kept less 1."""
        return not self.name.startswith("qwen")

    @property
    def head(self) -> Head:
        less = 0.0 if self.is_behind else 1.0
        return Head(self.trunk, self.embedding + less, self.hidden + less, self.projection)

    def besides(self, own: dict[str, Tensor]) -> dict[str, Tensor]:
        """`own`: the tensors of `trunk`."""
        found = {"embedding": self.embedding, "hidden": self.hidden}
        found |= {"projection": self.projection, "norm": own["model.norm.weight"]}
        if self.is_behind:
            found |= {"head": own["lm_head.weight"], "embed": own["model.embed_tokens.weight"]}
        return found


def make(name: str, **changes: Any) -> Made:
    whole, one = CASES[name](**changes)
    torch.manual_seed(0)
    model, trunk = whole.make().eval(), one.make().eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in [*model.parameters(), *trunk.parameters()]:
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
        whole.corrected(model)
        one.corrected(trunk)
        trunk.get_input_embeddings().weight.copy_(model.get_input_embeddings().weight)
        trunk.get_output_embeddings().weight.copy_(model.get_output_embeddings().weight)
    size = model.config.hidden_size
    embedding, hidden = (torch.randn(size, generator=generator) * 0.3 for _ in range(2))
    projection = torch.randn(size, 2 * size, generator=generator) * 0.1
    return Made(name, model, trunk, embedding, hidden, projection)


def write(path: Path, name: str, **changes: Any) -> tuple[PreTrainedModel, Head]:
    """A checkpoint with a head; the model, and the oracle of the head."""
    made = make(name, **changes)
    made.trunk.save_pretrained(path / "head")
    own = load_file(path / "head" / "model.safetensors")
    made.model.save_pretrained(path)
    tensors = load_file(path / "model.safetensors")
    number = made.model.config.num_hidden_layers
    prefix = f"model.layers.{number}." if made.is_behind else "mtp."
    layer = prefix if made.is_behind else "mtp.layers.0."
    names = BEHIND if made.is_behind else BESIDE
    tensors |= {prefix + names[key]: tensor for key, tensor in made.besides(own).items()}
    start = "model.layers.0."
    tensors |= {layer + n.removeprefix(start): t for n, t in own.items() if n.startswith(start)}
    save_file({n: t.contiguous() for n, t in tensors.items()}, path / "model.safetensors")
    for file in (path / "head").iterdir():
        file.unlink()
    (path / "head").rmdir()
    settings = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(settings | {"num_nextn_predict_layers": 1}))
    return made.model, made.head


@dataclass(frozen=True, slots=True)
class WithHead:
    """What writers of GGUF files ask of a model, of one with its head as llama.cpp keeps it: a
    layer more."""

    config: Any
    tensors: dict[str, Tensor]

    def state_dict(self) -> dict[str, Tensor]:
        return self.tensors


def write_gguf(
    path: Path, name: str, *, leave_out: str = "none", is_alone: bool = False, **changes: Any
) -> tuple[Path, PreTrainedModel, Head]:
    """Likewise, in one file; without the tensors of the head in whose names `leave_out` is, or,
    where it `is_alone`, those of the model's layers."""
    made = make(name, **changes)
    number = made.model.config.num_hidden_layers
    layer, start, own = f"model.layers.{number}.", "model.layers.0.", made.trunk.state_dict()
    head = {layer + n.removeprefix(start): t for n, t in own.items() if n.startswith(start)}
    head |= {layer + BEHIND[key]: tensor for key, tensor in made.besides(own).items()}
    kept = {n: tensor for n, tensor in head.items() if leave_out not in n}
    config = deepcopy(made.model.config)
    config.num_hidden_layers, config.num_guessing = number + 1, 1
    of_model = made.model.state_dict()
    if is_alone:
        of_model = {n: tensor for n, tensor in of_model.items() if ".layers." not in n}
    both: Any = WithHead(config, of_model | kept)
    path.mkdir(exist_ok=True)
    return GGUF[name](both, path / "m.gguf"), made.model, made.head


GGUF: dict[str, Callable[[Any, Path], Path]] = {
    "deepseek_v3": latent_gguf, "glm4_moe": expert_gguf, "glm4_moe_lite": latent_gguf,
    "qwen3_next": qwen_gguf, "qwen3_5_text": qwen_gguf,
}  # fmt: skip
