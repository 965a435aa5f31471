"""transformers' model, read and changed by hooks: the oracle of looks inside and interventions.

Its modules are hooked as anybody would; attention is a function of its own, as the textbook has it,
registered beside transformers' own ones. No line of ours computes anything here.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import eager_mask

Change = Callable[[Tensor], Tensor]
NAME = "hooked"


@dataclass
class Seen:
    """`layers` has each point's numbers by our names: of heads [heads, n, ...], else [n, width]."""

    logits: Tensor
    layers: list[dict[str, Tensor]]


class HookedModel:
    def __init__(self, model: PreTrainedModel) -> None:
        """A Llama, one of its relatives, or a GPT-2."""
        AttentionInterface.register(NAME, attend)
        AttentionMaskInterface.register(NAME, eager_mask)
        model.set_attn_implementation(NAME)
        self.model = model
        inner: Any = model.transformer if hasattr(model, "transformer") else model.model
        self.is_gpt2 = hasattr(inner, "h")
        self.layers: Any = inner.h if self.is_gpt2 else inner.layers
        self.embedding: nn.Module = inner.wte if self.is_gpt2 else inner.embed_tokens

    @torch.no_grad()
    def run(
        self, token_ids: list[int], changes: Mapping[tuple[str, int], Change] | None = None
    ) -> Seen:
        """`changes` are of (point, layer); an embedding's is of layer 0."""
        changes = changes or {}
        seen: list[dict[str, Tensor]] = [{} for _ in self.layers]
        with self._hooked(seen, changes):
            logits = self.model(torch.tensor([token_ids])).logits[0]
        return Seen(logits, seen)

    @contextmanager
    def _hooked(
        self, seen: list[dict[str, Tensor]], changes: Mapping[tuple[str, int], Change]
    ) -> Iterator[None]:
        handles = []

        def through(name: str, layer: int, value: Tensor) -> Tensor:
            """value [n, ...]"""
            change = changes.get((name, layer))
            value = value if change is None else change(value.clone())
            seen[layer][name] = value.clone()
            return value

        def after(module: nn.Module, name: str, layer: int) -> None:
            def hook(_: Any, __: Any, output: Any) -> Any:
                if isinstance(output, tuple):
                    return (through(name, layer, output[0][0])[None], *output[1:])
                return through(name, layer, output[0])[None]

            handles.append(module.register_forward_hook(hook))

        def before(module: nn.Module, name: str, layer: int) -> None:
            def hook(_: Any, args: tuple[Any, ...]) -> Any:
                return (through(name, layer, args[0][0])[None], *args[1:])

            handles.append(module.register_forward_pre_hook(hook))

        after(self.embedding, "embed", 0)
        for i, layer in enumerate(self.layers):
            attention = layer.attn if self.is_gpt2 else layer.self_attn
            before(layer, "resid_pre", i)
            after(attention, "attn_out", i)
            after(layer.mlp, "mlp_out", i)
            before(layer.mlp.c_proj if self.is_gpt2 else layer.mlp.down_proj, "neurons", i)
            after(layer, "resid_post", i)
            for name in "" if self.is_gpt2 else "qkv":
                for module, shown in ((f"{name}_proj", name), (f"{name}_norm", f"{name}_normed")):
                    if getattr(attention, module, None) is not None:
                        after(getattr(attention, module), shown, i)
            attention.through = lambda name, value, i=i: through(name, i, value)
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **_: Any,
) -> tuple[Tensor, Tensor]:
    """query [1, heads, n, head_dim]: softmax(q k / sqrt(d)) v, head by head."""
    query = module.through("rot_q", query[0])[None]
    key = module.through("rot_k", key[0])[None]
    value = module.through("values", value[0])[None]
    group = query.shape[1] // key.shape[1]
    keys, values = (x.repeat_interleave(group, dim=1) for x in (key, value))
    scores = query @ keys.transpose(-1, -2) * (scaling or query.shape[-1] ** -0.5)
    module.through("scores", scores[0])
    if attention_mask is not None:
        scores = scores + attention_mask[..., : keys.shape[-2]]
    pattern = module.through("pattern", scores.softmax(-1)[0])[None]
    z = module.through("z", (pattern @ values)[0])[None]
    return z.transpose(1, 2).contiguous(), pattern
