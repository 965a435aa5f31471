"""Two real models, quantized by other people: transformers opens the same files, and agrees."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.architectures.running import load
from tests.model.steps import Row, make_batch
from tests.prove.gguf_in_transformers import in_double, load_in_transformers
from tests.prove.wheel_models import GEMMA, QWEN, WheelModel, wheel_model
from thirdeye.model.state.kv_cache import KVCache
from thirdeye.model.transformer import Transformer
from thirdeye.server.text.templates.chat_template import ChatTemplate
from thirdeye.weights.checkpoint import open_checkpoint

pytestmark = [pytest.mark.prove, pytest.mark.timeout(3600)]

CHUNK = 50  # tokens of a step
BLOCK = 16
MAX_ERROR = 1e-3
TEXT = (Path(__file__).parents[2] / "LICENSE").read_text(encoding="utf-8")  # never changes
QUESTIONS = {
    "What is the capital of France?": "Paris",
    "What is 2 + 2?": "4",
    "Write a Python function that reverses a string.": "def reverse",
}


class Prompted:
    """One sequence through the model, step by step, with a cache of its own."""

    def __init__(self, model: Transformer, max_tokens: int) -> None:
        self._blocks = list(range(1, 2 + max_tokens // BLOCK))
        device = torch.device("cpu")
        count = len(self._blocks) + 1
        self._cache = KVCache(model.config, count, BLOCK, torch.float32, device)
        self._model = model
        self._past = 0

    def feed(self, token_ids: list[int]) -> Tensor:
        """Logits behind each of them: [T, vocab_size]."""
        batch = make_batch([Row(token_ids, self._past, self._blocks)], BLOCK, "all")
        self._past += len(token_ids)
        return self._model(batch, self._cache)


@pytest.mark.parametrize(("model", "length"), [(QWEN, 300), (GEMMA, 600)], ids=["qwen", "gemma"])
@torch.inference_mode()
def test_logits_of_transformers(model: WheelModel, length: int, tmp_path: Path) -> None:
    """fp32 from the same blocks, in chunks through the cache, past Gemma's window of 512.

    transformers computes in fp64: Gemma's logits go to 49, and its own fp32 is as far from that as
    ours, most in the same rows, so that the two differ by what neither can help.
    """
    path = wheel_model(model, tmp_path)
    ids = open_checkpoint(path).tokenizer().encode(TEXT)[:length]
    assert len(ids) == length
    expected = _logits_of_transformers(path, ids)
    sequence = Prompted(load(path), length)
    worst, agreed = 0.0, 0
    for start in range(0, length, CHUNK):
        ours, theirs = sequence.feed(ids[start : start + CHUNK]), expected[start : start + CHUNK]
        worst = max(worst, float((ours - theirs).abs().max()))
        agreed += int((ours.argmax(-1) == theirs.argmax(-1)).sum())
    print(f"{path.name}: max |d| {worst:.2g}, std {expected.std():.2f}, {agreed} of {length}")
    assert worst < MAX_ERROR
    assert agreed == length


def _logits_of_transformers(path: Path, ids: list[int]) -> Tensor:
    """[T, vocab_size] float64; the model itself is gone when ours is loaded."""
    with in_double(load_in_transformers(path)) as model:
        logits: Tensor = model(torch.tensor([ids])).logits[0]
        assert logits.dtype == torch.float64
        return logits.clone()


@torch.inference_mode()
def test_answers_make_sense(tmp_path: Path) -> None:
    """Greedily, in 8 bits as it is served, from its own chat template."""
    path = wheel_model(QWEN, tmp_path)
    checkpoint = open_checkpoint(path)
    tokenizer = checkpoint.tokenizer()
    template = ChatTemplate(str(checkpoint.chat_template), tokenizer)
    model = load(path, quantize="int8")
    for question, expected in QUESTIONS.items():
        new = template.encode([{"role": "user", "content": question}])
        sequence, answer = Prompted(model, 256), b""
        for _ in range(80):
            token_id = int(sequence.feed(new)[-1].argmax())
            if token_id in tokenizer.eos_token_ids:
                break
            new = [token_id]
            answer += tokenizer.token_bytes(token_id)
        print(f"{question}\n    {answer.decode(errors='replace')}")
        assert expected in answer.decode(errors="replace")
