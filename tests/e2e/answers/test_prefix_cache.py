"""A conversation's second turn computes only what is new, and `usage` says so."""

import httpx

CHAT_URL, TEXT_URL = "/v1/chat/completions", "/v1/completions"
BLOCK_SIZE = 16


def post(server, path, body, **headers):
    defaults = {"model": "tiny", "max_tokens": 24, "temperature": 0, "ignore_eos": True}
    answer = httpx.post(
        server.url + path, json=defaults | body, headers=headers, trust_env=False, timeout=30
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


def cached(answer):
    return answer["usage"]["prompt_tokens_details"]["cached_tokens"]


def full_blocks(num_tokens):
    return num_tokens // BLOCK_SIZE * BLOCK_SIZE


def test_a_second_turn_computes_only_what_is_new(tiny_server):
    """Prompt and answer of the first turn are found, block by block; then comes the new part."""
    first = post(
        tiny_server,
        TEXT_URL,
        {"prompt": list(range(100, 150)), "cache_salt": "turns", "return_token_ids": True},
    )
    assert cached(first) == 0
    choice = first["choices"][0]
    history = choice["prompt_token_ids"] + choice["token_ids"]
    second = post(
        tiny_server,
        TEXT_URL,
        {"prompt": history + list(range(200, 220)), "cache_salt": "turns"},
    )
    computed_before = len(history) - 1  # the last token was sampled and never computed
    assert cached(second) == full_blocks(computed_before)
    assert second["timings"]["prompt_n"] == second["usage"]["prompt_tokens"] - cached(second)
    assert second["timings"]["prompt_n"] < 20 + BLOCK_SIZE + 1
    other = post(tiny_server, TEXT_URL, {"prompt": history, "cache_salt": "somebody else"})
    assert cached(other) == 0


def test_a_chat_finds_its_own_first_turn(tiny_server):
    """The same over the chat endpoint, where the template puts the turns together."""
    messages = [
        {"role": "system", "content": "Greasy fried noodles will be my lunch. " * 2},
        {"role": "user", "content": "What will be yours?"},
    ]
    first = post(tiny_server, CHAT_URL, {"messages": messages, "cache_salt": "chat"})
    text = first["choices"][0]["message"]["content"]
    messages += [{"role": "assistant", "content": text}, {"role": "user", "content": "And then?"}]
    second = post(tiny_server, CHAT_URL, {"messages": messages, "cache_salt": "chat"})
    # At least the whole first prompt; its answer too, where its text gives the same tokens again.
    assert cached(second) >= full_blocks(first["usage"]["prompt_tokens"]) > 0
    again = post(tiny_server, CHAT_URL, {"messages": messages, "cache_salt": "chat"})
    assert cached(again) == full_blocks(again["usage"]["prompt_tokens"] - 1)
    assert again["choices"][0]["message"] == second["choices"][0]["message"]
