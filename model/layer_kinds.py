"""Layers of one kind share what a step needs: one table of rotations, one plan of attention.

A model's layers may attend in several ways and turn by several tables (Gemma 3: near keys by one,
all keys by another), but there are few ways and many layers. So each way is prepared once a step,
and a layer knows by number which is its own.
"""

from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from thirdeye.model.attention.protocol import AttentionBackend
from thirdeye.model.batch import ForwardBatch
from thirdeye.model.config import AttentionSpec, ModelConfig
from thirdeye.model.parts.rope import NoRope, Rope, Rotation, TemperatureRope
from thirdeye.model.placement import Placement
from thirdeye.model.state.kv_cache import KVCache
from thirdeye.model.state.kv_groups import KVGroups
from thirdeye.model.state.state_cache import StatePlanner


@dataclass(frozen=True, slots=True)
class LayerKind:
    """Which of a step's rotations, plans and block tables are a layer's."""

    rotation: int
    plan: int
    group: int = 0  # of those of a batch as the layers see it


@dataclass(frozen=True, slots=True)
class GroupedKinds:
    """What layers need of a step, where their keys and values are kept in groups."""

    kinds: list[LayerKind]  # one a layer
    planned: list[tuple[int, int]]  # planner and group of each plan


class BothPlanner:
    """For layers that attend and keep a state: the plans of both."""

    def __init__(self, attention: AttentionBackend, states: StatePlanner) -> None:
        self._attention, self._states = attention, states
        self.plan_key = attention.plan_key, states.plan_key

    def plan(self, batch: ForwardBatch, kv_cache: KVCache) -> tuple[Any, Any]:
        return self._attention.plan(batch, kv_cache), self._states.plan(batch, kv_cache)


class LayerKinds:
    """Made once a model, of a rank's own config. Raises ValueError if the backend cannot attend as
    a layer shall."""

    def __init__(
        self,
        config: ModelConfig,
        backend: AttentionBackend,
        where: Placement,
        context: int | None = None,
    ) -> None:
        ropes: dict[Hashable, Rope | NoRope | TemperatureRope] = {}
        backends: dict[AttentionSpec, AttentionBackend] = {}
        planners: dict[Hashable, AttentionBackend | StatePlanner | BothPlanner] = {}
        self._grouped: dict[KVGroups, GroupedKinds] = {}
        self._groups: KVGroups | None = None  # those of the last step, and what they make
        self._newest = GroupedKinds([], [])
        self._kept: list[int | None] = []  # of each layer: its number among those that keep any
        self.kinds: list[LayerKind] = []
        self.backends: list[AttentionBackend | StatePlanner] = []  # one a layer
        states = StatePlanner(has_lengths=where.is_fused and where.native is None)
        attending = config.attending_layers
        for layer in range(config.num_hidden_layers):
            attends = layer in attending
            self._kept.append(config.index_of_its_kind(layer) if attends else None)
            if layer in config.lone_mlps:  # it asks for neither, whichever it gets
                self.kinds.append(LayerKind(0, 0))
                self.backends.append(states)
                continue
            if not attends:  # it turns nothing
                planners.setdefault(states.plan_key, states)
                self.kinds.append(LayerKind(0, list(planners).index(states.plan_key)))
                self.backends.append(states)
                continue
            spec = config.attention_of(layer)
            turning = (spec.rope, spec.temperature)
            if turning not in ropes:
                ropes[turning] = _rope(spec, config, where, context)
            unturned = replace(
                spec,
                rope=None,
                temperature=None,
                source=None,
                head_dim=config.head_dim_of(layer),
                num_kv_heads=config.num_kv_heads_of(layer),
            )
            if unturned not in backends:
                backends[unturned] = backend.for_layers(unturned)
            own = backends[unturned]
            planner = BothPlanner(own, states) if config.state_beside else own
            planners.setdefault(planner.plan_key, planner)
            plan = list(planners).index(planner.plan_key)
            self.kinds.append(LayerKind(list(ropes).index(turning), plan))
            self.backends.append(own)
        self._ropes, self._planners = tuple(ropes.values()), tuple(planners.values())

    def rotations(self, batch: ForwardBatch) -> tuple[Rotation, ...]:
        """What turns the heads of these tokens, for each table."""
        if batch.looked_up is not None:
            return (Rotation(*batch.looked_up.turns),)
        return tuple([rope.at(batch.positions) for rope in self._ropes])

    @property
    def turns(self) -> Tensor | None:
        """Cos and sin [2, max_position_embeddings, dim / 2], if all that turns does by these."""
        ropes = [rope for rope in self._ropes if isinstance(rope, Rope)]
        return ropes[0].table if len(ropes) == len(self._ropes) == 1 else None

    def of_groups(self, groups: KVGroups) -> list[LayerKind]:
        """One a layer, for a cache of these groups."""
        return self._in_groups(groups).kinds

    def plans(self, batch: ForwardBatch, kv_cache: KVCache) -> tuple[Any, ...]:
        planners, batches = self._planners, batch.by_group()
        planned = self._in_groups(kv_cache.groups).planned
        return tuple([planners[p].plan(batches[group], kv_cache) for p, group in planned])

    def _in_groups(self, groups: KVGroups) -> GroupedKinds:
        if groups is self._groups:  # of most steps: their hash is that of each layer's view
            return self._newest
        grouped = self._grouped.get(groups)
        if grouped is None:
            views, seen = groups.views, groups.view_of
            of_layers = [0 if kept is None else views.index(seen[kept]) for kept in self._kept]
            pairs = [(kind.plan, own) for kind, own in zip(self.kinds, of_layers, strict=True)]
            planned = list(dict.fromkeys(pairs))
            kinds = [
                replace(kind, plan=planned.index(pair), group=pair[1])
                for kind, pair in zip(self.kinds, pairs, strict=True)
            ]
            grouped = self._grouped[groups] = GroupedKinds(kinds, planned)
        self._groups, self._newest = groups, grouped
        return grouped

    def of(self, layer: int, batch: ForwardBatch, kv_cache: KVCache) -> tuple[Rotation, Any]:
        """One layer's rotation and plan alone, of a cache that has one group."""
        kind = self.kinds[layer]
        rotation = self._ropes[kind.rotation].at(batch.positions)
        return rotation, self._planners[kind.plan].plan(batch, kv_cache)


def _rope(
    spec: AttentionSpec, config: ModelConfig, where: Placement, context: int | None
) -> Rope | NoRope | TemperatureRope:
    longest = config.max_position_embeddings
    rope: Rope | NoRope = NoRope(where)
    if spec.rope is not None:
        rope = Rope(spec.rope, longest, where, context)
    return (
        rope
        if spec.temperature is None
        else TemperatureRope(rope, spec.temperature, longest, where)
    )
