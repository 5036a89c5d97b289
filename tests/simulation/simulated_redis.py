"""In place of the Redis server and client: the few commands that the product uses, and its Lua.

Scripts run as they are in stream_scorer/io/stores/scripts, in a Lua 5.1 of this process, which is
the Lua of Redis. test_simulated_redis.py compares this model with a real server.
"""

from __future__ import annotations

import fnmatch
import hashlib
import struct
from collections.abc import Callable
from typing import Any

import redis
from lupa import lua51

Reply = Any
KEPT_VERSIONS = 400


class SimulatedServer:
    """The data, every earlier version of it, and the scripts that the server has been given."""

    def __init__(self) -> None:
        self.data: dict[bytes, bytes] = {}
        self.versions: list[dict[bytes, bytes]] = [{}]
        self.run = 1  # changes with each restart or failover
        self.scripts: set[str] = set()
        self.evicted = 0
        self.losses = 0  # how often writes were lost
        self.policy = "noeviction"
        self.clock: Callable[[], float] = lambda: 0.0  # seconds since 1970

    def execute(self, name: str, *given: Any) -> Reply:
        """The reply to one command, as redis-py gives it without decoding."""
        command: Callable[..., Reply] = getattr(self, f"_{name.lower()}")
        reply = command(*(_bytes(a) for a in given))
        if self.data != self.versions[-1]:
            self.versions.append(dict(self.data))
            del self.versions[:-KEPT_VERSIONS]
        return reply

    def rewind(self, versions: int, *, restarts: bool, forgets_scripts: bool) -> None:
        """Back to what it held so many writes ago."""
        self.losses += 1
        self.data = dict(self.versions[-min(versions, len(self.versions) - 1) - 1])
        self.versions.append(dict(self.data))
        if restarts:
            self.run += 1
            self.evicted = 0
        if forgets_scripts:
            self.scripts = set()

    def flush(self) -> None:
        self.losses += 1
        self.data = {}
        self.versions.append({})

    def evict(self, number: int) -> None:
        """One key, of those that live long: Redis takes any."""
        keys = sorted(k for k in self.data if b":c:" in k)
        if keys:
            del self.data[keys[number % len(keys)]]
            self.evicted += 1

    def _set(self, key: bytes, value: bytes, *_expiry: bytes) -> Reply:
        self.data[key] = value
        return True

    def _get(self, key: bytes) -> Reply:
        return self.data.get(key)

    def _del(self, *keys: bytes) -> Reply:
        return sum(self.data.pop(key, None) is not None for key in keys)

    def _mget(self, *keys: bytes) -> Reply:
        return [self.data.get(key) for key in keys]

    def _getrange(self, key: bytes, first: bytes, last: bytes) -> Reply:
        return self.data.get(key, b"")[int(first) : int(last) + 1 or None]

    def _scan(self, _cursor: bytes, _match: bytes, pattern: bytes, *_count: bytes) -> Reply:
        plain = pattern.replace(b"\\", b"")
        return [b"0", [k for k in self.data if fnmatch.fnmatchcase(k, plain)]]

    def _time(self) -> Reply:
        return [str(int(self.clock())).encode(), b"0"]

    def _dbsize(self) -> Reply:
        return len(self.data)

    def _evalsha(self, sha: bytes, count: bytes, *rest: bytes) -> Reply:
        if sha.decode() not in self.scripts:
            raise redis.exceptions.NoScriptError("No matching script")
        keys, arguments = rest[: int(count)], rest[int(count) :]
        return run_lua(sha.decode(), self.execute_in_script, keys, arguments)

    def execute_in_script(self, name: bytes, *given: Any) -> Reply:
        command: Callable[..., Reply] = getattr(self, f"_{name.decode().lower()}")
        return command(*(_bytes(a) for a in given))


def _bytes(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).encode()


# Lua is started once in a process, and each script compiled once.
_LUA = lua51.LuaRuntime(encoding=None, unpack_returned_tuples=True)
_COMPILED: dict[str, Any] = {}


def load_script(text: str) -> str:
    """Its SHA-1, by which it is called."""
    sha = hashlib.sha1(text.encode()).hexdigest()
    if sha not in _COMPILED:
        source = f"return function(KEYS, ARGV, redis, struct)\n{text}\nend"
        _COMPILED[sha] = _LUA.execute(source.encode())
    return sha


def run_lua(
    sha: str, call: Callable[..., Reply], keys: tuple[bytes, ...], arguments: tuple[bytes, ...]
) -> Reply:
    _CALL[:] = [call]
    table = _LUA.table_from
    try:
        answer = _COMPILED[sha](table(keys), table(arguments), _REDIS, _STRUCT)
    except lua51.LuaError as error:
        raise redis.exceptions.ResponseError(str(error)) from None
    return _from_lua(answer)


_CALL: list[Callable[..., Reply]] = []  # what redis.call does in the script that runs now


def _lua_call(name: bytes, *given: Any) -> Any:
    return _to_lua(_CALL[0](name, *given))


def _unpack(layout: bytes, text: bytes, position: int = 1) -> tuple[Any, ...]:
    """As Redis's struct.unpack: the values, then where the next one begins."""
    python = layout.decode().replace("I4", "I").replace("i4", "i").replace("i8", "q")
    at = int(position) - 1
    values = struct.unpack_from(python, text, at)
    return (*values, at + struct.calcsize(python) + 1)


def _pack(layout: bytes, *values: float) -> bytes:
    """As Redis's struct.pack, of whole numbers."""
    python = layout.decode().replace("I4", "I").replace("i4", "i").replace("i8", "q")
    return struct.pack("<" + python.replace("<", ""), *map(int, values))


# Made once: a Python function that Lua has dropped may be taken for a later one at its address.
_REDIS = _LUA.table_from({b"call": _lua_call, b"pcall": _lua_call})
_STRUCT = _LUA.table_from({b"unpack": _unpack, b"pack": _pack})


def _to_lua(reply: Reply) -> Any:
    if reply is None:
        return False
    if isinstance(reply, list):
        return _LUA.table_from([_to_lua(r) for r in reply])
    return reply


def _from_lua(answer: Any) -> Reply:
    if answer is None or answer is False:
        return None
    if answer is True:
        return 1
    if isinstance(answer, bytes):
        return answer
    if isinstance(answer, int | float):
        return int(answer)
    return [_from_lua(answer[i]) for i in range(1, len(answer) + 1)]


class SimulatedRedis:
    """In place of redis.Redis. `before` is called before each command, with its name. It answers
    "before" where the command does not reach the server, "after" where it is done and its answer
    gets lost, and "late" where it arrives after its time limit. `later` takes what happens at some
    later moment.
    """

    def __init__(
        self,
        server: SimulatedServer,
        before: Callable[[str], str | None] = lambda _name: None,
        later: Callable[[Callable[[], object]], None] = lambda _act: None,
    ) -> None:
        self._server, self._before, self._later = server, before, later

    def command(self, name: str, *arguments: Any) -> Reply:
        lost = self._before(name)
        if lost == "before":
            raise redis.exceptions.ConnectionError("connection refused")
        if lost == "late":
            self._later(lambda: self._quietly(name, *arguments))
            raise redis.exceptions.TimeoutError("timeout reading from socket")
        reply = self._server.execute(name, *arguments)
        if lost == "after":
            raise redis.exceptions.ConnectionError("connection reset by peer")
        self._before(f"{name} answered")
        return reply

    def pass_moment(self, command: str) -> None:
        """Between two commands that were sent together: others may run."""
        self._before(f"first {command} answered")

    def _quietly(self, name: str, *arguments: Any) -> None:
        try:
            self._server.execute(name, *arguments)
        except redis.exceptions.RedisError:
            return

    def set(self, name: str, value: Any) -> Reply:
        return self.command("SET", name, value)

    def get(self, name: str) -> Reply:
        return self.command("GET", name)

    def getrange(self, name: str, first: int, last: int) -> Reply:
        return self.command("GETRANGE", name, first, last)

    def mget(self, keys: list[str]) -> Reply:
        return self.command("MGET", *keys)

    def dbsize(self) -> Reply:
        return self.command("DBSIZE")

    def script_load(self, text: str) -> str:
        self._before("SCRIPT LOAD")
        sha = load_script(text)
        self._server.scripts.add(sha)
        return sha

    def script_flush(self) -> None:
        self._server.scripts = set()

    def flushall(self) -> None:
        self._server.flush()

    def evalsha(self, sha: str, count: int, *keys_and_arguments: Any) -> Reply:
        return self.command("EVALSHA", sha, count, *keys_and_arguments)

    def info(self, section: str = "") -> dict[str, Any]:
        self._before("INFO")
        return {
            "run_id": f"{self._server.run:040x}", "redis_version": "7.0.0", "role": "master",
            "maxmemory_policy": self._server.policy, "evicted_keys": self._server.evicted,
            "cluster_enabled": 0, "redis_mode": "standalone", "loading": 0,
        }  # fmt: skip

    def scan(self, cursor: int = 0, match: Any = None, count: int | None = None) -> Reply:
        self._before("SCAN")
        pattern = _bytes(match or "*").replace(b"\\", b"")
        return 0, [k for k in self._server.data if fnmatch.fnmatchcase(k, pattern)]

    def pipeline(self, transaction: bool = True) -> SimulatedPipeline:
        return SimulatedPipeline(self)

    def close(self) -> None:
        """Nothing to close."""


class SimulatedPipeline:
    """Commands sent together; others may come between them, and a failover, too."""

    def __init__(self, client: SimulatedRedis) -> None:
        self._client = client
        self._commands: list[tuple[Any, ...]] = []

    def evalsha(self, sha: str, count: int, *keys_and_arguments: Any) -> SimulatedPipeline:
        self._commands.append((self._client.evalsha, sha, count, *keys_and_arguments))
        return self

    def info(self, section: str = "") -> SimulatedPipeline:
        self._commands.append((self._client.info, section))
        return self

    def execute(self, raise_on_error: bool = True) -> list[Reply]:
        commands, self._commands = self._commands, []
        replies: list[Any] = []
        for number, (command, *arguments) in enumerate(commands):
            if number:
                self._client.pass_moment(command.__name__)
            # One command's error does not keep the server from doing the next ones.
            try:
                replies.append(command(*arguments))
            except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError):
                raise
            except redis.exceptions.ResponseError as error:
                replies.append(error)
        for reply in replies:
            if raise_on_error and isinstance(reply, Exception):
                raise reply
        return replies
