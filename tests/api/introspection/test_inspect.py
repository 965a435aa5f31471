"""`POST /v1/inspect` over the fake engine: shapes, limits by name, whole equals streamed."""

import base64
import json
import struct
from collections.abc import AsyncGenerator
from typing import Any

import httpx
import pytest

from tests.api.support import eventually, fake_engine, live, ready_state, says
from tests.engine.process.fake_engine import FakeEngine
from thirdeye.server.api.http.api_config import ApiConfig
from thirdeye.server.api.introspection.inspect_seats import MAX_VIEWERS
from thirdeye.server.api.state.model_design import ExpertsDesign, ModelDesign
from thirdeye.server.api.state.server_state import LayerShape, ModelInfo, ServerState
from thirdeye.server.engine.interface.trace import Trace, TraceRequest, VocabularyQuery

URL = "/v1/inspect"


@pytest.fixture
def state() -> ServerState:
    return ready_state(fake_engine())


@pytest.fixture
def url(state: ServerState) -> Any:
    with live(state) as base:
        yield base + URL


def ask(url: str, **body: Any) -> httpx.Response:
    return httpx.post(url, json={"prompt": "Hi", **body}, trust_env=False, timeout=10)


def events(answer: httpx.Response) -> list[Any]:
    lines = [line[6:] for line in answer.text.splitlines() if line.startswith("data: ")]
    assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]


def test_everything_is_there_and_says_what_it_is(url: str) -> None:
    answer = ask(url, lens_positions="all", top_logprobs=2).json()
    assert answer["object"] == "inspection"
    assert answer["id"].startswith("inspect-")
    assert [(t["id"], t["token"], t["bytes"]) for t in answer["tokens"]] == [
        (72, "H", [72]),
        (105, "i", [105]),
    ]
    assert answer["dims"]["pattern"] == ["layer", "head", "query_pos", "key_pos"]
    assert answer["parameters"] == {"mlp": 8, "query": 4}
    assert (answer["num_layers"], answer["num_heads"], answer["hidden_size"]) == (3, 2, 4)
    assert [layer["layer"] for layer in answer["layers"]] == [0, 1, 2]
    layer = answer["layers"][1]
    assert layer["pattern"] == [[[1.0, 0.0], [0.5, 0.5]]] * 2
    assert layer["norms"]["resid_pre"] == [1.0, 1.0]
    assert list(layer["norms"]) == ["resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post"]
    assert layer["logit_lens"][1][1] == {"id": 1, "token": "\x01", "logprob": -1.5}
    assert [len(guesses) for guesses in answer["next_token"]] == [2, 2]
    assert answer["lens_positions"] == [0, 1]


def test_a_stream_adds_up_to_the_whole(url: str) -> None:
    whole = ask(url).json()
    start, *layers, end = events(ask(url, stream=True))
    kinds = [event.pop("object") for event in (start, *layers, end)]
    assert kinds == ["inspection.start", *["inspection.layer"] * 3, "inspection.end"]
    streamed = {"object": "inspection", **start, **end, "layers": layers}
    for name in ("id", "created"):
        del whole[name], streamed[name]
    assert streamed == whole


def test_only_what_is_asked_for_is_computed_and_told(url: str, state: ServerState) -> None:
    answer = ask(url, include=["attn_out"], layers=[2, 0, 2], top_logprobs=1).json()
    assert [sorted(layer) for layer in answer["layers"]] == [["attn_out", "layer"]] * 2
    assert [layer["layer"] for layer in answer["layers"]] == [0, 2]
    assert list(answer["dims"]) == ["attn_out"]
    (request,) = state.engine.inspections  # type: ignore[union-attr]  # it is a FakeEngine
    assert (request.arrays, request.has_lens, request.lens_positions) == (["attn_out"], False, [1])


def test_arrays_as_base64_are_float32_with_a_shape(url: str) -> None:
    """OpenAI's word for it: `encoding_format`."""
    answer = ask(url, encoding_format="base64", layers=[1]).json()
    pattern = answer["layers"][0]["pattern"]
    assert (pattern["shape"], pattern["dtype"]) == ([2, 2, 2], "float32")
    values = struct.unpack("<8f", base64.b64decode(pattern["data"]))
    assert values == (1.0, 0.0, 0.5, 0.5) * 2


def test_messages_and_token_ids_are_texts_too(url: str) -> None:
    messages = [{"role": "user", "content": "Hi"}]
    templated = ask(url, prompt=None, messages=messages).json()
    assert "".join(t["token"] for t in templated["tokens"]).endswith("<|turn|>assistant\n")
    by_ids = ask(url, prompt=[72, 105]).json()
    assert [t["id"] for t in by_ids["tokens"]] == [72, 105]


@pytest.mark.parametrize(
    ("body", "param", "says"),
    [
        ({"prompt": None}, "prompt", "prompt"),
        ({"prompt": ["a", "b"]}, "prompt", "one text, got 2"),
        ({"prompt": [260]}, "prompt[0]", "between 0 and 259"),
        ({"messages": [{"role": "user", "content": "x"}]}, "messages", "together"),
        ({"prompt": "x" * 513}, "prompt", "at most 512 tokens"),
        ({"prompt": "x" * 3_000_000}, "prompt", "got at least 375000"),
        ({"prompt": "x" * 129, "lens_positions": "all"}, "lens_positions", "use 'last'"),
        ({"layers": [3]}, "layers[0]", "between 0 and 2, got 3"),
        ({"layers": [-1]}, "layers[0]", "between 0 and 2, got -1"),
        ({"layers": ["a"]}, "layers[0]", ""),
        ({"include": ["patterns"]}, "include[0]", "pattern"),
        ({"top_logprobs": 0}, "top_logprobs", "between 1 and 20"),
        ({"heads": [2]}, "heads[0]", "between 0 and 1, got 2"),
        ({"positions": [0, 2]}, "positions[1]", "between -2 and 1, got 2"),
        ({"positions": [-3]}, "positions[0]", "between -2 and 1, got -3"),
        ({"lens_tokens": ["ab"]}, "lens_tokens[0]", "one token, got 2"),
        ({"compare": [5, 260]}, "compare[1]", "between 0 and 259"),
        ({"compare": [1, 2, 3]}, "compare", "at most 2"),
        ({"top_neurons": 51}, "top_neurons", "between 1 and 50"),
        ({"encoding_format": "float16"}, "encoding_format", "float"),
        ({"model": "other"}, None, "No such model"),
        ({"attention": True}, "attention", "Unknown"),
    ],
)
def test_refusals_name_the_field(url: str, body: dict[str, Any], param: str, says: str) -> None:
    answer = ask(url, **body)
    error = answer.json()["error"]
    assert answer.status_code == (404 if "model" in body else 400)
    assert error["param"] == param
    assert says in error["message"]


def test_bytes_are_bounded_and_the_refusal_says_what_to_leave_out(state: ServerState) -> None:
    """Patterns grow with the square of the text; a stream may be larger than a whole answer."""
    info = state.model.info  # type: ignore[union-attr]  # it is ready
    big = ready_state(fake_engine(), info=type(info)(30, 9, 3, 576, {}))
    with live(big) as base:
        url = base + URL
        refused = ask(url, prompt="x" * 100).json()["error"]
        assert (refused["param"], refused["code"]) == ("include", "request_too_large")
        assert "set 'stream': true" in refused["message"]
        refused = ask(url, prompt="x" * 200, stream=True).json()["error"]
        assert "'stream'" not in refused["message"]
        assert "fewer 'layers'" in refused["message"]
        assert ask(url, prompt="x" * 200, include=["norms"]).status_code == 200


def test_few_may_look_at_a_time_and_everything_is_given_back() -> None:
    state = ready_state(fake_engine(delay=0.3))
    with live(state) as base:
        url = base + URL
        with httpx.Client(trust_env=False) as client:
            streams = [
                client.send(client.build_request("POST", url, json=BODY), stream=True)
                for _ in range(MAX_VIEWERS)
            ]
            assert ask(url).status_code == 429
            for stream in streams:
                stream.read()
        assert ask(url).status_code == 200
        assert state.admission.in_flight == 0


@pytest.mark.parametrize("stream", [False, True])
def test_an_inspection_holds_a_permit_while_it_is_answered(stream: bool) -> None:
    """A drain waits for it like for any answer, and a full queue refuses it."""
    held: list[int] = []

    class Watched(FakeEngine):
        async def inspect(self, request: TraceRequest) -> AsyncGenerator[Trace, None]:
            async for trace in super().inspect(request):
                held.append(state.admission.in_flight)
                yield trace

    state = ready_state(Watched(says("Hi"), info=fake_engine().info))
    with live(state) as base:
        assert ask(base + URL, stream=stream).status_code == 200
        assert set(held) == {1}
        eventually(lambda: state.admission.in_flight == 0)
        state.admission.admit(10**6)  # whatever was measured before
        refused = ask(base + URL, stream=stream)
        assert refused.status_code == 429
        assert refused.json()["error"]["code"] == "rate_limit_exceeded"


BODY = {"prompt": "Hi", "stream": True}


def test_a_dead_engine_is_told() -> None:
    """Before the answer began as a status, in the middle of a stream as an error event."""
    state = ready_state(fake_engine(delay=0.1))
    with live(state) as base:
        with httpx.stream("POST", base + URL, json=BODY, trust_env=False) as answer:
            lines = answer.iter_lines()
            next(lines)
            state.engine.die()  # type: ignore[union-attr]  # it is a FakeEngine
            rest = list(lines)
        assert json.loads(rest[-4][6:])["error"]["code"] == "engine_failed"
        assert ask(base + URL).status_code == 503


def test_it_needs_the_key(state: ServerState) -> None:
    with live(state, ApiConfig(api_keys=("secret",))) as base:
        assert ask(base + URL).status_code == 401


def test_a_message_that_is_not_the_assistants_cannot_go_on(url: str) -> None:
    """The same rules, under the same names, as chat's and `/tokenize`'s."""
    turn = [{"role": "user", "content": "Hi"}]
    for more in ({}, {"add_generation_prompt": True}):
        body = {"messages": turn, "continue_final_message": True} | more
        answer = httpx.post(url, json=body, trust_env=False, timeout=10)
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == "continue_final_message"


EVERY_HEAD = ["q", "k", "v", "rot_q", "rot_k", "scores", "z", "result", "value_norms"]


def test_heads_and_positions_choose_what_is_told(url: str, state: ServerState) -> None:
    """`dims` says how each is to be read; what a query may not see is null."""
    answer = ask(url, include=[*EVERY_HEAD, "norm_stats"], layers=[1], heads=[1], positions=[-1])
    found = answer.json()
    assert (found["heads"], found["kv_heads"], found["positions"]) == ([1], [0], [1])
    (layer,) = found["layers"]
    shapes = {name: shape_of(layer[name]) for name in EVERY_HEAD}
    assert shapes == {
        **{key: [1, 1, 2] for key in ("q", "k", "v", "rot_q", "rot_k", "z")},
        "scores": [1, 1, 2],
        "result": [1, 1, 4],
        "value_norms": [1, 2],
    }
    for name, shape in shapes.items():
        assert len(found["dims"][name]) == 1 + len(shape)
    assert shape_of(layer["norm_stats"]) == [2, 1, 4]
    assert shape_of(found["norm_stats"]) == [1, 4]
    first = ask(url, include=["scores"], layers=[0], positions=[0]).json()
    assert first["layers"][0]["scores"][0] == [[1.0, None]]
    (request, _) = state.engine.inspections  # type: ignore[union-attr]  # it is a FakeEngine
    assert (request.heads, request.positions, request.has_masked_scores) == ([1], [1], False)


def shape_of(values: Any) -> list[int]:
    return [len(values), *shape_of(values[0])] if isinstance(values, list) else []


def test_tokens_are_named_by_text_or_id_and_followed(url: str) -> None:
    include = ["attribution", "lens_tokens"]
    answer = ask(url, include=include, lens_tokens=["H", 105], compare=["i"], layers=[0])
    found = answer.json()
    followed = {"id": 72, "logprob": 1.0, "rank": 1}
    assert found["layers"][0]["lens_tokens"][0] == [followed, followed | {"id": 105}]
    assert found["lens_tokens"] == [[followed, followed | {"id": 105}]]
    assert found["attribution"]["tokens"] == [{"id": 105, "token": "i", "bytes": [105]}]
    assert found["attribution"]["heads"] == [[1.0, 1.0]] * 3


def test_what_is_known_at_the_end(url: str) -> None:
    """The likeliest two are attributed where nobody names any; no surprisal of the first token."""
    found = ask(url, include=["surprisal", "attribution", "head_scores", "neurons"]).json()
    assert found["surprisal"] == {"nats": [1.0], "rank": [1], "entropy": [1.0]}
    assert [token["id"] for token in found["attribution"]["tokens"]] == [0, 1]
    assert found["attribution"]["head_rounding"] == 1.0
    assert list(found["head_scores"]["kinds"]) == ["previous_token", "duplicate_token", "induction"]
    assert found["layers"][0]["neurons"][0][0] == {"index": 1, "value": 1.0}
    assert "surprisal" not in ask(url).json()


def test_a_part_that_the_model_lacks_is_refused_with_the_reason() -> None:
    info = ModelInfo(3, 2, 1, 4, {}, untold={"rot_q": "this model does not turn"})
    with live(ready_state(fake_engine(), info=info)) as base:
        error = ask(base + URL, include=["q", "rot_q"]).json()["error"]
    assert (error["param"], error["code"]) == ("include[1]", "invalid_value")
    assert "this model does not turn" in error["message"]


def test_a_layer_without_the_point_of_an_edit_is_refused_by_number() -> None:
    """As in a model some of whose layers keep a state, and have no heads."""
    absent = {"head": frozenset({0, 2}), "mlp_out": frozenset({1})}
    info = ModelInfo(3, 2, 1, 4, {}, absent=absent)
    zero = {"at": "head", "head": 0, "set": "zero"}
    added = {"from": ["a", "b"], "layer": 2}
    refused = [
        ({"interventions": [zero | {"layer": 0}]}, "interventions[0].layer", "'head': 1, got 0."),
        (
            {"interventions": [{"at": "head", "head": 0, "layer": 1, "add": added}]},
            "interventions[0].add.layer",
            "'head': 1, got 2.",
        ),
        ({"sweep": {"over": "heads"}, "layers": [1, 2]}, "layers[1]", "'head': 1, got 2."),
        (
            {"sweep": {"over": "positions", "at": "mlp_out", "layer": 1}},
            "sweep.layer",
            "'mlp_out': 0, 2, got 1.",
        ),
    ]
    with live(ready_state(fake_engine(), info=info)) as base:
        for body, param, says in refused:
            error = ask(base + URL, **body).json()["error"]
            assert (error["param"], says in error["message"]) == (param, True), error
        assert ask(base + URL, interventions=[zero | {"layer": 1}]).status_code == 200
        for over, layers in (("heads", {1}), ("mlps", {0, 2}), ("attentions", {0, 1, 2})):
            found = ask(base + URL, sweep={"over": over}).json()["variants"]
            assert {variant["layer"] for variant in found} == layers


def test_surprisal_is_of_the_longest_text_too(url: str) -> None:
    told = ask(url, prompt="x" * 512, include=["surprisal"], layers=[0]).json()["surprisal"]
    assert len(told["nats"]) == 511


def test_heads_that_differ_by_layer_are_not_mixed() -> None:
    """As in Gemma 4: a head's numbers have no place in a layer of other heads, and there are as
    many key/value heads and neurons as that layer has."""
    shapes = (LayerShape(1, 2, 8), LayerShape(2, 4, 8), LayerShape(2, 2, 16))
    info = ModelInfo(3, 2, 1, 4, {}, shapes=shapes)
    head = {"at": "head", "head": 0, "layer": 0, "add": {"from": ["a", "b"], "layer": 1}}
    other = head | {"add": {"from": ["a", "b"], "layer": 2}}
    kv_head = {"at": "kv_head", "kv_head": 1, "layer": 2}
    from_first = kv_head | {"add": {"from": ["a", "b"], "layer": 0}}
    neuron = {"at": "neuron", "neuron": 9, "set": "zero"}
    refused = [
        ({"interventions": [head]}, "interventions[0].add.layer", "of 2 numbers, those of layer 1"),
        (
            {"interventions": [kv_head | {"layer": 0, "set": "zero"}]},
            "interventions[0].kv_head",
            "between 0 and 0, got 1",
        ),
        ({"interventions": [from_first]}, "interventions[0].add.layer", "layer 0 has 1"),
        ({"interventions": [neuron]}, "interventions[0].neuron", "between 0 and 7"),
        (
            {"interventions": [kv_head | {"layer": 1, "add": {"vector": [1.0]}}]},
            "interventions[0].add.vector",
            "8 numbers, got 1",
        ),
    ]
    with live(ready_state(fake_engine(), info=info)) as base:
        for body, param, says in refused:
            error = ask(base + URL, **body).json()["error"]
            assert (error["param"], says in error["message"]) == (param, True), error
        edits = [other, kv_head | {"set": "zero"}, neuron | {"layer": 2}]
        assert ask(base + URL, interventions=edits).status_code == 200
        told = ask(base + URL, include=["k"]).json()
        assert [layer["kv_heads"] for layer in told["layers"]] == [[0], [0, 1], [0, 1]]
        swept = ask(base + URL, sweep={"over": "kv_heads"}).json()["variants"]
        places = [(variant["layer"], variant["kv_head"]) for variant in swept]
        assert places == [(0, 0), (1, 0), (1, 1)]  # the fake knows of one a layer


def test_neighbours_of_tokens(url: str, state: ServerState) -> None:
    body = {"tokens": ["H", 256], "nearest": 2, "centered": True}
    answer = httpx.post(f"{url}/vocabulary", json=body, trust_env=False, timeout=10)
    found = answer.json()
    assert found["object"] == "inspection.vocabulary"
    assert [(t["id"], t["merge_rank"]) for t in found["tokens"]] == [(72, 72), (256, None)]
    near = {"id": 1, "token": "\x01", "bytes": [1], "cosine": 1.0}
    assert found["tokens"][0]["nearest"] == [near, near]
    assert found["cosines"] == [[1.0, 1.0], [1.0, 1.0]]
    assert (found["random_pairs"], found["centered"]) == ({"mean": 1.0, "std": 1.0}, True)
    (request,) = state.engine.inspections  # type: ignore[union-attr]  # it is a FakeEngine
    assert request.vocabulary == VocabularyQuery(tokens=[72, 256], num_nearest=2, is_centred=True)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "tokens"),
        ({"tokens": []}, "tokens"),
        ({"tokens": ["ab"]}, "tokens[0]"),
        ({"tokens": [1] * 9}, "tokens"),
        ({"tokens": [1], "nearest": 51}, "nearest"),
        ({"tokens": [1], "text": "x"}, "text"),
    ],
)
def test_refusals_of_the_vocabulary(url: str, body: dict[str, Any], param: str) -> None:
    answer = httpx.post(f"{url}/vocabulary", json=body, trust_env=False, timeout=10)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


def test_the_design_is_told_and_experts_are_chosen_by_a_router(state: ServerState) -> None:
    """Only a model with experts has a routing to tell."""
    experts = ExpertsDesign(num_experts=4, num_chosen=1, has_shared=False, layers=[0, 1, 2])
    design = ModelDesign(norm="rms_norm", positions="rotary", experts=experts)
    info = ModelInfo(3, 2, 1, 4, {}, design=design)
    with live(ready_state(fake_engine(), info=info)) as base:
        answer = ask(base + URL, include=["routing"], layers=[1], positions=[-1]).json()
    assert answer["design"]["positions"] == "rotary"
    assert answer["design"]["experts"]["num_experts"] == 4
    assert answer["dims"] == {"routing": ["layer", "pos", "rank"]}
    assert answer["layers"] == [{"layer": 1, "routing": [[{"index": 1, "weight": 1.0}]]}]
