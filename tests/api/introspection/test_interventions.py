"""Interventions over the fake engine: what the engine is asked, what is refused, what is told."""

from typing import Any

import httpx
import pytest

from tests.api.support import eventually, fake_engine, live, ready_state
from thirdeye.server.api.http.api_config import ApiConfig
from thirdeye.server.api.introspection.inspect_seats import MAX_VIEWERS
from thirdeye.server.api.state.server_state import ServerState
from thirdeye.server.engine.interface.interventions import EditSpec
from thirdeye.server.engine.interface.trace import TraceRequest

URL = "/v1/inspect"
ZERO = {"at": "head", "layer": 1, "head": 1, "set": "zero"}


@pytest.fixture
def state() -> ServerState:
    return ready_state(fake_engine())


@pytest.fixture
def url(state: ServerState) -> Any:
    with live(state) as base:
        yield base + URL


def ask(url: str, **body: Any) -> httpx.Response:
    return httpx.post(url, json={"prompt": "Hi you", **body}, trust_env=False, timeout=10)


def asked(state: ServerState) -> TraceRequest:
    found: TraceRequest = state.engine.inspections[-1]  # type: ignore[union-attr]  # a FakeEngine
    return found


def edits(
    url: str, state: ServerState, *interventions: dict[str, Any], **more: Any
) -> list[EditSpec]:
    answer = ask(url, interventions=[*interventions], **more)
    assert answer.status_code == 200, answer.text
    return asked(state).edits


def test_interventions_reach_the_engine_as_plain_data(url: str, state: ServerState) -> None:
    found = edits(
        url,
        state,
        ZERO,
        {"at": "mlp_out", "layer": 2, "positions": [-1, 0], "scale": 0.5},
        {"at": "attn_out", "set": "mean"},
        {"at": "pattern", "head": 0, "set": "previous"},
        {"at": "neuron", "neuron": 3, "set": "zero"},
    )
    assert found == [
        EditSpec(at="head", change="zero", layer=1, index=1),
        EditSpec(at="mlp_out", change="scale", layer=2, positions=[5, 0], factor=0.5),
        EditSpec(at="attn_out", change="mean", texts=[0]),
        EditSpec(at="pattern", change="previous"),
        EditSpec(at="neuron", change="zero", index=3),
    ]
    assert (asked(state).num_noise, asked(state).num_continued) == (8, 0)


def test_texts_are_tokenized_and_numbered(url: str, state: ServerState) -> None:
    """The source first, then those of means, then those of directions."""
    found = edits(
        url,
        state,
        {
            "at": "resid_pre",
            "layer": 1,
            "set": "source",
            "positions": [4],
            "source_positions": [-1],
        },
        {"at": "attn_out", "set": "mean"},
        {
            "at": "resid_pre",
            "add": {"from": ["girl", "boy"], "layer": 2},
            "times": 2,
            "match_norm": True,
        },
        {"at": "mlp_out", "add": {"tokens": ["a", 98]}},
        {"at": "mlp_out", "add": {"vector": [1, 2, 3, 4.5]}},
        {"at": "neuron", "neuron": 1, "add": {"vector": [2]}},
        {"at": "pattern", "head": 1, "add": {"vector": [0.5, 0, 0, 0, 0, -0.5]}},
        {"at": "pattern", "head": 1, "add": {"from": ["He you", "Hi me."], "layer": 2}},
        {"at": "pattern", "head": 1, "add": {"from": ["He you", "Hi me."], "position": 4}},
        source="he",
        mean_of=["one", "two"],
        **{"continue": 3, "noise": 2, "compare": ["a", "b"]},
    )
    assert asked(state).texts == [
        [*word.encode()]
        for word in (*("he", "one", "two", "girl", "boy", "He you", "Hi me.", "He you", "Hi me."),)
    ]
    assert found == [
        EditSpec(
            at="resid_pre", change="source", layer=1, positions=[4], texts=[1], from_positions=[1]
        ),
        EditSpec(at="attn_out", change="mean", texts=[2, 3]),
        EditSpec(
            at="resid_pre", change="add", texts=[4, 5], from_positions=[3, 2], from_layer=2,
            factor=2.0, matches_norm=True,
        ),
        EditSpec(at="mlp_out", change="add", tokens=[97, 98]),
        EditSpec(at="mlp_out", change="add", vector=[1, 2, 3, 4.5]),
        EditSpec(at="neuron", change="add", index=1, vector=[2]),
        EditSpec(at="pattern", change="add", index=1, vector=[0.5, 0, 0, 0, 0, -0.5]),
        EditSpec(at="pattern", change="add", index=1, texts=[6, 7], from_layer=2),
        EditSpec(at="pattern", change="add", index=1, texts=[8, 9], from_positions=[4, 4]),
    ]  # fmt: skip
    request = asked(state)
    assert (request.num_noise, request.num_continued, request.compare) == (2, 3, [97, 98])


def test_what_came_of_it_is_told(url: str) -> None:
    found = ask(url, interventions=[ZERO], **{"continue": 2}).json()
    same = {"kl": 1.0, "logit_difference": 1.0, "logprobs": [1.0, 1.0], "ranks": [1, 1]}
    assert found["base"] == found["changed"] == same
    assert [token["id"] for token in found["compare"]] == [0, 1]
    assert found["noise"] == {
        "runs": 1, "kl_median": 1.0, "kl_max": 1.0, "logit_difference_sd": 1.0
    }  # fmt: skip
    assert found["base_next_token"][0][0]["id"] == 0
    assert [token["id"] for token in found["continued"]["changed"]] == [2, 2]
    assert len(found["layers"]) == 3
    assert "base" not in ask(url).json()


def test_a_sweep_tells_a_row_a_variant(url: str, state: ServerState) -> None:
    """As they are done; in one piece all of them. No layer is told."""
    sweep = {"over": "heads", "set": "mean"}
    found = ask(url, sweep=sweep, layers=[0, 2]).json()
    assert found["layers"] == []
    places = [(variant["layer"], variant["head"]) for variant in found["variants"]]
    assert places == [(0, 0), (0, 1), (2, 0), (2, 1)]
    assert found["variants"][0]["is_above_noise"] is False  # 1.0 is no more than the noise's
    assert "recovered" not in found["variants"][0]
    assert asked(state).arrays == []
    with httpx.stream(
        "POST", url, json={"prompt": "Hi", "sweep": sweep, "stream": True}, trust_env=False
    ) as answer:
        kinds = [line for line in answer.iter_lines() if "inspection." in line]
    assert ['"inspection.sweep"' in line for line in kinds] == [False, True, True, True, False]


def test_a_grid_of_patches_says_how_much_was_recovered(url: str, state: ServerState) -> None:
    sweep = {"over": "layers_positions", "set": "source", "at": "attn_out"}
    found = ask(url, sweep=sweep, source="He you", positions=[1, 3], layers=[1]).json()
    assert [(v["layer"], v["position"]) for v in found["variants"]] == [(1, 1), (1, 3)]
    assert found["variants"][0]["recovered"] is None  # both ends are the same in the fake
    spec = asked(state).sweep
    assert spec is not None
    assert (spec.edit.at, spec.edit.change, spec.edit.texts) == ("attn_out", "source", [1])


def one(**fields: Any) -> dict[str, Any]:
    """A body with this intervention alone: of `head` 1 in layer 1, zero, unless told otherwise."""
    return {"interventions": [ZERO | fields]}


def bare(at: str, **fields: Any) -> dict[str, Any]:
    return {"interventions": [{"at": at, **fields}]}


HEADS = {"over": "heads"}
# Of the first intervention where the field begins with a dot.
REFUSED: list[tuple[dict[str, Any], str, str]] = [
    (bare("head", set="zero"), ".head", "needed"),
    (one(head=2), ".head", "between 0 and 1, got 2"),
    (one(layer=3), ".layer", "between 0 and 2, got 3"),
    (one(neuron=1), ".neuron", "not for 'at': 'head'"),
    (one(scale=1), "", "one of 'set', 'scale'"),
    (one(set=None), "", "one of 'set', 'scale'"),
    (one(positions=[6]), ".positions[0]", "got 6"),
    (one(positions=[5, -1]), ".positions", "once"),
    (one(set="source"), ".set", "the field 'source'"),
    (one(set="source") | {"source": "He"}, "source", "6 tokens, got 2"),
    (one() | {"source": "He"}, "source", "by no intervention"),
    (one() | {"mean_of": ["He"]}, "mean_of", "by no intervention"),
    (one(set="source", source_positions=[0]) | {"source": "He"}, ".source_positions", "as many"),
    (one(set="identity"), ".set", "'at': 'pattern'"),
    (one(at="pattern", set="mean") | {"mean_of": ["He"]}, "mean_of", "6 tokens, for a pattern's"),
    (bare("pattern", head=0, add={"from": ["six six", "sixsix"]}), ".add.from", "6 tokens"),
    (bare("pattern", head=0, add={"tokens": ["a", "b"]}), ".add.tokens", "'from' or 'vector'"),
    (bare("pattern", head=0, add={"vector": [1.0]}), ".add.vector", "6 numbers, got 1"),
    (one(times=2), ".times", "needs 'add'"),
    (bare("kv_head", kv_head=1, set="zero"), ".kv_head", "between 0 and 0"),
    (bare("neuron", neuron=9, set="zero"), ".neuron", "between 0 and 7"),
    (bare("mlp_out", add={}), ".add", "one of 'from'"),
    (bare("mlp_out", add={"vector": [1]}), ".add.vector", "4 numbers, got 1"),
    (bare("head", head=0, add={"tokens": [1, 2]}), ".add.tokens", "use 'from'"),
    (bare("mlp_out", scale=11), ".scale", "10"),
    ({"interventions": [ZERO] * 17}, "interventions", "at most 16"),
    (bare("code", set="zero"), ".at", "embed"),
    (bare("embed", set="zero") | {"include": ["attribution"]}, "include[0]", "'embed'"),
    ({"noise": 4}, "noise", "needs 'interventions' or 'sweep'"),
    ({"continue": 4}, "continue", "needs 'interventions' or 'sweep'"),
    ({"source": "x"}, "source", "needs 'interventions' or 'sweep'"),
    (one() | {"continue": 33}, "continue", "at most 32, got 33"),
    (one() | {"noise": 1}, "noise", "between 2 and 32"),
    (one() | {"sweep": HEADS}, "sweep", "cannot go with"),
    ({"sweep": HEADS, "include": ["norms"]}, "include", "cannot go with 'sweep'"),
    ({"sweep": HEADS, "continue": 2}, "continue", "cannot go with 'sweep'"),
    ({"sweep": HEADS | {"at": "resid_pre"}}, "sweep.at", "not for 'over': 'heads'"),
    ({"sweep": HEADS | {"set": "source"}}, "sweep.set", "the field 'source'"),
    ({"sweep": {"over": "positions", "layer": 3}}, "sweep.layer", "between 0 and 2"),
    ({"sweep": {"over": "positions"}, "layers": [0]}, "layers", "name 'sweep.layer'"),
    ({"sweep": HEADS, "prompt": "x" * 65}, "sweep", "at most 64 tokens, got 65"),
]


@pytest.mark.parametrize(("body", "param", "says"), REFUSED)
def test_refusals_name_the_field(url: str, body: dict[str, Any], param: str, says: str) -> None:
    answer = ask(url, **body)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    param = f"interventions[0]{param}" if param[:1] in ("", ".") else param
    assert (error["param"], says in error["message"]) == (param, True), error["message"]


def test_what_asks_for_nothing_goes_with_a_sweep(url: str) -> None:
    answer = ask(url, sweep=HEADS, include=[], masked_scores=False)
    assert answer.status_code == 200, answer.text
    assert answer.json()["variants"]


def test_the_cost_of_a_sweep_is_bounded() -> None:
    """Tokens of all variants times the layers that each goes through."""
    state = ready_state(fake_engine())
    assert state.model is not None
    info = type(state.model.info)(60, 40, 8, 4, {}, head_dim=2, num_neurons=8)
    with live(ready_state(fake_engine(), info=info)) as base:
        error = ask(base + URL, sweep={"over": "heads"}, prompt="x" * 20).json()["error"]
        assert (error["param"], error["code"]) == ("sweep", "request_too_large")
        assert "1,464,000 tokens through a layer" in error["message"]


def test_many_texts_are_bounded_together() -> None:
    """Each may be 512 tokens long: what is computed, and what is kept of them, are products."""
    info = type(ready_state(fake_engine()).model.info)(60, 8, 4, 8192, {}, head_dim=2)  # type: ignore[union-attr]  # it is ready
    long, mean = "x" * 512, {"at": "mlp_out", "set": "mean"}
    with live(ready_state(fake_engine(), info=info, max_model_len=1024)) as base:
        error = ask(base + URL, **one(), prompt=long, noise=32, include=[]).json()["error"]
        assert (error["param"], error["code"]) == ("interventions", "request_too_large")
        assert "1,044,480 tokens through a layer" in error["message"]
        body: dict[str, Any] = {"mean_of": [long] * 8, "noise": 2, "include": []}
        several = {"interventions": [mean | {"layer": layer} for layer in range(2)]}
        error = ask(base + URL, **body, **several).json()["error"]
        assert (error["param"], error["code"]) == ("interventions", "request_too_large")
        assert "268,435,456 bytes of numbers" in error["message"]
        assert ask(base + URL, **body, interventions=[mean, mean]).status_code == 200


@pytest.mark.parametrize(
    ("level", "statuses"),
    [("intervene", [200, 200, 200]), ("read", [200, 403, 200]), ("off", [403] * 3)],
)
def test_the_operator_says_how_far(level: str, statuses: list[int]) -> None:
    with live(ready_state(fake_engine()), ApiConfig(inspect=level)) as base:
        url = base + URL
        answers = [ask(url), ask(url, interventions=[ZERO])]
        body = {"tokens": ["a"]}
        answers.append(httpx.post(f"{url}/vocabulary", json=body, trust_env=False, timeout=10))
        assert [answer.status_code for answer in answers] == statuses
        for answer in answers:
            if answer.status_code == 403:
                assert answer.json()["error"]["code"] == "inspect_off"
                assert f"'--inspect {level}'" in answer.json()["error"]["message"]


def test_who_leaves_a_sweep_gives_the_place_back() -> None:
    """In the middle of it: nobody else waits for what nobody reads."""
    state = ready_state(fake_engine(delay=0.2))
    body = {"prompt": "Hi", "sweep": HEADS, "stream": True}
    with live(state) as base:
        for _ in range(MAX_VIEWERS + 1):
            with httpx.stream("POST", base + URL, json=body, trust_env=False) as answer:
                assert answer.status_code == 200
                next(answer.iter_lines())
            eventually(lambda: state.admission.in_flight == 0)
        assert ask(base + URL, include=["norms"], layers=[0]).status_code == 200
