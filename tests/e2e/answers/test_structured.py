"""Structured output from settings to text: a real transformer, its own tokenizer, the whole server.

The model is random and would write noise, so whatever form its answers have is the grammar's doing.
"""

import json
import re
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal

import httpx
import jsonschema
import openai
import pydantic
import pytest

from tests.draws import also_at_night, count
from tests.e2e.live import LiveServer
from tests.engine.toy import drain, tokens_of
from tests.oracles.schemas import random_schema
from tests.tiny import tiny_llama
from thirdeye.server.engine.core.engine_core import EngineCore
from thirdeye.server.engine.grammar.llguidance_matcher import LLGuidanceCompiler
from thirdeye.server.engine.interface.types import FinishReason, Request, SamplingParams
from thirdeye.server.launch.opened_model import open_model
from thirdeye.server.launch.start_engine import write_recipe
from thirdeye.server.load import load_engine as worker
from thirdeye.server.load.engine_recipe import EngineRecipe
from thirdeye.server.load.load_engine import load_engine, load_guidance, load_tokenizer
from thirdeye.server.settings.read_settings import read_settings
from thirdeye.server.text.constraints import constraint as grammar
from thirdeye.weights.checkpoint import open_checkpoint
from thirdeye.weights.errors import ModelFormatError

NUM_SCHEMAS = count(40, 100)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("tiny-llama")
    tiny_llama(found)
    return found


def load(path: Path, **settings: Any) -> EngineCore:
    """The engine that `thirdeye serve` would start with these settings."""
    return load_engine(recipe_of(path, **settings), lambda *_: None)[0]


def recipe_of(path: Path, **settings: Any) -> EngineRecipe:
    chosen = read_settings({"model": str(path), "device": "cpu", "threads": 1, **settings})
    return write_recipe(chosen, open_model(chosen.checkpoint))


def test_the_vocabulary_is_read_for_the_first_who_needs_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And once, also where the engine has time to prepare it afterwards."""
    made: list[LLGuidanceCompiler] = []

    def count(*args: Any) -> LLGuidanceCompiler:
        made.append(load_guidance(*args))
        return made[-1]

    monkeypatch.setattr(worker, "load_guidance", count)
    core = load(path)
    assert not made
    assert not core.preparation.is_over
    woken: SimpleQueue[None] = SimpleQueue()
    core.call_when_ready(lambda: woken.put(None))
    core.add(requests_for(0)[0])
    woken.get(timeout=60)
    assert drain(core)
    core.add(requests_for(1)[0])
    woken.get(timeout=60)
    assert drain(core)
    while not core.preparation.is_over:
        core.preparation.make_next()
    assert len(made) == 1


def test_another_vocabulary_is_not_taken_for_the_one_that_is_served(path: Path) -> None:
    recipe = recipe_of(path)
    with pytest.raises(ModelFormatError, match="has changed since it was loaded"):
        load_tokenizer(recipe, "another")


def requests_for(seed: int) -> list[Request]:
    """A greedy answer that likes to copy itself, so that drafts are made, and n=2 drawn ones."""
    serialized = grammar.json_schema(random_schema(seed))
    samplings = [
        SamplingParams(max_tokens=70, temperature=0.0, frequency_penalty=-0.5),
        SamplingParams(max_tokens=70, seed=seed),
        SamplingParams(max_tokens=70, seed=seed + 1),
    ]
    return [
        Request(
            request_id=f"{seed} {j}",
            prompt_token_ids=[10 + seed, 20, 30],
            sampling=sampling,
            grammar=serialized,
        )
        for j, sampling in enumerate(samplings)
    ]


@also_at_night
def test_every_finished_answer_validates(path: Path) -> None:
    """Many schemas, greedy and drawn, with drafts, while sequences are preempted."""
    tight = {"kv_memory": 0.0001, "max_model_len": 112, "queue_timeout": 0, "request_timeout": 0}
    core = load(path, max_num_seqs=8, max_tokens_with_drafts=64, **tight)
    tokenizer = open_checkpoint(path).tokenizer()
    compiled: SimpleQueue[None] = SimpleQueue()
    core.call_when_ready(lambda: compiled.put(None))
    requests = [r for seed in range(NUM_SCHEMAS) for r in requests_for(seed)]
    for request in requests:
        core.add(request)
    for _ in requests:
        compiled.get(timeout=60)
    outputs = drain(core)
    num_finished = 0
    for name, of_one in outputs.items():
        assert of_one[-1].finish_reason in (FinishReason.STOP, FinishReason.LENGTH), of_one[-1]
        if of_one[-1].finish_reason is FinishReason.STOP:
            num_finished += 1
            raw = b"".join(
                tokenizer.token_bytes(i)
                for i in tokens_of(of_one)
                if i not in tokenizer.eos_token_ids
            )
            jsonschema.validate(json.loads(raw.decode()), random_schema(int(name.split()[0])))
    stats = core.stats()
    assert num_finished > 2 * NUM_SCHEMAS
    assert stats.preemptions_total > 0
    assert stats.spec_decode_num_accepted_tokens_total > NUM_SCHEMAS


FIELDS: dict[str, dict[str, Any]] = {
    "schema": {
        "response_format": {
            "type": "json_schema",
            "json_schema": {
                "name": "thing",
                "schema": {
                    "type": "object",
                    "properties": {
                        "ok": {"type": "boolean"},
                        "tags": {"type": "array", "items": {"enum": ["a", "é"]}, "maxItems": 3},
                    },
                    "required": ["ok", "tags"],
                    "additionalProperties": False,
                },
            },
        }
    },
    "regex": {"structured_outputs": {"regex": "[a-z]{3,9}( [a-z]{2,4})?!"}},
    "choice": {"structured_outputs": {"choice": ["yes", "no", "I don't know"]}},
    "lark": {"structured_outputs": {"grammar": 'start: "(" start ")" | /[0-9]{1,3}/'}},
}


def is_right(name: str, text: str) -> bool:
    if name == "schema":
        wanted = FIELDS["schema"]["response_format"]["json_schema"]["schema"]
        jsonschema.validate(json.loads(text), wanted)
        return True
    if name == "choice":
        return text in FIELDS["choice"]["structured_outputs"]["choice"]
    if name == "regex":
        return bool(re.fullmatch(FIELDS["regex"]["structured_outputs"]["regex"], text))
    found = re.fullmatch(r"(\(*)[0-9]{1,3}(\)*)", text)
    return bool(found) and len(found[1]) == len(found[2])


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("name", FIELDS)
def test_streamed_equals_whole(tiny_server: LiveServer, name: str, temperature: float) -> None:
    """Both choices of n=2, with their logprobs, over HTTP; and each is what was asked for."""
    with httpx.Client(base_url=tiny_server.url, timeout=60) as client:
        body = FIELDS[name] | {
            "model": "tiny",
            "messages": [{"role": "user", "content": "Say something."}],
            "temperature": temperature,
            "max_tokens": 60,
            "seed": 3,
            "n": 2,
            "logprobs": True,
        }
        whole = client.post("/v1/chat/completions", json=body).json()
        streamed: list[dict[str, Any]] = [{"text": "", "tokens": []} for _ in range(2)]
        lines = client.post("/v1/chat/completions", json=body | {"stream": True}).text.splitlines()
    for line in lines:
        if line.startswith("data: {"):
            for choice in json.loads(line.removeprefix("data: "))["choices"]:
                mine = streamed[choice["index"]]
                mine["text"] += choice["delta"].get("content") or ""
                mine["tokens"] += (choice["logprobs"] or {"content": []})["content"]
                mine["finish_reason"] = choice["finish_reason"]
    for choice, mine in zip(whole["choices"], streamed, strict=True):
        assert mine == {
            "text": choice["message"]["content"],
            "tokens": choice["logprobs"]["content"],
            "finish_reason": choice["finish_reason"],
        }
        if choice["finish_reason"] == "stop":
            assert is_right(name, mine["text"])
    assert any(choice["finish_reason"] == "stop" for choice in whole["choices"])


class Thing(pydantic.BaseModel):
    ok: bool
    tags: list[Literal["a", "b"]] = pydantic.Field(max_length=2)


def test_the_openai_client_parses_what_it_asked_for(tiny_server: LiveServer) -> None:
    """`parse()` sends a strict schema of its own making, and reads the answer with it."""
    with openai.OpenAI(base_url=f"{tiny_server.url}/v1", api_key="none") as client:
        answer = client.chat.completions.parse(
            model="tiny",
            messages=[{"role": "user", "content": "A thing."}],
            response_format=Thing,
            seed=1,
            max_tokens=60,
        )
    assert isinstance(answer.choices[0].message.parsed, Thing)
