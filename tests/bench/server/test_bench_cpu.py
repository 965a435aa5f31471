"""What `make bench-cpu` takes for its peers, and what it makes of their figures."""

import json
import math
from pathlib import Path

import pytest

from tests.bench.server.bench_cpu import KL, parse, ratio, specs_of_ours, table, without_nan
from tests.bench.server.peers import Spec, llama_command, model_of, said, started


def test_peers_can_be_repeated(capsys: pytest.CaptureFixture[str]) -> None:
    args = parse(
        ["--peer", "ik=/x/llama-server -rtr", "--peer", "b=http://h:1/", "--ours", "v=--isa avx2"]
    )
    assert args.peer == [Spec("ik", "/x/llama-server -rtr"), Spec("b", "http://h:1/")]
    assert args.ours == [Spec("v", "--isa avx2")]
    for wrong in (
        ["--peer", "ik"],
        ["--peer", "ik="],
        ["--peer", "thirdeye=/x"],
        ["--logits", "b=/x"],
    ):
        with pytest.raises(SystemExit):
            parse(wrong)
    assert "a name of its own" in capsys.readouterr().err


def test_guesses_are_shown_apart() -> None:
    """Ours twice, all else alike: each in a column, with a ratio of its own."""
    args = parse(["--serve-arg=--isa", "--serve-arg=avx2", "--ours", "v=--threads 1"])
    assert specs_of_ours(args) == [
        Spec("thirdeye", "--isa avx2"),
        Spec("thirdeye with guesses", "--isa avx2 --speculation ngram"),
        Spec("v", "--threads 1"),
    ]
    plain, guessing = specs_of_ours(parse([]))
    assert (plain.what, guessing.what) == ("", "--speculation ngram")
    assert specs_of_ours(parse(["--no-guesses"])) == [plain]
    tokens = {plain.name: 20.0, guessing.name: 30.0, "a": 10.0}
    figures = {name: {"output tok/s, 1": value} for name, value in tokens.items()}
    last = table(figures, [plain.name, guessing.name]).splitlines()[-1]
    assert last == "| output tok/s, 1 | 20.00 | 30.00 | 10.00 | 2.00 | 3.00 |"


def test_a_peer_is_a_command_on_our_file_or_on_its_own() -> None:
    own = Path("/m/a.gguf")
    command = llama_command("/x/llama-server -rtr", own, 81, 32, 2)
    assert command[:5] == ["/x/llama-server", "--model", "/m/a.gguf", "--port", "81"]
    assert command[-1] == "-rtr"
    assert command[command.index("--ctx-size") + 1] == str(32 * 1024)
    assert model_of(command) == own
    assert model_of(llama_command("/x/s -m '/m/b c.gguf'", own, 81, 32, 2)) == Path("/m/b c.gguf")
    with started(Spec("b", "http://h:1/"), own, 1, 2) as peer:
        assert (peer.name, peer.url, peer.pids, peer.is_ours) == ("b", "http://h:1", [], False)
    assert said(["--isa", "avx2", "--quantize", "int8"], "--quantize") == "int8"
    assert said(["--quantize"], "--quantize") == "auto"


def test_a_server_that_ends_is_said(tmp_path: Path) -> None:
    with (
        pytest.raises(RuntimeError, match=r"false --model .* ended with 1"),
        started(Spec("b", "false"), tmp_path / "a.gguf", 1, 1),
    ):
        pass


def test_ratios_are_to_the_better_one() -> None:
    assert ratio("output tok/s, 8", 30.0, [10.0, 20.0, math.nan]) == 1.5
    assert ratio("first token p50 ms, 8", 30.0, [100.0, 60.0]) == 0.5
    assert ratio(KL, 0.002, [0.004]) == 0.5
    assert math.isnan(ratio("resident, GB", 1.0, [math.nan]))


def test_the_table_and_the_last_line() -> None:
    speed = {"output tok/s, 1": 30.0}
    figures = {
        "thirdeye": speed | {KL: 0.00326},
        "a": {"output tok/s, 1": 20.0},
        "b": {"output tok/s, 1": 15.0, KL: 0.3},
    }
    rows = table(figures, ["thirdeye"]).splitlines()
    assert rows[0] == "| | thirdeye | a | b | thirdeye / the better peer |"
    assert rows[2] == "| output tok/s, 1 | 30.00 | 20.00 | 15.00 | 1.50 |"
    assert rows[3] == f"| {KL} | 0.0033 | nan | 0.3000 | 0.01 |"
    alone = table({"thirdeye": speed}, ["thirdeye"]).splitlines()
    assert alone[2] == "| output tok/s, 1 | 30.00 |"
    assert json.dumps(without_nan({"a": {"x": math.nan, "y": 1 / 3}})) == '{"a": {"y": 0.33333}}'
