"""`response_format` and `structured_outputs`: what reaches the engine, and what is refused."""

import asyncio
import errno
import json
import threading
from typing import Any
from unittest import mock

import pytest

from tests.api.http.test_errors import ask, check_envelope
from tests.api.receipts.test_verify import receipt_of, verify
from tests.api.support import CHAT, COMPLETION, fake_engine, ready_state
from thirdeye.server.api.requests.response_formats import Constraint, Kind
from thirdeye.server.api.state.grammar_cache import MAX_WAITING, Grammars
from thirdeye.server.api.state.metrics import Metrics
from thirdeye.server.errors import InvalidRequest, ServerOverloaded, ServiceUnavailable
from thirdeye.server.text.constraints import constraint as grammar
from thirdeye.server.text.constraints.trials.trial_processes import TrialProcesses

CHAT_URL, TEXT_URL = "/v1/chat/completions", "/v1/completions"
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
ROUTES = [(CHAT_URL, CHAT), (TEXT_URL, COMPLETION)]


def named(schema: object = SCHEMA, **fields: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "n", "schema": schema} | fields}


def grammar_of(path: str, body: dict[str, Any]) -> str:
    """The grammar that the engine is given for a request."""
    engine = fake_engine()
    answer = ask(path, body, state=ready_state(engine))
    assert answer.status_code == 200, answer.text
    (made,) = {request.grammar for request in engine.requests}
    return made


CLOSED = grammar.json_schema(SCHEMA, is_closed=True)
WANTED: list[tuple[dict[str, Any], str]] = [
    ({"response_format": {"type": "text"}}, ""),
    ({"response_format": None, "structured_outputs": None}, ""),
    ({"response_format": {"type": "json_object"}}, grammar.json_object()),
    ({"response_format": named()}, CLOSED),
    ({"response_format": named(strict=True, description="d")}, CLOSED),
    ({"response_format": named(None, strict=None)}, grammar.json_object()),
    ({"response_format": named(name=None)}, CLOSED),
    ({"response_format": {"type": "json_schema", "schema": SCHEMA}}, CLOSED),
    ({"response_format": {"type": "json_object", "schema": SCHEMA}}, CLOSED),
    ({"structured_outputs": {"json": SCHEMA}}, CLOSED),
    ({"structured_outputs": {"json": json.dumps(SCHEMA)}}, CLOSED),
    ({"structured_outputs": {"json_object": True}}, grammar.json_object()),
    ({"structured_outputs": {"regex": "a+", "choice": None}}, grammar.regex("a+")),
    ({"structured_outputs": {"choice": ["a", "b"]}}, grammar.choice(["a", "b"])),
    ({"structured_outputs": {"grammar": 'start: "a"'}}, grammar.lark('start: "a"')),
    ({"allowed_token_ids": [65, 257]}, grammar.of_tokens([65, 257])),
    ({"allowed_token_ids": [65], "ignore_eos": True}, grammar.of_tokens([65])),
    (
        {"response_format": {"type": "text"}, "structured_outputs": {"regex": "a"}},
        grammar.regex("a"),
    ),
]


@pytest.mark.parametrize(("path", "good"), ROUTES)
@pytest.mark.parametrize(("fields", "made"), WANTED)
def test_the_engine_is_given_the_grammar(
    path: str, good: dict[str, Any], fields: dict[str, Any], made: str
) -> None:
    """On both routes, and for every choice of a request."""
    assert grammar_of(path, good | {"n": 2} | fields) == made


def text_format(**fields: Any) -> dict[str, Any]:
    return {"response_format": fields}


def outputs(**fields: Any) -> dict[str, Any]:
    return {"structured_outputs": fields}


BAD_FORMAT, BAD_OUTPUTS = "response_format", "structured_outputs"
BAD: list[tuple[dict[str, Any], str, str, str]] = [
    ({"response_format": "json"}, BAD_FORMAT, "invalid_type", "must be an object, got string."),
    (text_format(strict=True), f"{BAD_FORMAT}.type", "missing_required_parameter", "is required."),
    (text_format(type=5), f"{BAD_FORMAT}.type", "invalid_value", "'text', 'json_object' or"),
    (text_format(type="text", a=1), f"{BAD_FORMAT}.a", "unknown_parameter", "not a known field"),
    (
        text_format(type="json_object", json_schema={}),
        f"{BAD_FORMAT}.json_schema",
        "unknown_parameter",
        "not a known field",
    ),
    (
        text_format(type="json_schema"),
        f"{BAD_FORMAT}.json_schema",
        "missing_required_parameter",
        "is required.",
    ),
    (
        text_format(type="structural_tag", structures=[]),
        f"{BAD_FORMAT}.type",
        "unsupported_value",
        "is not supported here: use 'tools', or 'structured_outputs' with a grammar.",
    ),
    (
        text_format(type="json_object", schema=[]),
        f"{BAD_FORMAT}.schema",
        "invalid_type",
        "must be an object, got array.",
    ),
    (
        text_format(type="json_object", schema={"not": {}}),
        f"{BAD_FORMAT}.schema",
        "invalid_schema",
        "at $.not",
    ),
    (
        text_format(**named(name="a b")),
        f"{BAD_FORMAT}.json_schema.name",
        "invalid_value",
        "must be 1 to 64 letters",
    ),
    (
        text_format(**named(strict="yes")),
        f"{BAD_FORMAT}.json_schema.strict",
        "invalid_type",
        "must be a boolean, got string.",
    ),
    (
        text_format(**named([])),
        f"{BAD_FORMAT}.json_schema.schema",
        "invalid_type",
        "must be an object, got array.",
    ),
    (
        text_format(**named({"description": "x" * 70_000})),
        f"{BAD_FORMAT}.json_schema.schema",
        "invalid_schema",
        "must be at most 65536 bytes long, got 70",
    ),
    (
        text_format(**named({"properties": {"age": {"not": {"type": "null"}}}})),
        f"{BAD_FORMAT}.json_schema.schema",
        "invalid_schema",
        "at $.properties.age.not is not a keyword that can be followed.",
    ),
    (outputs(regex="a", choice=["a"]), BAD_OUTPUTS, "invalid_value", "exactly one"),
    (outputs(regexp="a"), f"{BAD_OUTPUTS}.regexp", "unknown_parameter", "not a known field"),
    (outputs(json_object=1), f"{BAD_OUTPUTS}.json_object", "invalid_type", "a boolean"),
    (outputs(json="{"), f"{BAD_OUTPUTS}.json", "invalid_schema", "not the JSON text"),
    (outputs(json=3), f"{BAD_OUTPUTS}.json", "invalid_type", "must be an object, got integer."),
    (outputs(regex="(?=a)b"), f"{BAD_OUTPUTS}.regex", "invalid_schema", "must have no look"),
    (outputs(regex="a" * 4097), f"{BAD_OUTPUTS}.regex", "invalid_schema", "at most 4096 bytes"),
    (outputs(choice=["a", ""]), f"{BAD_OUTPUTS}.choice[1]", "invalid_schema", "no empty string"),
    (outputs(choice=["a", 1]), f"{BAD_OUTPUTS}.choice[1]", "invalid_type", "a string, got integer"),
    (
        outputs(grammar="start: missing"),
        f"{BAD_OUTPUTS}.grammar",
        "invalid_schema",
        "cannot be compiled.",
    ),
    (
        outputs(regex="a") | {"response_format": {"type": "json_object"}},
        BAD_OUTPUTS,
        "invalid_value",
        "cannot go with 'response_format'",
    ),
    (outputs(regex="a") | {"ignore_eos": True}, "ignore_eos", "invalid_value", "'structured_out"),
    (
        text_format(type="json_object") | {"ignore_eos": True},
        "ignore_eos",
        "invalid_value",
        "cannot go with 'response_format'",
    ),
]


@pytest.mark.parametrize(("path", "good"), ROUTES)
@pytest.mark.parametrize(("fields", "param", "code", "says"), BAD)
def test_what_cannot_be_followed_is_refused_by_name(
    path: str, good: dict[str, Any], fields: dict[str, Any], param: str, code: str, says: str
) -> None:
    engine = fake_engine()
    answer = ask(path, good | fields, state=ready_state(engine))
    error = check_envelope(answer)
    assert answer.status_code == 400
    assert (error["param"], error["code"]) == (param, code)
    assert says in error["message"]
    assert engine.requests == []


def test_text_with_ignore_eos_asks_for_nothing() -> None:
    """Benchmark tools send both."""
    assert grammar_of(TEXT_URL, COMPLETION | text_format(type="text") | {"ignore_eos": True}) == ""


class Observed:
    """The metrics, as a list."""

    def __init__(self) -> None:
        self.compiled: list[bool] = []

    def grammar_compiled(self, seconds: float, is_too_slow: bool) -> None:
        self.compiled.append(is_too_slow)


def test_equal_requests_compile_once() -> None:
    async def main() -> None:
        observed = Observed()
        grammars = Grammars(observed)
        constraint = Constraint(Kind.JSON_SCHEMA, json.dumps(SCHEMA))
        first = await grammars.of("response_format", constraint, "me")
        assert await grammars.of("response_format", constraint, "me") == first
        assert await grammars.of("x", Constraint(Kind.REGEX, "a"), "me") == grammar.regex("a")
        assert observed.compiled == [False, False]

    asyncio.run(main())


def test_nobody_learns_what_another_compiled() -> None:
    """By the time it takes: what is remembered is one caller's own."""

    async def main() -> None:
        observed = Observed()
        grammars = Grammars(observed)
        constraint = Constraint(Kind.REGEX, "a")
        for _ in range(2):
            for caller in ("one", "other"):
                await grammars.of("structured_outputs", constraint, caller)
        assert len(observed.compiled) == 2

    asyncio.run(main())


def test_what_takes_too_long_is_refused_and_counted() -> None:
    async def main() -> None:
        observed = Observed()
        grammars = Grammars(observed, max_seconds=0)
        with pytest.raises(
            InvalidRequest, match=r"'structured_outputs\.regex' takes more than 0 ms"
        ):
            await grammars.of("structured_outputs", Constraint(Kind.REGEX, "a", ".regex"), "me")
        assert observed.compiled == [True]

    asyncio.run(main())


@pytest.mark.parametrize("kind", [Kind.REGEX, Kind.JSON_SCHEMA, Kind.LARK])
@pytest.mark.parametrize("number", [errno.EMFILE, errno.EAGAIN, errno.ENOMEM])
def test_a_machine_without_room_for_a_process_is_told_so(kind: Kind, number: int) -> None:
    """No descriptor, no process, no memory for one: come back, and nobody else is held up."""
    processes = TrialProcesses()

    async def main() -> None:
        with mock.patch.object(processes, "_start", side_effect=OSError(number, "none")):
            grammars = Grammars(Observed(), processes=processes)
            with pytest.raises(ServiceUnavailable, match="cannot start a process") as refused:
                await grammars.of("structured_outputs", Constraint(kind, '{"type": "null"}'), "me")
        assert refused.value.headers["Retry-After"] == "5"

    asyncio.run(main())


def test_a_caller_has_so_many_that_wait_and_no_more() -> None:
    """They hold their bodies and are in no other count. Others' are compiled, and all end."""

    async def main() -> None:
        grammars, gate = Grammars(Observed()), threading.Event()

        async def ask(number: int, caller: str) -> str:
            return await grammars.compile(
                lambda: gate.wait(60) and "made", key=str(number), param="x", caller=caller
            )

        asks = [asyncio.ensure_future(ask(n, "me")) for n in range(MAX_WAITING)]
        await asyncio.sleep(0)
        with pytest.raises(ServerOverloaded, match="64 grammars of this caller's") as refused:
            await ask(-1, "me")
        assert int(refused.value.headers["Retry-After"]) >= 1
        other = asyncio.ensure_future(ask(0, "another"))
        asks.pop().cancel()  # who leaves makes room
        await asyncio.sleep(0)
        again = asyncio.ensure_future(ask(-2, "me"))
        await asyncio.sleep(0)
        gate.set()
        assert set(await asyncio.gather(*asks, other, again)) == {"made"}
        assert not grammars._waiting

    asyncio.run(main())


def test_compilations_are_metrics() -> None:
    state = ready_state(fake_engine())
    metrics = Metrics(state)
    metrics.grammar_compiled(0.1, False)
    metrics.grammar_compiled(0.7, True)
    page = metrics.scrape()[0].decode()
    assert 'thirdeye_grammar_compile_seconds_count{model_name="tiny"} 2.0' in page
    assert 'thirdeye_grammar_timeouts_total{model_name="tiny"} 1.0' in page


def test_a_receipt_brings_its_grammar_back() -> None:
    """A replay without it would be another answer; a broken one is refused, not run."""
    receipt = receipt_of(structured_outputs={"regex": "[a-z]+"})
    assert receipt["parameters"]["grammar"] == grammar.regex("[a-z]+")
    assert verify(receipt)["verdict"] == "equal"
    assert receipt_of()["parameters"]["grammar"] == ""


TOOL = {"type": "function", "function": {"name": "f", "strict": True, "parameters": SCHEMA}}
DEAR: list[tuple[str, dict[str, Any]]] = [
    (CHAT_URL, {"response_format": named()}),
    (CHAT_URL, {"tools": [TOOL], "tool_choice": "required"}),
    (CHAT_URL, {"structured_outputs": {"regex": "a+"}, "max_completion_tokens": 5}),
    (TEXT_URL, {"structured_outputs": {"json": SCHEMA}}),
]


@pytest.mark.parametrize("num_bytes", [505, 600, 100_000])
@pytest.mark.parametrize(("path", "fields"), DEAR, ids=str)
def test_what_cannot_fit_is_refused_before_anything_is_compiled(
    path: str, fields: dict[str, Any], num_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A schema may take 2 s of a processor, for a request that cannot be answered. The first of
    these fits without the template's marks, and is short of one token with them."""
    monkeypatch.setattr(Grammars, "compile", mock.Mock(side_effect=AssertionError("compiled")))
    text = "x" * (512 if num_bytes < 512 and path == TEXT_URL else num_bytes)
    asked = (
        {"prompt": text} if path == TEXT_URL else {"messages": [{"role": "user", "content": text}]}
    )
    answer = ask(path, {"model": "tiny", **asked, **fields})
    assert answer.status_code == 400
    assert check_envelope(answer)["code"] == "context_length_exceeded"
