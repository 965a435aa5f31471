"""Edits drawn at random, and what they come to by transformers' hooks and plain loops."""

from collections.abc import Callable, Sequence

import torch
from hypothesis import strategies as st
from torch import Tensor

from thirdeye.model.config import ModelConfig
from thirdeye.model.inspection.edits import INDEXED, POINTS, AddVector, Edit, Put, Scale

Hook = Callable[[Tensor], Tensor]
STREAM = ("embed", "resid_pre", "attn_out", "mlp_out", "resid_post")


def width_of(at: str, config: ModelConfig, num_tokens: int) -> int:
    widths = {
        "head": config.head_dim,
        "kv_head": 2 * config.head_dim,
        "pattern": num_tokens,
        "neuron": 1,
    }
    return widths.get(at, config.hidden_size)


def causal(weights: Tensor, positions: Sequence[int] | None) -> Tensor:
    """weights [rows, keys] without those of keys that lie ahead of a row's position: one row is
    for all positions."""
    keys = torch.arange(weights.shape[1])
    last = torch.tensor([*positions] if positions else [*range(len(keys))])
    last = last.min() if len(weights) == 1 else last[:, None]
    return weights * (keys <= last)


@st.composite
def random_edits(draw: st.DrawFn, config: ModelConfig, num_tokens: int) -> Edit:
    at = draw(st.sampled_from(POINTS))
    counts = {"kv_head": config.num_kv_heads, "neuron": config.intermediate_size}
    index = draw(st.integers(0, counts.get(at, config.num_heads) - 1)) if at in INDEXED else 0
    layer = 0 if at == "embed" else draw(st.integers(0, config.num_hidden_layers - 1))
    every = st.lists(st.integers(0, num_tokens - 1), min_size=1, max_size=4, unique=True)
    positions = draw(st.none() | every.map(tuple))
    num_rows = draw(st.sampled_from([1, num_tokens if positions is None else len(positions)]))
    width = width_of(at, config, num_tokens)
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    values = torch.randn(num_rows, width, generator=generator) * 0.5
    if at == "pattern":
        values = causal(values, positions)
    scales = st.sampled_from([0.0, 1.0, 0.5, -1.0, 2.0]).map(Scale)
    change = draw(scales | st.just(Put(values)) | st.just(AddVector(values)))
    return Edit(at, change, layer, index, positions)


def hooks_of(
    edits: Sequence[Edit], config: ModelConfig, *, is_gpt2: bool
) -> dict[tuple[str, int], Hook]:
    """The same as changes of `HookedModel`, composed in the order given."""
    found: dict[tuple[str, int], Hook] = {}
    for edit in edits:
        for name, hook in _hooks(edit, config, is_gpt2):
            before = found.get((name, edit.layer))
            found[name, edit.layer] = hook if before is None else _both(before, hook)
    return found


def _both(first: Hook, second: Hook) -> Hook:
    return lambda x: second(first(x))


def _hooks(edit: Edit, config: ModelConfig, is_gpt2: bool) -> list[tuple[str, Hook]]:
    size, index = config.head_dim, edit.index
    if edit.at in STREAM:
        return [(edit.at, lambda x: plain(x, edit))]
    if edit.at == "neuron":

        def neuron(x: Tensor) -> Tensor:
            x[:, index : index + 1] = plain(x[:, index : index + 1], edit)
            return x

        return [("neurons", neuron)]

    def of_head(columns: slice) -> Hook:
        def change(x: Tensor) -> Tensor:  # [heads, n, width]
            x[index] = plain(x[index], edit, columns)
            return x

        return change

    everything = slice(None)
    if edit.at != "kv_head":
        return [("z" if edit.at == "head" else edit.at, of_head(everything))]

    def keys(x: Tensor) -> Tensor:  # [n, kv heads * size] or [n, kv heads, size]
        heads = x.reshape(len(x), -1, size)
        heads[:, index] = plain(heads[:, index], edit, slice(0, size))
        return heads.reshape(x.shape)

    key_hook = ("rot_k", of_head(slice(0, size))) if is_gpt2 else (keys_of(config), keys)
    return [key_hook, ("values", of_head(slice(size, 2 * size)))]


def keys_of(config: ModelConfig) -> str:
    """The name of a Llama's or a relative's keys that are turned."""
    return "k_normed" if config.qk_norm else "k"


def plain(x: Tensor, edit: Edit, columns: slice = slice(None)) -> Tensor:
    """x [n, width], row by row; `columns` of the edit's values are x's."""
    x = x.clone()
    positions = range(len(x)) if edit.positions is None else edit.positions
    for place, position in enumerate(positions):
        change = edit.change
        if isinstance(change, Scale):
            x[position] = x[position] * change.factor
            continue
        assert isinstance(change, Put | AddVector)
        values = change.values[place if len(change.values) > 1 else 0, columns]
        x[position] = values if isinstance(change, Put) else x[position] + values
    return x
