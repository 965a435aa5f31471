"""The whole model as a tree of parts, and every parameter of it by name."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

from thirdeye.model.config import ModelConfig
from thirdeye.model.declare.block import BlockPart, block_part, norm_part
from thirdeye.model.declare.parameter import Dealt, Parameter, Role, Rows
from thirdeye.model.declare.parts import LinearPart, NormPart, Part, TablePart


@dataclass(frozen=True, slots=True)
class TransformerPart(Part):
    """`embed_positions` is None for rotary models, `lm_head` for those that score by their
    embeddings."""

    embed_tokens: TablePart
    embed_positions: TablePart | None
    blocks: tuple[BlockPart, ...]
    final_norm: NormPart
    lm_head: LinearPart | None


def transformer_part(config: ModelConfig) -> TransformerPart:
    vocab, hidden = config.vocab_size, config.hidden_size
    context = config.max_position_embeddings
    positions = TablePart(context, hidden, Role.POSITIONS) if config.rope is None else None
    head = LinearPart(hidden, (Rows(vocab, Role.HEAD),), config.head_bias, Dealt.TOKENS)
    return TransformerPart(
        embed_tokens=TablePart(vocab, hidden, Role.EMBEDDINGS, config.embedding_scale),
        embed_positions=positions,
        blocks=tuple(block_part(config, layer) for layer in range(config.num_hidden_layers)),
        final_norm=norm_part(config),
        lm_head=None if config.tie_word_embeddings else head,
    )


@lru_cache(maxsize=16)
def parameters(config: ModelConfig) -> Mapping[str, Parameter]:
    """Every parameter of such a model by its name ("blocks.0.attention.qkv.weight"): all of it,
    whichever rank has what."""
    return MappingProxyType(dict(transformer_part(config).walk()))
