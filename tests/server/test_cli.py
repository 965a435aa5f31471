"""The command as a newcomer meets it: quick help, and answers without a server."""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError
from typer.main import get_command
from typer.testing import CliRunner, Result

from thirdeye.clients.grouped_help import ARGUMENTS, COMMON
from thirdeye.server.cli import app, given
from thirdeye.server.launch.commands.offline import show_doctor, show_models
from thirdeye.server.launch.commands.pull_command import pull_model
from thirdeye.server.launch.opened_model import read_template
from thirdeye.server.launch.server_run import explain, make_present
from thirdeye.server.settings.api_settings import CheckpointSettings
from thirdeye.server.settings.read_settings import read_settings
from thirdeye.server.settings.settings import all_settings
from thirdeye.server.text.templates.chat_template import ChatTemplateError
from thirdeye.weights.catalog import SMOLLM2

HEAVY = ("torch", "fastapi", "pydantic", "uvicorn", "tiktoken", "numpy", "jinja2", "httpx", "ray")


def thirdeye(*args: str) -> Result:
    """The command in this process, which has imported what it needs, without a terminal. What a
    process of its own shows beside: `test_the_command_as_a_process`."""
    done = CliRunner().invoke(app, args, prog_name="thirdeye")
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def in_a_process(*args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "thirdeye.server.cli", *args]
    return subprocess.run(
        command, capture_output=True, stdin=subprocess.DEVNULL, text=True, timeout=240
    )


def test_help_imports_nothing_heavy():
    """--help has half a second: what costs more stays inside the commands."""
    code = (
        "import sys, thirdeye.server.cli; "
        f"sys.exit(str([m for m in {HEAVY} if m in sys.modules] or ''))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.strip() == ""


def test_the_command_as_a_process():
    """Its status and its two streams are those that all tests here see without one."""
    for words in (("--version",), ("pull", "no-such-model"), ("rm",)):
        done, here = in_a_process(*words), thirdeye(*words)
        assert done.returncode == here.exit_code
        assert (done.stdout, done.stderr) == (here.stdout, here.stderr)


def test_help_names_the_commands():
    shown = thirdeye("--help").stdout
    for command in ("serve", "chat", "complete", "bench", "pull", "list", "rm", "info", "doctor"):
        assert f"\n  {command} " in shown


def commands(group: Any, name: str = "thirdeye") -> Iterator[tuple[str, Any]]:
    for command in group.commands.values():
        full = f"{name} {command.name}"
        yield from commands(command, full) if hasattr(command, "commands") else [(full, command)]


COMMANDS = [pytest.param(*one, id=one[0]) for one in commands(get_command(app))]
FIRST = 10  # options that people use first: no command shows more before it groups them


def sections(command: Any) -> dict[str, list[str]]:
    """What --help shows: the flags below each title, in order."""
    found: dict[str, list[str]] = {}
    for line in command.get_help(
        command.make_context("thirdeye", [], resilient_parsing=True)
    ).splitlines():
        if line.endswith(":") and not line.startswith(" "):
            found[line[:-1]] = rows = []
        elif found and line.startswith("  -"):
            rows.append(line.split()[0])
    return found


@pytest.mark.parametrize(("name", "command"), COMMANDS)
def test_every_option_is_explained_and_many_are_in_groups(name: str, command: Any):
    """Behind those that people use first, at the top."""
    assert all(parameter.help for parameter in command.params), name
    shown = sections(command)
    options = [one for one in command.params if one.param_type_name == "option"]
    assert sum(map(len, shown.values())) == len(options) + 1, "one is --help"
    if len(options) > FIRST:
        titles = [title for title in shown if title != ARGUMENTS]
        assert titles[0] == COMMON
        assert titles[-1] == "Other options", "--help, and nothing else"
        assert len(titles) > 3
        assert 5 <= len(shown[COMMON]) <= FIRST
        assert len(shown["Other options"]) == 1


@pytest.mark.parametrize(
    ("name", "groups"),
    [
        ("chat", {"The server": 3, "The answer": 3, "Other options": 2}),
        ("pull", {"A model of the hub": 2, "Other options": 2}),
        ("serve", {COMMON: 10}),
    ],
)
def test_groups_of_a_command(name: str, groups: dict[str, int]):
    command = get_command(app).commands[name]  # type: ignore[attr-defined] (a group of commands)
    shown = sections(command)
    assert groups.items() <= {title: len(flags) for title, flags in shown.items()}.items()


def test_every_flag_is_a_setting_and_every_setting_a_flag():
    """A flag without a setting would do nothing; a setting without a flag could not be seen."""
    serve = get_command(app).commands["serve"]  # type: ignore[attr-defined] (a group of commands)
    flags = {parameter.name for parameter in serve.params} - {"help"}
    assert flags == {row.name for row in all_settings()}


def test_a_flag_wins_over_the_environment(monkeypatch):
    monkeypatch.setenv("THIRDEYE_MAX_NUM_SEQS", "8")
    monkeypatch.setenv("THIRDEYE_PORT", "9000")
    settings = read_settings(given({"port": 9001, "host": None, "api_key": []}))
    assert settings.scheduling.max_num_seqs == 8
    assert (settings.network.port, settings.network.host) == (9001, "127.0.0.1")


def test_a_wrong_setting_is_named_as_its_flag():
    with pytest.raises(ValidationError) as raised:
        read_settings({"max_num_seqs": 0, "dtype": "float8"})
    lines = explain(raised.value)
    assert len(lines) == 2
    assert "--dtype" in "".join(lines)
    assert "--max-num-seqs" in "".join(lines)


def test_a_variable_may_hold_several_values(monkeypatch):
    """As plainly as a flag: a key is a key, and needs no JSON around it."""
    monkeypatch.setenv("THIRDEYE_API_KEY", "first-key, second-key")
    monkeypatch.setenv("THIRDEYE_SERVED_MODEL_NAME", "mine")
    settings = read_settings()
    assert settings.access.api_keys() == ("first-key", "second-key")
    assert settings.checkpoint.served_model_name == ("mine",)
    assert read_settings({"api_key": ["a,b"]}).access.api_keys() == ("a,b",)


def test_a_key_file_that_holds_none_is_refused(tmp_path):
    """It would leave the server open to all, though a key was asked for."""
    (tmp_path / "empty").write_text("# later\n")
    (tmp_path / "bytes").write_bytes(b"\xff")
    for name in ("empty", "bytes", "missing"):
        with pytest.raises(ValidationError) as raised:
            read_settings({"api_key_file": tmp_path / name})
        (line,) = explain(raised.value)
        assert line.startswith("'--api-key-file': ")


@pytest.mark.parametrize(
    "wrong",
    [
        {"api_key": [""]},
        {"api_key": ["two words"]},
        {"api_key": ["sha256:abc"]},
        {"served_model_name": [""]},
        {"cors_origin": ["example.org"]},
        {"root_path": "api"},
        {"root_path": "/api/"},
        {"kv_memory": float("inf")},
        {"queue_timeout": float("inf")},
        {"log_level": "loud"},
    ],
    ids=str,
)
def test_a_value_that_would_do_nothing_or_harm_is_refused(wrong):
    with pytest.raises(ValidationError) as raised:
        read_settings(wrong)
    (line,) = explain(raised.value)
    assert line.startswith(f"'--{next(iter(wrong)).replace('_', '-')}': ")


def test_a_template_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "template").write_bytes(b"\xff")
    with pytest.raises(ChatTemplateError, match="--chat-template"):
        read_template(tmp_path / "template")


def test_keys_come_from_flag_and_file_and_are_never_shown(tmp_path):
    """A printed settings object shows no key; comments and blank lines in the file are not keys."""
    file = tmp_path / "keys"
    file.write_text("# ours\nsecond-key\n\n")
    settings = read_settings({"api_key": ["first-key"], "api_key_file": file})
    assert settings.access.api_keys() == ("first-key", "second-key")
    assert "first-key" not in repr(settings)


def test_version():
    assert thirdeye("--version").stdout.startswith("thirdeye 0.")


def test_doctor_says_what_a_bug_report_needs():
    shown = thirdeye("doctor").stdout
    assert "--tensor-parallel up to" in shown
    for word in ("thirdeye", "python", "torch", "fastapi", "native kernels", "cache", "smollm2"):
        assert word in shown


@pytest.mark.parametrize("command", ["list", "models"])
def test_list_shows_the_catalog(command: str):
    assert "smollm2" in thirdeye(command).stdout


def test_a_damaged_catalog_model_is_called_so(tmp_path, monkeypatch, capsys):
    """`serve` and `list`: not as if it were not there."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = tmp_path / "thirdeye" / "models" / SMOLLM2.file_name
    path.parent.mkdir(parents=True)
    path.write_bytes(b"GGUF")
    assert not make_present(CheckpointSettings())
    told = capsys.readouterr().err.replace("\n", " ")
    assert f"{path} is damaged: it has 4 bytes, the model '{SMOLLM2.name}' has" in told
    assert f"'thirdeye pull {SMOLLM2.name}' repairs it." in told
    assert show_models() == 0
    assert f"damaged: thirdeye pull {SMOLLM2.name}" in capsys.readouterr().out


def test_names_steer_no_terminal(tmp_path, monkeypatch):
    """Of files, and of a repository of the hub: whoever made them chose their names."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    models = tmp_path / "thirdeye" / "models"
    folder = models / "hub" / "org--name"
    for file in (models / "a\x1b]0;b\x07.gguf", folder / "c[" / "red]\u202e[" / "x].gguf"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"GGUF")
    name = "c[/red]\u202e[/x].gguf"
    file = {"path": name, "size": 4, "sha256": None, "blob_id": None}
    record = {"repository": "org/name", "revision": None, "commit": "0", "files": {name: file}}
    (folder / "hub.json").write_text(json.dumps(record))
    listed = thirdeye("list")
    assert "a?]0;b?.gguf" in listed.stdout
    assert "c[/red]?[/x]" in listed.stdout
    assert listed.stdout.replace("\n", "").isprintable()
    removed = thirdeye("rm", "a\x1b]0;b\x07", "--yes")
    assert removed.exit_code == 0
    assert (removed.stdout + removed.stderr).replace("\n", "").isprintable()


def test_list_shows_whole_paths(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    file = tmp_path / "thirdeye" / "models" / f"{'long-name-' * 12}.gguf"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"GGUF")
    assert str(file) in thirdeye("list").stdout


@pytest.mark.parametrize("variable", ["XDG_CACHE_HOME", "HF_HUB_CACHE"])
@pytest.mark.parametrize("name", ["x" * 300, "/".join(["x" * 250] * 20)], ids=["name", "path"])
def test_a_cache_path_that_is_too_long_is_a_line(variable, name, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(variable, str(tmp_path / name))
    assert show_models() == 1
    said = capsys.readouterr().err
    assert "File name too long" in said
    assert said.count("\n") == 1
    assert variable in said
    assert show_doctor() == 0
    assert "no models can be looked for" in capsys.readouterr().out


def test_rm_asks_first(tmp_path, monkeypatch):
    """Without a terminal and without --yes nothing is deleted."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    file = tmp_path / "thirdeye" / "models" / "mine.gguf"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"GGUF")
    done = thirdeye("rm", "mine")
    assert (done.exit_code, file.exists()) == (1, True)
    assert "--yes" in done.stderr
    done = thirdeye("rm", "mine", "--yes")
    assert (done.exit_code, file.exists()) == (0, False)
    assert str(file) in done.stdout


def test_pull_takes_a_file_of_the_hub_alone(capsys):
    assert pull_model("smollm2", if_missing=True, file="x.gguf") == 1
    assert "'--hf-file' and '--revision' are of a hub's model" in capsys.readouterr().err


def test_pull_refuses_an_unknown_name():
    done = thirdeye("pull", "no-such-model")
    assert done.exit_code == 1
    assert "smollm2" in done.stderr
    assert "Did you mean" not in done.stderr
    assert "Did you mean 'smollm2'?" in thirdeye("pull", "smolm2").stderr


@pytest.mark.real
@pytest.mark.usefixtures("default_model")
def test_info_shows_attention_beside_the_mlp():
    """134,515,008 parameters; grouped heads make attention a quarter of the blocks, not a third."""
    shown = thirdeye("info").stdout
    for word in ("134,515,008", "26,542,080", "79,626,240", "25.0%", "75.0%", "8,192 tokens"):
        assert word in shown


def test_info_of_the_classic_shape(tmp_path):
    """In GPT-2 attention is one third and the MLP two thirds: the project's name."""
    from tests.tiny import tiny_gpt2

    tiny_gpt2(tmp_path)
    shown = thirdeye("info", str(tmp_path)).stdout
    assert "33." in shown.split("attention   ", 1)[1]
    assert "learned" in shown


def test_info_of_nothing():
    done = thirdeye("info", "/nowhere")
    assert done.exit_code == 1
    assert "/nowhere" in done.stderr
    assert "Traceback" not in done.stderr
