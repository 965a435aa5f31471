"""Answers as tokens, every way to cut them into outputs, and what their text has to be."""

from itertools import pairwise
from typing import Any

from hypothesis import strategies as st

from tests.text.byte_tokenizer import ByteTokenizer
from thirdeye.server.engine.interface.types import (
    FinishReason,
    StepOutput,
)
from thirdeye.server.text.events import TextEvent
from thirdeye.server.text.text_stream import TextOptions, TextStream

EXTRA = [b"ab", b"a", "é🎉".encode(), "🎉".encode()[2:] + b"b", b"", b"\xff\xe2", b"abab", b"\n"]
TOKENIZER = ByteTokenizer(extra=EXTRA)
IM_START, EOS, ENDOFTEXT = 256, 257, 258
UNUSED = TOKENIZER.vocab_size - 1
IDS = [*range(TOKENIZER.first_extra_id, UNUSED + 1), *"ab🎉".encode(), IM_START, ENDOFTEXT]


def output(*ids: int, finish: FinishReason | None = None, **fields: Any) -> StepOutput:
    return StepOutput(request_id="r", token_ids=list(ids), finish_reason=finish, **fields)


def feed_all(stream: TextStream, outputs: list[StepOutput]) -> list[TextEvent]:
    events = []
    for step in outputs:
        event = stream.feed(step)
        events += [] if event is None else [event]
        if stream.is_finished:
            break
    return events


def run(
    outputs: list[StepOutput], options: TextOptions, hidden: frozenset[int] = frozenset({EOS})
) -> list[TextEvent]:
    return feed_all(TextStream(TOKENIZER, options, hidden), outputs)


def text_of(events: list[TextEvent]) -> str:
    return "".join(event.text for event in events)


def ids_of(events: list[TextEvent]) -> list[int]:
    return [token.token_id for event in events for token in event.tokens]


# --- the oracle: decode everything, then look for a stop at the end of each token ---------------


def oracle(ids: list[int], options: TextOptions) -> tuple[str, list[int], str | None]:
    """Text, tokens and matched stop of an answer, from its tokens seen at once."""
    raws = visible(ids, options)
    text = decode(b"".join(raws))
    for n in range(options.min_tokens + 1, len(ids) + 1):
        before = num_final_chars(b"".join(raws[: n - 1]))
        now = len(text) if n == len(ids) else num_final_chars(b"".join(raws[:n]))
        for end in range(before + 1, now + 1):
            for stop in sorted(options.stop, key=len, reverse=True):
                if text[:end].endswith(stop):
                    return text[: end if options.include_stop else end - len(stop)], ids[:n], stop
    return text, ids, None


def visible(ids: list[int], options: TextOptions) -> list[bytes]:
    hidden = {EOS, IM_START, ENDOFTEXT} if options.skip_special_tokens else {EOS}
    return [b"" if i in hidden else TOKENIZER.token_bytes(i) for i in ids]


def decode(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def num_final_chars(raw: bytes) -> int:
    """Characters that are the same whatever bytes follow: the ones that may be sent."""
    ends = [b"A", *(bytes([b, 0x80, 0x80]) for b in (0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF))]
    texts = [decode(raw + end) for end in ends]
    return next(i for i, chars in enumerate(zip(*texts, strict=False)) if len(set(chars)) > 1)


options_of = st.builds(
    TextOptions,
    stop=st.lists(
        st.sampled_from(["ab", "b", "aba", "bab", "é🎉", "\ufffd", "🎉a", "|im"]), max_size=3
    ),
    include_stop=st.booleans(),
    skip_special_tokens=st.booleans(),
    min_tokens=st.integers(0, 4),
)
answers = st.lists(st.sampled_from(IDS), max_size=12)


def split_into_outputs(ids: list[int], places: list[int]) -> list[StepOutput]:
    ends = [0, *sorted(min(p, len(ids)) for p in places), len(ids)]
    pieces = [ids[a:b] for a, b in pairwise(ends)]
    outputs = [output(*piece) for piece in pieces]
    return [*outputs[:-1], output(*pieces[-1], finish=FinishReason.LENGTH)]
