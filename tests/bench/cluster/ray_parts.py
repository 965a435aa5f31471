"""Of what a token costs a replica on Ray: how much is the short way to its socket, how much Ray.

    python -m tests.bench.cluster.ray_parts

Starts Ray as the tests of `tests/deploy/on_ray` do, with two replicas of a tiny model, once for
each way of running the application; beside each run the same server without Ray, with and without
the short way (`server/transport/direct_write.py`). `bench_cluster` measures.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

from tests.bench.cluster.bench_cluster import Load, measure, middle
from tests.deploy.on_ray.conftest import ray_python
from tests.deploy.on_ray.namespace import Namespace
from tests.deploy.on_ray.running_cluster import Cluster, wait_for
from tests.e2e.live import COMMAND, LiveServer
from tests.tiny import tiny_llama

CHANGED = "tests.bench.cluster.changed_replica"
WAYS = {  # the short way, Ray's own thread for the application
    "as it is": (True, False),
    "without the short way": (False, False),
    "and in Ray's own thread": (False, True),
}


class ChangedCluster(Cluster):
    """Its `up` is `changed_replica`'s."""

    def _command(self, verb: str, *options: str) -> list[str]:
        found = super()._command(verb, *options)
        return [CHANGED if word == COMMAND[-1] else word for word in found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=512)
    args = parser.parse_args()
    namespace = Namespace()
    asked = Load(args.streams, args.tokens, requests=50)
    found = {}
    with tempfile.TemporaryDirectory(prefix="te", dir="/tmp") as folder, namespace.entered():
        model = Path(folder) / "model"
        model.mkdir()
        tiny_llama(model, context=4096)
        for i, (way, (is_short, is_own)) in enumerate(WAYS.items()):
            os.environ["BENCH_IS_SHORT"] = str(int(is_short))  # noqa: TID251 (handed on)
            os.environ["BENCH_OWN_THREAD"] = str(int(is_own))  # noqa: TID251
            found[way] = rounds_of(namespace, Path(folder) / f"s{i}", model, asked, args.rounds)
            print(way, found[way], flush=True)
    namespace.close()
    print(json.dumps(found))


def rounds_of(
    namespace: Namespace, folder: Path, model: Path, asked: Load, rounds: int
) -> dict[str, float]:
    options = ("--model", f"tiny={model}", "--quantize", "none", "--replicas", "2", "--cpus", "1")
    flags = [str(model), "--quantize", "none", "--threads", "1", "--port", "8123"]
    command = (sys.executable, "-P", "-m", CHANGED)
    direct = LiveServer(flags, command=command).start()
    cluster = ChangedCluster(ray_python(), namespace, folder, *options)
    try:
        wait_for(lambda: cluster.gauge("num_requests_running") == [0, 0], "two replicas are well")
        told = (cluster.url, cluster.folder, direct.url, direct.process.pid, asked)
        return middle([measure(*told) for _ in range(rounds)])
    finally:
        cluster.close()
        direct.kill()


if __name__ == "__main__":
    main()
