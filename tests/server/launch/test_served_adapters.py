"""`--lora` and `--lora-dir` from the files to the answers, over a real transformer in a thread."""

import asyncio
import json
from pathlib import Path

import httpx
import pytest
import torch

from tests.api.support import client_of
from tests.server.launch.test_replica import replica_of
from tests.tiny import tiny_llama
from tests.weights.adapters.peft_folder import linear_modules, merge, random_pair, write_adapter
from thirdeye.server.engine.interface.types import EngineDead
from thirdeye.server.launch.adapter_checks import check_adapters
from thirdeye.server.launch.opened_model import open_model
from thirdeye.server.launch.server_run import adapters_line
from thirdeye.server.launch.several.model_specs import ModelSpec, ModelsUnclear
from thirdeye.server.launch.several.open_models import settings_of_models
from thirdeye.server.settings.read_settings import read_settings
from thirdeye.weights.errors import ModelError

NAMES = ("poet", "clerk")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, two adapters, and the base with each of them merged into it."""
    path = tmp_path_factory.mktemp("adapters")
    for seed, name in enumerate(NAMES):
        model = tiny_llama(path / "tiny")
        generator = torch.Generator().manual_seed(seed)
        factors = {
            module: random_pair(layer, 4, generator)
            for module, layer in linear_modules(model).items()
        }
        write_adapter(path / name, factors, lora_alpha=8, base_model_name_or_path="org/tiny")
        merged = path / f"merged-{name}"
        tiny_llama(merged)  # for its tokenizer
        merge(model, factors, dict.fromkeys(factors, 2.0))
        model.save_pretrained(merged)
    return path


async def text_of(client: httpx.AsyncClient, model: str, max_tokens: int = 24) -> str:
    body = {"model": model, "prompt": "Once upon a time", "temperature": 0, "ignore_eos": True}
    answer = await client.post("/v1/completions", json=body | {"max_tokens": max_tokens})
    assert answer.status_code == 200, answer.text
    text: str = answer.json()["choices"][0]["text"]
    return text


def merged_texts(folder: Path) -> dict[str, str]:
    """What each should say, by a server of its own."""

    async def main() -> dict[str, str]:
        found = {}
        for name, path in (("tiny", "tiny"), *((n, f"merged-{n}") for n in NAMES)):
            replica = replica_of(folder / path)
            await replica.start()
            async with client_of(replica.app) as client:
                found[name] = await text_of(client, "tiny")
            await replica.close()
        return found

    return asyncio.run(main())


@pytest.mark.parametrize("cuda_graphs", ["off", "on"])
def test_each_says_what_its_merged_weights_say(cuda_graphs: str, folder: Path) -> None:
    """All at once; one of them is loaded by an operator while another streams, unloaded and loaded
    again as another. Where steps are launched ahead, those with adapters are not, and it is said.
    """
    expected = merged_texts(folder)
    assert len(set(expected.values())) == 3

    async def main() -> None:
        given = [f"poet={folder / 'poet'}"]
        replica = replica_of(
            folder / "tiny", lora=given, lora_dir=str(folder), cuda_graphs=cuda_graphs
        )
        info = await replica.start()
        assert ("step ahead: rows with" in str(info.missed_paths)) == (cuda_graphs == "on")
        assert adapters_line(replica.state.model, info)[0].startswith(
            "  adapters: poet (1 of 8 slots, 0.0 of 1,024 MiB)"
        )
        async with client_of(replica.app) as client:

            async def post(path: str, **body: str) -> None:
                answer = await client.post(f"/v1/{path}", json=body)
                assert answer.status_code == 200, answer.text

            streaming = asyncio.ensure_future(text_of(client, "poet", 200))
            await post("load_lora_adapter", lora_name="clerk", lora_path="clerk")
            names = ("tiny", "poet", "clerk", "clerk", "poet")
            texts = await asyncio.gather(*(text_of(client, name) for name in names))
            assert texts == [expected[name] for name in names]
            await post("unload_lora_adapter", lora_name="poet")
            assert (await streaming).startswith(expected["poet"])  # it ended with its adapter
            await post("load_lora_adapter", lora_name="poet", lora_path="clerk")
            assert await text_of(client, "poet") == expected["clerk"]  # nothing stale is found
            metrics = (await client.get("/metrics")).text
            assert 'thirdeye_lora_adapters{model_name="tiny"} 2.0' in metrics
            body = {"lora_name": "bad", "lora_path": "tiny"}
            answer = await client.post("/v1/load_lora_adapter", json=body)
            assert "is no adapter: there is no adapter_config.json" in answer.text
        await replica.close()

    asyncio.run(main())


def test_slots_and_bytes_are_bounded(folder: Path) -> None:
    async def main() -> None:
        for limit, words in (
            ({"max_loras": 1}, "all 1 slots of '--max-loras' are taken"),
            ({"lora_memory": 5e-5}, "all adapters together would take 0.06 MiB, '--lora-memory'"),
        ):
            given = [f"{name}={folder / name}" for name in NAMES]
            replica = replica_of(folder / "tiny", lora=given, **limit)
            with pytest.raises(EngineDead) as caught:
                await replica.start()
            assert f"'--lora' clerk: 'lora_path': {words}" in str(caught.value)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"lora": ["a=/gone"]}, "/gone: no such folder"),
        ({"lora": ["a=POET", "a=POET"]}, "'--lora' a: the name is taken"),
        ({"lora": ["tiny=POET"]}, "'--lora' tiny: the name is taken"),
        ({"lora": ["a=POET", "b=POET"], "max_loras": 1}, "'--lora' is given 2 times"),
        ({"lora_dir": "/gone"}, "'--lora-dir' /gone: no such folder"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_loaded(
    options: dict[str, object], words: str, folder: Path
) -> None:
    text = json.dumps(options).replace("POET", str(folder / "poet"))
    settings = read_settings({"model": str(folder / "tiny"), **json.loads(text)})
    with pytest.raises(ModelError, match=words.replace("(", r"\(")):
        check_adapters(settings, open_model(settings.checkpoint))


@pytest.mark.parametrize("where", ["flags", "table"])
def test_of_several_models_none_has_adapters(where: str) -> None:
    own = {"lora_dir": "/adapters"}
    settings = read_settings(own if where == "flags" else {})
    specs = [ModelSpec("big", options={} if where == "flags" else own)]
    with pytest.raises(ModelsUnclear, match="are for a server of one model"):
        settings_of_models(specs, settings, {})


@pytest.mark.parametrize("text", ["poet", "=path", "poet=", "a\tb=path"])
def test_a_name_and_a_path(text: str) -> None:
    with pytest.raises(ValueError, match="must be NAME=PATH"):
        read_settings({"lora": [text]})
