"""Looking inside, off the hot path: a request becomes pieces of work with the served model's own
weights, and traces between them.

Arrays of a last trace: `surprisal` [n - 1, 3] (nats, rank, entropy), `lens_tokens` and `norm_stats`
as of a layer, of the end of the stream; `attribution.*`, see `Attribution`; `head_scores` [kinds,
layers, heads]; of a question about the vocabulary the fields of `Closeness`.
"""

from collections.abc import Generator, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from thirdeye.model.inspection.edits import Edit
from thirdeye.model.inspection.measures.attribution import Attributing
from thirdeye.model.inspection.measures.head_kinds import head_kinds, random_text
from thirdeye.model.inspection.measures.token_scores import follow, surprisal
from thirdeye.model.inspection.measures.vocabulary import closeness
from thirdeye.model.inspection.norms import stats_of
from thirdeye.model.inspection.probe import LayerTrace, logit_lens, trace_layers
from thirdeye.model.inspection.readings import Readings, Selection
from thirdeye.model.transformer import Transformer
from thirdeye.server.engine.inspection.interventions_run import InterventionsRun
from thirdeye.server.engine.inspection.packed import Arrays, guesses_of, packed
from thirdeye.server.engine.interface.trace import (
    Guesses,
    Trace,
    TraceRequest,
    VocabularyQuery,
)

END: Any = object()
MAX_ROWS = 64  # tokens in a piece: what a running stream waits for is less than a chunk of these


class LayerInspector:
    """The model, taken apart piece by piece. None stands between two pieces."""

    def __init__(
        self,
        model: Transformer,
        device: torch.device,
        max_rows: int = MAX_ROWS,
        kv_dtype: torch.dtype | None = None,
    ) -> None:
        """`kv_dtype`: of the server's KV cache, see `trace_layers`."""
        self._model, self._kv_dtype = model, kv_dtype
        self._device = device
        self._max_rows = max_rows
        self._head_kinds: Tensor | None = None  # of this model: the same for every text

    def __call__(self, request: TraceRequest) -> Iterator[Trace | None]:
        pieces = self._pieces(request)
        return self._adapted(request.adapter, pieces) if request.adapter else pieces

    def _adapted(
        self, adapter: int, pieces: Iterator[Trace | None]
    ) -> Generator[Trace | None, None, None]:
        """The same of the model with this adapter; what runs between two pieces has its own."""
        assert self._model.adapters is not None
        while True:
            with self._model.adapters.on_all_rows(adapter):
                piece = next(pieces, END)
            if piece is END:
                return
            yield piece

    def _pieces(self, request: TraceRequest) -> Iterator[Trace | None]:
        if request.vocabulary is not None:
            return self._vocabulary(request.request_id, request.vocabulary)
        if request.edits or request.sweep:
            run = InterventionsRun(self._model, request, self._look, self._max_rows, self._kv_dtype)
            return run.pieces()
        return self._plain(request)

    def _plain(self, request: TraceRequest) -> Iterator[Trace | None]:
        _, last = yield from self._look(request, ())
        yield last

    def _look(
        self, request: TraceRequest, edits: Sequence[Edit]
    ) -> Generator[Trace | None, None, tuple[Tensor, Trace]]:
        """Traces of the layers; the stream behind the last and the last trace are given back."""
        model, max_rows = self._model, self._max_rows
        input_ids = torch.tensor(request.token_ids, device=self._device)
        readings = Readings(self._selection(request), max_rows)
        position = len(input_ids) - 1
        attributing = Attributing(model, input_ids, position, max_rows)
        resid = torch.empty(0)
        layer = 0
        for trace in trace_layers(model, input_ids, max_rows, self._kv_dtype, edits):
            yield None
            if trace is None:
                continue
            if layer in request.layers:
                arrays = yield from self._arrays(trace, request, readings)
                lens: list[Guesses] = []
                if request.has_lens or request.lens_tokens:
                    lens = yield from self._lens(trace.resid_pre, request, arrays)
                yield Trace(
                    request_id=request.request_id,
                    layer=layer,
                    arrays=arrays,
                    lens=lens if request.has_lens else [],
                )
            if "attribution" in request.endings:
                yield from attributing.add(trace)
            resid = trace.resid_post
            layer += 1
        arrays = {}
        lens = yield from self._lens(resid, request, arrays)
        compare = yield from self._endings(resid, request, input_ids, attributing, arrays)
        last = Trace(
            request_id=request.request_id,
            arrays=arrays,
            lens=lens,
            compare=compare,
            token_ids=self._random_text() if "head_scores" in request.endings else [],
            is_last=True,
        )
        return resid, last

    def _selection(self, request: TraceRequest) -> Selection:
        return Selection(
            heads=tuple(request.heads or range(self._model.config.num_heads)),
            positions=tuple(request.positions or range(len(request.token_ids))),
            is_masked=not request.has_masked_scores,
            num_neurons=request.num_neurons,
        )

    def _arrays(
        self, trace: LayerTrace, request: TraceRequest, readings: Readings
    ) -> Generator[None, None, Arrays]:
        arrays: Arrays = {}
        for name in request.arrays:
            arrays[name] = packed((yield from readings.array(trace, name)))
            yield None
        return arrays

    def _lens(
        self, resid: Tensor, request: TraceRequest, arrays: Arrays
    ) -> Generator[None, None, list[Guesses]]:
        """resid [n, hidden_size] -> the likeliest tokens at each of `lens_positions`; those that
        are followed go into `arrays`."""
        guesses: list[Guesses] = []
        followed = []
        for start in range(0, len(request.lens_positions), self._max_rows):
            if start:
                yield None
            rows = resid[request.lens_positions[start : start + self._max_rows]]
            every = logit_lens(self._model, rows)
            guesses += guesses_of(every, request.num_top)
            if request.lens_tokens:
                followed.append(follow(every, request.lens_tokens))
        if request.lens_tokens:
            arrays["lens_tokens"] = packed(torch.cat(followed))
        return guesses

    def _endings(
        self,
        resid: Tensor,
        request: TraceRequest,
        input_ids: Tensor,
        attributing: Attributing,
        arrays: Arrays,
    ) -> Generator[None, None, list[int]]:
        """What is known when all layers are; the tokens that were attributed are given back."""
        compare: list[int] = []
        if "norm_stats" in request.arrays:
            stats = stats_of(
                self._model.final_norm, resid[list(self._selection(request).positions)]
            )
            arrays["norm_stats"] = packed(stats)
        if "surprisal" in request.endings:
            yield None
            told = yield from surprisal(self._model, resid, input_ids, self._max_rows)
            arrays["surprisal"] = packed(told)
        if "attribution" in request.endings:
            yield None
            compare = request.compare
            if not compare:
                compare = logit_lens(self._model, resid[-1:])[0].topk(2).indices.tolist()
            found = yield from attributing.finish(resid, compare)
            arrays |= {f"attribution.{name}": packed(x) for name, x in found.arrays().items()}
        if "head_scores" in request.endings:
            yield None
            arrays["head_scores"] = packed((yield from self._kinds(request.adapter)))
        return compare

    def _random_text(self) -> list[int]:
        return random_text(self._model.config.vocab_size)

    def _kinds(self, adapter: int) -> Generator[None, None, Tensor]:
        if self._head_kinds is not None and not adapter:
            return self._head_kinds
        ids, max_rows = self._random_text(), self._max_rows
        found = yield from head_kinds(self._model, ids, max_rows, self._kv_dtype)
        if not adapter:
            self._head_kinds = found
        return found

    def _vocabulary(self, request_id: str, query: VocabularyQuery) -> Iterator[Trace | None]:
        found = yield from closeness(self._model, query.tokens, query.num_nearest, query.is_centred)
        yield None
        named = {name: getattr(found, name) for name in found.__slots__}
        arrays = {name: packed(values) for name, values in named.items()}
        yield Trace(request_id=request_id, arrays=arrays, is_last=True)
