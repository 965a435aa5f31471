"""From `thirdeye serve` to the last process gone: start, leave, die, as the operator sees it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from tests.draws import also_at_night
from tests.e2e.live import ROOT, LiveServer
from tests.tiny import tiny_gpt2, tiny_llama

BODY = {"model": "tiny", "prompt": "Greasy fried noodles", "max_tokens": 8, "temperature": 0}


def wait_until(condition, seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def metric(url: str, name: str) -> float:
    text = httpx.get(f"{url}/metrics", trust_env=False, timeout=10).text
    for line in text.splitlines():
        if line.startswith(name):
            return float(line.rsplit(" ", 1)[1])
    raise AssertionError(f"no metric {name}")


def test_the_ready_line(tiny_server):
    """One line with URL, model, parameters, context, device, dtype, blocks; a curl that works."""
    line = next(line for line in tiny_server.lines if line.startswith("Ready: "))
    for part in (
        tiny_server.url,
        "tiny",
        "parameters",
        "256 context",
        "cpu",
        "float32",
        "KV blocks",
    ):
        assert part in line
    curl = next(line for line in tiny_server.lines if line.strip().startswith("curl ")).strip()
    shown = subprocess.run(
        ["sh", "-c", curl + " -sS --fail"], capture_output=True, check=True, text=True
    )
    assert json.loads(shown.stdout)["choices"][0]["message"]["content"]


def test_what_the_start_took_is_told(tiny_server):
    for phase in ("describe", "load"):
        name = f'thirdeye_startup_time_seconds{{model_name="tiny",phase="{phase}"}}'
        assert metric(tiny_server.url, name) > 0


def test_api_process_never_loads_torch(tiny_server):
    """The HTTP side starts at once because it never imports torch; the engine does."""
    maps = Path(f"/proc/{tiny_server.process.pid}/maps").read_text()
    assert "libtorch" not in maps
    (engine,) = tiny_server.engines()
    assert "libtorch" in Path(f"/proc/{engine}/maps").read_text()


def test_one_listening_socket(tiny_server):
    """Nothing listens but the one address that was asked for."""
    processes = [tiny_server.process.pid, *tiny_server.children()]
    port = tiny_server.port
    assert [entry for pid in processes for entry in listeners(pid)] == [("0100007F", port)]


def listeners(pid: int) -> list[tuple[str, int]]:
    """(hexadecimal address, port) of each listening TCP socket that this process holds."""
    inodes = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            inodes.add(os.readlink(link))
        except FileNotFoundError:
            continue
    found = []
    for table in ("tcp", "tcp6"):
        for row in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            columns = row.split()
            if columns[3] == "0A" and f"socket:[{columns[9]}]" in inodes:
                address, port = columns[1].split(":")
                found.append((address, int(port, 16)))
    return found


@also_at_night
@pytest.mark.parametrize(
    ("make", "engine"),
    [(tiny_gpt2, "thread"), pytest.param(tiny_llama, "process", marks=pytest.mark.prove)],
)
def test_greedy_text_of_tiny_models(tmp_path, make, engine):
    """Both architectures and both engines, through the command, say what `transformers` does. At a
    push the default model's text is of the other two: `test_default_model.py`."""
    model = make(tmp_path)
    args = [str(tmp_path), "--served-model-name", "tiny", "--engine", engine, "--quantize", "none"]
    server = LiveServer(args).start()
    try:
        body = {**BODY, "max_tokens": 20, "return_token_ids": True, "ignore_eos": True}
        answer = httpx.post(server.url + "/v1/completions", json=body, trust_env=False, timeout=30)
        assert answer.status_code == 200, answer.text
        choice = answer.json()["choices"][0]
        prompt = choice["prompt_token_ids"]
        assert choice["token_ids"] == greedy(model, prompt, 20)
    finally:
        assert server.stop() == 0, server.output


def greedy(model, token_ids: list[int], count: int) -> list[int]:
    import torch

    ids = list(token_ids)
    with torch.no_grad():
        for _ in range(count):
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[len(token_ids) :]


def test_a_client_that_leaves_frees_its_blocks(tiny_server):
    """Mid-stream disconnect: nothing runs and no KV block is held a moment later."""
    body = {**BODY, "max_tokens": 200, "stream": True, "ignore_eos": True, "n": 4}
    with httpx.stream(
        "POST", tiny_server.url + "/v1/completions", json=body, trust_env=False
    ) as answer:
        next(answer.iter_lines())
    wait_until(lambda: metric(tiny_server.url, "thirdeye_num_requests_running") == 0)
    wait_until(lambda: metric(tiny_server.url, "thirdeye_kv_cache_usage_perc") == 0)


@pytest.mark.prove
def test_port_in_use_names_the_way_out(tmp_path):
    """The error says which port and which flag; the exit status is not 0. (At a push:
    `tests/api/http/test_serve.py`, without the command.)"""
    tiny_llama(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = [
            sys.executable,
            "-m",
            "thirdeye.server.cli",
            "serve",
            str(tmp_path),
            "--port",
            str(port),
        ]
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert result.returncode != 0
    assert str(port) in result.stderr
    assert "--port" in result.stderr
    assert "Traceback" not in result.stderr


def at_night(case):
    """A process costs seconds: `make prove` starts this one."""
    return pytest.param(*case, marks=pytest.mark.prove)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        at_night((["/nowhere/at/all.gguf"], ["/nowhere/at/all.gguf"])),
        at_night((["--dtype", "float8"], ["--dtype", "float32"])),
        at_night((["--max-num-seqs", "0"], ["--max-num-seqs", "1"])),
        at_night((["TINY", "--max-model-len", "100000"], ["--max-model-len", "256"])),
        (["TINY", "--kv-memory", "0.000001"], ["--kv-memory"]),
        at_night((["TINY", "--device", "cuda"], ["--device", "cpu"])),
        at_night(
            (
                ["TINY", "--max-num-seqs", "64", "--max-num-batched-tokens", "8"],
                ["max_num_batched_tokens"],
            )
        ),
    ],
)
@also_at_night
def test_bad_settings_are_explained(tmp_path, args, words):
    """A wrong flag ends it with one message that names the flag and the way out, no traceback:
    at a push one that the engine finds. What the command finds: `tests/server/test_cli.py`."""
    if "TINY" in args:
        tiny_llama(tmp_path)
    args = [str(tmp_path) if arg == "TINY" else arg for arg in args]
    command = [sys.executable, "-m", "thirdeye.server.cli", "serve", "--port", "0", *args]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert result.returncode not in (0, -signal.SIGKILL)
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in result.stderr
