"""Models that see or hear answer to text as transformers' classes do, without their other parts."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedModel

from tests.architectures.running import load, logits
from tests.weights.tiny import save
from tests.weights.wrappers.wholes import TEXT, VARIANTS, WHOLES, make
from thirdeye.weights.architectures.refused import REFUSED
from thirdeye.weights.architectures.registry import ARCHITECTURES
from thirdeye.weights.architectures.wrappers.table import WRAPPERS
from thirdeye.weights.architectures.wrappers.text_part import text_part
from thirdeye.weights.checkpoint import open_checkpoint
from thirdeye.weights.errors import ModelFormatError
from thirdeye.weights.formats.fields import Fields

TOKENS = torch.randint(90, (30,), generator=torch.Generator().manual_seed(2)).tolist()
THINKERS = {"qwen2_5_omni": "qwen2_5_omni_thinker", "qwen3_omni_moe": "qwen3_omni_moe_thinker"}
# Their eyes are another library's, or all of them is their authors' own code.
WITHOUT_CLASS = {"fast_vlm": "qwen2", "perception_lm": "llama", "internvl_chat": "qwen2"}
OWN_CODE = ("internvl_chat",)


def check(path: Path, theirs: Tensor) -> None:
    with torch.inference_mode():
        torch.testing.assert_close(logits(load(path), TOKENS), theirs, atol=1e-4, rtol=1e-4)


def theirs_of(model: torch.nn.Module) -> Tensor:
    with torch.inference_mode():
        found: Tensor = model.eval()(input_ids=torch.tensor([TOKENS])).logits[0]
    return found


def change(path: Path, **changes: object) -> None:
    file = path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def rename(path: Path, named: "dict[str, str]") -> None:
    """By how names begin."""
    file = path / "model.safetensors"
    tensors = load_file(file)
    for old, new in named.items():
        tensors = {re.sub(f"^{re.escape(old)}", new, name): one for name, one in tensors.items()}
    save_file(tensors, file, {"format": "pt"})


def test_every_one_is_tried() -> None:
    tried = (WHOLES.keys() - THINKERS.values()) | THINKERS.keys() | WITHOUT_CLASS.keys()
    assert WRAPPERS.keys() == tried


def test_none_is_served_and_refused() -> None:
    """And what is called a text part's name, or what would work, is one that is read."""
    assert not REFUSED.keys() & WRAPPERS.keys()
    served = {name for row in ARCHITECTURES for name in row.model_types}
    assert not REFUSED.keys() & served
    for why in REFUSED.values():
        named = set(re.findall(r"'(\w+)'", why))
        assert named <= served | WRAPPERS.keys(), why
        assert "what works is" in why or re.search("work '|with .* work ", why)
        assert len(why) < 200
    for wrapper in WRAPPERS.values():
        assert wrapper.plain.get(wrapper.text, wrapper.text) in served


@pytest.mark.parametrize("model_type", sorted(WRAPPERS.keys() - {*THINKERS, *OWN_CODE}))
def test_what_a_file_leaves_out_is_as_transformers_has_it(model_type: str) -> None:
    told = {"model_type": "exaone4"} if model_type == "exaone4_5" else {}  # which cannot do without
    made: Any = CONFIG_MAPPING[model_type]
    theirs = made(text_config=told)
    text = text_part(
        Fields(Path("config.json"), {"model_type": model_type, "text_config": {}})
    ).fields
    check_defaults(model_type, text, theirs.text_config)
    if WRAPPERS[model_type].is_tied is not None:
        assert text.boolean("tie_word_embeddings") == theirs.tie_word_embeddings


@pytest.mark.parametrize("model_type", THINKERS)
def test_what_a_thinker_leaves_out(model_type: str) -> None:
    values = {"model_type": model_type, "thinker_config": {"text_config": {}}}
    text = text_part(Fields(Path("config.json"), values)).fields
    check_defaults(model_type, text, CONFIG_MAPPING[THINKERS[model_type]]().text_config)


def check_defaults(model_type: str, text: Fields, theirs: Any) -> None:
    wrapper = WRAPPERS[model_type]
    assert text.text("model_type") == wrapper.plain.get(theirs.model_type, theirs.model_type)
    rebuilt = {"norm_topk_prob", "attention_bias", "num_hidden_layers"}  # of no setting there
    for key in wrapper.defaults.keys() - rebuilt:
        at = theirs.rope_parameters if key in theirs.rope_parameters else vars(theirs)
        assert text.raw(key) == at.get(key, 1.0), key  # all channels are turned where none says


@pytest.mark.parametrize("name", sorted((WHOLES.keys() | VARIANTS.keys()) - set(THINKERS.values())))
def test_text_parts(tmp_path: Path, name: str) -> None:
    """Served without their eyes, whose tensors are left where they are."""
    model = make(name)
    # Of Cohere's, transformers leaves the scale of the logits out, which its text class has.
    text = model.config.text_config
    scale = getattr(text, "logit_scale", 1.0) if text.model_type == "cohere2" else 1.0
    theirs = theirs_of(model)
    assert theirs.std() > 0.03
    check(save(model, tmp_path), theirs * scale)


@pytest.mark.parametrize("whole", THINKERS)
def test_thinkers(tmp_path: Path, whole: str) -> None:
    """Which speak besides: what is theirs lies within a part of the whole."""
    model = make(THINKERS[whole])
    theirs, path = theirs_of(model), save(model, tmp_path)
    rename(path, {"": "thinker."})
    tensors = load_file(path / "model.safetensors") | {"talker.model.norm.weight": torch.ones(4)}
    save_file(tensors, path / "model.safetensors", {"format": "pt"})
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({"model_type": whole, "thinker_config": config}))
    check(path, theirs)


@pytest.mark.parametrize("whole", WITHOUT_CLASS)
def test_whose_eyes_are_another_librarys(tmp_path: Path, whole: str) -> None:
    """The text model as its class has it, by the names it has within the whole."""
    config: Any = CONFIG_MAPPING[WITHOUT_CLASS[whole]]
    text_class: Any = AutoModelForCausalLM
    model: PreTrainedModel = text_class.from_config(config(**TEXT, tie_word_embeddings=False))
    path = save(model, tmp_path)
    is_own = whole in OWN_CODE
    rename(path, {"": "language_model."} if is_own else {"model.": "model.language_model."})
    tensors = load_file(path / "model.safetensors")
    for other in WRAPPERS[whole].others:
        tensors[f"{'' if is_own else 'model.'}{other}0.weight"] = torch.ones(2)
    save_file(tensors, path / "model.safetensors", {"format": "pt"})
    text = json.loads((path / "config.json").read_text())
    key = WRAPPERS[whole].text_key
    (path / "config.json").write_text(json.dumps({"model_type": whole, key: text}))
    check(path, theirs_of(model))


def test_layers_that_pictures_alone_go_through_have_no_place_behind_the_last(
    tmp_path: Path,
) -> None:
    path = save(make("mllama"), tmp_path)
    rename(path, {"language_model.model.layers.1.": "language_model.model.layers.7."})
    with pytest.raises(ModelFormatError, match=r"no place for 13 tensors: .*layers\.7\."):
        load(path)
    text = json.loads((path / "config.json").read_text())["text_config"]
    for layers, problem in (([0, 1, 2, 3, 4], "must leave a layer"), (["1"], "must be a list")):
        change(path, text_config=text | {"cross_attention_layers": layers})
        with pytest.raises(
            ModelFormatError, match=f"'text_config.cross_attention_layers': {problem}"
        ):
            open_checkpoint(path)


def test_experts_stored_the_other_way(tmp_path: Path) -> None:
    """As Qwen's own files have them."""
    model = make("qwen3_vl_moe")
    path = save(model, tmp_path)
    file = path / "model.safetensors"
    tensors = {
        name: tensor.transpose(1, 2).contiguous() if ".mlp.experts." in name else tensor
        for name, tensor in load_file(file).items()
    }
    save_file(tensors, file, {"format": "pt"})
    check(path, theirs_of(model))


@pytest.mark.parametrize("flat", ["qwen2_vl", "qwen2_5_vl"])
def test_settings_beside_all_others(tmp_path: Path, flat: str) -> None:
    """As Qwen's own files have them, by the older names of tensors and rotary settings."""
    model = make(flat)
    path = save(model, tmp_path)
    config = json.loads((path / "config.json").read_text())
    text = config.pop("text_config")
    ropes = text.pop("rope_parameters")
    old = {"type": "mrope", "mrope_section": ropes["mrope_section"]}
    named = {"model_type": flat, "rope_theta": ropes["rope_theta"], "rope_scaling": old}
    (path / "config.json").write_text(json.dumps(config | text | named))
    rename(path, {"model.language_model.": "model.", "model.visual.": "visual."})
    check(path, theirs_of(model))


@pytest.mark.parametrize(
    ("whole", "problem"),
    [
        ({"model_type": "paligemma", "text_config": {"model_type": "gemma"}}, "what works is a"),
        ({"model_type": "a_newer_one", "text_config": {}}, "is served of qwen2_vl"),
        ({"model_type": "llava"}, "'text_config': is required and missing"),
        ({"model_type": "qwen2_5_omni"}, "'thinker_config': is required and missing"),
        (
            {"model_type": "qwen2_5_omni", "thinker_config": {}},
            "'thinker_config.text_config': is required and missing",
        ),
        (
            {"model_type": "qwen3_vl_moe", "text_config": {"norm_topk_prob": False}},
            "'text_config.norm_topk_prob': is not supported",
        ),
        (
            {"model_type": "paddleocr_vl", "text_config": {"use_bias": True}},
            "'text_config.use_bias': is not supported",
        ),
    ],
    ids=str,
)
def test_others_are_refused_with_what_would_work(whole: dict[str, Any], problem: str) -> None:
    with pytest.raises(ModelFormatError, match=problem):
        text_part(Fields(Path("config.json"), whole))
