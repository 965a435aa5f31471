"""The real model over real HTTP: what it says, to one client and to thirty-two at once."""

import asyncio

import httpx
import openai
import pytest
import torch

from tests.draws import also_at_night, count
from tests.oracles.real_model import load_reference
from thirdeye.weights.checkpoint import open_checkpoint

pytestmark = pytest.mark.real

MARGIN = 0.01  # our sums in fp32 are not the reference's: closer calls may fall either way
EVERY = count(9, 4)  # of the thirty-two is asked alone, other questions
STREAMED = count(8, 16)  # tokens of each

QUESTIONS = [
    "What is the capital of France?",
    "Name three colours.",
    "Greasy fried noodles will be my lunch. What is yours?",
    "Count from 1 to 12.",
    "Write one sentence about rivers.",
    "What is 7 times 8?",
    "Say hello in Spanish.",
    "Why is the sky blue?",
]


@pytest.fixture(scope="module")
def reference(default_model):
    return load_reference(default_model)


@pytest.fixture(scope="module")
def tokenizer(default_model):
    return open_checkpoint(default_model).tokenizer()


@torch.no_grad()
def assert_greedy(reference, prompt: list[int], answer: list[int]) -> None:
    """Each token of the answer is the reference's likeliest, or within MARGIN of it."""
    logits = reference(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
    chosen = logits.gather(1, torch.tensor(answer)[:, None])[:, 0]
    assert (logits.max(-1).values - chosen <= MARGIN).all()


def ask(url: str, question: str, **fields) -> dict:
    body = {
        "model": "smollm2",
        "messages": [{"role": "user", "content": question}],
        "temperature": 0,
        "return_token_ids": True,
        **fields,
    }
    answer = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=120, trust_env=False)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_greedy_chat_equals_the_reference(real_server, reference, tokenizer):
    """Template, tokenizer, engine and decoder give what the reference implementation says."""
    answer = ask(real_server.url, QUESTIONS[0], max_tokens=32)
    assert answer["choices"][0]["message"]["content"] == "The capital of France is Paris."
    assert answer["choices"][0]["finish_reason"] == "stop"
    prompt = (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
        "<|im_end|>\n<|im_start|>user\nWhat is the capital of France?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    assert answer["prompt_token_ids"] == tokenizer.encode_with_special(prompt)
    assert_greedy(reference, answer["prompt_token_ids"], answer["choices"][0]["token_ids"])


@also_at_night
@pytest.mark.parametrize("question", QUESTIONS[1:5])
def test_greedy_text_is_the_reference_s(real_server, reference, question):
    """Every token of the answer is the one the reference would have taken."""
    answer = ask(real_server.url, question, max_tokens=count(12, 24))
    assert_greedy(reference, answer["prompt_token_ids"], answer["choices"][0]["token_ids"])


def test_prompt_logprobs_over_http(real_server, reference, tokenizer):
    """`echo` with `logprobs` scores a prompt within 2e-3 of the reference."""
    text = "Greasy fried noodles will be my lunch, and the quick brown fox had x =  12 of them."
    body = {"model": "smollm2", "prompt": text, "max_tokens": 0, "echo": True, "logprobs": 1}
    answer = httpx.post(f"{real_server.url}/v1/completions", json=body, trust_env=False, timeout=60)
    assert answer.status_code == 200, answer.text
    ours = answer.json()["choices"][0]["logprobs"]["token_logprobs"]
    token_ids = tokenizer.encode(text)
    with torch.no_grad():
        theirs = torch.log_softmax(reference(torch.tensor([token_ids])).logits[0], -1)
    expected = theirs[:-1].gather(1, torch.tensor(token_ids[1:])[:, None])[:, 0]
    assert ours[0] is None
    torch.testing.assert_close(torch.tensor(ours[1:]), expected, atol=2e-3, rtol=0)


@also_at_night
def test_thirty_two_streams_at_once(default_server):
    """All finish, each with the very text that its question gets alone."""
    url = default_server.server.url

    async def stream(client: openai.AsyncOpenAI, number: int) -> tuple[str, str, str]:
        question = QUESTIONS[number % len(QUESTIONS)] + " Please." * (number // len(QUESTIONS))
        text, reason = "", ""
        chunks = await client.chat.completions.create(
            model="smollm2",
            messages=[{"role": "user", "content": question}],
            temperature=0,
            max_tokens=STREAMED,
            stream=True,
        )
        async for chunk in chunks:
            text += chunk.choices[0].delta.content or ""
            reason = chunk.choices[0].finish_reason or reason
        return question, text, reason

    async def all_of_them():
        base_url = f"{url}/v1"
        async with openai.AsyncOpenAI(
            base_url=base_url, api_key="none", max_retries=0, timeout=300
        ) as client:
            return await asyncio.gather(*(stream(client, number) for number in range(32)))

    crowd = asyncio.run(all_of_them())
    assert {reason for _, _, reason in crowd} <= {"stop", "length"}
    for question, text, _ in crowd[::EVERY]:
        alone = ask(url, question, max_tokens=STREAMED)
        assert text == alone["choices"][0]["message"]["content"]


def test_a_chat_goes_on(real_server, reference, tokenizer):
    """A second turn carries the first, by the model's own template, and continues it greedily."""
    messages = [
        {"role": "user", "content": "My name is Ada."},
        {"role": "assistant", "content": "Hello Ada!"},
        {"role": "user", "content": "What is my name?"},
    ]
    answer = ask(real_server.url, "", messages=messages, max_tokens=16)
    prompt = answer["prompt_token_ids"]
    text = b"".join(map(tokenizer.token_bytes, prompt)).decode()
    turns = [f"<|im_start|>{turn['role']}\n{turn['content']}<|im_end|>\n" for turn in messages]
    assert text.endswith("".join(turns) + "<|im_start|>assistant\n")
    assert_greedy(reference, prompt, answer["choices"][0]["token_ids"])


def test_sampling_with_a_seed_repeats(default_server):
    """Equal seeds give equal texts, other seeds other ones."""

    def text(seed: int) -> str:
        answer = ask(
            default_server.server.url, "Tell a story.", temperature=1.0, seed=seed, max_tokens=8
        )
        return answer["choices"][0]["message"]["content"]

    first, again, *others = map(text, (1, 1, 2, 3))
    assert first == again
    assert {*others} != {first}
