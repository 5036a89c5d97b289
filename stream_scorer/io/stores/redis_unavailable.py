"""Why Redis can't be reached, or refuses a call for now, and what to do about it.

What the client says of a connection names neither the setting nor the remedy, so the kinds of it
are listed here. Some of them no waiting gets over: a host name that does not exist, a certificate
that is not trusted. Where they come at the first connection the settings are wrong (ConfigError).
Later on, the same words mean that the server or the network has changed, and the consumer waits
until that is over (StoreUnavailable).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from stream_scorer.errors import ConfigError, StoreUnavailable


@dataclass(frozen=True)
class _Kind:
    """shows: how a text shows it. passes: whether waiting may help."""

    shows: re.Pattern[str]
    remedy: str
    passes: bool


def _kind(shows: str, remedy: str, *, passes: bool = True) -> _Kind:
    return _Kind(re.compile(shows, re.IGNORECASE), remedy, passes)


_AUTHORITY = "set redis.ssl_ca_file to the certificate of the authority that signed the server's"
_HOST = (
    "the server's certificate is for another host: name that host in redis.url, or give the "
    "server a certificate for this one"
)
# The first that fits is taken.
_UNREACHED = (
    _kind(
        r"No master found for ",
        "no Sentinel that answers knows a primary of this name that is up: check "
        "redis.primary_name (SENTINEL MASTERS lists the names), redis.url, redis.other_addresses, "
        "redis.sentinel_username and redis.sentinel_password; during a failover, wait",
    ),
    _kind(
        r"CLUSTERDOWN|the cluster is being changed",
        "a failover or a move of slots is under way, or some slots have no node: CLUSTER "
        "NODES says how the cluster is",
    ),
    _kind(
        r"previous master is now a slave|which is a replica: failover",
        "a failover is under way: the Sentinels are asked again for the primary",
    ),
    _kind(r"hostname mismatch|IP address mismatch|doesn't match", _HOST, passes=False),
    _kind(
        r"has expired|not yet valid",
        "give the server a certificate that is valid today, or set the clock of this machine",
        passes=False,
    ),
    _kind(
        r"self.signed|unable to get (local )?issuer|unable to verify the first",
        f"the server's certificate is not trusted: {_AUTHORITY}", passes=False,
    ),
    _kind(r"certificate.verify.failed", f"{_AUTHORITY}; or {_HOST}", passes=False),
    _kind(
        r"wrong.version.number|record.layer.failure|packet length|unexpected message",
        "that port does not speak TLS: write redis:// in place of rediss://, or name the TLS port",
        passes=False,
    ),
    _kind(
        r"alert|certificate.required|EOF occurred in violation",
        "the server refuses this client's certificate, or wants one: set "
        "redis.ssl_certificate_file and redis.ssl_key_file to ones that it trusts",
        passes=False,
    ),
    _kind(
        r"\bPEM\b|X509|no.certificate|key.values.mismatch",
        "redis.ssl_ca_file, redis.ssl_certificate_file or redis.ssl_key_file is not what its name "
        "says in PEM, or the key is not that of the certificate",
        passes=False,
    ),
    _kind(
        r"name or service not known|nodename nor servname|no address associated|getaddrinfo failed",
        "this host name is unknown here: correct it, or the DNS", passes=False,
    ),
    _kind(r"name resolution", "the DNS does not answer: check it, and the host name"),
    _kind(
        r"permission denied", "this process may not use the socket: see unixsocketperm",
        passes=False,
    ),
    _kind(
        r"no such file",
        "there is no such socket: check the path, and that the server runs with this unixsocket",
    ),
    _kind(
        r"connection refused",
        "nothing listens there: check host and port, or the path of the socket, and that it runs",
    ),
    _kind(r"loading the dataset", "it still loads its data from disk: wait until it has"),
    _kind(r"max number of clients", "raise maxclients of the server, or end some of its clients"),
)  # fmt: skip
_OF_PLAIN = (
    _kind(
        r"reset by peer|closed by server|broken pipe|while (reading|writing)",
        "check that it is a Redis server; where that port speaks TLS, write rediss:// in place of "
        "redis://",
    ),
    _kind(
        r"time", "check host, port and network, that a Redis server runs there, and that it is not "
        "overloaded (redis.timeout_seconds)",
    ),
)  # fmt: skip
_OF_TLS = (
    _kind(
        r"reset by peer|closed by server|broken pipe|while (reading|writing)",
        "check that it is a Redis server, and whether it wants a client certificate "
        "(redis.ssl_certificate_file, redis.ssl_key_file)",
    ),
    _kind(
        r"time", "check host, port and network; where that port does not speak TLS, write redis:// "
        "in place of rediss://",
    ),
)  # fmt: skip
_REFUSED = (
    _kind(r"\bOOM\b", "its memory is full: raise maxmemory, or set store.time_to_live_seconds"),
    _kind(
        r"\bREADONLY\b",
        "it is a replica, which takes no writes: name the primary in redis.url, or an address that "
        "follows it",
    ),
    _kind(
        r"\bMASTERDOWN\b",
        "it is a replica without its primary: name the primary in redis.url, or an address that "
        "follows it",
    ),
    _kind(r"\bLOADING\b", "it still loads its data from disk: wait until it has"),
    _kind(r"\bMISCONF\b", "it can't write to its disk: see its log, and give it space"),
    _kind(r"\bNOREPLICAS\b", "too few replicas follow it: see its min-replicas-to-write"),
    _kind(r"\bBUSY\b", "a script of another client runs too long: see SCRIPT KILL"),
    _kind(
        r"\b(CLUSTERDOWN|TRYAGAIN)\b",
        "it is a node of a Redis Cluster, which is down or is being changed; a server that runs "
        'with cluster-enabled no is needed, or redis.mode = "cluster"',
    ),
)


def unreached(text: str, address: str, *, first: bool) -> StoreUnavailable | ConfigError:
    """What to raise where the client says `text` of a connection to `address`.

    first: nothing has answered at this address yet.
    """
    text = text.rstrip(".")
    kinds = _OF_TLS if address.startswith("rediss:") else _OF_PLAIN
    found = _first(text, (*_UNREACHED, *kinds))
    if found is not None and first and not found.passes:
        return ConfigError("redis.url", address, f"{text}; {found.remedy}")
    remedy = found.remedy if found else "check redis.url, and that the server runs"
    return StoreUnavailable(f"redis.url: '{address}': Redis does not answer: {text}", remedy)


def refused(said: str, address: str) -> StoreUnavailable | None:
    """What to raise where the server refuses a call for now; None where `said` is no such thing."""
    found = _first(said, _REFUSED)
    if found is None:
        return None
    # What a script runs into is wrapped in where it stood: before it in Redis 6, behind it in 7.
    short = re.sub(r"^.*@user_script: ?\d+: -?|\s*script: \w+, on .*$", "", said).rstrip(".")
    return StoreUnavailable(f"redis.url: '{address}': Redis refuses writes: {short}", found.remedy)


def _first(text: str, kinds: tuple[_Kind, ...]) -> _Kind | None:
    return next((kind for kind in kinds if kind.shows.search(text)), None)
