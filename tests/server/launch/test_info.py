"""`thirdeye info`: what a checkpoint is and whether it will serve, from its description alone."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import pytest

from tests.tiny import tiny_llama
from tests.weights import tiny
from tests.weights.formats.quantized.forms import save_quantized
from tests.weights.formats.quantized.integer_forms import gptq_form
from thirdeye.model.config import (
    Activation,
    AttentionSpec,
    ModelConfig,
    Norm,
    RopeConfig,
    RopeScaling,
)
from thirdeye.model.declare.latent_spec import LatentSpec
from thirdeye.model.experts_spec import ExpertsSpec
from thirdeye.model.memory_estimate import int8_kv_per_token, memory_estimates
from thirdeye.model.parameter_counts import parameter_counts
from thirdeye.server.launch.commands.info_command import (
    heads_line,
    mlp_rows,
    rope_line,
    show_info,
    window_line,
)
from thirdeye.weights.checkpoint import open_checkpoint


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    tiny_llama(tmp_path)
    return tmp_path


def change(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def tiny_config() -> ModelConfig:
    return ModelConfig(
        *("llama", 96, 64, 128, 2, 4, 4, 16, 128), Norm.RMS_NORM, 1e-5, Activation.SILU,
        gated_mlp=True, rope=RopeConfig(1e4, 16), qkv_bias=False, attention_output_bias=False,
        mlp_bias=False, tie_word_embeddings=True,
    )  # fmt: skip


def refusals(shown: str) -> list[str]:
    return shown.split("serves: no\n", 1)[1].splitlines()


def test_what_will_serve(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The generation defaults are set here: transformers writes them only where they differ."""
    suggested = {"temperature": 0.6, "top_p": 0.95, "do_sample": True, "max_length": 20}
    (checkpoint / "generation_config.json").write_text(json.dumps(suggested))
    assert show_info(str(checkpoint)) == 0
    shown = re.sub(r"\s+", " ", capsys.readouterr().out)
    assert "architecture llama" in shown
    assert re.search(r"tensors \d+ F32 ", shown)
    assert "sampling temperature 0.6, top_p 0.95, where a request does not say" in shown
    assert " characters, takes a system message tools not in the template" in shown
    assert "answers end at <|im_end|> " in shown
    assert "positions rotary, theta 10,000 windows none: every layer sees all " in shown
    assert "max_length" not in shown
    assert shown.endswith("serves: yes ")


def test_quantized_tensors_are_counted_by_their_method(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save_quantized(tiny_llama(tmp_path), tmp_path, gptq_form(4, 32))
    assert show_info(str(path)) == 0
    shown = re.sub(r"\s+", " ", capsys.readouterr().out)
    assert "tensors 14 GPTQ 4 bit (groups of 32), 7 F32 " in shown


def test_torch_is_not_imported(checkpoint: Path) -> None:
    code = (
        "import sys; from thirdeye.server.launch.commands.info_command import show_info; "
        f"sys.exit(show_info({str(checkpoint)!r}) or int('torch' in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_every_reader_that_refuses_has_a_line(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong tokenizer does not hide that a tensor is missing."""
    change(checkpoint / "config.json", tie_word_embeddings=False, num_hidden_layers=3)
    (checkpoint / "tokenizer.json").write_text("{}")
    assert show_info(str(checkpoint)) == 1
    first, second = refusals(capsys.readouterr().out)
    assert "tokenizer.json" in first
    assert re.search(r"parameters have no tensor: blocks\.2\.", second)


def test_a_broken_template_is_told(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (checkpoint / "chat_template.jinja").write_text("{% if %}")
    assert show_info(str(checkpoint)) == 1
    (line,) = refusals(capsys.readouterr().out)
    assert "does not parse" in line
    assert "--chat-template" in line


def test_a_suggestion_that_is_none(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (checkpoint / "generation_config.json").write_text('{"temperature": "hot"}')
    assert show_info(str(checkpoint)) == 1
    (line,) = refusals(capsys.readouterr().out)
    assert "'temperature': must be a number between 0 and 2, got 'hot'." in line
    assert "--generation-config none" in line


def test_a_template_list_with_a_name_that_is_no_string(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (checkpoint / "chat_template.jinja").unlink(missing_ok=True)
    named = [{"name": ["default"], "template": "x"}]
    change(checkpoint / "tokenizer_config.json", chat_template=named)
    assert show_info(str(checkpoint)) == 1
    (line,) = refusals(capsys.readouterr().out)
    assert "'chat_template': has an entry without a 'name'" in line


def test_an_architecture_that_is_not_served(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(checkpoint / "config.json", model_type="no_such_type")
    assert show_info(str(checkpoint)) == 1
    (line,) = refusals(capsys.readouterr().out)
    assert "'no_such_type'" in line


def test_a_gguf_file_without_a_tokenizer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tiny.llama_gguf(tiny.llama(), tmp_path / "tiny.gguf")
    assert show_info(str(path)) == 1
    shown = capsys.readouterr().out
    assert re.search(r"tensors +\d+ F32", shown)
    (line,) = refusals(shown)
    assert "tokenizer.ggml" in line


def test_layers_that_differ_are_counted() -> None:
    """Gemma 3 has local layers of another theta; some models leave positions out in some."""
    whole, local = RopeConfig(1e6, 16), RopeConfig(1e4, 16)
    specs = (AttentionSpec(local, window=512), AttentionSpec(local, window=512), AttentionSpec())
    config = replace(tiny_config(), num_hidden_layers=4, attention=(*specs, AttentionSpec(whole)))
    assert rope_line(config) == (
        "rotary, theta 10,000 in 2 of 4 layers; none in 1 of 4 layers; "
        "rotary, theta 1,000,000 in 1 of 4 layers"
    )
    assert window_line(config) == "of 512 in 2 of 4 layers"


def test_what_the_template_knows_and_the_files_do_not(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(checkpoint / "config.json", eos_token_id=0)
    (checkpoint / "generation_config.json").unlink()
    plain = "{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}"
    tools = "{{ tools }}<tool_call>" + plain
    named = [{"name": "default", "template": plain}, {"name": "tool_use", "template": tools}]
    change(checkpoint / "tokenizer_config.json", chat_template=named, eos_token=None)
    assert show_info(str(checkpoint)) == 0
    shown = re.sub(r"\s+", " ", capsys.readouterr().out)
    assert "tools in the form of a template of their own, 'tool_use'" in shown
    assert "answers end at <|endoftext|>, <|im_end|> (the template's end of a turn" in shown


def test_a_name_that_is_nowhere(capsys: pytest.CaptureFixture[str]) -> None:
    assert show_info("smolm2") == 1
    assert "Did you mean 'smollm2'?" in capsys.readouterr().err


def test_memory_is_what_is_declared(checkpoint: Path) -> None:
    """In full precision every number counts; in 8 bits a tied head stands beside its table."""
    from thirdeye.model.state.kv_cache import kv_bytes_per_block

    config = open_checkpoint(checkpoint).config
    counts = parameter_counts(config)
    rows = {(row.quantize, row.device[:3]): row for row in memory_estimates(config)}
    import torch

    assert rows["none", "CPU"].weights == 4 * counts.total
    assert rows["none", "GPU"].weights == 2 * counts.total
    assert rows["none", "CPU"].kv_per_token == kv_bytes_per_block(config, 1, torch.float32)
    assert rows["int8", "CPU"].kv_per_token == kv_bytes_per_block(config, 1, torch.float16)
    assert int8_kv_per_token(config) == kv_bytes_per_block(config, 1, torch.int8)
    head = counts.head or config.vocab_size * config.hidden_size
    linear = counts.attention + counts.mlp
    dense = counts.total - linear - counts.head
    assert rows["int8", "CPU"].weights == 4 * dense + linear + head
    assert rows["int4", "GPU"].weights == round(2 * dense + linear * 33 / 64 + head)


def test_a_file_with_blocks_has_a_row_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file's bytes, the table once more as the head, and looked up in fp32."""
    for kind, has_row in (("Q8_0", True), ("F32", False)):
        model = tiny.llama(tie_word_embeddings=True)
        kinds = gguf.GGMLQuantizationType
        path = tiny.llama_gguf(model, tmp_path / f"{kind}.gguf", kind=kinds[kind])
        sizes = open_checkpoint(path).tensor_sizes()
        weights = sum(sizes.values()) + 4 * 96 * 32
        show_info(str(path))
        shown = capsys.readouterr().out
        assert ("stored" in shown) == has_row
        if has_row:
            assert re.search(rf"stored +CPU, float32 +{weights / 1e6:,.2f} MB", shown), shown


def test_experts_in_words() -> None:
    spec = ExpertsSpec(8, 2, 36, shared_size=60)
    config = replace(tiny_config(), experts=spec)
    told = "2 of 8, 36 wide, silu, gated; and one of 60 for all"
    assert mlp_rows(config) == {"experts": told}
    rows = mlp_rows(replace(config, dense_layers=(0,)))
    assert rows == {
        "MLP": "128 wide, silu, gated in 1 of 2 layers",
        "experts": f"{told} in 1 of 2 layers",
    }
    assert mlp_rows(tiny_config()) == {"MLP": "128 wide, silu, gated"}


def test_latents_and_stretches_in_words() -> None:
    latent = LatentSpec(size=512, rope_size=64, key_size=128, value_size=128)
    spec = AttentionSpec(RopeConfig(1e4, 64), scale=0.1, has_values=False, latent=latent)
    config = replace(tiny_config(), num_kv_heads=1, head_dim=576)
    config = replace(config, attention=(spec,) * config.num_hidden_layers)
    assert heads_line(config) == (
        "4 of 192, values of 128, over 576 numbers a token, a latent of 512 and a turned part"
    )
    assert rope_line(config) == "rotary, theta 10,000, 64 of 192 channels"
    near = AttentionSpec(window=7, chunk=7)
    assert window_line(replace(tiny_config(), attention=(near, AttentionSpec()))) == (
        "stretches of 7 in 1 of 2 layers"
    )


def test_layers_that_differ_in_words() -> None:
    own = AttentionSpec(RopeConfig(1e4, 16), window=7)
    turned = RopeConfig(1e6, 32, RopeScaling("proportional", 1.0, num_pairs=4))
    wide = AttentionSpec(turned, head_dim=32, num_kv_heads=2)
    specs = (own, wide, own, replace(own, source=2))
    config = replace(tiny_config(), num_hidden_layers=4, attention=specs)
    config = replace(config, mlp_sizes=(128, 128, 128, 256))
    assert heads_line(config) == (
        "4 of 16 in 3 of 4 layers; 4 of 32, sharing 2 key-value heads in 1 of 4 layers; "
        "the last 1 read the keys and values of layers before"
    )
    assert rope_line(config) == (
        "rotary, theta 10,000 in 3 of 4 layers; rotary, theta 1,000,000, proportional times 1, "
        "8 of 32 channels in 1 of 4 layers"
    )
    told = "128 in 3 of 4 layers and 256 in 1 of 4 layers wide, silu, gated"
    assert mlp_rows(config) == {"MLP": told}


HOSTILE = "end\x1b]52;c;ZXZpbA==\x07\x9b31m\u202e[/red][link=x]"


def test_what_a_file_says_steers_no_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its tokens' texts, its name: anybody may have written them."""
    path = tmp_path / f"m{HOSTILE.replace('/', '')}"
    tiny_llama(path)
    for file in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        if (path / file).exists():
            text = (path / file).read_text()
            (path / file).write_text(text.replace("<|im_end|>", json.dumps(HOSTILE)[1:-1]))
    show_info(str(path))
    shown = capsys.readouterr().out
    assert "answers end at" in shown
    assert "[/red][link=x]" in shown
    assert re.search(r"[^\n -~]", shown) is None
