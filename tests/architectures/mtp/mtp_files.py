"""Tiny checkpoints with a head that guesses one more token (MTP), and the head written plainly.

transformers has no such head, but all its parts: the file is a model's, with the one layer, the
norm and three tensors of a second one, by the names that are published; and the oracle is that
second model, asked with vectors in place of tokens (DeepSeek-V3, arXiv:2412.19437, section 2.2).
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel

from tests.architectures.cases import Case
from tests.architectures.expert_cases import glm as glm4_moe
from tests.architectures.latent.latent_cases import glm as glm4_moe_lite
from tests.architectures.latent.latent_cases import v3
from tests.architectures.states.state_cases import FEW, FULL, delta

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


def write(path: Path, name: str, **changes: Any) -> tuple[PreTrainedModel, Head]:
    """A checkpoint with a head; the model, and the oracle of the head."""
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
    return model, save_both(path, model, trunk, generator, is_behind=not name.startswith("qwen"))


def save_both(
    path: Path,
    model: PreTrainedModel,
    trunk: PreTrainedModel,
    generator: torch.Generator,
    *,
    is_behind: bool,
) -> Head:
    trunk.save_pretrained(path / "head")
    own = load_file(path / "head" / "model.safetensors")
    model.save_pretrained(path)
    tensors = load_file(path / "model.safetensors")
    size, number = model.config.hidden_size, model.config.num_hidden_layers
    prefix = f"model.layers.{number}." if is_behind else "mtp."
    layer = prefix if is_behind else "mtp.layers.0."
    names = BEHIND if is_behind else BESIDE
    extra = {
        "embedding": torch.randn(size, generator=generator) * 0.3,
        "hidden": torch.randn(size, generator=generator) * 0.3,
        "projection": torch.randn(size, 2 * size, generator=generator) * 0.1,
        "norm": own["model.norm.weight"],
    }
    if is_behind:
        extra |= {"head": own["lm_head.weight"], "embed": own["model.embed_tokens.weight"]}
    tensors |= {prefix + names[key]: tensor for key, tensor in extra.items()}
    start = "model.layers.0."
    tensors |= {layer + n.removeprefix(start): t for n, t in own.items() if n.startswith(start)}
    save_file({n: t.contiguous() for n, t in tensors.items()}, path / "model.safetensors")
    for file in (path / "head").iterdir():
        file.unlink()
    (path / "head").rmdir()
    settings = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(settings | {"num_nextn_predict_layers": 1}))
    less = 0.0 if is_behind else 1.0  # Qwen's norms are kept less 1
    return Head(trunk, extra["embedding"] + less, extra["hidden"] + less, extra["projection"])
