"""Text parts whose layers are not kept as those of the plain model are."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from thirdeye.weights.architectures.common.experts import DOWN, GATE_UP
from thirdeye.weights.architectures.common.heads import split_into_heads
from thirdeye.weights.architectures.common.limits import (
    MAX_HEADS,
    MAX_HIDDEN,
    MAX_LAYERS,
    MAX_VOCAB,
)
from thirdeye.weights.architectures.common.name_table import NameTable
from thirdeye.weights.architectures.wrappers.wrapper import ServedPart, within
from thirdeye.weights.formats.fields import Fields

CROSS = [3, 8, 13, 18, 23, 28, 33, 38]
MORE_ROWS = 8  # of the embeddings, which only pictures' tokens have


def behind(prefix: str) -> Callable[[ServedPart], ServedPart]:
    """All its tensors' names begin so."""

    def names(table: NameTable) -> NameTable:
        table = within(table)
        return replace(table, prefixes=(*(prefix + known for known in table.prefixes), prefix))

    return lambda part: replace(part, names=names)


def _with(part: ServedPart, key: str, value: Any) -> ServedPart:
    fields = part.fields
    return replace(
        part, fields=replace(fields, values={**fields.values, fields.prefix + key: value})
    )


def with_even_heads(part: ServedPart) -> ServedPart:
    """Where the size of a head is not told, all of them together have the hidden size."""
    fields = part.fields
    if "head_dim" in fields or "hidden_size" not in fields or "num_attention_heads" not in fields:
        return part
    hidden = fields.integer("hidden_size", high=MAX_HIDDEN)
    num_heads = fields.integer("num_attention_heads", high=MAX_HEADS)
    return _with(
        part, "head_dim", split_into_heads(fields, "num_attention_heads", hidden, num_heads)
    )


def without_biases(part: ServedPart) -> ServedPart:
    """PaddleOCR's: ERNIE's setting for them, in layers that turn as Llama's do."""
    part.fields.refuse("use_bias", False)
    return part


def with_stacked_experts(part: ServedPart) -> ServedPart:
    """Qwen3-VL's: a layer's experts in one tensor, [experts, in, out] in its own files and
    [experts, out, in] in those of transformers 5; the weights of the chosen always add up to 1."""
    part.fields.refuse("norm_topk_prob", True)

    def names(table: NameTable) -> NameTable:
        own = {key: at for key, at in table.names.items() if ".mlp.experts." not in key}
        own["layers.{i}.mlp.experts.gate_up_proj"] = replace(GATE_UP, is_either_way=True)
        own["layers.{i}.mlp.experts.down_proj"] = replace(DOWN, is_either_way=True)
        return replace(within(table), names=own)

    if "num_experts" not in part.fields and "num_local_experts" not in part.fields:
        part = _with(part, "num_experts", 60)
    return replace(part, names=names)


def layers_also(called: str) -> Callable[[ServedPart], ServedPart]:
    """Of wholes for whose layers transformers 5 writes another name than it reads: its rule for the
    eyes' layers holds for all."""

    def names(table: NameTable) -> NameTable:
        start = "layers."
        layers = {key: at for key, at in table.names.items() if key.startswith(start)}
        also = {called + key.removeprefix(start): at for key, at in layers.items()}
        return replace(within(table), names={**table.names, **also})

    return lambda part: replace(part, names=names)


def without_cross_attention(part: ServedPart) -> ServedPart:
    """Llama 3.2 with eyes: layers that attend to a picture alone, and do nothing without one, stand
    between the others."""
    fields = part.fields
    num_layers = fields.integer("num_hidden_layers", 40, high=MAX_LAYERS)
    crossing = _crossing(fields)
    own = tuple(layer for layer in range(num_layers) if layer not in crossing)
    if not own:
        raise fields.error("cross_attention_layers", "must leave a layer that text goes through.")
    num_rows = fields.integer("vocab_size", 128256, high=MAX_VOCAB)

    def words(rows: Any) -> Any:
        return rows[:num_rows]

    def renamed(table: NameTable) -> NameTable:
        name = "embed_tokens.weight"
        at = table.names[name]
        assert not isinstance(at, tuple)
        cut = replace(at, reorder=words, num_stored_rows=num_rows + MORE_ROWS)
        names = {**table.names, name: cut}
        return replace(within(table), names=names, layer_numbers=own)

    return replace(_with(part, "num_hidden_layers", len(own)), names=renamed)


def _crossing(fields: Fields) -> frozenset[int]:
    listed = fields.raw("cross_attention_layers", CROSS)
    if not isinstance(listed, list) or not all(type(layer) is int for layer in listed):
        raise fields.error("cross_attention_layers", "must be a list of layers' numbers.")
    return frozenset(listed)
