"""A client of a Redis Cluster, for RedisServer, which it looks like one server to.

redis-py's own client of clusters finds other servers and repeats calls by itself, which would hide
that writes were lost, and it has no scripts in pipelines. Here nothing is repeated but a script
that a server does not know yet:

- Each primary has a RedisServer of its own, which notices by its run id that it was restarted.
- Which primary has which tag (cluster_keys.py) is asked before the first call, and again after
  every error that is worth waiting for. Where a tag is then found on another primary, by a
  failover or because its slot was moved, that counts as another server: watermarks are compared
  before anything it says is used.
- MOVED, ASK, TRYAGAIN and CLUSTERDOWN are errors that are worth waiting for.

Calls are sorted by primary; each gets its own in one pipeline, all primaries at the same time.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import redis
import xxhash
from redis.crc import key_slot

from stream_scorer.errors import ConfigError
from stream_scorer.io.stores.cluster_keys import TAGS, placed, tag_name
from stream_scorer.io.stores.redis_server import OtherServer, RedisServer

Address = tuple[str, int]
Command = tuple[Any, ...]

NOT_YET = "does not work on a Redis Cluster yet; it needs a namespace on one server"
_MOST_PRIMARIES = 1024
_MOST_AT_ONCE = 16  # primaries that are asked at the same time
_PASSING = (
    redis.exceptions.MovedError, redis.exceptions.AskError, redis.exceptions.TryAgainError,
    redis.exceptions.ClusterDownError,
)  # fmt: skip
_TAG_SLOTS = {tag_name(t).encode(): key_slot(tag_name(t).encode()) for t in range(TAGS)}


class ClusterClient:
    """nodes: addresses of some nodes, which say where the others are. options: of redis.Redis, for
    each of them. Raises redis-py's errors, as redis.Redis does."""

    def __init__(self, nodes: Sequence[Address], options: Mapping[str, Any], address: str) -> None:
        self.address = address
        self.user = str(options.get("username") or "default")
        self.has_password = bool(options.get("password"))
        self._nodes, self._options = list(nodes), dict(options)
        self._servers: dict[Address, RedisServer] = {}
        self._owners: dict[bytes, Address] = {}  # by tag; those of before, where it is not fresh
        self._fresh, self._answered = False, self._nodes[0]
        self._lock = threading.Lock()
        self._workers = ThreadPoolExecutor(_MOST_AT_ONCE, thread_name_prefix="redis")
        self._scripts: dict[str, str] = {}

    # As redis.Redis.

    def mget(self, keys: Sequence[str | bytes]) -> list[Any]:
        """The values of keys, wherever they lie; those of one tag are of one moment."""
        by_tag: defaultdict[bytes, list[tuple[int, bytes]]] = defaultdict(list)
        for position, key in enumerate(keys):
            tag, name = placed(key)
            by_tag[tag].append((position, name))
        commands = [("MGET", *(name for _, name in some)) for some in by_tag.values()]
        answers = self.run(list(zip(by_tag, commands, strict=True)))
        values: list[Any] = [None] * len(keys)
        for some, answer in zip(by_tag.values(), answers, strict=True):
            if isinstance(answer, Exception):
                raise answer
            for (position, _), value in zip(some, answer, strict=True):
                values[position] = value
        return values

    def get(self, key: str) -> Any:
        """As GET."""
        return self._one("GET", key)

    def set(self, key: str, value: Any) -> Any:
        """As SET, without options."""
        return self._one("SET", key, value)

    def getrange(self, key: str, start: int, end: int) -> Any:
        """As GETRANGE."""
        return self._one("GETRANGE", key, start, end)

    def delete(self, *keys: str) -> int:
        """As DEL, key by key."""
        commands = [(tag, ("DEL", name)) for tag, name in map(placed, keys)]
        answers = self.run(commands)
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return int(sum(answers))

    def time(self) -> Any:
        """The time of the server that has what there is once in a namespace."""
        return self._server(tag_name(0).encode()).client.time()

    def config_get(self, pattern: str) -> Any:
        """Of one primary: they are expected to be alike."""
        return self._server(tag_name(0).encode()).client.config_get(pattern)

    def dbsize(self) -> int:
        """All keys of all primaries."""
        return sum(int(server.client.dbsize()) for server in self._primaries())

    def scan(self, cursor: int, *, match: str, count: int) -> tuple[int, list[bytes]]:
        """As SCAN, of one primary after another: 1024 times its own cursor, and which it is, are
        the cursor. Whoever looks through all keys compares `layout` before and after."""
        own, at = divmod(cursor, _MOST_PRIMARIES)
        primaries = self._primaries()
        if at >= len(primaries):
            return 0, []
        own, keys = primaries[at].client.scan(own, match=match, count=count)
        if own:
            return own * _MOST_PRIMARIES + at, keys
        return (at + 1 if at + 1 < len(primaries) else 0), keys

    def layout(self) -> str:
        """A hash of which primary, by its run, has which slots. Raises ConnectionError while a slot
        is being moved, since its keys are on two primaries then."""
        own: list[str] = []
        for server in self._primaries():
            nodes = server.client.execute_command("CLUSTER", "NODES")
            text = nodes.decode() if isinstance(nodes, bytes) else str(nodes)
            (line,) = [line for line in text.splitlines() if "myself" in line.split()[2]]
            slots = line.split()[8:]
            if any(slot.startswith("[") for slot in slots):
                raise redis.exceptions.ConnectionError(
                    "a slot of the cluster is being moved: its keys are on two primaries"
                )
            # A node's epoch rises when it takes a slot, also where that is moved back.
            epoch = line.split()[6]
            own.append(f"{server.client.info('server')['run_id']} {epoch} {slots}")
        return xxhash.xxh64_hexdigest("\n".join(sorted(own)).encode())

    def script_load(self, text: str) -> str:
        """Load a script where it is not yet; its hash."""
        sha = ""
        for server in self._primaries():
            sha = str(server.client.script_load(text))
        self._scripts[sha] = text
        return sha

    def pipeline(self, *, transaction: bool) -> Pipeline:
        """Commands that are made together; without a transaction."""
        assert not transaction
        return Pipeline(self)

    # As RedisServer needs it.

    def info_of_primaries(self, sections: Sequence[str]) -> dict[str, Any]:
        """INFO of all primaries as of one server, the worst of each; {} where one refuses."""
        found: list[dict[str, Any]] = []
        for server in self._primaries():
            try:
                parts = [server.client.info(section) for section in sections]
            except redis.exceptions.NoPermissionError:
                return {}
            found.append({name: value for part in parts for name, value in part.items()})
        merged: dict[str, Any] = {**found[0], "cluster_enabled": 0, "primaries": len(found)}
        for name in ("evicted_keys", "used_memory"):
            merged[name] = sum(int(one.get(name, 0)) for one in found)
        if "maxmemory" in merged:
            limits = [int(one.get("maxmemory", 0)) for one in found]
            merged["maxmemory"] = sum(limits) if all(limits) else 0
        if "aof_enabled" in merged:
            merged["aof_enabled"] = min(int(one.get("aof_enabled", 0)) for one in found)
        policies = [str(one.get("maxmemory_policy", "noeviction")) for one in found]
        merged["maxmemory_policy"] = next((p for p in policies if p != "noeviction"), policies[0])
        merged["run_id"] = "-".join(str(one.get("run_id", "")) for one in found)
        merged["role"] = "master"  # only primaries have slots
        return merged

    def drop_connections(self) -> None:
        """Close all connections; before the next call it is asked anew who has which tag."""
        with self._lock:
            servers, self._fresh = list(self._servers.values()), False
        for server in servers:
            server.drop_connections()

    def close(self) -> None:
        """Close all connections for good."""
        for server in self._servers.values():
            server.close()
        self._workers.shutdown(wait=False)

    def run(self, commands: Sequence[tuple[bytes, Command]]) -> list[Any]:
        """One answer for each (tag, command), errors of commands as values. Raises where a
        connection fails, or a tag is not where it is thought to be: some were made then."""
        owners = self._fresh_owners()
        by_owner: defaultdict[Address, list[int]] = defaultdict(list)
        for position, (tag, _) in enumerate(commands):
            by_owner[owners[tag]].append(position)
        answers: list[Any] = [None] * len(commands)

        def ask(owner: Address, positions: list[int]) -> None:
            made = self._made(owner, [commands[position][1] for position in positions])
            for position, answer in zip(positions, made, strict=True):
                answers[position] = answer

        if len(by_owner) == 1:
            ask(*next(iter(by_owner.items())))
        else:
            # All are waited for, also where one fails: none is still at work when this returns.
            asked = [self._workers.submit(ask, *some) for some in by_owner.items()]
            wait(asked)
            failed = [error for future in asked if (error := future.exception()) is not None]
            # Another server comes first: whoever asks compares what is stored then.
            for error in sorted(failed, key=lambda e: not isinstance(e, OtherServer)):
                raise error
        return answers

    def _made(self, owner: Address, commands: Sequence[Command]) -> list[Any]:
        client = self._servers[owner].client
        answers = _in_one_pipeline(client, commands)
        unknown = [
            position for position, answer in enumerate(answers)
            if isinstance(answer, redis.exceptions.NoScriptError)
            and commands[position][1] in self._scripts
        ]  # fmt: skip
        if unknown:  # a primary that was restarted, or is new
            for sha in {commands[position][1] for position in unknown}:
                client.script_load(self._scripts[sha])
            again = _in_one_pipeline(client, [commands[position] for position in unknown])
            for position, answer in zip(unknown, again, strict=True):
                answers[position] = answer
        for answer in answers:
            _raise_passing(answer, owner)
        return answers

    def _one(self, command: str, key: str, *arguments: Any) -> Any:
        tag, name = placed(key)
        (answer,) = self.run([(tag, (command, name, *arguments))])
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _server(self, tag: bytes) -> RedisServer:
        return self._servers[self._fresh_owners()[tag]]

    def _primaries(self) -> list[RedisServer]:
        """Of the tags, by address."""
        owners = self._fresh_owners()
        return [self._servers[owner] for owner in sorted(set(owners.values()))]

    def _fresh_owners(self) -> dict[bytes, Address]:
        """Who has which tag. Raises OtherServer where that is another one than before."""
        with self._lock:
            if self._fresh:
                return self._owners
            slots = self._asked_slots()
            owners = {}
            for tag, slot in _TAG_SLOTS.items():
                owner = next((at for first, last, at in slots if first <= slot <= last), None)
                if owner is None:
                    raise redis.exceptions.ConnectionError(
                        f"CLUSTERDOWN no node of the cluster has slot {slot}"
                    )
                owners[tag] = owner
            for owner in set(owners.values()):
                self._server_at(owner)
            before, self._owners, self._fresh = self._owners, owners, True
            moved = [tag for tag in owners if before.get(tag, owners[tag]) != owners[tag]]
        if moved:
            raise OtherServer(
                f"{len(moved)} of the {TAGS} parts of namespaces are on another node now; what it "
                "holds is checked before going on"
            )
        return owners

    def _asked_slots(self) -> list[tuple[int, int, Address]]:
        """First and last slot of each range, and its primary, by the first node that answers."""
        failed: Exception | None = None
        for address in dict.fromkeys([self._answered, *self._owners.values(), *self._nodes]):
            try:
                answer = self._server_at(address).client.execute_command("CLUSTER", "SLOTS")
            except OtherServer:
                raise
            except (
                redis.exceptions.ConnectionError, redis.exceptions.TimeoutError,
            ) as error:  # fmt: skip
                if isinstance(error, redis.exceptions.AuthenticationError):
                    raise
                failed = failed or error
                continue
            self._answered = address
            return [
                (int(first), int(last), (primary[0].decode() or address[0], int(primary[1])))
                for first, last, primary, *_ in answer
            ]
        raise failed or redis.exceptions.ConnectionError("no node of the cluster answers")

    def _server_at(self, address: Address) -> RedisServer:
        if address not in self._servers:
            client = redis.Redis(host=address[0], port=address[1], **self._options)
            self._servers[address] = RedisServer(client)
        return self._servers[address]


def cluster_client(
    url: str, nodes: Sequence[Address], options: Mapping[str, Any], address: str
) -> ClusterClient:
    """A client of the cluster of these nodes, not yet connected.

    url: says user, password and whether TLS is spoken; address: it, as messages show it. options:
    of connections. Raises ValueError for an url that the client can't read.
    """
    of_url: dict[str, Any] = redis.connection.parse_url(url)  # type: ignore[no-untyped-call]
    of_url["ssl"] = of_url.pop("connection_class", None) is not None
    left_out = ("host", "port", "db")
    given = {k: v for k, v in {**of_url, **options}.items() if k not in left_out}
    return ClusterClient(nodes, given, address)


class Pipeline:
    """As redis-py's, of commands that have one tag each."""

    def __init__(self, client: ClusterClient) -> None:
        self._client = client
        self._commands: list[tuple[bytes, Command]] = []

    def get(self, key: str) -> None:
        """As GET."""
        tag, name = placed(key)
        self._commands.append((tag, ("GET", name)))

    def pttl(self, key: str) -> None:
        """As PTTL."""
        tag, name = placed(key)
        self._commands.append((tag, ("PTTL", name)))

    def evalsha(self, sha: str, count: int, *rest: Any) -> None:
        """As EVALSHA. Raises ConfigError where the keys have several tags, or there are none."""
        tag, names = _of_one_tag(rest[:count])
        self._commands.append((tag, ("EVALSHA", sha, count, *names, *rest[count:])))

    def execute(self, *, raise_on_error: bool = True) -> list[Any]:
        """The answers; errors as values where they are not to be raised."""
        commands, self._commands = self._commands, []
        answers = self._client.run(commands)
        for answer in answers if raise_on_error else ():
            if isinstance(answer, Exception):
                raise answer
        return answers


def _of_one_tag(keys: Sequence[str | bytes]) -> tuple[bytes, Sequence[str | bytes]]:
    """Their tag, and the keys with it. Raises ConfigError where they have several, or there are
    none."""
    if keys:
        tag, first = placed(keys[0])
        # Most calls are of records of one part, whose keys begin alike and have the tag already.
        head = first[: first.index(tag) + len(tag)].decode() + ":"
        if all(isinstance(key, str) and key.startswith(head) for key in keys):
            return tag, keys
        found = [placed(key) for key in keys]
        if all(of_key == tag for of_key, _ in found):
            return tag, [name for _, name in found]
    raise ConfigError("redis.mode", "cluster", f"a step of this command {NOT_YET}")


def _in_one_pipeline(client: Any, commands: Sequence[Command]) -> list[Any]:
    pipe = client.pipeline(transaction=False)
    for command in commands:
        pipe.execute_command(*command)
    return list(pipe.execute(raise_on_error=False))


def _raise_passing(answer: Any, owner: Address) -> None:
    """What passes, once it is asked anew who has which slot, or once the cluster has changed."""
    if isinstance(answer, _PASSING) or (
        isinstance(answer, redis.exceptions.ResponseError) and "CLUSTERDOWN" in f"{answer}"
    ):
        word = type(answer).__name__.removesuffix("Error").upper()
        raise redis.exceptions.ConnectionError(
            f"{word} from {owner[0]}:{owner[1]}: the cluster is being changed: {answer}"
        )
