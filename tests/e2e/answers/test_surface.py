"""The surface beside generation over a real server: flags, embeddings, progress, a time limit."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
import torch
from transformers import LlamaForCausalLM

from tests.draws import is_night
from tests.e2e.in_process import served as serving
from tests.tiny import tiny_llama

pytestmark = [pytest.mark.prove] if is_night() else []
PAGE = "https://page.example"
SETTINGS: dict[str, Any] = {
    "kv_memory": 0.01,
    "dtype": "float32",
    "quantize": "none",
    "max_num_seqs": 4,
    "max_queue_time": 0,  # a busy machine refuses nobody
    "max_num_batched_tokens": 16,
    "lenient": True,
    "cors_origin": (PAGE,),
    "max_n": 3,
    "max_stop": 6,
    "requests_per_minute": 100_000,
    "tokens_per_minute": 100_000_000,
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: Any) -> Iterator[tuple[str, LlamaForCausalLM]]:
    """A server with every setting of this page, and the model behind it."""
    path = tmp_path_factory.mktemp("tiny")
    reference = tiny_llama(path)
    with serving(path, **SETTINGS) as url:
        yield url, reference


def post(url: str, path: str, **body: Any) -> httpx.Response:
    headers = {"Origin": PAGE}
    body = {"model": "tiny", **body}
    return httpx.post(url + path, json=body, headers=headers, trust_env=False, timeout=30)


def embed(url: str, ids: list[int]) -> list[float]:
    answer = post(url, "/v1/embeddings", input=ids)
    assert answer.status_code == 200, answer.text
    found: list[float] = answer.json()["data"][0]["embedding"]
    return found


def test_embeddings_are_the_models_own_in_any_mix(served: tuple[str, LlamaForCausalLM]) -> None:
    """Prompts of several steps, beside answers and each other: `transformers`' mean, and no bit
    moves."""
    url, reference = served
    prompts = [
        [(7 * i + j) % 500 + 3 for i in range(length)] for j, length in enumerate((1, 9, 70))
    ]
    alone = [embed(url, ids) for ids in prompts]
    for ids, vector in zip(prompts, alone, strict=True):
        with torch.no_grad():
            mean = reference.base_model(torch.tensor([ids])).last_hidden_state[0].mean(0)
        expected = mean / mean.norm()
        assert torch.allclose(torch.tensor(vector), expected, atol=1e-4, rtol=0)
    with ThreadPoolExecutor(6) as pool:
        chats = [
            pool.submit(post, url, "/v1/completions", prompt="a b c", max_tokens=40)
            for _ in range(3)
        ]
        mixed = list(pool.map(lambda ids: embed(url, ids), prompts * 2))
        assert all(chat.result().status_code == 200 for chat in chats)
    assert mixed == alone * 2


def test_flags_reach_the_server(served: tuple[str, LlamaForCausalLM]) -> None:
    url, _ = served
    good = post(url, "/completions", prompt="a", max_tokens=1, stop=["x"] * 6, n=3, oddity=1)
    assert good.status_code == 200
    assert good.headers["x-ignored-params"] == "oddity"
    assert good.headers["access-control-allow-origin"] == PAGE
    assert good.headers["x-ratelimit-limit-requests"] == "100000"
    assert good.headers["x-ratelimit-limit-tokens"] == "100000000"
    assert post(url, "/v1/completions", prompt="a", n=4).json()["error"]["param"] == "n"
    assert (
        post(url, "/v1/completions", prompt="a", stop=["x"] * 7).json()["error"]["param"] == "stop"
    )


def test_a_long_prompt_says_how_far_it_is(served: tuple[str, LlamaForCausalLM]) -> None:
    """16 tokens a step: 100 take seven."""
    url, _ = served
    body = {"prompt": [9] * 100, "max_tokens": 2, "stream": True, "return_progress": True}
    lines = post(url, "/v1/completions", **body).text.split("\n\n")
    chunks = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    told = [chunk["prompt_progress"] for chunk in chunks if "prompt_progress" in chunk]
    assert [progress["processed"] for progress in told] == [16, 32, 48, 64, 80, 96]
    assert all(progress["total"] == 100 for progress in told)


def test_decoding_ends_by_the_clock(served: tuple[str, LlamaForCausalLM]) -> None:
    """After 1 ms of decoding nothing is worth waiting for: far fewer tokens than were allowed."""
    url, _ = served
    body = {"prompt": "a", "max_tokens": 200, "ignore_eos": True, "t_max_predict_ms": 1}
    answer = post(url, "/v1/completions", **body).json()
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] < 100


def test_the_tokenizer_and_the_load(served: tuple[str, LlamaForCausalLM]) -> None:
    url, _ = served
    info = httpx.get(f"{url}/tokenizer_info", trust_env=False).json()
    assert (info["bos_token"], info["eos_token"]) == ("<|endoftext|>", "<|im_end|>")
    tokens = post(url, "/tokenize", prompt=info["eos_token"]).json()["tokens"]
    assert len(tokens) == 1
    load = httpx.get(f"{url}/load", trust_env=False).json()
    assert load.keys() == {"running", "waiting", "kv_usage", "server_load"}
