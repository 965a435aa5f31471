"""What `thirdeye eval` says is what the definitions say."""

from dataclasses import replace
from pathlib import Path

import gguf
import pytest
import torch
from typer.testing import CliRunner

from tests.bench.server import peer_logits
from tests.bench.server.peer_logits import judge_logits, read_logits, windows
from tests.weights import tiny
from thirdeye.model.native.library import Library
from thirdeye.server.cli import app
from thirdeye.server.eval import quality
from thirdeye.server.eval.quality import TEXT, Quality, Reader, judge, note
from thirdeye.weights.checkpoint import Checkpoint, open_checkpoint


class Letters:
    """A tokenizer of 96 tokens."""

    def encode(self, text: str) -> list[int]:
        return [ord(letter) % 96 for letter in text]


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkpoint:
    """Of random blocks, with a context of 128."""
    kind = gguf.GGMLQuantizationType.Q4_0
    model = tiny.llama()
    for parameter in model.parameters():
        parameter.data *= 0.3 if parameter.dim() == 2 else 1.0
    opened = open_checkpoint(tiny.llama_gguf(model, tmp_path / "m.gguf", kind=kind))
    monkeypatch.setattr(type(opened), "tokenizer", lambda self: Letters())
    return opened


def test_fp32_is_its_own_measure(checkpoint: Checkpoint, native: Library) -> None:
    (found,) = judge(
        checkpoint, "Ishmael" * 9, ["none"], native=native, window=40, is_compared=True
    )
    assert found.mean_kl == 0.0
    assert found.top1 == 1.0
    assert sum(map(len, found.surprise)) == 39 + 22, "all tokens but a window's first"


def test_blocks_as_stored_are_nearer_than_rounded_again(
    checkpoint: Checkpoint, native: Library
) -> None:
    stored, rounded = judge(
        *(checkpoint, TEXT.read_text()[:600], ["stored", "int8"]),
        native=native,
        window=100,
        is_compared=True,
    )
    assert 0 < stored.mean_kl < rounded.mean_kl
    assert stored.linear == "NativeStored(Q4_0)"
    assert stored.p99_kl > stored.mean_kl


@pytest.mark.parametrize("window", [33, 1000])
def test_a_step_changes_nothing(
    checkpoint: Checkpoint, native: Library, window: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a window is as long as the model can read."""
    text, figures = "Call me Ishmael. " * 12, []
    for step in (1, 7, 32):
        monkeypatch.setattr(quality, "STEP", step)
        (found,) = judge(
            checkpoint, text, ["auto"], native=native, window=window, is_compared=False
        )
        figures.append(torch.cat(found.surprise))
    assert all(torch.equal(figures[0], other) for other in figures)
    assert len(figures[0]) == len(text) - len(range(0, len(text), min(window, 128)))


def test_divergence_by_hand() -> None:
    """KL((1/2, 1/2) || (1/4, 3/4)) = log(2 / sqrt(3)); the text's token has 1/4."""
    one = Quality("int8", "")
    ours, exact = torch.tensor([[0.25, 0.75]]).log(), torch.tensor([[0.5, 0.5]]).log()
    note(one, ours, torch.tensor([0]), exact)
    assert one.mean_kl == pytest.approx(0.14384, abs=1e-4)
    assert one.perplexity == pytest.approx(4.0)
    assert one.top1 == 0.0


def test_logits_are_those_of_the_model(checkpoint: Checkpoint, native: Library) -> None:
    reader = Reader(checkpoint, native, "none")
    whole = torch.cat(list(reader.read(range(70))))
    assert whole.shape == (70, 96)


def test_what_is_not_there_is_named(checkpoint: Checkpoint) -> None:
    ran = CliRunner().invoke(app, ["eval", "kl", str(checkpoint.path), "--quantize", "int3"])
    assert ran.exit_code == 2
    assert "'--quantize' int3" in ran.output


def test_another_file_is_the_measure(
    checkpoint: Checkpoint, native: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose fp32 what a file says is held against; of one vocabulary both."""
    other = open_checkpoint(tiny.llama_gguf(tiny.llama(), tmp_path / "other.gguf"))

    def mean_kl(against: Checkpoint | None) -> float:
        (found,) = judge(
            *(checkpoint, "Ishmael" * 9, ["none"]),
            native=native,
            window=40,
            is_compared=True,
            against=against,
        )
        return found.mean_kl

    assert mean_kl(checkpoint) == mean_kl(None) == 0.0
    assert mean_kl(other) > 0.01
    small = replace(other.config, vocab_size=95)
    monkeypatch.setattr(other, "config", small)
    with pytest.raises(ValueError, match="one vocabulary, got 96 and 95 tokens"):
        mean_kl(other)


def test_the_cache_takes_part(checkpoint: Checkpoint, native: Library) -> None:
    """`--kv-dtype` as in `serve`: exact weights beside a cache in fewer bits."""
    found = [
        judge(
            *(checkpoint, "Ishmael" * 20, ["none"]),
            native=native,
            window=100,
            is_compared=True,
            kv_dtype=kv_dtype,
        )[0].mean_kl
        for kv_dtype in ("auto", "float16")
    ]
    assert found[0] == 0.0 < found[1] < 0.001


def test_logits_of_a_peer_are_judged_as_ours_are(
    checkpoint: Checkpoint, native: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, file = "Call me Ishmael. " * 12, tmp_path / "logits"
    (tmp_path / "text").write_text(text)
    monkeypatch.setattr(peer_logits, "TEXT", tmp_path / "text")
    reader, token_ids = Reader(checkpoint, native, "stored"), Letters().encode(text)
    with torch.inference_mode():
        said = [
            step.clone()
            for part in windows(token_ids, 128)
            for step in reader.read(token_ids[part])
        ]
    torch.cat(said).numpy().tofile(file)
    found = judge_logits(checkpoint, "peer", read_logits(file, checkpoint.config.vocab_size))
    (ours,) = judge(checkpoint, text, ["stored"], native=native, window=128, is_compared=True)
    assert (found.mean_kl, found.top1) == pytest.approx((ours.mean_kl, ours.top1))
    assert found.perplexity == pytest.approx(ours.perplexity)
    with pytest.raises(ValueError, match=r"peer: logits must be \[204, 96\], got \[2, 96\]"):
        judge_logits(checkpoint, "peer", torch.zeros(2, checkpoint.config.vocab_size))
