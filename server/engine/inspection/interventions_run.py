"""What edits do: a text with them and without, the next token of both, and its noise floor; or a
sweep over many edits, each by itself.

Arrays: of the last trace `base_effect` and `effect` [6] as `EFFECT_FIELDS`, `source_effect` where
edits take from a source, `noise` [4] as the fields of `NoiseFloor`; of a sweep traces `variants`
[m, 7], whose first column is the number of the variant.
"""

from collections.abc import Callable, Generator, Iterator, Sequence

import torch
from msgspec.structs import replace
from torch import Tensor

from thirdeye.model.inspection.continuation import continued
from thirdeye.model.inspection.edits import Edit
from thirdeye.model.inspection.measures.effects import effects, noise_floor
from thirdeye.model.inspection.probe import logit_lens
from thirdeye.model.inspection.variants import BaseRun, Edits, noisy, run_variants
from thirdeye.model.transformer import Transformer
from thirdeye.server.engine.inspection.packed import Arrays, guesses_of, packed
from thirdeye.server.engine.inspection.references import References
from thirdeye.server.engine.interface.interventions import edit_of, variants_of
from thirdeye.server.engine.interface.trace import Trace, TraceRequest

Found = tuple[Tensor, Trace]  # the stream behind the last block, and the last trace
Look = Callable[[TraceRequest, Sequence[Edit]], Generator[Trace | None, None, Found]]


class InterventionsRun:
    """One request that edits, piece by piece."""

    def __init__(
        self,
        model: Transformer,
        request: TraceRequest,
        look: Look,
        max_rows: int,
        kv_dtype: torch.dtype | None,
    ) -> None:
        """`look` reads a run with edits, and gives its last trace back."""
        self._model, self._request, self._look = model, request, look
        self._max_rows, self._kv_dtype = max_rows, kv_dtype
        config, sweep = model.config, request.sweep
        specs = request.edits
        if sweep is not None:
            kv_heads = [config.told_kv_heads_of(n) for n in range(config.num_hidden_layers)]
            variants = variants_of(sweep, config.num_heads, kv_heads)
            specs = [edit_of(sweep, variant) for variant in variants]
        self._specs = specs
        texts = [request.token_ids, *request.texts]
        self._references = References(model, texts, specs, max_rows, kv_dtype)
        self._ids = torch.tensor(request.token_ids, device=self._references.device)

    def pieces(self) -> Iterator[Trace | None]:
        request, references = self._request, self._references
        streams = yield from references.run(0, keeps_streams=request.sweep is not None)
        yield from references.run_others()
        base = self._next(references.last_resid[0])[0]
        yield None
        self._base, self._compare = base, request.compare or base.topk(2).indices.tolist()
        arrays = yield from self._floor()
        arrays["base_effect"] = packed(effects(base, base[None], self._compare)[0])
        if request.texts and any(spec.change == "source" for spec in self._specs):
            source = self._next(references.last_resid[1])
            arrays["source_effect"] = packed(effects(base, source, self._compare)[0])
        if request.sweep is not None:
            yield Trace(request_id=request.request_id, arrays=arrays)  # to read the others by
            yield from self._sweep(streams)
            last = Trace(request_id=request.request_id, is_last=True)
        else:
            last = yield from self._edited(arrays)
        yield replace(
            last,
            arrays=last.arrays | arrays,
            base_lens=guesses_of(base[None], request.num_top),
            compare=self._compare,
        )

    def _next(self, resid: Tensor) -> Tensor:
        """Logprobs of the next token, [m, vocab_size]."""
        return logit_lens(self._model, resid)

    def _floor(self) -> Generator[None, None, Arrays]:
        request = self._request
        if not request.num_noise:
            return {}
        variants = noisy(self._model, self._ids, request.num_noise)
        found = []
        for done in self._run(variants, []):
            yield
            if done is not None:
                found.append(done[1])
        floor = noise_floor(torch.cat(found))
        told = (floor.runs, floor.kl_median, floor.kl_max, floor.difference_sd)
        return {"noise": packed(torch.tensor(told))}

    def _sweep(self, streams: list[Tensor]) -> Iterator[Trace | None]:
        capacity = len(self._ids)
        variants = [(self._references.edit(spec, capacity),) for spec in self._specs]
        for done in self._run(variants, streams):
            yield None
            if done is not None:
                numbers = torch.tensor(done[0], device=self._ids.device)[:, None]
                told = packed(torch.cat((numbers.double(), done[1]), dim=1))
                yield Trace(request_id=self._request.request_id, arrays={"variants": told})

    def _run(
        self, variants: Sequence[Edits], streams: list[Tensor]
    ) -> Iterator[tuple[list[int], Tensor] | None]:
        """(numbers of variants, their effects [m, 6]) as they are done."""
        base = BaseRun(self._ids, streams)
        for done in run_variants(self._model, base, variants, self._max_rows, self._kv_dtype):
            if done is None:
                yield None
                continue
            numbers, resid = done
            yield numbers, effects(self._base, self._next(resid[:, -1]), self._compare)

    def _edited(self, arrays: Arrays) -> Generator[Trace | None, None, Trace]:
        request = self._request
        capacity = len(self._ids) + request.num_continued
        edits = [self._references.edit(spec, capacity) for spec in request.edits]
        resid, last = yield from self._look(request, edits)
        changed = self._next(resid[-1:])
        arrays["effect"] = packed(effects(self._base, changed, self._compare)[0])
        if not request.num_continued:
            return last
        both = []
        for own in ((), edits):
            tokens = yield from continued(
                self._model, self._ids, request.num_continued, self._max_rows, self._kv_dtype, own
            )
            both.append(tokens)
        return replace(last, continued=both)
