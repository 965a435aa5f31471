"""`thirdeye cluster` over the real Ray: what docs/cluster.md promises of it. A test leaves two
replicas that are well; each prints its figures (`-s`)."""

import json
import os
import signal
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.bench.cluster.bench_cluster import Load, measure, middle
from tests.deploy.on_ray.running_cluster import BODY, CHAT, Cluster, listening, wait_for
from tests.e2e.live import LiveServer

pytestmark = [pytest.mark.prove, pytest.mark.timeout(1800)]
NUM_STREAMS, LONG = 64, 3900  # tokens: longer than all take to begin
AT_THAT_MOMENT = 2  # probes: one that was there, one on its way


@pytest.fixture(autouse=True)
def two_replicas(cluster: Cluster) -> None:
    wait_for(lambda: is_well(cluster), "two replicas are well, and nothing runs")


def is_well(cluster: Cluster) -> bool:
    if len(cluster.replicas()) != 2 or len(cluster.engines()) != 2:
        return False
    try:
        return cluster.gauge("num_requests_running") == [0, 0]
    except httpx.TransportError:
        return False


def test_streams_are_whole_and_an_answer_has_one_id(cluster: Cluster) -> None:
    with cluster.streams(NUM_STREAMS, max_tokens=64) as streams:
        told = streams.ends()
    assert all(one.is_whole for one in told), [one for one in told if not one.is_whole][:3]
    again = cluster.post("Tell number 0 a story.", max_tokens=64)
    assert again.json()["choices"][0]["message"]["content"] == told[0].text
    assert len(again.headers.get_list("x-request-id")) == 1


def test_a_token_costs_little_more_than_without_ray(cluster: Cluster) -> None:
    """Of the front-end's processor time, at most 2.5 times a server's that is asked directly."""
    asked = Load(streams=8, tokens=512, requests=100)
    model = cluster.options[1].partition("=")[2]
    flags = ["--quantize", "none", "--threads", "1", "--port", "8123"]
    direct = LiveServer([model, *flags]).start()
    try:
        told = (cluster.url, cluster.folder, direct.url, direct.process.pid, asked)
        rounds = [measure(*told) for _ in range(3)]
    finally:
        direct.kill()
    found = middle(rounds)
    print(found)
    assert found["times direct, answers of 64 tokens"] < 2.5


def test_a_client_that_leaves_is_not_computed_for(cluster: Cluster) -> None:
    body = {**BODY, "max_tokens": 4000, "messages": [{"role": "user", "content": "Count."}]}
    aborted = sum(cluster.gauge("num_aborted_requests_total"))
    with httpx.stream("POST", f"{cluster.url}{CHAT}", json=body, timeout=300) as answer:
        next(answer.iter_lines())
    took = wait_for(
        lambda: sum(cluster.gauge("num_aborted_requests_total")) == aborted + 1, "it was aborted"
    )
    print(f"idle {took:.1f} s after the client left")


@pytest.mark.parametrize("way", ["session", "prompt"])
def test_a_prefix_is_found_again(cluster: Cluster, way: str) -> None:
    """24 turns of 6 conversations, a turn of each in turn: all but the first find the one before.
    The most there is to find are the whole blocks of 16 tokens of the turn before."""
    cached = possible = 0
    before = [0] * 6
    for turn in range(4):
        for i in range(6):
            head = f"{way} {i}: " + "abcdefgh" * 12
            said = [{"role": "user", "content": head}]
            for earlier in range(turn):
                said.append({"role": "assistant", "content": f"Answer {earlier}."})
                said.append({"role": "user", "content": f"Question {earlier}?"})
            more = {"session": f"{i}"} if way == "session" else {}
            told = cluster.stream("", messages=said, max_tokens=1, **more)
            hit, prompt = told.cached_and_prompt
            cached += hit
            possible += before[i] // 16 * 16
            before[i] = prompt
    print(f"by {way}: {cached} of {possible} tokens that could be cached: {cached / possible:.1%}")
    assert cached >= 0.95 * possible


def test_it_tells_of_its_replicas(cluster: Cluster) -> None:
    status = cluster.run("status")
    assert (status.returncode, status.stdout) == (0, f"{cluster.url}  RUNNING  2 RUNNING\n")
    (group,) = json.loads(cluster.run("targets").stdout)
    assert sorted(group["targets"]) == [f"127.0.0.1:{port}" for port in cluster.ports()]
    assert group["labels"] == {"app": "default", "__metrics_path__": "/metrics"}
    for target in group["targets"]:
        text = httpx.get(f"http://{target}/metrics", timeout=60).text
        assert "thirdeye_num_requests_running" in text


def test_what_is_wrong_is_answered_by_a_replica(cluster: Cluster) -> None:
    answer = httpx.post(f"{cluster.url}{CHAT}", content=b"no JSON", timeout=300)
    assert (answer.status_code, "error" in answer.json()) == (400, True)
    answer = cluster.post("Hello", temperature=-1)
    assert answer.json()["error"]["param"] == "temperature"


def test_an_engines_death_is_its_replicas(cluster: Cluster) -> None:
    """Its streams read why; the others are whole; nobody else notices; another takes its place."""
    replicas, engines = cluster.replicas(), cluster.engines()
    with cluster.streams(16, max_tokens=LONG) as streams:
        os.kill(engines[0], signal.SIGKILL)
        probes = cluster.probes_while(streams.is_going_on)
        told = streams.ends()
    cut = [one for one in told if not one.is_whole]
    assert all(one.error for one in cut), cut[:2]
    assert 0 < len(cut) < len(told)
    took = wait_for(lambda: is_well(cluster), "it was replaced")
    assert len(set(cluster.replicas()) & set(replicas)) == 1
    print(f"engine killed: {len(cut)} of 16 cut, probes {counts(probes)}, well {took:.0f} s later")
    assert len(probes) - probes.count(200) <= AT_THAT_MOMENT


def test_a_killed_replica_cuts_its_own_streams_alone(cluster: Cluster) -> None:
    killed = cluster.replicas()[0]
    with cluster.streams(NUM_STREAMS, max_tokens=LONG // 2) as streams:
        os.kill(killed, signal.SIGKILL)
        probes = cluster.probes_while(streams.is_going_on)
        told = streams.ends()
    cut = [one for one in told if not one.is_whole]
    took = wait_for(lambda: is_well(cluster), "it was replaced")
    ways = {one.broke or str(one.error) for one in cut}
    print(f"replica killed: {len(cut)} of {len(told)} cut ({ways})")
    print(f"  probes {counts(probes)}, well {took:.0f} s later")
    assert 0 < len(cut) < 0.8 * len(told)
    assert not [one for one in cut if one.is_done]
    assert len(probes) - probes.count(200) <= AT_THAT_MOMENT


def test_a_roll_out_cuts_nothing(cluster: Cluster) -> None:
    before = cluster.replicas()
    with cluster.streams(NUM_STREAMS, max_tokens=1500) as streams:
        cluster.roll_out("--max-num-seqs", "48")
        running = streams.num_running()
        told = streams.ends()
    probes = cluster.probes_while(lambda: False)
    whole = [one for one in told if one.is_whole]
    print(
        f"roll-out: {len(whole)} of {len(told)} whole, {running} ran at its end, {counts(probes)}"
    )
    assert len(whole) == len(told), [one for one in told if not one.is_whole][:2]
    assert set(probes) == {200}
    assert not set(cluster.replicas()) & set(before)


def test_the_heads_end_is_survived(cluster: Cluster) -> None:
    replicas, gcs = cluster.replicas(), cluster.pids("gcs_server")
    with cluster.streams(8, max_tokens=2000) as streams:
        os.kill(gcs[0], signal.SIGKILL)
        took = wait_for(
            lambda: cluster.pids("gcs_server") not in ([], gcs), "the GCS was started again"
        )
        probes = cluster.probes_while(streams.is_going_on)
        told = streams.ends()
    assert all(one.is_whole for one in told)
    assert set(probes) == {200}
    wait_for(lambda: cluster.run("status").returncode == 0, "Ray answers again")
    print(f"GCS killed: again {took:.1f} s later, probes {counts(probes)}, 8 of 8 whole")
    assert cluster.replicas() == replicas


def test_nothing_but_two_known_ports_is_off_loopback(cluster: Cluster) -> None:
    """Each replica's port for other actors' calls, which ask for the token."""
    done = subprocess.run(["ss", "-ltnp"], capture_output=True, text=True, check=True)
    local = ("127.0.0.1:", "[::ffff:127.0.0.1]:", "[::1]:")
    found = [one for one in listening(done.stdout.splitlines()) if not one[0].startswith(local)]
    assert {process.split('"')[1] for _, process in found} == {"ray::ServeRepli"}, found
    assert len(found) <= 3  # the picker is one, too


def test_without_the_token_ray_refuses(cluster: Cluster, tmp_path: Path) -> None:
    code = "import ray; ray.init(address='127.0.0.1:6379', logging_level='ERROR')"
    wrong = tmp_path / "token"
    wrong.write_text("0" * 64)
    environment = {"PATH": os.defpath, "HOME": str(tmp_path), "RAY_AUTH_MODE": "token"}
    for path, is_let_in in ((wrong, False), (cluster.folder / "token", True)):
        done = subprocess.run(
            [str(cluster.python), "-P", "-c", code],
            env={**environment, "RAY_AUTH_TOKEN_PATH": str(path)},
            capture_output=True,
            text=True,
        )
        assert (done.returncode == 0) is is_let_in, done.stderr[-2000:]


def test_what_waits_brings_another_replica(cluster: Cluster) -> None:
    """One replica with a batch of 4, and 24 streams."""
    small = ("--max-num-seqs", "4", "--max-queue-time", "0", "--queue-timeout", "0")
    cluster.roll_out("--autoscale", "1:2", "--replicas", "1", *small)
    wait_for(lambda: len(cluster.replicas()) == 1, "one is left")
    streams = cluster.streams(8, max_tokens=3000)
    with streams:
        took = wait_for(lambda: len(cluster.ports()) == 2, "another one serves")
        print(f"autoscaled from 1 to 2 in {took:.0f} s")
        assert all(one.is_whole for one in streams.ends())
    cluster.roll_out()


def test_down_leaves_nothing(cluster: Cluster) -> None:
    """And cuts nothing, though these answers take longer than Ray's own commands would wait."""
    with cluster.streams(4, max_tokens=LONG) as streams:
        done = cluster.run("down")
        told = streams.ends()
    assert done.returncode == 0
    assert all(one.is_whole for one in told)
    assert cluster.process.wait() == 0
    assert cluster.pids("") == []
    assert "No cluster is up" in cluster.run("status").stderr


def counts(statuses: list[int]) -> dict[int, int]:
    return {status: statuses.count(status) for status in set(statuses)}
