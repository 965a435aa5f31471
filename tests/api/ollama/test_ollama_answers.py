"""Ollama's `/api/chat` and `/api/generate`: what comes out, whole and as lines, at every cut."""

import json

import httpx
import pytest

from tests.api.ollama.lines import (
    ASK,
    CHAT,
    GENERATE,
    GOOD,
    HI,
    WRITE,
    Json,
    joined,
    lines,
    prompt_of,
    whole,
    without_times,
)
from tests.api.support import EOS, Served, eventually, fake_engine, says

COUNTS = {"prompt_eval_count": 19, "eval_count": 7, "load_duration": 0}


def test_a_whole_chat(served: Served) -> None:
    answer = whole(served, CHAT, ASK)
    assert answer["message"] == {"role": "assistant", "content": "Hello!"}
    assert (answer["model"], answer["done"], answer["done_reason"]) == ("tiny", True, "stop")
    assert {name: answer[name] for name in COUNTS} == COUNTS
    assert answer["created_at"].endswith("Z")
    for name in ("total", "prompt_eval", "eval"):
        assert type(answer[f"{name}_duration"]) is int
    assert answer["total_duration"] == round(answer["timings"]["total_ms"] * 1e6) > 0


def test_lines_are_the_default(served: Served) -> None:
    """Text piece by piece, then an empty one that says why it ended and what it took."""
    found = lines(served, CHAT, ASK)
    assert [line["message"]["content"] for line in found] == [*"Hello!", ""]
    assert [line["done"] for line in found] == [False] * 6 + [True]
    assert "eval_count" not in found[0]
    assert {name: found[-1][name] for name in COUNTS} == COUNTS


def test_a_prompt_is_a_users_message(served: Served) -> None:
    engine = served.use(fake_engine())
    answer = whole(served, GENERATE, WRITE | {"system": "Be kind."})
    assert (answer["response"], answer["done_reason"]) == ("Hello!", "stop")
    assert prompt_of(engine) == "|system\nBe kind.|user\nHi|assistant\n"


def test_a_raw_prompt_goes_without_the_template(served: Served) -> None:
    """Special tokens may be written out, and nothing ends it but the model or the room."""
    engine = served.use(fake_engine())
    found = lines(served, GENERATE, WRITE | {"raw": True, "prompt": "<|turn|>user"})
    assert joined(found)["response"] == "Hello!"
    assert prompt_of(engine) == "|user"
    assert engine.requests[-1].sampling.max_tokens == 512 - 5


def test_a_model_without_a_template_goes_on_with_the_prompt(served: Served) -> None:
    engine = served.use(fake_engine(), template=None)
    assert whole(served, GENERATE, WRITE)["response"] == "Hello!"
    assert prompt_of(engine) == "Hi"
    refused = served.post(GENERATE, WRITE | {"system": "x"})
    assert refused.json() == {
        "error": "'system' needs the chat template, which is not used: write it into 'prompt'."
    }


@pytest.mark.parametrize("path", [CHAT, GENERATE])
@pytest.mark.parametrize(
    "change",
    [
        {},
        {"options": {"num_predict": 3}},
        {"options": {"stop": ["lö"]}},
        {"options": {"stop": "wör"}},
        {"logprobs": True, "top_logprobs": 2},
        {"format": {"type": "string"}},
    ],
    ids=str,
)
@pytest.mark.parametrize("step", [1, 3, 100])
def test_the_lines_add_up_to_the_whole(served: Served, path: str, change: Json, step: int) -> None:
    served.use(fake_engine([*"Hellö wörld! 🙂".encode(), EOS], tokens_per_step=step))
    body = GOOD[path] | change
    found = lines(served, path, body)
    assert without_times(joined(found)) == without_times(whole(served, path, body))


@pytest.mark.parametrize(
    ("options", "reason", "text"),
    [
        ({}, "stop", "Hello!"),
        ({"num_predict": 2}, "length", "He"),
        ({"stop": ["zz", "lo"]}, "stop", "Hel"),
        ({"num_predict": -1}, "stop", "Hello!"),
    ],
)
def test_why_an_answer_ends(served: Served, options: Json, reason: str, text: str) -> None:
    answer = whole(served, GENERATE, WRITE | {"options": options})
    assert (answer["done_reason"], answer["response"]) == (reason, text)


def test_a_raw_prompt_is_scored_and_streamed_alike(served: Served) -> None:
    body = WRITE | {"raw": True, "logprobs": True, "top_logprobs": 1, "options": {"num_predict": 4}}
    answer = whole(served, GENERATE, body)
    assert [score["token"] for score in answer["logprobs"]] == [*"Hell"]
    assert answer["done_reason"] == "length"
    assert without_times(joined(lines(served, GENERATE, body))) == without_times(answer)


def test_scores_are_those_of_chat(served: Served) -> None:
    answer = whole(served, CHAT, ASK | {"logprobs": True, "top_logprobs": 2})
    chat = served.whole(
        "/v1/chat/completions", ASK | {"logprobs": True, "top_logprobs": 2, "model": "tiny"}
    )
    assert answer["logprobs"] == chat["choices"][0]["logprobs"]["content"]
    assert "logprobs" not in whole(served, CHAT, ASK)


def test_a_last_assistant_message_is_continued(served: Served) -> None:
    engine = served.use(fake_engine(says("lo")))
    answer = whole(served, CHAT, ASK | {"messages": [HI, {"role": "assistant", "content": "Hel"}]})
    assert prompt_of(engine).endswith("|assistant\nHel")
    assert answer["message"]["content"] == "lo"


@pytest.mark.parametrize("name", ["tiny", "TINY:latest", "org/tiny"])
def test_the_answer_repeats_the_name_that_was_sent(served: Served, name: str) -> None:
    assert whole(served, CHAT, ASK | {"model": name})["model"] == name


def test_an_unnamed_model_is_the_one_that_is_served(served: Served) -> None:
    assert whole(served, CHAT, {"messages": [HI]})["model"] == "tiny"


@pytest.mark.parametrize(
    ("path", "body", "empty"),
    [
        (CHAT, {"model": "tiny"}, {"message": {"role": "assistant", "content": ""}}),
        (
            CHAT,
            {"model": "tiny", "messages": []},
            {"message": {"role": "assistant", "content": ""}},
        ),
        (GENERATE, {"model": "tiny"}, {"response": ""}),
        (GENERATE, {"model": "tiny", "prompt": "", "keep_alive": 0}, {"response": ""}),
    ],
    ids=str,
)
def test_an_empty_request_says_that_the_model_is_loaded(
    served: Served, path: str, body: Json, empty: Json
) -> None:
    engine = served.use(fake_engine())
    answer = served.post(path, body)
    found = answer.json()
    assert found | empty == found
    assert (found["done"], found["done_reason"]) == (True, "load")
    assert engine.requests == []
    assert served.post(path, body | {"model": "llama3"}).status_code == 404


def test_what_cannot_begin_has_a_status(served: Served) -> None:
    served.use(fake_engine(error_after=0, error="No memory."))
    answer = served.post(CHAT, ASK)
    assert answer.status_code == 500
    assert answer.json() == {"error": "No memory."}


def test_an_error_in_mid_stream_is_the_last_line(served: Served) -> None:
    served.use(fake_engine(error_after=2, error="No memory."))
    *_, second, last = lines(served, GENERATE, WRITE)
    assert second["response"] == "e"
    assert last == {"error": "No memory."}


@pytest.mark.parametrize(("path", "field"), [(CHAT, "message"), (GENERATE, "response")])
def test_a_silent_stream_is_kept_open_by_empty_lines(served: Served, path: str, field: str) -> None:
    """A client reads each line as JSON: there are no comments in it."""
    engine = served.use(fake_engine(hang_after=0))
    with httpx.stream("POST", served.url + path, json=GOOD[path], trust_env=False) as answer:
        found = answer.iter_lines()
        for line in (json.loads(next(found)), json.loads(next(found))):
            assert line["done"] is False
            assert line[field] in ("", {"role": "assistant", "content": ""})
    eventually(lambda: len(engine.aborted) == 1 and served.settled(engine))


@pytest.mark.parametrize("path", [CHAT, GENERATE])
def test_a_client_that_leaves_stops_the_work(served: Served, path: str) -> None:
    served.leave_a_stream(path, GOOD[path])


def test_embeddings(served: Served) -> None:
    """Those of `/v1/embeddings`, one for each text."""
    ours = served.whole("/v1/embeddings", {"model": "tiny", "input": ["Hi", "you"]})
    answer = served.whole("/api/embed", {"model": "tiny:latest", "input": ["Hi", "you"]})
    assert answer["embeddings"] == [entry["embedding"] for entry in ours["data"]]
    assert (answer["model"], answer["prompt_eval_count"]) == ("tiny:latest", 5)
    assert served.whole("/api/embed", GOOD["/api/embed"])["embeddings"] == answer["embeddings"][:1]
    older = served.whole("/api/embeddings", GOOD["/api/embeddings"])
    assert older == {"embedding": answer["embeddings"][0]}


def test_a_text_that_is_too_long_loses_its_end_if_that_is_asked_for(served: Served) -> None:
    long = {"model": "tiny", "input": ["abc" * 400]}
    assert "maximum context length" in served.post("/api/embed", long).json()["error"]
    engine = served.use(fake_engine())
    served.whole("/api/embed", long | {"truncate": True})
    assert prompt_of(engine) == ("abc" * 400)[:512]
