"""`/api/tags`, `/api/show`, `/api/ps`, `/api/version`: what is served, as Ollama tells it; and what
Ollama does to models, refused."""

from typing import Any

import httpx
import msgspec
import pytest

from tests.api.reasoning.thinker import SWITCHED
from tests.api.support import EOS, ByteTokenizer, Served, fake_engine, says
from tests.engine.process.fake_engine import FakeEngine
from thirdeye.server.api.ollama.model_routes import in_millions, with_tag
from thirdeye.server.api.state.generation_defaults import GenerationDefaults
from thirdeye.server.api.state.identity import Identity
from thirdeye.server.api.state.server_state import ModelInfo
from thirdeye.server.text.templates.chat_template import ChatTemplate

INFO = ModelInfo(
    30, 9, 3, 576, architecture="llama", file_format="gguf", tensor_format="Q4_1", num_bytes=98_000
)


def loaded(served: Served, device: str = "cpu", **changes: Any) -> None:
    about = {"num_parameters": 134_515_008, "device": device}
    info = msgspec.structs.replace(fake_engine().info, **about)
    served.use(
        FakeEngine(says("Hello!"), info=info, eos_token_ids=[EOS]),
        info=INFO,
        identity=Identity(weights="w"),
        **changes,
    )


def get(served: Served, path: str) -> Any:
    answer = httpx.get(served.url + path, trust_env=False)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_tags(served: Served) -> None:
    loaded(served)
    first, second = get(served, "/api/tags")["models"]
    assert (first["name"], second["name"]) == ("tiny:latest", "org/tiny:latest")
    assert first["model"] == first["name"]
    assert first["modified_at"] == "2023-11-14T22:13:20Z"
    assert first["size"] == 98_000
    assert len(bytes.fromhex(first["digest"])) == 32
    assert first["details"] == {
        "parent_model": "",
        "format": "gguf",
        "family": "llama",
        "families": ["llama"],
        "parameter_size": "134.52M",
        "quantization_level": "Q4_1",
    }


@pytest.mark.parametrize(("device", "on_gpu"), [("cpu", 0), ("cuda:0", 98_000)])
def test_ps(served: Served, device: str, on_gpu: int) -> None:
    loaded(served, device)
    (model,) = get(served, "/api/ps")["models"]
    assert (model["name"], model["context_length"]) == ("tiny:latest", 512)
    assert model["size_vram"] == on_gpu
    assert model["expires_at"] > "9"


def test_show(served: Served) -> None:
    loaded(served, defaults=GenerationDefaults(temperature=0.5))
    shown = served.whole("/api/show", {"model": "tiny:latest", "verbose": True})
    assert served.whole("/api/show", {"name": "tiny"}) == shown  # the field's older name
    assert "add_generation_prompt" in shown["template"]
    assert [line.split() for line in shown["parameters"].split("\n")] == [
        ["temperature", "0.5"],
        ["num_ctx", "512"],
    ]
    facts = shown["model_info"]
    family = facts["general.architecture"]
    assert facts["general.parameter_count"] == 134_515_008
    assert facts[f"{family}.context_length"] == 512
    assert facts[f"{family}.block_count"] == 30
    assert facts[f"{family}.attention.head_count_kv"] == 3


@pytest.mark.parametrize(
    ("template", "found"),
    [
        (None, ["completion"]),
        (ChatTemplate(SWITCHED, ByteTokenizer()), ["completion", "tools", "thinking"]),
    ],
    ids=["no template", "thinks"],
)
def test_capabilities(served: Served, template: ChatTemplate | None, found: list[str]) -> None:
    loaded(served, template=template)
    assert served.whole("/api/show", {"model": "tiny"})["capabilities"] == found


def test_the_version_is_that_of_the_api(served: Served) -> None:
    """Clients compare it: what it is newer than, it can."""
    version = get(served, "/api/version")
    assert tuple(map(int, version["version"].split("."))) >= (0, 12, 11)  # has logprobs
    assert version["thirdeye"] == get(served, "/version")["version"]


def test_while_the_model_is_loaded_nothing_is_served(served: Served) -> None:
    served.state.engine = None
    for path in ("/api/tags", "/api/ps"):
        answer = httpx.get(served.url + path, trust_env=False)
        assert (answer.status_code, [*answer.json()]) == (503, ["error"])
    served.use(fake_engine())


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("tiny", "tiny:latest"),
        ("org/tiny", "org/tiny:latest"),
        ("org/tiny:Q4_K_M", "org/tiny:Q4_K_M"),
        ("host:80/tiny", "host:80/tiny:latest"),
    ],
)
def test_a_full_name_has_a_tag(name: str, full: str) -> None:
    assert with_tag(name) == full


def test_sizes_are_short() -> None:
    assert [in_millions(n) for n in (999, 134_515_008, 8_030_261_248)] == [
        "0.00M",
        "134.52M",
        "8.0B",
    ]


@pytest.mark.parametrize(
    ("method", "path", "instead"),
    [
        ("POST", "/api/pull", "thirdeye pull MODEL"),
        ("POST", "/api/push", "tools of its hub"),
        ("POST", "/api/create", "'system' and 'options'"),
        ("POST", "/api/copy", "--served-model-name"),
        ("DELETE", "/api/delete", "thirdeye rm MODEL"),
        ("POST", "/api/blobs/sha256:00", "thirdeye serve FILE.gguf"),
    ],
)
def test_what_is_done_elsewhere(served: Served, method: str, path: str, instead: str) -> None:
    answer = httpx.request(method, served.url + path, json={"model": "x"}, trust_env=False)
    assert answer.status_code == 400
    assert answer.json().keys() == {"error"}
    said = answer.json()["error"]
    assert instead in said
    assert said.endswith(".")  # whole, not cut
    assert httpx.head(served.url + "/api/blobs/sha256:00", trust_env=False).status_code == 400
