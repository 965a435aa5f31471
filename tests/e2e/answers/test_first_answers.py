"""What a newcomer asks first: the default's greedy answers, and those of fp32 of the same file."""

import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import torch

from tests.e2e.live import ROOT
from tests.e2e.resident import DefaultServer
from tests.model.steps import Row, make_batch
from thirdeye.model.native.library import Library
from thirdeye.server.engine.interface.engine_config import BLOCK_SIZE
from thirdeye.server.eval.quality import Reader
from thirdeye.server.launch.server_run import curl_line
from thirdeye.weights.checkpoint import Checkpoint, open_checkpoint

pytestmark = pytest.mark.real

QUESTIONS = Path(__file__).with_name("first_questions.txt").read_text().splitlines()
MOST_TOKENS = 48
AS_FP32 = 15  # of 40, at least: 17 are; of llama.cpp's Q8_0, by its published blocks, 11
SHOWN = {  # what README, banner and page ask, and what a good answer says
    "What is the capital of Japan?": "The capital of Japan is Tokyo.",
    "What is photosynthesis?": "convert light energy from the sun into chemical energy",
    "What is gravity?": "the curvature of spacetime caused by the presence of mass",
    "Count from 1 to 5.": "4. 4\n5. 5",
}
PROMPT = (
    "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
    "<|im_end|>\n<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
)


class Answerer:
    """A model with weights kept in one way, asked greedily: all questions in each step."""

    def __init__(self, checkpoint: Checkpoint, native: Library | None, quantize: str) -> None:
        self._reader = Reader(checkpoint, native, quantize)
        self._tokenizer = checkpoint.tokenizer()

    @torch.inference_mode()
    def ask(self, questions: Sequence[str]) -> list[str]:
        """The texts, ended by <|im_end|> or at MOST_TOKENS."""
        prompts = [self._tokenizer.encode_with_special(PROMPT.format(each)) for each in questions]
        (end,) = self._tokenizer.encode_with_special("<|im_end|>")
        said: list[list[int]] = [[] for _ in prompts]
        for tokens in self._steps(prompts):
            for answer, token in zip(said, tokens, strict=True):
                if end not in answer:
                    answer.append(token)
        return [
            b"".join(map(self._tokenizer.token_bytes, each)).decode(errors="replace")
            for each in said
        ]

    def _steps(self, prompts: Sequence[Sequence[int]]) -> Iterator[list[int]]:
        each = -(-(max(map(len, prompts)) + MOST_TOKENS) // BLOCK_SIZE)  # blocks
        cache = self._reader.make_cache(each * len(prompts))
        blocks = [range(i * each, (i + 1) * each) for i in range(len(prompts))]
        inputs, past = [list(prompt) for prompt in prompts], [0] * len(prompts)
        for _ in range(MOST_TOKENS):
            rows = [Row(*row) for row in zip(inputs, past, blocks, strict=True)]
            logits = self._reader.model(make_batch(rows, BLOCK_SIZE), cache)
            past = [row.seq_len for row in rows]
            tokens = logits.argmax(-1).tolist()
            yield tokens
            inputs = [[token] for token in tokens]


def shown_questions() -> set[str]:
    """That README, the banner and the page ask."""
    page = (ROOT / "server" / "web" / "chat" / "chat.js").read_text()
    ideas = re.search(r"const IDEAS = \[(.*?)\]", page)
    assert ideas is not None
    texts = (ROOT / "README.md").read_text(), curl_line("", "", has_chat=True, has_key=False)
    asked = re.findall(
        r'(?:"content": |complete --temperature 0 |chat\.sh |chat\()"(.*?)"', "".join(texts)
    )
    return {*re.findall(r'"(.*?)"', ideas[1]), *asked}


def test_what_is_shown_is_answered_well(default_server: DefaultServer) -> None:
    """By the default, on this machine."""

    def ask(question: str) -> str:
        body = {"model": "smollm2", "messages": [{"role": "user", "content": question}]}
        url = f"{default_server.server.url}/v1/chat/completions"
        how = {"temperature": 0, "max_tokens": MOST_TOKENS}
        answer = httpx.post(url, json=body | how, trust_env=False, timeout=60)
        return str(answer.json()["choices"][0]["message"]["content"])

    assert shown_questions() == set(SHOWN)
    with ThreadPoolExecutor() as pool:
        for wanted, answer in zip(SHOWN.values(), pool.map(ask, SHOWN), strict=True):
            assert wanted in answer


@pytest.mark.prove
@pytest.mark.timeout(3600)
def test_as_many_first_answers_are_those_of_fp32(default_model: Path, native: Library) -> None:
    checkpoint = open_checkpoint(default_model)
    assert len(QUESTIONS) == 40
    assert set(SHOWN) <= set(QUESTIONS)
    exact, default = (
        Answerer(checkpoint, native, quantize).ask(QUESTIONS) for quantize in ("none", "auto")
    )
    same = sum(a == b for a, b in zip(exact, default, strict=True))
    print(f"{same} of {len(QUESTIONS)} as fp32")
    assert same >= AS_FP32
