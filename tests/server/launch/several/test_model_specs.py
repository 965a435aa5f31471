"""How an operator names several models, and what each is said to take before it is loaded."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tests.tiny import tiny_llama
from thirdeye.server.api.http.api_config import ApiConfig
from thirdeye.server.api.pool.model_terms import DoesNotFit
from thirdeye.server.engine.process.spawn import Spawned
from thirdeye.server.launch.opened_model import open_model
from thirdeye.server.launch.several import open_models as subject
from thirdeye.server.launch.several.memory_needs import (
    PROCESS_BYTES,
    free_memory,
    needed_bytes,
    with_kv_memory,
)
from thirdeye.server.launch.several.model_specs import (
    ModelSpec,
    ModelsUnclear,
    read_specs,
    spec_of,
    specs_in,
)
from thirdeye.server.launch.several.open_models import (
    Opened,
    loaded_at_start,
    make_pool,
    open_models,
    settings_of_models,
)
from thirdeye.server.settings.pool_settings import PoolSettings
from thirdeye.server.settings.read_settings import read_settings
from thirdeye.weights.errors import ModelNotFound


@pytest.mark.parametrize(
    ("word", "name", "model"),
    [
        ("smollm2", None, "smollm2"),
        ("org/name:Q4_K_M", None, "org/name:Q4_K_M"),
        ("/a/b=c.gguf", None, "/a/b=c.gguf"),
        ("big=/a/b.gguf", "big", "/a/b.gguf"),
        ("fast@org/name:Q8_0", "fast", "org/name:Q8_0"),
        ("user@host", None, "user@host"),
    ],
)
def test_a_word_names_a_model(word: str, name: str | None, model: str) -> None:
    assert (spec_of(word).name, spec_of(word).model) == (name, model)


def test_what_lies_on_the_disk_is_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a=b").mkdir()
    monkeypatch.chdir(tmp_path)
    assert spec_of("a=b") == ModelSpec("a=b")


def test_a_file_has_a_table_for_each(tmp_path: Path) -> None:
    file = tmp_path / "models.toml"
    file.write_text(
        '[big]\nmodel = "/a.gguf"\nquantize = "int8"\naliases = ["gpt-*"]\npin = true\n'
        "[smollm2]\nkeep_alive = 60\n"
    )
    big, small = read_specs(None, PoolSettings(models=file))
    assert big == ModelSpec(
        "/a.gguf", "big", ("gpt-*",), {"quantize": "int8"}, None, is_pinned=True
    )
    assert (small.model, small.keep_alive) == ("smollm2", 60.0)
    assert big.settings["served_model_name"] == ["big", "gpt-*"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no table"),
        ("a = 1", "'a' must stand in a table"),
        ("[a", "models.toml"),
        ("[a]\nlora = ['b=/b']", "'lora' is for a server of one model: give this one a server"),
        ("[a]\ncolour = 1", "'colour' is no key of a model; there are admission, aliases"),
        ("[a]\nport = 1", "'port' is no key"),
        ("[a]\npin = 1", "'pin' must be true or false, got 1"),
        ('[a]\naliases = "b"', "'aliases' must be a list of texts"),
        ("[a]\nmodel = 5", "'model' must be a text"),
        ("[a]\nkeep_alive = nan", "'keep_alive' must be a number, got nan"),  # a timer that rings
        ("[a]\nkeep_alive = -inf", "'keep_alive' must be a number, got -inf"),
        ('[""]\nmodel = "b"', "a table's name is its model's"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "models.toml").write_text(text)
    with pytest.raises(ModelsUnclear, match=words.replace("[", r"\[")):
        specs_in(tmp_path / "models.toml")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("several") / "tiny"
    tiny_llama(path)
    return path


def opened(words: Sequence[str], **flags: object) -> list[Opened]:
    specs = [spec_of(word) for word in words]
    return open_models(settings_of_models(specs, read_settings(flags), flags))


def no_process() -> Spawned:
    raise AssertionError("nothing is loaded")


def test_each_has_its_settings_over_the_common_ones(checkpoint: Path, tmp_path: Path) -> None:
    file = tmp_path / "models.toml"
    file.write_text(f'[b]\nmodel = "{checkpoint}"\nmax_num_seqs = 3\n')
    flags = {"max_num_seqs": 5, "kv_memory": 0.01, "models": str(file)}
    settings = read_settings(flags)
    specs = [spec_of(f"a={checkpoint}"), *specs_in(file)]
    made = open_models(settings_of_models(specs, settings, flags))
    assert [one.settings.scheduling.max_num_seqs for one in made] == [5, 3]
    assert [one.name for one in made] == ["a", "b"]


def test_two_of_one_name_are_refused_and_a_second_name_is_the_firsts(checkpoint: Path) -> None:
    with pytest.raises(ModelsUnclear, match="two models are called tiny: name one of them"):
        opened([str(checkpoint), f"tiny={checkpoint}"], kv_memory=0.01)
    with pytest.raises(ModelsUnclear, match="write NAME=MODEL for each"):
        opened([f"a={checkpoint}"], served_model_name=["x"])
    with pytest.raises(ModelsUnclear, match="'--engine' thread is for one model"):
        opened([f"a={checkpoint}"], engine="thread")


def test_what_does_not_fit_is_said_before_anything_is_loaded(checkpoint: Path) -> None:
    models = opened([f"a={checkpoint}", f"b={checkpoint}"], kv_memory=0.25)
    gib = (PROCESS_BYTES / (1 << 30)) + 0.25
    flags = {"memory": gib + 0.1, "kv_memory": 0.25}
    pool = make_pool(models, read_settings(flags), ApiConfig(), no_process)
    assert loaded_at_start(models, read_settings(flags), pool) == ["a"]
    with pytest.raises(ModelsUnclear, match="what is to be loaded at start takes"):
        loaded_at_start(models, read_settings({**flags, "preload": ["a", "b"]}), pool)
    with pytest.raises(DoesNotFit, match=r"b takes .* GiB beside .* of pinned"):
        make_pool(models, read_settings({**flags, "pin": ["a"]}), ApiConfig(), no_process)
    with pytest.raises(ModelsUnclear, match="'--pin' c is none of the models: they are a, b"):
        make_pool(models, read_settings({**flags, "pin": ["c"]}), ApiConfig(), no_process)


def test_the_need_grows_with_the_weights_and_the_cache(checkpoint: Path) -> None:
    model = open_model(read_settings({"model": str(checkpoint)}).checkpoint)
    sizes = {}
    for name, quantize in (("none", "none"), ("int8", "int8")):
        flags = {"model": str(checkpoint), "quantize": quantize, "kv_memory": 0.5}
        sizes[name] = needed_bytes(read_settings(flags), model) - PROCESS_BYTES - (1 << 29)
    assert sizes["none"] > sizes["int8"] > 0
    assert sizes["none"] >= model.info.num_bytes  # they are stored in float32
    asked = with_kv_memory(read_settings({"device": "cpu"}), model.config)
    assert asked.cache.kv_memory_bytes == 2 * (1 << 30) // 5
    with pytest.raises(ModelsUnclear, match="'--kv-memory' must be given"):
        with_kv_memory(read_settings({"device": "cuda"}), model.config)


def test_a_draft_model_takes_what_its_own_form_takes(checkpoint: Path) -> None:
    model = open_model(read_settings({"model": str(checkpoint)}).checkpoint)
    both = {"model": str(checkpoint), "quantize": "int8", "kv_memory": 0.5}

    def need(**flags: str) -> int:
        return needed_bytes(read_settings(both | flags), model)

    draft, wide = {"draft": str(checkpoint)}, {"draft_quantize": "none"}
    alone = {quantize: need(quantize=quantize) - need() for quantize in ("int8", "none")}
    with pytest.raises(ModelNotFound, match=r"'--draft' no/such: .* not on this machine"):
        need(draft="no/such")
    assert need(**draft, **wide) - need(**draft) == alone["none"] > 0


def test_a_containers_limit_counts(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 9 kB\nMemAvailable:    4000 kB\n")
    proc, group = tmp_path / "proc", tmp_path / "sys/fs/cgroup"
    assert free_memory(meminfo, proc, tmp_path) == 4_096_000
    proc.mkdir()
    group.mkdir(parents=True)
    (proc / "cgroup").write_text("0::/\n")
    (proc / "mountinfo").write_text("31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n")
    (group / "memory.current").write_text("1000\n")
    for limit, free in (("max", 4_096_000), ("3000", 2000), ("500", 0)):
        (group / "memory.max").write_text(limit + "\n")
        assert free_memory(meminfo, proc, tmp_path) == free


class NoEngine:
    """What a model's engine is made with."""

    def __init__(self, made: list["NoEngine"], *_: Any, **beside: Any) -> None:
        self.beside = beside
        made.append(self)


@pytest.mark.parametrize("may", [True, False])
def test_who_may_not_come_back_gives_no_way(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, may: bool
) -> None:
    """Whether it may is tried once, and neither at a load nor at an end. Who may does where another
    is asked, and not where it is merely there."""
    monkeypatch.setattr(subject, "may_take_back", lambda: may)
    engines: list[NoEngine] = []
    monkeypatch.setattr(subject, "ModelEngine", partial(NoEngine, engines))
    flags = {"memory": 8, "kv_memory": 0.25}
    models = opened([f"a={checkpoint}", f"b={checkpoint}"], kv_memory=0.25)
    pool = make_pool(models, read_settings(flags), ApiConfig(), no_process)
    asked = [one.beside.get("are_others_asked", lambda: None) for one in engines]
    assert ["giving_way" in one.beside for one in engines] == [may] * 2
    assert [is_asked() for is_asked in asked] == [False if may else None] * 2
    if may:
        for name, expected in (("a", [False, True]), ("b", [True, False])):
            engines[0].beside["giving_way"].func.__self__.tell([name], 0.0)
            assert [is_asked() for is_asked in asked] == expected
    assert pool.members.keys() == {"a", "b"}


@pytest.mark.parametrize("flag", ["memory", "kv_memory"])
def test_more_memory_than_there_is_anywhere_is_a_line(flag: str) -> None:
    with pytest.raises(ValidationError, match=f"{flag}\n.*less than or equal to 100000"):
        read_settings({flag: 1e300})
