"""The whole model as a tree of parts, and every parameter of it by name."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

from thirdeye.model.config import ModelConfig, Norm
from thirdeye.model.declare.block import BlockPart, block_part, norm_part
from thirdeye.model.declare.parameter import Dealt, Parameter, Role, Rows
from thirdeye.model.declare.parts import LinearPart, NormPart, Part, TablePart


@dataclass(frozen=True, slots=True)
class LayerInputsPart(Part):
    """What all layers are told of a token besides the stream, `norm.size` numbers each: by a table,
    and by the token's vector, projected and normed."""

    table: TablePart
    projection: LinearPart
    norm: NormPart


@dataclass(frozen=True, slots=True)
class JoinPart(Part):
    """Where the stream begins with a token's vector and a hidden state, each normed, side by side
    and projected (DeepSeek-V3, arXiv:2412.19437, equation 21)."""

    embedding_norm: NormPart
    hidden_norm: NormPart
    projection: LinearPart


@dataclass(frozen=True, slots=True)
class TransformerPart(Part):
    """`embed_positions` is None where there are no learned ones, `lm_head` for those that score by
    their embeddings. Most have no norm of embeddings, and none that are narrower than the stream:
    then `project_in` and `project_out` lead from the one to the other."""

    embed_tokens: TablePart
    project_in: LinearPart | None
    embed_norm: NormPart | None
    embed_positions: TablePart | None
    layer_inputs: LayerInputsPart | None
    join: JoinPart | None
    blocks: tuple[BlockPart, ...]
    final_norm: NormPart | None
    project_out: LinearPart | None
    lm_head: LinearPart | None


def transformer_part(config: ModelConfig) -> TransformerPart:
    vocab, hidden = config.vocab_size, config.hidden_size
    context = config.max_position_embeddings
    width = config.embedding_size or hidden
    is_narrow = width != hidden
    positions = TablePart(context, hidden, Role.POSITIONS)
    head = LinearPart(width, (Rows(vocab, Role.HEAD),), config.head_bias, Dealt.TOKENS)
    return TransformerPart(
        embed_tokens=TablePart(vocab, width, Role.EMBEDDINGS, config.embedding_scale),
        project_in=_projection(width, hidden, Role.EMBEDDINGS) if is_narrow else None,
        embed_norm=norm_part(config) if config.embedding_norm else None,
        embed_positions=positions if config.has_learned_positions else None,
        layer_inputs=layer_inputs_part(config) if config.layer_input_size else None,
        join=join_part(config) if config.reads_hidden else None,
        blocks=tuple(block_part(config, layer) for layer in range(config.num_hidden_layers)),
        final_norm=norm_part(config) if config.final_norm else None,
        project_out=_projection(hidden, width, Role.HEAD) if is_narrow else None,
        lm_head=None if config.tie_word_embeddings else head,
    )


def layer_inputs_part(config: ModelConfig) -> LayerInputsPart:
    size = config.layer_input_size
    wide = config.num_hidden_layers * size
    return LayerInputsPart(
        TablePart(config.vocab_size, wide, Role.EMBEDDINGS, math.sqrt(size)),
        LinearPart(config.hidden_size, (Rows(wide, Role.MLP),), False, Dealt.WHOLE),
        NormPart(Norm.RMS_NORM, size, config.norm_eps),
    )


def join_part(config: ModelConfig) -> JoinPart:
    hidden = config.hidden_size
    norm, projection = norm_part(config), _projection(2 * hidden, hidden, Role.MLP)
    return JoinPart(norm, norm, projection)


def _projection(in_features: int, out_features: int, role: Role) -> LinearPart:
    return LinearPart(in_features, (Rows(out_features, role),), False, Dealt.WHOLE)


@lru_cache(maxsize=16)
def parameters(config: ModelConfig) -> Mapping[str, Parameter]:
    """Every parameter of such a model by its name ("blocks.0.attention.qkv.weight"): all of it,
    whichever rank has what."""
    return MappingProxyType(dict(transformer_part(config).walk()))
