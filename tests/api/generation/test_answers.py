"""Whole answers: shapes, choices, seeds, logprobs, echo, and that each field reaches the engine."""

import asyncio
from typing import Any

import pytest

from tests.api.support import (
    BOS,
    CHAT,
    COMPLETION,
    CONTEXT,
    EOS,
    TURN,
    app_over,
    by_sample,
    client_of,
    client_over,
    fake_engine,
    ready_state,
    says,
)
from tests.engine.process.fake_engine import FakeEngine
from thirdeye.server.api.generation.plan import derive_seed

CHAT_URL, TEXT_URL = "/v1/chat/completions", "/v1/completions"


def post(path: str, body: dict[str, Any], engine: FakeEngine | None = None) -> dict[str, Any]:
    async def main() -> dict[str, Any]:
        app, state = app_over(engine or fake_engine())
        async with client_of(app) as client:
            answer = await client.post(path, json=body)
            assert answer.status_code == 200, answer.text
            assert state.admission.in_flight == 0
            found: dict[str, Any] = answer.json()
            return found

    return asyncio.run(main())


def test_a_chat_answer_has_openais_shape() -> None:
    """Required keys are there though null, optional ones are absent though unused."""
    answer = post(CHAT_URL, CHAT)
    assert answer["id"].startswith("chatcmpl-")
    assert answer["object"] == "chat.completion"
    assert answer["model"] == "tiny"
    assert answer["choices"] == [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": "Hello!",
                "refusal": None,
                "annotations": [],
            },
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]
    usage = answer["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (
        19,
        7,
        26,
    )
    assert usage["prompt_tokens_details"] == {"cached_tokens": 0, "audio_tokens": 0}
    assert "service_tier" not in answer
    assert post(CHAT_URL, CHAT | {"service_tier": "auto"})["service_tier"] == "default"


def test_a_completion_answer_has_openais_shape() -> None:
    answer = post(TEXT_URL, COMPLETION | {"max_tokens": 3})
    assert answer["id"].startswith("cmpl-")
    assert answer["object"] == "text_completion"
    (choice,) = answer["choices"]
    nulls = dict.fromkeys(("logprobs", "prompt_token_ids", "prompt_logprobs"))
    assert choice == {"index": 0, "text": "Hel", "finish_reason": "length"} | nulls
    timings = answer["timings"]
    assert (timings["prompt_n"], timings["predicted_n"], timings["steps"]) == (2, 3, 3)
    assert (timings["preemptions"], timings["batch_mean"], timings["batch_max"]) == (0, 1.0, 1)
    assert 0 <= timings["itl_max_ms"] <= timings["total_ms"]


def test_the_model_is_echoed_by_the_name_that_was_asked() -> None:
    assert post(CHAT_URL, CHAT | {"model": "org/tiny"})["model"] == "org/tiny"


def test_choices_come_in_order_prompt_by_prompt() -> None:
    """Choice index = prompt x n + sample; usage counts each prompt once and every sampled token."""
    engine = fake_engine(by_sample)
    body = {"model": "tiny", "prompt": ["a", "bcd"], "n": 2, "max_tokens": 100}
    answer = post(TEXT_URL, body, engine)
    texts = [choice["text"] for choice in answer["choices"]]
    assert texts == ["answer 0: ", "answer 1: x", "answer 2: xx", "answer 3: xxx"]
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2, 3]
    assert answer["usage"]["prompt_tokens"] == 1 + 3
    assert answer["usage"]["completion_tokens"] == sum(len(text) + 1 for text in texts)
    assert [r.prompt_token_ids for r in engine.requests] == [[*b"a"]] * 2 + [[*b"bcd"]] * 2


def test_samples_draw_from_derived_seeds() -> None:
    """Sample 0 keeps the seed, the others differ, every prompt alike, and twice the same."""
    engine = fake_engine()
    body = {"model": "tiny", "prompt": ["a", "b"], "n": 3, "seed": 42}
    post(TEXT_URL, body, engine)
    seeds = [request.sampling.seed for request in engine.requests]
    assert seeds == [42, derive_seed(42, 1), derive_seed(42, 2)] * 2
    assert len(set(seeds)) == 3
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert 0 <= derive_seed(-5, 0) < 2**63


def test_without_a_seed_each_request_draws_its_own() -> None:
    engine = fake_engine()
    for _ in range(2):
        post(TEXT_URL, COMPLETION, engine)
    assert engine.requests[0].sampling.seed != engine.requests[1].sampling.seed


FIELDS: list[tuple[str, Any, str, Any]] = [
    ("temperature", 0, "temperature", 0),
    ("top_p", 0.5, "top_p", 0.5),
    ("top_k", 5, "top_k", 5),
    ("top_k", -1, "top_k", 0),
    ("top_k", 100_000, "top_k", 0),
    ("min_p", 0.1, "min_p", 0.1),
    ("frequency_penalty", 1, "frequency_penalty", 1),
    ("presence_penalty", -1.5, "presence_penalty", -1.5),
    ("repetition_penalty", 1.2, "repetition_penalty", 1.2),
    ("logit_bias", {"5": -100}, "logit_bias", {5: -100}),
    ("stop_token_ids", [7, 8], "stop_token_ids", [7, 8]),
    ("ignore_eos", True, "ignore_eos", True),
    ("min_tokens", 2, "min_tokens", 2),
    ("max_tokens", 9, "max_tokens", 9),
]


@pytest.mark.parametrize(("name", "value", "engine_name", "wanted"), FIELDS)
@pytest.mark.parametrize(("path", "good"), [(CHAT_URL, CHAT), (TEXT_URL, COMPLETION)])
def test_each_sampling_field_reaches_the_engine(
    path: str, good: dict[str, Any], name: str, value: Any, engine_name: str, wanted: Any
) -> None:
    """Nothing is accepted and ignored."""
    engine = fake_engine(says("Hello! This is long enough."))
    post(path, good | {name: value}, engine)
    assert getattr(engine.requests[0].sampling, engine_name) == wanted


def test_queue_and_cache_fields_reach_the_engine() -> None:
    engine = fake_engine()
    post(CHAT_URL, CHAT | {"priority": -3, "cache_salt": "mine"}, engine)
    assert (engine.requests[0].priority, engine.requests[0].cache_salt) == (-3, "/mine")


def test_the_rest_of_the_context_is_the_default_of_chat_and_16_of_completions() -> None:
    engine = fake_engine()
    post(CHAT_URL, CHAT, engine)
    post(TEXT_URL, COMPLETION, engine)
    assert [r.sampling.max_tokens for r in engine.requests] == [CONTEXT - 19, 16]


def test_stop_strings_end_the_answer_and_say_so() -> None:
    answer = post(CHAT_URL, CHAT | {"stop": ["lo", "zz"]})
    choice = answer["choices"][0]
    assert choice["message"]["content"] == "Hel"
    assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", "lo")
    timings = answer["timings"]
    assert timings["predicted_n"] == 5
    assert timings["batch_max"] == 1  # the engine's own: it is told to stop, and asked how it was
    more = post(CHAT_URL, CHAT | {"stop": "lo", "include_stop_str_in_output": True})
    assert more["choices"][0]["message"]["content"] == "Hello"
    later = post(CHAT_URL, CHAT | {"stop": "l", "min_tokens": 3})
    assert later["choices"][0]["message"]["content"] == "Hel"


def test_stop_token_ids_say_which() -> None:
    choice = post(CHAT_URL, CHAT | {"stop_token_ids": [ord("o")]})["choices"][0]
    assert (choice["message"]["content"], choice["stop_reason"]) == ("Hell", ord("o"))


def test_special_tokens_show_on_request() -> None:
    engine = fake_engine([*b"a", TURN, *b"b", EOS])
    assert post(CHAT_URL, CHAT, engine)["choices"][0]["message"]["content"] == "ab"
    shown = post(CHAT_URL, CHAT | {"skip_special_tokens": False}, engine)
    assert shown["choices"][0]["message"]["content"] == "a<|turn|>b"


def test_chat_logprobs_list_every_token_the_last_one_too() -> None:
    """lm-eval cuts the last entry off: without EOS its sums shift."""
    body = CHAT | {"logprobs": True, "top_logprobs": 2}
    logprobs = post(CHAT_URL, body, fake_engine([*"é".encode(), EOS]))["choices"][0]["logprobs"]
    assert logprobs["refusal"] is None
    first, second, last = logprobs["content"]
    assert (first["token"], first["bytes"]) == ("�", [0xC3])
    assert bytes(first["bytes"] + second["bytes"]).decode() == "é"
    assert (last["token"], last["bytes"], last["logprob"]) == ("<|end|>", None, -0.5)
    assert [entry["logprob"] for entry in first["top_logprobs"]] == [-0.5, -1.5]
    none = post(CHAT_URL, CHAT | {"logprobs": True})["choices"][0]["logprobs"]
    assert none["content"][0]["top_logprobs"] == []


def test_completion_logprobs_are_the_four_lists() -> None:
    """Bytes that are no text are spelled; offsets count characters; EOS takes none."""
    engine = fake_engine([*"aéb".encode(), EOS])
    lists = post(TEXT_URL, COMPLETION | {"logprobs": 1}, engine)["choices"][0]["logprobs"]
    assert lists["tokens"] == ["a", "bytes:\\xc3", "bytes:\\xa9", "b", "<|end|>"]
    assert lists["text_offset"] == [0, 1, 1, 2, 3]
    assert lists["token_logprobs"] == [-0.5] * 5
    assert lists["top_logprobs"][0] == {"a": -0.5}
    zero = post(TEXT_URL, COMPLETION | {"logprobs": 0}, engine)["choices"][0]["logprobs"]
    assert zero["top_logprobs"][3] == {"b": -0.5}


def test_echo_with_logprobs_scores_the_prompt() -> None:
    """What lm-eval's loglikelihood sends: token ids in, one token out, everything scored."""
    body = COMPLETION | {"prompt": [[*b"Hi"]], "echo": True, "logprobs": 1, "max_tokens": 1}
    choice = post(TEXT_URL, body)["choices"][0]
    assert choice["text"] == "HiH"
    assert choice["logprobs"] == {
        "tokens": ["H", "i", "H"],
        "token_logprobs": [None, -0.5, -0.5],
        "top_logprobs": [None, {"i": -0.5}, {"H": -0.5}],
        "text_offset": [0, 1, 2],
    }


def test_echo_without_tokens_only_scores() -> None:
    answer = post(TEXT_URL, COMPLETION | {"echo": True, "logprobs": 0, "max_tokens": 0})
    choice = answer["choices"][0]
    assert (choice["text"], choice["finish_reason"]) == ("Hi", "length")
    assert len(choice["logprobs"]["tokens"]) == 2
    assert answer["usage"]["completion_tokens"] == 0
    plain = post(TEXT_URL, COMPLETION | {"echo": True, "max_tokens": 0})["choices"][0]
    assert (plain["text"], plain["logprobs"]) == ("Hi", None)


def test_prompt_logprobs_have_vllms_shape() -> None:
    answer = post(CHAT_URL, CHAT | {"prompt_logprobs": 1, "max_tokens": 1})
    first, second, *_ = answer["prompt_logprobs"]
    assert first is None
    assert second == {"117": {"logprob": -0.5, "rank": 1, "decoded_token": "u"}}
    assert len(answer["prompt_logprobs"]) == 19
    choice = post(TEXT_URL, COMPLETION | {"prompt_logprobs": 0})["choices"][0]
    assert len(choice["prompt_logprobs"]) == 2


def test_echo_and_prompt_logprobs_each_get_their_own_number() -> None:
    body = COMPLETION | {"echo": True, "logprobs": 1, "prompt_logprobs": 3, "max_tokens": 1}
    choice = post(TEXT_URL, body)["choices"][0]
    assert len(choice["logprobs"]["top_logprobs"][1]) == 1
    assert len(choice["prompt_logprobs"][1]) == 3


def test_token_ids_come_back_on_request() -> None:
    """Feeding them back reproduces the run."""
    answer = post(CHAT_URL, CHAT | {"return_token_ids": True})
    assert answer["prompt_token_ids"] == [TURN, *b"user\nHi", TURN, *b"assistant\n"]
    assert answer["choices"][0]["token_ids"] == says("Hello!")
    choice = post(TEXT_URL, COMPLETION | {"return_token_ids": True})["choices"][0]
    assert (choice["prompt_token_ids"], choice["token_ids"]) == ([*b"Hi"], says("Hello!"))


def test_prompts_are_cut_only_on_request_and_it_is_told() -> None:
    engine = fake_engine()
    body = COMPLETION | {"prompt": "x" * 600 + "abc", "truncate_prompt_tokens": 3}
    assert post(TEXT_URL, body, engine)["timings"]["truncated_n"] == 600
    assert engine.requests[0].prompt_token_ids == [*b"abc"]
    post(TEXT_URL, body | {"truncate_prompt_tokens": -1, "max_tokens": 12}, engine)
    assert len(engine.requests[1].prompt_token_ids) == CONTEXT - 12


def test_special_literals_are_tokens_in_prompts_and_text_in_messages() -> None:
    """A chat message must not be able to end its turn."""
    engine = fake_engine()
    post(TEXT_URL, COMPLETION | {"prompt": "a<|end|>"}, engine)
    post(CHAT_URL, CHAT | {"messages": [{"role": "user", "content": "<|end|>"}]}, engine)
    assert engine.requests[0].prompt_token_ids == [*b"a", EOS]
    assert EOS not in engine.requests[1].prompt_token_ids


@pytest.mark.parametrize("word", ["prefix", "partial"])
def test_template_switches(word: str) -> None:
    engine = fake_engine()
    history = [*CHAT["messages"], {"role": "assistant", "content": "I am"}]
    post(CHAT_URL, CHAT | {"messages": history, "continue_final_message": True}, engine)
    post(CHAT_URL, CHAT | {"add_generation_prompt": False}, engine)
    post(CHAT_URL, CHAT | {"add_special_tokens": True}, engine)
    prefixed = [*CHAT["messages"], history[-1] | {word: True}]
    post(CHAT_URL, CHAT | {"messages": prefixed}, engine)
    post(CHAT_URL, CHAT | {"messages": [*prefixed, *CHAT["messages"]]}, engine)
    asked = [request.prompt_token_ids for request in engine.requests]
    continued, plain, with_bos, with_prefix, with_old_prefix = asked
    assert with_prefix == continued
    assert bytes(i for i in with_old_prefix if i < 256).endswith(b"assistant\n")
    assert bytes(i for i in continued if i < 256).endswith(b"I am")
    assert plain == [TURN, *b"user\nHi"]
    assert with_bos[0] == BOS


def test_text_parts_are_joined() -> None:
    engine = fake_engine()
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    post(CHAT_URL, CHAT | {"messages": [{"role": "user", "content": parts}]}, engine)
    assert engine.requests[0].prompt_token_ids[:8] == [TURN, *b"user\nab"]


def test_the_empty_prompt_is_the_bos_token() -> None:
    engine = fake_engine()
    post(TEXT_URL, COMPLETION | {"prompt": ""}, engine)
    assert engine.requests[0].prompt_token_ids == [BOS]


def test_tokenize_and_detokenize() -> None:
    """vLLM's shape; `model` may be left out; special literals are ids, as in prompts."""
    found = post("/tokenize", {"prompt": "a<|end|>", "return_token_strs": True})
    assert found == {
        "count": 2,
        "max_model_len": CONTEXT,
        "tokens": [97, EOS],
        "token_strs": ["a", "<|end|>"],
    }
    chat = post("/tokenize", {"messages": CHAT["messages"], "model": "tiny"})
    assert chat["tokens"] == [TURN, *b"user\nHi", TURN, *b"assistant\n"]
    assert chat["token_strs"] is None
    assert post("/detokenize", {"tokens": [104, 105, EOS]}) == {"prompt": "hi<|end|>"}
    assert post("/tokenize", {"prompt": ""})["tokens"] == []


def test_models_have_the_keys_that_benchmarks_read() -> None:
    async def main() -> dict[str, Any]:
        async with client_over(ready_state(fake_engine())) as client:
            one = (await client.get("/v1/models/org/tiny")).json()
            listed = (await client.get("/v1/models")).json()
            assert one in listed["data"]
            return dict(listed)

    listed = asyncio.run(main())
    assert listed["object"] == "list"
    del listed["data"][0]["generation_defaults"]  # `test_defaults.py`
    assert listed["data"][0] == {
        "id": "tiny",
        "object": "model",
        "created": 1_700_000_000,
        "owned_by": "thirdeye",
        "root": "tiny",
        "parent": None,
        "max_model_len": CONTEXT,
        "state": "ready",
        "size": 0,
        "capabilities": ["completion", "tools"],
    }
