"""The head behind a checkpoint's last layer that guesses one more token (MTP), as a model.

It is a transformer of one layer, whose stream begins with what the model made of the text and with
the next token (DeepSeek-V3, arXiv:2412.19437, section 2.2): embeddings, and what makes logits, are
the model's own. So it is described by a config, and read by the same tables, as any model is.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from thirdeye.model.config import ModelConfig
from thirdeye.weights.architectures.architecture import GuessingNames
from thirdeye.weights.architectures.common.guessing import NORM, PROJECTION
from thirdeye.weights.architectures.common.name_table import NameTable, TensorTarget
from thirdeye.weights.architectures.common.stored_shape import TensorShape

if TYPE_CHECKING:
    from torch import Tensor

    from thirdeye.model.declare.stored import StoredTensor

SHARED = ("embed_tokens.weight", "lm_head.weight")  # of the model's parameters


def head_config(config: ModelConfig) -> ModelConfig:
    """Of the head of such a model: one layer like its last that attends."""
    layer = config.attending_layers[-1]
    return replace(
        config,
        num_hidden_layers=1,
        attention=(config.attention_of(layer),) if config.attention else (),
        dense_layers=(0,) if config.experts and config.experts_of(layer) is None else (),
        mlp_sizes=(config.mlp_size_of(layer),) if config.mlp_sizes else (),
        state=None,
        state_layers=(),
        reads_hidden=True,
    )


class GuessingHead:
    """What `load_weights` reads: the head's tensors of a checkpoint, by the file's names.

    `table` is of a model with the head's config, `place` of the model's own tensors, `read` gives
    those of any names that `sizes` lists, in bytes, and `shapes` too."""

    def __init__(
        self,
        path: Path,
        config: ModelConfig,
        names: GuessingNames,
        table: NameTable,
        place: Callable[[str], list[TensorTarget] | None],
        sizes: Mapping[str, int],
        shapes: Mapping[str, TensorShape],
        read: "Callable[[Iterable[str]], Iterator[tuple[str, Tensor | StoredTensor]]]",
    ) -> None:
        self.path, self.config = path, head_config(config)
        self._table, self._place, self._read = table, place, read
        self._names, self._layer = names, names.layer.format(n=config.num_hidden_layers)
        own = {target.name for name in sizes for target in self._own(name)}
        self.is_there = PROJECTION in own
        self._shared = SHARED if NORM in own else (*SHARED, NORM)
        self._sizes = {name: size for name, size in sizes.items() if self.targets(name)}
        self._shapes = {name: shapes[name] for name in self._sizes}

    def targets(self, name: str) -> list[TensorTarget] | None:
        """Where a tensor goes; `[]` if it is none of the head's."""
        if own := self._own(name):
            return own
        places = self._place(name) or []
        return places if any(place.name in self._shared for place in places) else []

    def _own(self, name: str) -> list[TensorTarget]:
        """Where one goes that is not the model's."""
        own, others = name.removeprefix("model."), self._names.others
        if own in others:
            return [others[own]]
        if not own.startswith(self._layer):
            return []
        rest = own.removeprefix(self._layer)
        if rest in others:
            return [others[rest]]
        return self._table.place(self._names.first + rest) or []

    def tensor_sizes(self) -> dict[str, int]:
        return self._sizes

    def tensor_shapes(self) -> dict[str, TensorShape]:
        return self._shapes

    def tensors(self) -> "Iterator[tuple[str, Tensor | StoredTensor]]":
        return self._read(self._sizes)
