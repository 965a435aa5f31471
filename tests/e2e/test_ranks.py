"""`thirdeye serve --tensor-parallel 2`: one server like any other, whichever of its ranks dies."""

import os
import signal
from pathlib import Path

import httpx
import pytest

from tests.draws import also_at_night, count
from tests.e2e.in_process import served_here
from tests.e2e.live import LiveServer
from tests.e2e.procfs import children, is_running, runs_module, seconds_until
from tests.tiny import tiny_llama

RANK = "thirdeye.server.load.rank_main"
LISTENS = "0A"
LOOPBACK = "0100007F"


@pytest.fixture
def server(tmp_path):
    tiny_llama(tmp_path)
    server = LiveServer([str(tmp_path), "--served-model-name", "tiny", "--tensor-parallel", "2"])
    server.args.append("--deterministic")
    yield server.start()
    server.kill()


@pytest.fixture
def of_one_rank(tmp_path: Path) -> str:
    """The greedy answer of the same model's server without ranks."""
    tiny_llama(tmp_path)
    with served_here(tmp_path) as url:
        return complete(url).json()["choices"][0]["text"]


def ranks(server: LiveServer) -> list[int]:
    """Process ids in order of rank; fewer while they start or end."""
    engines = server.engines()
    mates = [pid for engine in engines for pid in children(engine) if runs_module(pid, RANK)]
    return [*engines, *mates]


def listening_ranks(server: LiveServer) -> list[int]:
    """Both, which listen on loopback at the most."""
    pids = ranks(server)
    assert len(pids) == 2
    for pid in pids:
        assert set(listening(pid)) <= {LOOPBACK}
    return pids


def listening(pid: int) -> list[str]:
    """The addresses a process listens on, as the kernel writes them."""
    links = [os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()]
    lines = [
        line.split()
        for name in ("tcp", "tcp6")
        for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]
    ]
    own = [fields for fields in lines if f"socket:[{fields[9]}]" in links]
    return [fields[1].split(":")[0] for fields in own if fields[3] == LISTENS]


def complete(address: str, **fields: object) -> httpx.Response:
    body = {"model": "tiny", "prompt": "Greasy fried noodles", "max_tokens": 8, "temperature": 0}
    url = address + "/v1/completions"
    return httpx.post(url, json={**body, **fields}, trust_env=False, timeout=60)


@also_at_night
@pytest.mark.timeout(900)  # at night three engines of two ranks start
def test_either_rank_may_die(of_one_rank: str, server: LiveServer) -> None:
    """The ready line and the metrics say how many ranks; one rank's greedy answer, in 8 bits where
    the processor has them, which is the default; answers under a grammar; at night each rank killed
    once, and the same answer from the next engine; ranks hear each other on loopback alone; SIGTERM
    leaves none of them. `--deterministic` is said to change nothing on a CPU.

    Of a rank that dies a push knows from `test_other_hosts.py`, where the next engine answers, and
    from `tests/engine/distributed/test_ranks.py`, where it is either of two on one host.
    """
    assert "2 ranks on cpu float32" in server.output
    seconds_until(lambda: "--deterministic: on a CPU it is always so" in server.output)
    metrics = httpx.get(server.url + "/metrics", trust_env=False, timeout=60).text
    assert 'thirdeye_num_ranks{model_name="tiny"} 2.0' in metrics
    guided = complete(server.url, structured_outputs={"choice": ["noodles", "lunch"]})
    assert guided.json()["choices"][0]["text"] in ("noodles", "lunch")
    answer = complete(server.url).json()["choices"][0]["text"]
    assert answer == of_one_rank
    for victim in (1, 0)[: count(0, 2)]:
        pids = listening_ranks(server)
        os.kill(pids[victim], signal.SIGKILL)
        seconds_until(lambda old=pids: not any(is_running(pid) for pid in old))
        seconds_until(lambda n=2 - victim: server.output.count("the engine is back") == n)
        assert complete(server.url).json()["choices"][0]["text"] == answer
    pids = listening_ranks(server)
    assert server.stop() == 0, server.output
    seconds_until(lambda: not any(is_running(pid) for pid in pids))
    assert "Traceback" not in server.output


@pytest.mark.prove
def test_what_does_not_go_together(tmp_path: Path) -> None:
    """A sentence for each mistake of the operator's, no traceback. At a push what the engine finds
    is `tests/model/linear/test_quantized.py`'s, how it is told `test_server_life.py`'s, and
    `tests/server/launch/test_replica.py` has the other."""
    tiny_llama(tmp_path)
    for args, message in (
        (["--quantize", "int4"], "'--quantize' int4 needs a GPU"),
        (["--engine", "thread"], "'--engine' thread does not go with '--tensor-parallel' 2"),
    ):
        server = LiveServer([str(tmp_path), "--tensor-parallel", "2", *args])
        with pytest.raises(RuntimeError, match=message) as error:
            server.start()
        assert "Traceback" not in str(error.value)
