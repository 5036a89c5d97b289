"""What Redis or its client says, translated to this package's errors.

Where waiting may help it is StoreUnavailable. Where a person has to change settings or the server
it is a ConfigError, which names the setting and the remedy; a password is never part of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import redis

from stream_scorer.errors import (
    ConfigError,
    FingerprintMismatch,
    Halt,
    InputError,
    StreamScorerError,
)
from stream_scorer.io.stores.redis_unavailable import refused, unreached

# What a user of Redis's access control list must be allowed, in scripts too. The page
# docs/how-to/run-on-your-servers.md lists them, and tests take away one after the other.
RUN_COMMANDS = ("EVALSHA", "SCRIPT LOAD", "MGET", "GET", "SET", "GETRANGE", "TIME", "INFO")
READ_COMMANDS = ("SCAN", "DBSIZE")  # `export`, `verify` and what else reads all customers
NEEDED = f"{', '.join((*RUN_COMMANDS, *READ_COMMANDS))} on the keys of store.namespace"

NEEDS_ONE_SERVER = (
    "where one script can't reach all keys; name a server that runs with cluster-enabled no, or "
    'set redis.mode to "cluster"'
)

# The client takes these words out of the text, and raises an exception of its own for each.
_WORDS: dict[type[Exception], str] = {
    redis.exceptions.OutOfMemoryError: "OOM",
    redis.exceptions.ReadOnlyError: "READONLY",
    redis.exceptions.MasterDownError: "MASTERDOWN",
    redis.exceptions.ClusterDownError: "CLUSTERDOWN",
    redis.exceptions.TryAgainError: "TRYAGAIN",
    redis.exceptions.ClusterCrossSlotError: "CROSSSLOT",
    redis.exceptions.MovedError: "MOVED",
    redis.exceptions.AskError: "ASK",
    redis.exceptions.NoPermissionError: "NOPERM",
    redis.exceptions.InvalidResponse: "not understood:",
}
# How the text shows it, the setting to look at, and why and what to do. Redis 6.2
# reports a script's errors as text alone, Redis 7 with its words.
_CAUSES = (
    (
        re.compile(
            r"^NOPERM|ACL failure|can't run this command|can't access at least one of the keys"
        ),
        "redis.username",
        f"this user may not do what is needed ({{said}}); allow it {NEEDED}",
    ),
    (
        re.compile(
            r"^(MOVED|ASK|CROSSSLOT)\b|not hash to the same slot|in a cluster node|in cluster mode"
        ),
        "redis.url",
        "this is a node of a Redis Cluster ({said}), " + NEEDS_ONE_SERVER,
    ),
    (
        re.compile(r"DB index|invalid DB"),
        "redis.url",
        "the server has no database of this number ({said}); correct the number at the end of the "
        "url, or raise `databases` in the server's configuration",
    ),
    (
        re.compile(r"unknown command|Unknown Redis command", re.IGNORECASE),
        "redis.url",
        "the server does not have a command that is needed ({said}); use a server without "
        f"rename-command for {', '.join((*RUN_COMMANDS, *READ_COMMANDS))}",
    ),
    (
        re.compile(r"WRONGTYPE"),
        "store.namespace",
        "another program has data of its own under a key of this namespace ({said}); set "
        "store.namespace to a new name",
    ),
    (
        re.compile(r"^not understood:"),
        "redis.url",
        "what answers there is no Redis server ({said}); correct the host and the port",
    ),
)


@dataclass(frozen=True)
class Login:
    """Where to, without secrets, as whom, and whether with a password."""

    address: str
    user: str
    has_password: bool


def translated(error: Exception, login: Login, *, first: bool) -> StreamScorerError:
    """The error to raise instead of one of the client's. first: nothing has answered there yet."""
    text = f"{error}".partition("\n")[0]
    if isinstance(error, redis.exceptions.AuthenticationError) or text.startswith("DENIED"):
        # Comes first: it is a ConnectionError as well, and waiting does not help.
        return _not_let_in(text, login)
    if isinstance(error, redis.exceptions.ConnectionError | redis.exceptions.TimeoutError):
        return unreached(text, login.address, first=first)
    if found := _raised_by_a_script(text):
        return found
    word = next((w for kind, w in _WORDS.items() if isinstance(error, kind)), "")
    said = f"{word} {text}".strip()
    for shows, field, remedy in _CAUSES:
        if shows.search(said):
            value = login.user if field == "redis.username" else login.address
            return ConfigError(field, value, remedy.format(said=said))
    for_now = refused(said, login.address)
    return for_now or Halt(
        f"redis.url: {login.address!r}: Redis answers with an error that is not known here: {said}",
        "look it up in Redis's documentation and in the server's log",
    )


def _raised_by_a_script(text: str) -> InputError | None:
    """Where one of this package's scripts raised it: it begins with a word of ours."""
    if "FINGERPRINT" in text:
        return FingerprintMismatch(
            "stored record", text.partition("FINGERPRINT ")[2],
            "was written under another feature declaration; set store.namespace to a new name and "
            "replay the events into it",
        )  # fmt: skip
    found = re.search(r"NO_OFFSET (\S+)", text)
    return not_an_offset(found[1]) if found else None


def not_an_offset(key: str) -> InputError:
    """What to raise where the value of a key that holds an offset is none."""
    return InputError(
        "stored offset", key,
        "its value is no whole number, so another program has written it; delete this key and "
        "start again: the partition is then read from its beginning, and nothing counts twice",
    )  # fmt: skip


def not_an_epoch(key: str) -> InputError:
    """What to raise where the value of a key is no watermark with its leader epoch."""
    return InputError(
        "stored leader epoch", key,
        "its value is not two whole numbers, so another program has written it; delete this key "
        "and start again",
    )  # fmt: skip


def _not_let_in(text: str, login: Login) -> ConfigError:
    address = login.address
    if "protected mode" in text:
        remedy = f"{address} is in protected mode: give its user a password and set redis.password"
        return ConfigError("redis.password", "(none)", f"{remedy}, or set protected-mode no there")
    if "without any password configured" in text or "no password is set" in text:
        remedy = f"{address} has no password for the default user; remove it"
        return ConfigError("redis.password", "(secret)", f"{remedy}, or set redis.username")
    if not login.has_password:
        remedy = f"{address} wants one; set redis.password or redis.password_file"
        return ConfigError("redis.password", "(none)", f"{remedy}, and redis.username")
    return ConfigError(
        "redis.password", "(secret)",
        f"{address} does not accept it for user {login.user!r}; correct redis.username, and "
        "redis.password or redis.password_file",
    )  # fmt: skip
