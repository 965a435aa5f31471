"""The adapters of a model: which are loaded, in which slots, and how much memory they take.

With several ranks each has a share of every factor, dealt out as the layer's weights are.

An adapter is known by a number of its caller's; a slot is where its factors lie, and what a step
says of a token. Slots are few, and used again; numbers should not be.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from thirdeye.model.batch import ForwardBatch
from thirdeye.model.config import ModelConfig
from thirdeye.model.declare.lora import LoraFactors, adaptable
from thirdeye.model.linear.linear import Linear
from thirdeye.model.lora.adapted import Adapted, Addends, Piece, make_addends
from thirdeye.model.lora.step_slots import StepSlots
from thirdeye.model.placement import Placement


class PreparedAdapter(NamedTuple):
    """What each layer adds, in its own form, and the memory that all of it takes."""

    layers: list[tuple[Addends, Any]]
    num_bytes: int


class AdapterTable:
    """`num_slots` adapters of a model of this config at most."""

    def __init__(self, config: ModelConfig, num_slots: int, where: Placement) -> None:
        self._where, self._num_slots = where, num_slots
        self._declared = adaptable(config)
        self._step = StepSlots()
        self._layers: dict[str, Adapted] = {}
        self._slots: dict[int, int] = {}  # adapter -> its slot
        self._bytes: dict[int, int] = {}

    def adapt(self, model: nn.Module) -> None:
        """Let its layers look for adapters, from now on."""
        for name, part in self._declared.items():
            layer = model.get_submodule(name)
            assert isinstance(layer, Linear), name
            ranks = self._where.ranks
            height, width = part.own()["weight"].own_shape(ranks.rank, ranks.size)
            addends = make_addends(self._where, width, height, self._num_slots)
            layer.method = self._layers[name] = Adapted(layer.method, addends, self._step)

    def around(self, blocks: Callable[..., Any]) -> Callable[..., Any]:
        """What runs a step through `blocks`, with the adapters that its batch names."""

        def walk(x: Tensor, batch: ForwardBatch, *rest: Any) -> Any:
            with self._step.of(batch.adapter_slots):
                return blocks(x, batch, *rest)

        return walk

    def on_all_rows(self, adapter: int) -> AbstractContextManager[None]:
        """While this is entered all rows of layers have this adapter: outside of the model's own
        steps. Raises KeyError if it is not loaded."""
        return self._step.of_each(self._slots[adapter])

    @property
    def num_slots(self) -> int:
        return self._num_slots

    @property
    def num_bytes(self) -> int:
        """Of all that are loaded."""
        return sum(self._bytes.values())

    @property
    def slots(self) -> Mapping[int, int]:
        """Of those that are loaded."""
        return self._slots

    def load(self, adapter: int, factors: Sequence[LoraFactors]) -> None:
        """Into a slot of its own. Raises ValueError if all are taken."""
        self.install(adapter, self.prepare(factors))

    def prepare(self, factors: Sequence[LoraFactors]) -> "PreparedAdapter":
        """All of the work of loading: another thread may do it while steps are computed."""
        by_layer: dict[str, list[LoraFactors]] = defaultdict(list)
        for one in factors:
            by_layer[one.layer].append(one)
        layers: list[tuple[Addends, Any]] = []
        for name, own in by_layer.items():
            addends = self._layers[name].addends
            layers.append((addends, addends.packed([self._piece(one) for one in own])))
        return PreparedAdapter(layers, num_bytes_of(factors, self._where.dtype))

    def install(self, adapter: int, prepared: "PreparedAdapter") -> None:
        """The rest, between two steps. Raises ValueError if all slots are taken."""
        free = set(range(self._num_slots)) - set(self._slots.values())
        if not free:
            raise ValueError(
                f"all {self._num_slots} slots of '--max-loras' are taken: unload an adapter, or "
                "start with more."
            )
        slot = min(free)
        for addends, packed in prepared.layers:
            addends.put(slot, packed)
        self._slots[adapter] = slot
        self._bytes[adapter] = prepared.num_bytes

    def unload(self, adapter: int) -> None:
        """No token of a later step may have it."""
        slot = self._slots.pop(adapter)
        del self._bytes[adapter]
        for layer in self._layers.values():
            layer.addends.remove(slot)

    def _piece(self, factors: LoraFactors) -> Piece:
        """This rank's share: of A the columns that it has inputs for, of B the rows of its outputs.
        Where inputs are dealt out, what all ranks add is summed up with the layer's product."""
        weight, ranks = self._declared[factors.layer].own()["weight"], self._where.ranks
        share = weight.share(factors.part, ranks.rank, ranks.size)
        a = factors.a if share.columns is None else factors.a[:, share.columns]
        b = torch.cat([factors.b[rows] for rows in share.rows])
        to = partial(torch.Tensor.to, device=self._where.device, dtype=self._where.dtype)
        own_rows = weight.own_rows(factors.part, ranks.rank, ranks.size)
        return own_rows, to(a.contiguous()), to(b)


def num_bytes_of(factors: Sequence[LoraFactors], dtype: torch.dtype) -> int:
    """So much memory do they take in a table."""
    return sum((one.a.numel() + one.b.numel()) * dtype.itemsize for one in factors)
