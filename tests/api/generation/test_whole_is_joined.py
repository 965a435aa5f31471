"""A whole answer is its stream, joined: in every dialect, with every option, for every step size.

The frames of a stream are put together here from their JSON alone, by what the public pages say of
each dialect, and must be the answer that is not streamed. Ids and times differ from run to run.
"""

import asyncio
import json
import re
from itertools import pairwise
from typing import Any

import pytest

from tests.api.openai.tools import NAMED, ROOM, TOOLS, TWO, engine_that_says, state_of
from tests.api.support import CHAT, COMPLETION, EOS, VOCAB_SIZE, client_of
from tests.engine.process.fake_engine import FakeEngine, fake_info
from thirdeye.server.launch.asgi_app import create_app

Json = dict[str, Any]

CHAT_URL, TEXT_URL = "/v1/chat/completions", "/v1/completions"
RESPONSES_URL, MESSAGES_URL = "/v1/responses", "/v1/messages"
TEXT = [*"Grüße, 世界 😀! ".encode(), 258, *b"tail ab", 255, EOS]
CALLS = [*f"Look: {TWO} ".encode(), EOS]
VARYING = {"id", "created", "created_at", "completed_at", "timings", "call_id", "item_id"}
USAGE = {"stream_options": {"include_usage": True}}
COUNTS = {"stream_options": {"include_usage": True, "continuous_usage_stats": True}}
ANY_OPTIONS: list[Json] = [
    {},
    {"n": 3},
    {"stop": ["ail", "é"]},
    {"stop": "!", "include_stop_str_in_output": True},
    {"max_tokens": 3},
    {"return_token_ids": True, "n": 2},
    {"skip_special_tokens": False},
    {"receipt": True, "seed": 1},
    {"stop_token_ids": [97]},
    {"t_max_predict_ms": 100_000},
]
CHAT_OPTIONS = [{}, {"logprobs": True, "top_logprobs": 2}]
TEXT_OPTIONS: list[Json] = [
    {"max_tokens": 60},
    {"max_tokens": 60, "logprobs": 2, "return_tokens_as_token_ids": True},
    {"max_tokens": 60, "echo": True, "logprobs": 1},
    {"max_tokens": 0, "echo": True, "prompt": ["ab", "c"]},
]
TOOL_OPTIONS: list[Json] = [
    {"tool_choice": choice} | more
    for choice in ("auto", "required", "none", NAMED)
    for more in ({}, {"logprobs": True, "return_token_ids": True}, {"max_tokens": 60})
]
FLAT_TOOLS = [{"type": "function", **tool["function"]} for tool in TOOLS]
LOGPROBS = {"include": ["message.output_text.logprobs"], "top_logprobs": 1}
RESPONSES: list[Json] = [
    {},
    LOGPROBS,
    {"max_output_tokens": 3},
    {"tools": FLAT_TOOLS},
    {"tools": FLAT_TOOLS, "max_output_tokens": 60},
    {"tools": FLAT_TOOLS} | LOGPROBS,
]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
ANTHROPIC_TOOLS = [{"name": name, "input_schema": SCHEMA} for name in ("get_weather", "now")]
MESSAGES: list[Json] = [
    {},
    {"max_tokens": 3},
    {"stop_sequences": ["ail"]},
    {"tools": ANTHROPIC_TOOLS},
    {"tools": ANTHROPIC_TOOLS, "max_tokens": 60},
]


def plain(value: Any) -> Any:
    """Without what differs from run to run; digests of a receipt are made of the rest."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items() if key not in VARYING}
    return [plain(inner) for inner in value] if isinstance(value, list) else value


def chat_message(deltas: list[Json]) -> Json:
    content = "".join(delta.get("content") or "" for delta in deltas)
    calls: list[Json] = []
    for piece in (call for delta in deltas for call in delta.get("tool_calls", [])):
        if "id" in piece:
            calls.append({"type": piece["type"], "function": dict(piece["function"])})
        else:
            calls[piece["index"]]["function"]["arguments"] += piece["function"]["arguments"]
    message: Json = {"role": deltas[0]["role"], "refusal": None, "annotations": []}
    message["content"] = content if content or not calls else None
    return message | ({"tool_calls": calls} if calls else {})


def lists_joined(parts: list[Json | None]) -> Json | None:
    """Logprobs: each list of them goes on."""
    known = [part for part in parts if part is not None]
    if not known:
        return None
    return {
        key: [entry for part in known for entry in part[key]] if isinstance(value, list) else value
        for key, value in known[0].items()
    }


def completion(frames: list[Json]) -> Json:
    """Of chat or completions: frame after frame, choice after choice, key after key."""
    pieces: dict[int, list[Json]] = {}
    for choice in (choice for frame in frames for choice in frame["choices"]):
        pieces.setdefault(choice["index"], []).append(choice)
    choices = []
    for index, of_one in sorted(pieces.items()):
        choice = {"index": index, "finish_reason": of_one[-1]["finish_reason"]}
        choice["logprobs"] = lists_joined([piece["logprobs"] for piece in of_one])
        if "delta" in of_one[0]:
            choice["message"] = chat_message([piece["delta"] for piece in of_one])
        else:
            choice["text"] = "".join(piece["text"] for piece in of_one)
        if "stop_reason" in of_one[-1]:
            choice["stop_reason"] = of_one[-1]["stop_reason"]
        if any("token_ids" in piece for piece in of_one):
            choice["token_ids"] = [i for piece in of_one for i in piece.get("token_ids", [])]
        if "prompt_token_ids" in of_one[0]:
            choice["prompt_token_ids"] = of_one[0]["prompt_token_ids"]
        choices.append(choice)
    for before, choice in pairwise(choices):  # said of a prompt's first sample alone
        if "prompt_token_ids" in before:
            choice.setdefault("prompt_token_ids", before["prompt_token_ids"])
    head = frames[0]["object"].removesuffix(".chunk")
    asked_of_a_prompt = {"prompt_token_ids": None, "prompt_logprobs": None}  # null in a whole
    if head == "text_completion":
        choices = [asked_of_a_prompt | choice for choice in choices]
        asked_of_a_prompt = {}
    keys = {"model", "system_fingerprint", "prompt_token_ids"} & frames[0].keys()
    last = {key: frames[-1][key] for key in ("usage", "receipt") if key in frames[-1]}
    first = {key: frames[0][key] for key in keys}
    return {"object": head, "choices": choices} | asked_of_a_prompt | first | last


def response(frames: list[Json]) -> Json:
    """The last event's; its output is what the items' events say."""
    final: Json = frames[-1]["response"]
    done = [frame["item"] for frame in frames if frame["type"] == "response.output_item.done"]
    for index, item in enumerate(done):
        mine = [f for f in frames if f.get("output_index") == index and "delta" in f]
        text = "".join(frame["delta"] for frame in mine)
        if item["type"] == "message":
            scores = [entry for frame in mine for entry in frame["logprobs"]]
            part = {"type": "output_text", "text": text, "annotations": [], "logprobs": scores}
            assert item["content"] == [part]
        else:
            assert item["arguments"] == text
    assert final["output"] == done
    return final


def message(frames: list[Json]) -> Json:
    start, *middle, end, _ = frames
    content: list[Json] = []
    inputs: dict[int, str] = {}
    for frame in middle:
        if frame["type"] == "content_block_start":
            content.append(frame["content_block"])
        elif frame["type"] == "content_block_delta":
            piece = frame["delta"]
            if piece["type"] == "text_delta":
                content[frame["index"]]["text"] += piece["text"]
            else:
                inputs[frame["index"]] = inputs.get(frame["index"], "") + piece["partial_json"]
    for index, text in inputs.items():
        content[index]["input"] = json.loads(text) if text.endswith("}") else {}
    return start["message"] | end["delta"] | {"usage": end["usage"], "content": content}


JOIN = {CHAT_URL: completion, TEXT_URL: completion, RESPONSES_URL: response, MESSAGES_URL: message}


def frames_of(body: str) -> list[Json]:
    found = re.findall(r"^data: (\{.*\})$", body, re.MULTILINE)
    return [json.loads(frame) for frame in found]


STATE = state_of(engine_that_says(""))
APP = create_app(STATE)
CASES: list[tuple[str, Json]] = [
    *((CHAT_URL, CHAT | any_ | more) for any_ in ANY_OPTIONS for more in CHAT_OPTIONS),
    *((CHAT_URL, CHAT | {"tools": TOOLS} | more) for more in TOOL_OPTIONS),
    *((TEXT_URL, COMPLETION | any_ | more) for any_ in ANY_OPTIONS for more in TEXT_OPTIONS),
    *((RESPONSES_URL, {"model": "tiny", "input": "Hi"} | more) for more in RESPONSES),
    *((MESSAGES_URL, {"max_tokens": 400} | CHAT | more) for more in MESSAGES),
]


async def posted(path: str, body: Json, token_ids: list[int], step: int) -> str:
    info = fake_info(vocab_size=VOCAB_SIZE, max_model_len=ROOM)
    STATE.engine = FakeEngine(token_ids, info=info, eos_token_ids=[EOS], tokens_per_step=step)
    async with client_of(APP) as client:
        answer = await client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.text


@pytest.mark.parametrize(("path", "body"), CASES, ids=str)
def test_a_whole_answer_is_its_stream_joined(path: str, body: Json) -> None:
    is_openai = path in (CHAT_URL, TEXT_URL)

    async def main() -> None:
        for token_ids in [TEXT, CALLS] if "tools" in body else [TEXT]:
            whole = plain(json.loads(await posted(path, body, token_ids, 1)))
            for step in (1, 3, 1000):
                asked = body | {"stream": True} | (USAGE if is_openai else {})
                frames = frames_of(await posted(path, asked, token_ids, step))
                assert plain(JOIN[path](frames)) == whole

    asyncio.run(main())


@pytest.mark.parametrize("path", [CHAT_URL, TEXT_URL])
def test_the_bytes_that_are_spliced_are_those_that_are_encoded(path: str) -> None:
    """Usage in each chunk keeps frames from being spliced; without it they are the same bytes."""
    body = CHAT if path == CHAT_URL else COMPLETION | {"max_tokens": 60}
    varying = re.compile(
        r'"(id|created)":("[^"]*"|\d+),|,"usage":(null|\{.*?\}\}|\{.*?\})|,"timings":.*'
    )

    async def main() -> None:
        spliced = await posted(path, body | {"stream": True} | USAGE, TEXT, 1)
        encoded = await posted(path, body | {"stream": True} | COUNTS, TEXT, 1)
        assert varying.sub("", spliced) == varying.sub("", encoded)

    asyncio.run(main())


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("path", [CHAT_URL, TEXT_URL])
def test_scores_of_the_prompt_come_with_the_first_chunk(path: str, n: int) -> None:
    """A stream has none to be compared with: it refuses to carry them."""
    body = (CHAT if path == CHAT_URL else COMPLETION) | {"n": n, "prompt_logprobs": 1}
    whole = json.loads(asyncio.run(posted(path, body | {"max_tokens": 9}, TEXT, 1)))
    holders = [whole] if path == CHAT_URL else whole["choices"]
    for holder in holders:
        first, *scores = holder["prompt_logprobs"]
        assert first is None
        assert len(scores) == whole["usage"]["prompt_tokens"] - 1
