"""What loading and saving customers costs on a Redis Cluster of three primaries, beside one server.

Records of a large shop, in micro-batches. Server and cluster take turns; costs are processor
seconds, of this process and of the Redis servers as they count them, so that one machine can tell
them though all servers share its cores. The medians of the quotients are what `plan` reckons with
(core/redis_servers.py). Replicas are stopped first: one server has none either.

Usage: python tests/quality/cluster_cost.py [--batch N] [--runs N] [--json]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import redis

sys.path.insert(0, str(Path(__file__).parents[2]))

from stream_scorer.bench.shop_workload import Shop, space_of
from stream_scorer.demo.embedded import EmbeddedRedis
from stream_scorer.io.stores.redis import RedisStore
from stream_scorer.live.consumer import open_store
from stream_scorer.settings.tree import Settings
from tests.io.stores.redis_clusters import PRIMARIES, RedisClusterRig
from tests.io.stores.shop_states import shop_states

SHOP = Shop(categories=500, columns=300_000, active=9)  # 120 values of a row are not 0
KINDS = "one server", "cluster"


def opened(addresses: list[int], mode: str) -> RedisStore:
    first, *others = (f"127.0.0.1:{port}" for port in addresses)
    wanted = {"url": f"redis://{first}/0", "mode": mode, "other_addresses": ",".join(others)}
    overrides = {"redis": wanted, "store": {"hot_bytes": 0}}
    return open_store(Settings.load(None, environment={}, overrides=overrides), space_of(SHOP))


def cpu_seconds(clients: list[redis.Redis]) -> float:
    found = [client.info("cpu") for client in clients]
    return sum(float(of["used_cpu_user"]) + float(of["used_cpu_sys"]) for of in found)


def measured(batch: int, runs: int) -> dict[str, Any]:
    """Microseconds of processor time a customer, of the member and of Redis, and the quotients."""
    states = shop_states(SHOP, batch)
    ids, rows = list(states.customer_ids), np.arange(batch)
    with EmbeddedRedis() as server, RedisClusterRig() as rig, redis.Redis(port=server.port) as one:
        for node in rig.nodes[PRIMARIES:]:
            node.kill()
        stores = {
            "one server": opened([server.port], "single"),
            "cluster": opened([node.port for node in rig.nodes[:PRIMARIES]], "cluster"),
        }
        servers = {"one server": [one], "cluster": rig.clients[:PRIMARIES]}
        taken: dict[str, dict[str, list[float]]] = {
            kind: {"member": [], "redis": [], "elapsed": []} for kind in KINDS
        }
        for store in stores.values():
            store.begin({("events", 0): 0})
        for run in range(runs + 2):
            for kind in KINDS if run % 2 else reversed(KINDS):
                store = stores[kind]
                member, of_redis, began = (
                    time.process_time(), cpu_seconds(servers[kind]), time.perf_counter(),
                )  # fmt: skip
                store.load(ids)
                store.save(states, rows)
                store.advance({("events", 0): run + 1})
                elapsed = time.perf_counter() - began
                if run < 2:  # compiles kernels, loads scripts
                    continue
                taken[kind]["member"].append(time.process_time() - member)
                taken[kind]["redis"].append(cpu_seconds(servers[kind]) - of_redis)
                taken[kind]["elapsed"].append(elapsed)
        for store in stores.values():
            store.close()
    found: dict[str, Any] = {"customers": batch, "runs": runs}
    for what in ("member", "redis", "elapsed"):
        for kind in KINDS:
            found[f"{what}, {kind}, us"] = 1e6 * statistics.median(taken[kind][what]) / batch
        pairs = zip(taken["cluster"][what], taken["one server"][what], strict=True)
        found[f"{what}, cluster over one server"] = statistics.median(a / b for a, b in pairs)
    return found


def main() -> int:
    arguments = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    arguments.add_argument("--batch", type=int, default=4000, help="customers of a micro-batch")
    arguments.add_argument("--runs", type=int, default=30)
    arguments.add_argument("--json", action="store_true")
    given = arguments.parse_args()
    found = measured(given.batch, given.runs)
    if given.json:
        print(json.dumps(found))
    else:
        for what, value in found.items():
            print(f"{what:38} {value:10.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
