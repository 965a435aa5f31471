"""A cluster without time: whose prefix lies at which replica, and who has how much to do.

    python -m tests.bench.cluster.cluster_sim --replicas 200 --requests 90000

Conversations of tenants (system prompts, by Zipf's law) come and go; each replica keeps what its KV
memory holds, the least recently used goes. A policy says who gets the next request. What comes out:
which share of the prompts' tokens was cached, how many requests the busiest replica had under way
at once, and what it computed against the mean. Then, by arithmetic, what scraping and fetching
the model cost at that size. The picks are the product's (`server/cluster`). One JSON line last.
"""

import argparse
import json
import random
import time
from bisect import bisect
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from itertools import accumulate

from thirdeye.server.cluster.picking.replica_ring import ReplicaRing, pick_replica

SYSTEM, TURN, TURNS = 1500, 400, 12  # tokens of a system prompt, of a turn; turns of a conversation
REUSE = 0.7  # of the requests go on in one tenth of the conversations


@dataclass(frozen=True)
class Cluster:
    replicas: int
    requests: int
    under_way: int = 16  # of each replica, on average
    kv_tokens: int = 200_000  # that a replica keeps
    tenants: int = 2_000

    @property
    def conversations(self) -> int:
        return 200 * self.replicas


@dataclass(frozen=True)
class Outcome:
    policy: str
    cached: float  # share of the prompts' tokens
    most_under_way: int  # at one replica at once
    busiest: float  # tokens computed at the busiest, against the mean


@dataclass
class Kept:
    """What a replica's prefix cache holds: pieces by name, the least recently used first."""

    limit: int
    sizes: OrderedDict[str, int] = field(default_factory=OrderedDict)
    used: int = 0

    def tokens_of(self, name: str) -> int:
        if name in self.sizes:
            self.sizes.move_to_end(name)
        return self.sizes.get(name, 0)

    def keep(self, name: str, size: int) -> None:
        self.used += size - self.sizes.get(name, 0)
        self.sizes[name] = size
        self.sizes.move_to_end(name)
        while self.used > self.limit:
            self.used -= self.sizes.popitem(last=False)[1]


Loads = Mapping[str, int]
Pick = Callable[[str, str, Loads, int], str]  # tenant, conversation, loads and their sum


def policies(names: list[str], chance: random.Random) -> dict[str, Pick]:
    """By name. `inf` as a bound is plain consistent hashing."""
    ring, unbounded = ReplicaRing(names), float("inf")

    def least_of_two(_: str, __: str, loads: Loads, ___: int) -> str:
        return min(chance.choice(names), chance.choice(names), key=lambda name: loads.get(name, 0))

    def by(key: Callable[[str, str], str], bound: float) -> Pick:
        return lambda tenant, conversation, loads, total: pick_replica(
            ring, key(tenant, conversation).encode(), loads, total, bound
        )

    return {
        "random": lambda *_: chance.choice(names),
        "least of two": least_of_two,
        "conversation": by(lambda _, conversation: conversation, unbounded),
        "conversation, bounded": by(lambda _, conversation: conversation, 1.25),
        "system prompt": by(lambda tenant, _: tenant, unbounded),
        "system prompt, bounded": by(lambda tenant, _: tenant, 1.25),
    }


def simulate(cluster: Cluster, policy: str, seed: int = 1) -> Outcome:
    chance = random.Random(seed)
    names = [f"replica {i}" for i in range(cluster.replicas)]
    pick = policies(names, random.Random(seed + 1))[policy]
    zipf = [*accumulate(1 / (i + 1) for i in range(cluster.tenants))]
    tenant_of = [bisect(zipf, chance.random() * zipf[-1]) for _ in range(cluster.conversations)]
    turns: Counter[int] = Counter()
    caches = {name: Kept(cluster.kv_tokens) for name in names}
    loads, computed = Counter[str](), Counter[str]()
    under_way: deque[str] = deque()
    cached = needed = most = 0
    is_warm_at = cluster.requests // 3
    for number in range(cluster.requests):
        few = cluster.conversations // 10
        talk = chance.randrange(few if chance.random() < REUSE else cluster.conversations)
        turn = turns[talk]
        turns[talk] = (turn + 1) % TURNS
        tenant, conversation = f"tenant {tenant_of[talk]}", f"conversation {talk}"
        replica = pick(tenant, conversation, loads, len(under_way))
        under_way.append(replica)
        loads[replica] += 1
        if len(under_way) > cluster.replicas * cluster.under_way:
            loads[under_way.popleft()] -= 1
        cache, prompt = caches[replica], SYSTEM + TURN * (turn + 1)
        hit = cache.tokens_of(tenant)
        if hit:
            hit += min(cache.tokens_of(conversation), TURN * turn)
        cache.keep(tenant, SYSTEM)
        cache.keep(conversation, TURN * (turn + 1))
        if number >= is_warm_at:
            cached, needed = cached + hit, needed + prompt
            computed[replica] += prompt - hit
            most = max(most, loads[replica])
    busiest = max(computed.values()) / (sum(computed.values()) / cluster.replicas)
    return Outcome(policy, round(cached / needed, 3), most, round(busiest, 1))


def scrape_cost(
    replicas: int, series: int, interval: float, milliseconds: float
) -> dict[str, float]:
    """Of one that scrapes all: series it keeps, samples a second, and the share of each replica's
    API process that answering takes."""
    return {
        "series": replicas * series,
        "samples_per_second": round(replicas * series / interval),
        "share_of_a_core_at_each_replica": round(milliseconds / 1000 / interval, 5),
    }


def download_seconds(
    replicas: int, gigabytes: float, store_gbits: float, line_gbits: float
) -> float:
    """Until all have the model from one store: its line, or theirs, whichever is slower."""
    return max(replicas * gigabytes * 8 / store_gbits, gigabytes * 8 / line_gbits)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replicas", type=int, default=200)
    parser.add_argument("--requests", type=int, default=90_000)
    parser.add_argument("--policy", action="append", help="these alone")
    asked = parser.parse_args()
    cluster = Cluster(asked.replicas, asked.requests)
    began, rows = time.process_time(), []
    for policy in asked.policy or policies(["a"], random.Random(0)):
        rows.append(simulate(cluster, policy))
        row = rows[-1]
        print(f"{row.policy:24} cached {row.cached:6.1%}  most {row.most_under_way:5}", end="  ")
        print(f"(mean {cluster.under_way})  busiest {row.busiest:5.1f} x mean", flush=True)
    print(
        json.dumps(
            {
                "cluster": asdict(cluster),
                "policies": [asdict(row) for row in rows],
                "scrape": scrape_cost(cluster.replicas, 181, 15, 1.83),
                "scrape_every_50_ms": scrape_cost(cluster.replicas, 181, 0.05, 1.83),
                "download_16_gb_seconds": download_seconds(cluster.replicas, 16, 100, 10),
                "processor_seconds": round(time.process_time() - began, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
