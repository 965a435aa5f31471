"""Filling a model layer by layer: each linear layer is brought into its final form at once.

`Transformer.load` and `finish` do it in two passes, between which every weight is there in full
precision. Here a layer is packed or rounded as soon as its last tensor has come: the peak of memory
is the finished model and one layer, and pages that nobody touches cost no time either.
"""

from collections import defaultdict

from torch import Tensor

from thirdeye.model.declare.stored import StoredTensor
from thirdeye.model.linear.linear import Linear, TiedLinear
from thirdeye.model.parts.latent.head_linear import HeadLinear
from thirdeye.model.transformer import Transformer


class ModelLoader:
    """Push every tensor of `expected()`, then `finish()`; the model can be used after that."""

    def __init__(self, model: Transformer) -> None:
        self._model = model
        self._linears: dict[str, Linear | TiedLinear | HeadLinear] = {
            name: module
            for name, module in model.named_modules()
            if isinstance(module, Linear | TiedLinear | HeadLinear)
        }
        self._missing: defaultdict[str, set[tuple[str, str | None]]] = defaultdict(set)
        for name, part in model.expected():
            self._missing[_owner(name)].add((name, part))

    def expected(self) -> set[tuple[str, str | None]]:
        return self._model.expected()

    def load(self, name: str, part: str | None, tensor: Tensor | StoredTensor) -> None:
        """As `Transformer.load`. No tensor may come twice."""
        self._model.load(name, part, tensor)
        owner = _owner(name)
        missing = self._missing[owner]
        # With part None a merged parameter came whole.
        missing -= {t for t in missing if t[0] == name and part in (None, t[1])}
        if not missing and owner in self._linears:
            self._linears.pop(owner).finish()

    def finish(self) -> None:
        """All tensors are in: a head that shares the embedding's table is what is left, and then
        the table itself."""
        assert not any(self._missing.values()), "a tensor has not come"
        for module in self._linears.values():
            module.finish()
        self._linears.clear()
        self._model.shrink_table()


def _owner(name: str) -> str:
    """The module of a parameter."""
    return name.rpartition(".")[0]
