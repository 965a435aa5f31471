"""Receipts and their replay over the fake engine: each lie is found, each limit holds."""

import asyncio
import copy
import hashlib
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.api.generation.test_stream import chunks
from tests.api.support import (
    CHAT,
    COMPLETION,
    EOS,
    app_over,
    client_of,
    client_over,
    eventually,
    fake_engine,
    live,
    ready_state,
)
from tests.engine.process.fake_engine import FakeEngine
from thirdeye.server.api.field_rules.nothing import NOTHING
from thirdeye.server.api.http.api_config import ApiConfig
from thirdeye.server.api.receipts.receipt import digest_of, digest_of_ids
from thirdeye.server.api.state.identity import Identity
from thirdeye.server.engine.interface.types import Request
from thirdeye.server.launch.asgi_app import create_app

CHAT_URL, TEXT_URL, VERIFY = "/v1/chat/completions", "/v1/completions", "/v1/verify"
Receipt = dict[str, Any]
IDENTITY = Identity("0.1.0", "b" * 64, "c" * 64, "d" * 64, "cpu float32, torch 2, 2 threads")


def noise(request: Request) -> list[int]:
    """A model: lower-case letters that depend on prompt, seed and temperature, then the end."""
    text = f"{request.prompt_token_ids}/{request.sampling.seed}/{request.sampling.temperature}"
    return [97 + byte % 26 for byte in hashlib.sha256(text.encode()).digest()[:12]] + [EOS]


def model(**changes: Any) -> dict[str, Any]:
    return {"identity": IDENTITY, "fingerprint": IDENTITY.fingerprint} | changes


def exchange(
    *posts: tuple[str, dict[str, Any]], engine: FakeEngine | None = None, **changes: Any
) -> list[httpx.Response]:
    async def main() -> list[httpx.Response]:
        app, state = app_over(engine or fake_engine(noise), **model(**changes))
        async with client_of(app) as client:
            answers = [await client.post(path, json=body) for path, body in posts]
            assert state.admission.in_flight == 0
            return answers

    return asyncio.run(main())


def receipt_of(path: str = TEXT_URL, **fields: Any) -> Receipt:
    body = (CHAT if path == CHAT_URL else COMPLETION) | {"receipt": True, "seed": 7} | fields
    (answer,) = exchange((path, body))
    assert answer.status_code == 200, answer.text
    found: Receipt = answer.json()["receipt"]
    return found


def verify(receipt: Receipt, **options: Any) -> Receipt:
    (answer,) = exchange((VERIFY, {"receipt": receipt}), **options)
    assert answer.status_code == 200, answer.text
    found: Receipt = answer.json()
    assert found.pop("object") == "verification"
    return found


def forged(receipt: Receipt, change: Callable[[Receipt], object]) -> Receipt:
    """The receipt with a lie in it, and hashes that fit again: anybody can compute them."""
    lie = copy.deepcopy(receipt)
    change(lie)
    for part in lie["prompts"] + lie["choices"]:
        part["sha256"] = digest_of_ids(part["token_ids"])
    lie["sha256"] = digest_of(lie)
    return lie


def test_a_window_of_penalties_is_asked_for_again() -> None:
    """And a receipt of a time without windows is what it was."""
    receipt = receipt_of(max_tokens=5, repetition_penalty=1.5, repeat_last_n=4)
    assert receipt["parameters"]["penalty_window"] == 4
    engine = fake_engine(noise)
    assert verify(receipt, engine=engine)["verdict"] == "equal"
    assert engine.requests[0].sampling.penalty_window == 4
    older = forged(receipt, lambda r: r["parameters"].pop("penalty_window"))
    engine = fake_engine(noise)
    assert verify(older, engine=engine)["verdict"] == "equal"
    assert engine.requests[0].sampling.penalty_window == -1


def test_a_receipt_holds_all_that_decided_the_answer() -> None:
    receipt = receipt_of(max_tokens=5, temperature=1, stop_token_ids=[3], logit_bias={"5": -1})
    assert receipt["object"] == "receipt"
    assert receipt["model"] == "tiny"
    assert receipt["system_fingerprint"] == IDENTITY.fingerprint
    parts = [receipt[name] for name in ("version", "build", "weights", "tokenizer", "numerics")]
    assert Identity(*parts) == IDENTITY
    parameters = receipt["parameters"]
    assert (parameters["max_tokens"], parameters["temperature"]) == (5, 1.0)
    assert (parameters["stop_token_ids"], parameters["logit_bias"]) == ([3], {"5": -1.0})
    (prompt,), (choice,) = receipt["prompts"], receipt["choices"]
    assert prompt["token_ids"] == [*b"Hi"]
    assert (choice["index"], choice["seed"], choice["finish_reason"]) == (0, "7", "length")
    assert len(choice["token_ids"]) == 5
    assert prompt["sha256"] == hashlib.sha256(b"72,105").hexdigest()
    digest = receipt.pop("sha256")
    text = json.dumps(receipt, sort_keys=True, separators=(",", ":"))
    assert digest == hashlib.sha256(text.encode()).hexdigest()


def test_only_who_asks_gets_a_receipt() -> None:
    (plain,) = exchange((TEXT_URL, COMPLETION | {"receipt": False}))
    assert "receipt" not in plain.json()


def test_a_receipt_tells_no_key_and_no_salt() -> None:
    async def main() -> str:
        state = ready_state(fake_engine(noise), **model())
        headers = {"Authorization": "Bearer sk-canary"}
        async with client_over(
            state, ApiConfig(api_keys=("sk-canary",)), headers=headers
        ) as client:
            body = COMPLETION | {"receipt": True, "cache_salt": "canary-salt"}
            return (await client.post(TEXT_URL, json=body)).text

    text = asyncio.run(main())
    digest = hashlib.sha256(b"sk-canary").hexdigest()
    assert not [secret for secret in ("canary", digest[:16]) if secret in text]


REQUESTS: list[tuple[str, dict[str, Any]]] = [
    (CHAT_URL, {}),
    (CHAT_URL, {"n": 3, "temperature": 0}),
    (CHAT_URL, {"max_completion_tokens": 4, "logprobs": True}),
    (TEXT_URL, {"max_tokens": 100}),
    (TEXT_URL, {"prompt": ["a", "bcd"], "n": 2, "seed": None}),
    (TEXT_URL, {"max_tokens": 0, "echo": True}),
    (TEXT_URL, {"ignore_eos": True, "min_tokens": 3, "top_k": 5, "min_p": 1e-7}),
    (CHAT_URL, {"stop": ["e", "i", "zz", "o"], "include_stop_str_in_output": True}),
    (CHAT_URL, {"stop_token_ids": list(range(97, 110)), "seed": -(2**63)}),
]


@pytest.mark.parametrize(("path", "fields"), REQUESTS)
def test_an_honest_receipt_is_equal(path: str, fields: dict[str, Any]) -> None:
    receipt = receipt_of(path, **fields)
    found = verify(receipt)
    assert found.pop("usage")["prompt_tokens"] == sum(
        len(p["token_ids"]) for p in receipt["prompts"]
    )
    assert found.pop("timings")
    assert found == {"verdict": "equal"}


def test_a_stop_strings_receipt_ends_where_the_answer_did() -> None:
    """And a longer or shorter answer is not what the server would have said."""
    whole = receipt_of(CHAT_URL)["choices"][0]["token_ids"]
    receipt = receipt_of(CHAT_URL, stop=chr(whole[5]))
    (choice,) = receipt["choices"]
    end = whole.index(whole[5]) + 1
    assert (choice["token_ids"], choice["finish_reason"]) == (whole[:end], "stop")
    longer = forged(receipt, lambda r: r["choices"][0].update(token_ids=whole[: end + 1]))
    found = verify(longer)
    assert (found["position"], found["expected"], found["got"]) == (end, whole[end], None)
    shorter = forged(receipt, lambda r: r["choices"][0].update(token_ids=whole[: end - 1]))
    found = verify(shorter)
    assert (found["position"], found["expected"], found["got"]) == (end - 1, None, whole[end - 1])


def test_streams_carry_the_same_receipt_on_their_last_chunk() -> None:
    state = ready_state(fake_engine(noise), **model())
    with live(state) as url:
        for path, body in ((CHAT_URL, CHAT), (TEXT_URL, COMPLETION)):
            body = body | {"receipt": True, "seed": 5, "n": 2}
            whole = httpx.post(url + path, json=body, trust_env=False).json()["receipt"]
            for options in ({}, {"stream_options": {"include_usage": True}}):
                streamed = body | {"stream": True} | options
                found = chunks(httpx.post(url + path, json=streamed, trust_env=False))
                assert ["receipt" in chunk for chunk in found] == [False] * (len(found) - 1) + [
                    True
                ]
                assert found[-1]["receipt"] == whole


def test_a_changed_token_is_found_by_its_hash_and_by_the_replay() -> None:
    receipt = receipt_of(n=2)
    lie = copy.deepcopy(receipt)
    told = lie["choices"][1]["token_ids"][3]
    lie["choices"][1]["token_ids"][3] = 65
    found = verify(lie)
    assert found["verdict"] == "different"
    assert found["field"] == "receipt.choices[1].sha256"
    assert found["expected"] == lie["choices"][1]["sha256"]
    found = verify(forged(lie, lambda _: None))
    del found["usage"], found["timings"]
    assert found == {
        "verdict": "different",
        "choice": 1,
        "position": 3,
        "expected": 65,
        "got": told,
    }


LIES: list[tuple[Callable[[Receipt], object], str]] = [
    (lambda r: r["parameters"].update(temperature=0.5), "receipt.sha256"),
    (lambda r: r["choices"][0].update(seed="8"), "receipt.sha256"),
    (lambda r: r["prompts"][0].update(token_ids=[72, 106]), "receipt.prompts[0].sha256"),
    (lambda r: r["prompts"][0].update(sha256="0" * 64), "receipt.prompts[0].sha256"),
    (lambda r: r["choices"][0].update(sha256="0" * 64), "receipt.choices[0].sha256"),
    (lambda r: r.update(sha256="0" * 64), "receipt.sha256"),
    (lambda r: r.update(model="org/tiny"), "receipt.sha256"),
]


@pytest.mark.parametrize(("change", "field"), LIES)
def test_each_part_is_under_a_hash(change: Callable[[Receipt], object], field: str) -> None:
    """Nothing is computed for a receipt that does not even fit itself."""
    lie = receipt_of()
    change(lie)
    engine = fake_engine(noise)
    found = verify(lie, engine=engine)
    assert (found["verdict"], found["field"]) == ("different", field)
    assert engine.requests == []


@pytest.mark.parametrize(
    "change",
    [
        lambda r: r["parameters"].update(temperature=0.5),
        lambda r: r["choices"][0].update(seed="8"),
        lambda r: r["prompts"][0].update(token_ids=[72, 106]),
    ],
)
def test_a_forged_parameter_gives_other_tokens(change: Callable[[Receipt], object]) -> None:
    found = verify(forged(receipt_of(), change))
    assert (found["verdict"], found["choice"], found["position"]) == ("different", 0, 0)


def test_a_forged_reason_is_found() -> None:
    lie = forged(receipt_of(), lambda r: r["choices"][0].update(finish_reason="length"))
    found = verify(lie)
    assert found["field"] == "receipt.choices[0].finish_reason"
    assert (found["expected"], found["got"]) == ("length", "stop")


@pytest.mark.parametrize(
    "name", ["version", "build", "weights", "tokenizer", "numerics", "system_fingerprint", "model"]
)
def test_another_servers_receipt_cannot_be_compared(name: str) -> None:
    """Said before anything else: its hashes and limits may be other ones, too."""
    lie = receipt_of() | {name: "other", "sha256": "0" * 64}
    engine = fake_engine(noise)
    found = verify(lie, engine=engine)
    assert (found["verdict"], found["field"]) == ("not_comparable", f"receipt.{name}")
    assert "not this server's" in found["reason"]
    assert engine.requests == []


def test_a_replay_is_bounded_by_the_receipts_own_length() -> None:
    """`max_tokens` 400 with three tokens in hand computes four of them, not 400."""
    lie = forged(receipt_of(max_tokens=3), lambda r: r["parameters"].update(max_tokens=400))
    engine = fake_engine(noise)
    found = verify(lie, engine=engine)
    assert (found["position"], found["expected"]) == (3, None)
    assert [request.sampling.max_tokens for request in engine.requests] == [4]


def path_of(path: str, value: object) -> Callable[[Receipt], object]:
    """A change of one field, `choices.0.seed`."""

    def change(receipt: Receipt) -> None:
        *steps, last = path.split(".")
        node: Any = receipt
        for step in steps:
            node = node[int(step)] if step.isdecimal() else node[step]
        if value is None:
            del node[last]
        else:
            node[int(last) if last.isdecimal() else last] = value

    return change


BAD: list[tuple[str, object, str, str, str]] = [
    ("sha256", None, "sha256", "missing_required_parameter", "Missing"),
    ("sha256", "xyz", "sha256", "invalid_value", "64 hexadecimal"),
    ("sha256", 7, "sha256", "invalid_value", "64 hexadecimal"),
    ("object", "answer", "object", "invalid_value", "'receipt'"),
    ("more", 1, "more", "unknown_parameter", "Unknown"),
    ("model", "x" * 300, "model", "string_above_max_length", "at most 256"),
    ("prompts", [], "prompts", "array_below_min_length", "at least 1"),
    ("choices", [], "choices", "array_below_min_length", "at least 1"),
    ("choices.0.seed", 7, "choices[0].seed", "invalid_value", "decimal digits"),
    ("choices.0.seed", "07", "choices[0].seed", "invalid_value", "decimal digits"),
    ("choices.0.seed", "9" * 19, "choices[0].seed", "invalid_value", "below 2^63"),
    ("choices.0.seed", "9" * 5000, "choices[0].seed", "invalid_value", "below 2^63"),
    ("choices.0.seed", "-1", "choices[0].seed", "invalid_value", "decimal digits"),
    ("choices.0.index", 1, "choices[0].index", "invalid_value", "must be 0, got 1"),
    ("choices.0.finish_reason", "abort", "choices[0].finish_reason", "invalid_value", "'stop'"),
    ("choices.0.token_ids.2", -1, "choices[0].token_ids[2]", "integer_below_min_value", "least 0"),
    ("choices.0.token_ids.2", True, "choices[0].token_ids[2]", "invalid_type", "integer"),
    ("choices.0.token_ids.2", 260, "choices[0].token_ids[2]", "invalid_value", "0 and 259"),
    ("choices.0.token_ids", [1] * 17, "choices[0].token_ids", "array_above_max_length", "(16)"),
    ("prompts.0.token_ids", [], "prompts[0].token_ids", "array_below_min_length", "at least 1"),
    ("prompts.0.token_ids.0", 999, "prompts[0].token_ids[0]", "invalid_value", "0 and 259"),
    ("prompts.0.token_ids", [1] * 512, "prompts", "context_length_exceeded", "512 tokens"),
    ("parameters.max_tokens", 511, "parameters.max_tokens", "integer_above_max_value", "most 510"),
    ("parameters.max_tokens", 2**31, "parameters.max_tokens", "integer_above_max_value", "at most"),
    ("parameters.min_tokens", 17, "parameters.min_tokens", "invalid_value", "(16)"),
    ("parameters.temperature", 3, "parameters.temperature", "decimal_above_max_value", "most 2"),
    ("parameters.temperature", None, "parameters.temperature", "missing_required_parameter", ""),
    ("parameters.stop_token_ids", [260], "parameters.stop_token_ids[0]", "invalid_value", "259"),
    ("parameters.logit_bias", {"260": 1}, "parameters.logit_bias", "invalid_value", "259"),
]


@pytest.mark.parametrize(("path", "value", "param", "code", "words"), BAD)
def test_receipts_are_checked_like_any_field(
    path: str, value: object, param: str, code: str, words: str
) -> None:
    lie = receipt_of()
    path_of(path, value)(lie)
    engine = fake_engine(noise)
    (answer,) = exchange((VERIFY, {"receipt": lie}), engine=engine)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, f"receipt.{param}"), error
    assert error["code"] == code, error
    assert words in error["message"]
    assert engine.requests == []


@pytest.mark.parametrize(
    ("body", "param"),
    [({}, "receipt"), ({"receipt": 3}, "receipt"), ({"receipt": {}, "model": "tiny"}, "model")],
)
def test_the_body_is_closed(body: dict[str, Any], param: str) -> None:
    (answer,) = exchange((VERIFY, body))
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_choices_are_as_many_for_each_prompt() -> None:
    receipt = receipt_of(prompt=["a", "b"], n=2)
    receipt["choices"].pop()
    (answer,) = exchange((VERIFY, {"receipt": receipt}))
    assert answer.json()["error"]["param"] == "receipt.choices"


@pytest.mark.parametrize(
    ("fields", "limits", "param"),
    [
        ({"n": 3}, {"max_n": 2}, "receipt.choices"),
        ({"n": 3, "prompt": ["a", "b"]}, {"max_choices": 5}, "receipt.choices"),
        ({"stop": ["x", "y"]}, {"max_stop": 1}, "receipt.parameters.stop"),
    ],
)
def test_the_operators_limits_hold_for_a_replay(
    fields: dict[str, Any], limits: dict[str, int], param: str
) -> None:
    """Anybody can write a receipt of 128 prompts with 128 choices each."""
    receipt = receipt_of(**fields)

    async def main() -> httpx.Response:
        engine = fake_engine(noise)
        async with client_over(ready_state(engine, **model()), ApiConfig(**limits)) as client:
            answer = await client.post(VERIFY, json={"receipt": receipt})
        assert not engine.requests
        return answer

    answer = asyncio.run(main())
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_a_replay_takes_its_place_in_the_queue_and_leaves_it() -> None:
    """Admission refuses it like any request, and a client that goes away ends it."""
    receipt = receipt_of(n=2)
    engine = fake_engine(noise, hang_after=3)
    state = ready_state(engine, **model())
    with live(state) as url:
        places = state.admission.admit(state.admission.capacity - 1)
        full = httpx.post(url + VERIFY, json={"receipt": receipt}, trust_env=False)
        assert (full.status_code, full.json()["error"]["code"]) == (429, "rate_limit_exceeded")
        places.release()
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(url + VERIFY, json={"receipt": receipt}, trust_env=False, timeout=0.3)
        eventually(lambda: state.admission.in_flight == 0)
        eventually(lambda: len(engine.aborted) == 2)


def test_a_replay_takes_from_its_callers_share() -> None:
    """Whoever verifies a lot must not do it on everybody's account."""

    async def main() -> None:
        engine = fake_engine(noise)
        async with client_over(
            ready_state(engine, **model()),
            ApiConfig(api_keys=("k",)),
            headers={"Authorization": "Bearer k"},
        ) as client:
            answer = await client.post(TEXT_URL, json=COMPLETION | {"receipt": True})
            await client.post(VERIFY, json={"receipt": answer.json()["receipt"]})
        asked, replayed = engine.requests
        assert replayed.tenant == asked.tenant == hashlib.sha256(b"k").hexdigest()[:16]
        assert replayed.cache_salt == asked.cache_salt

    asyncio.run(main())


def test_the_document_has_the_new_routes() -> None:
    document = create_app(ready_state(fake_engine())).openapi()
    schemas = document["components"]["schemas"]
    assert schemas["Receipt"]["additionalProperties"] is False
    assert NOTHING in schemas["ChatRequest"]["properties"]["receipt"]["anyOf"]
    post = document["paths"][VERIFY]["post"]
    reference = post["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    assert reference.endswith("/VerifyRequest")
    get = document["paths"]["/v1/timeline"]["get"]
    assert [parameter["name"] for parameter in get["parameters"]] == ["since"]
    assert "text/event-stream" in get["responses"]["200"]["content"]
    assert {"400", "403", "429", "503"} <= get["responses"].keys()
