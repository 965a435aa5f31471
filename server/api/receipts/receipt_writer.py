"""Writes the receipt of an answer: sees each event go by, and remembers the tokens.

What the request asked for is known before it starts; which tokens came of it, and why each choice
ended, is what the events tell. The receipt is a plain JSON object, made when the last choice ends.
"""

from thirdeye.server.api.generation.answer_format import JsonObject
from thirdeye.server.api.generation.choices import Generation
from thirdeye.server.api.receipts.receipt import digest_of, digest_of_ids
from thirdeye.server.api.state.server_state import ServedModel
from thirdeye.server.engine.interface.types import FinishReason
from thirdeye.server.text.events import TextEvent


class ReceiptWriter:
    """Sees the events of one request, and writes its receipt when all choices have ended."""

    def __init__(self, generation: Generation, model: ServedModel) -> None:
        self._generation = generation
        self._model = model
        self._token_ids: list[list[int]] = [[] for _ in generation.requests]
        self._finish_reasons: list[FinishReason | None] = [None for _ in generation.requests]

    def add(self, index: int, event: TextEvent) -> None:
        self._token_ids[index] += [token.token_id for token in event.tokens]
        self._finish_reasons[index] = event.finish_reason

    def receipt(self) -> JsonObject:
        generation, who = self._generation, self._model.identity
        receipt: JsonObject = {
            "object": "receipt",
            "model": generation.model,
            "system_fingerprint": generation.fingerprint(self._model.fingerprint),
            "version": who.version,
            "build": who.build,
            "weights": who.weights,
            "tokenizer": who.tokenizer,
            "numerics": who.numerics,
            "parameters": parameters_of(generation),
            "prompts": [
                {"token_ids": ids, "sha256": digest_of_ids(ids)} for ids in generation.prompts
            ],
            "choices": [self._choice(i) for i in range(generation.size)],
        }
        if generation.adapter is not None:
            receipt["adapter"] = generation.adapter.fingerprint
        return receipt | {"sha256": digest_of(receipt)}

    def _choice(self, index: int) -> JsonObject:
        token_ids = self._token_ids[index]
        return {
            "index": index,
            "seed": str(self._generation.requests[index].sampling.seed),
            "token_ids": token_ids,
            "sha256": digest_of_ids(token_ids),
            "finish_reason": self._finish_reasons[index],
        }


def parameters_of(generation: Generation) -> JsonObject:
    """The parameters that all requests of a generation share: all but the seed."""
    sampling, options = generation.requests[0].sampling, generation.options
    return {
        "max_tokens": sampling.max_tokens,
        "min_tokens": sampling.min_tokens,
        "temperature": float(sampling.temperature),
        "top_p": float(sampling.top_p),
        "top_k": sampling.top_k,
        "min_p": float(sampling.min_p),
        "frequency_penalty": float(sampling.frequency_penalty),
        "presence_penalty": float(sampling.presence_penalty),
        "repetition_penalty": float(sampling.repetition_penalty),
        "penalty_window": sampling.penalty_window,
        "logit_bias": {str(token_id): bias for token_id, bias in sampling.logit_bias.items()},
        "stop_token_ids": sampling.stop_token_ids,
        "ignore_eos": sampling.ignore_eos,
        "stop": list(options.stop),
        "skip_special_tokens": options.skip_special_tokens,
        "parse_tool_calls": options.parse_tool_calls,
        "grammar": generation.requests[0].grammar,
    }
