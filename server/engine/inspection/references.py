"""The texts an intervention takes numbers from, and the edits that are made of them."""

from collections.abc import Generator, Iterable, Sequence

import torch
from torch import Tensor

from thirdeye.model.inspection.edits import AddVector, Edit, EditChange, Put, Scale
from thirdeye.model.inspection.points import read_point
from thirdeye.model.inspection.probe import LayerTrace, trace_layers
from thirdeye.model.transformer import Transformer
from thirdeye.server.engine.interface.interventions import PATTERNS, EditSpec, Place, places_of


class References:
    """Numbers of the unedited texts, at the places that edits ask for."""

    def __init__(
        self,
        model: Transformer,
        texts: Sequence[Sequence[int]],
        specs: Iterable[EditSpec],
        max_rows: int,
        kv_dtype: torch.dtype | None,
    ) -> None:
        """`texts`: that which is looked into, then the others."""
        self._model, self._max_rows, self._kv_dtype = model, max_rows, kv_dtype
        self.device = next(iter(model.parameters())).device
        self._ids = [torch.tensor(text, device=self.device) for text in texts]
        self._wanted = {place for spec in specs for place in places_of(spec)}
        self._values: dict[Place, Tensor] = {}
        self.last_resid: dict[int, Tensor] = {}  # of each text, behind the last block [1, d]

    def run(self, text: int, *, keeps_streams: bool = False) -> Generator[None, None, list[Tensor]]:
        """Through the model, once; the stream before each layer is given back, if it is kept."""
        ids = self._ids[text]
        streams: list[Tensor] = []
        layer = 0
        for place in self._wanted:
            if place[:2] == (text, "embed"):
                self._values[place] = self._model.embed_text(ids)
        for trace in trace_layers(self._model, ids, self._max_rows, self._kv_dtype):
            yield
            if trace is not None:
                self._keep(text, layer, trace)
                layer += 1
                if keeps_streams:
                    streams.append(trace.resid_pre)
                self.last_resid[text] = trace.resid_post[-1:]
        return streams

    def run_others(self) -> Generator[None, None, None]:
        for text in range(1, len(self._ids)):
            yield from self.run(text)

    def _keep(self, text: int, layer: int, trace: LayerTrace) -> None:
        for place in self._wanted:
            if place[0] == text and place[1] != "embed" and place[2] == layer:
                self._values[place] = read_point(trace, place[1], place[3]).clone()

    def edit(self, spec: EditSpec, capacity: int) -> Edit:
        """What a specification comes to. `capacity`: of the text, with what it is continued by."""
        positions = tuple(spec.positions) or None
        change = self._change(spec, capacity)
        if spec.matches_norm and positions is None:  # a length of its own for each
            positions = tuple(range(len(self._ids[0])))
        if positions is None and is_row_by_row(spec):
            positions = tuple(range(len(self._ids[0])))
        return Edit(spec.at, change, spec.layer, spec.index, positions)

    def _change(self, spec: EditSpec, capacity: int) -> EditChange:
        if spec.change in ("zero", "scale"):
            return Scale(0.0 if spec.change == "zero" else spec.factor)
        if spec.change == "mean" and spec.at == "pattern":  # row by row, over the texts
            mean = torch.stack([self._at(spec, text) for text in spec.texts]).mean(0)
            return Put(padded(mean[spec.positions] if spec.positions else mean, capacity))
        if spec.change == "mean":
            whole = torch.cat([self._at(spec, text) for text in spec.texts])
            return Put(whole.mean(0, keepdim=True))
        if spec.change in PATTERNS:
            pattern = fixed_pattern(spec.change, capacity, self.device)
            return Put(pattern[spec.positions] if spec.positions else pattern)
        if spec.change == "source":
            values = self._at(spec, spec.texts[0])
            values = values[spec.from_positions] if spec.from_positions else values
            return Put(padded(values, capacity) if spec.at == "pattern" else values)
        added = self._added(spec)
        return AddVector(padded(added, capacity) if spec.at == "pattern" else added)

    def _at(self, spec: EditSpec, text: int) -> Tensor:
        return self._values[text, spec.at, spec.layer, spec.index]

    def _added(self, spec: EditSpec) -> Tensor:
        """[1, width], or [positions, width] where each has its own."""
        if spec.vector:
            vector = torch.tensor([spec.vector], device=self.device)
        elif spec.tokens:
            rows = self._model.embed_text(torch.tensor(spec.tokens, device=self.device))
            vector = (rows[:1] - rows[1:]).float()
        else:
            first, second = (
                self._values[text, spec.at, spec.from_layer, spec.index] for text in spec.texts
            )
            if spec.from_positions:
                place, other = spec.from_positions
                first, second = first[place][None], second[other][None]
            elif spec.positions:  # row by row
                first, second = first[spec.positions], second[spec.positions]
            vector = first.float() - second.float()
        if spec.matches_norm:
            rows = self._at(spec, 0)
            rows = rows[spec.positions] if spec.positions else rows
            lengths = rows.float().norm(dim=-1, keepdim=True)
            vector = vector / vector.norm(dim=-1, keepdim=True).clamp_min(1e-12) * lengths
        return vector * spec.factor


def is_row_by_row(spec: EditSpec) -> bool:
    """Whether each position has numbers of its own, so that positions to come have none."""
    if spec.change == "add":
        return bool(spec.texts) and not spec.from_positions
    return spec.change == "source" or (spec.change == "mean" and spec.at == "pattern")


def padded(rows: Tensor, capacity: int) -> Tensor:
    """Of a pattern, [rows, keys] -> [rows, capacity]: keys to come weigh nothing."""
    return torch.nn.functional.pad(rows, (0, capacity - rows.shape[1]))


def fixed_pattern(name: str, size: int, device: torch.device) -> Tensor:
    """[size, size]: each query looks at itself, at all keys up to its own alike, or at the one
    before (the first at itself)."""
    eye = torch.eye(size, device=device)
    if name == "identity":
        return eye
    if name == "uniform":
        seen = torch.ones_like(eye).tril()
        return seen / seen.sum(-1, keepdim=True)
    pattern = eye.roll(1, dims=0)
    pattern[0] = eye[0]
    return pattern
