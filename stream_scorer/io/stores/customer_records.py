"""Customers' records for those who only look: nothing here writes to Redis.

Whoever keeps records must notice that Redis lost some, so RedisStore compares watermarks and raises
where another server answers. Who looks is shown what is there: a server that was restarted is asked
once more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import redis

from stream_scorer.core.features.state import CustomerStates
from stream_scorer.core.features.state_codec import unpack
from stream_scorer.errors import FingerprintMismatch
from stream_scorer.io.stores.redis_server import RedisServer, ServerChanged

MOST_AT_ONCE = 1000  # customers of one round trip: Redis serves nobody else for about a millisecond


@dataclass(frozen=True)
class StoredCustomers:
    """Records of B customers. record_bytes (B,): 0 for one who has none. expires_in_ms (B,): until
    Redis deletes the record, None where it never does. expiry_known: False where this user may not
    ask for it. namespace_known: whether anything was ever read into the namespace.
    """

    states: CustomerStates
    record_bytes: tuple[int, ...]
    expires_in_ms: tuple[int | None, ...]
    expiry_known: bool
    namespace_known: bool


class CustomerRecords:
    """The records of one namespace, to look at. Safe for several threads."""

    def __init__(self, server: RedisServer, namespace: str, fingerprint: int) -> None:
        self._server, self._client = server, server.client
        self._namespace, self._fingerprint = namespace, fingerprint

    def load(self, customer_ids: Sequence[str], *, with_expiry: bool = True) -> StoredCustomers:
        """The records of these customers, row i is customer_ids[i]; one round trip for each
        `MOST_AT_ONCE` of them.

        with_expiry: without it Redis is not asked when it deletes them, which is one short command
        for each round trip; expiry_known is False then.

        Raises FingerprintMismatch where the namespace or a record is of another declaration,
        StoreUnavailable and ConfigError.
        """
        ids = list(customer_ids)
        records: list[bytes | None] = []
        expires: list[int | None] = []
        known, claimed = with_expiry, b""
        for first in range(0, max(len(ids), 1), MOST_AT_ONCE):
            some = ids[first : first + MOST_AT_ONCE]
            ask = self._asked if with_expiry else self._asked_for_records
            try:
                answers = ask(some)
            except ServerChanged:
                answers = ask(some)
            claimed = answers.pop() or b""
            for record, left in zip(answers[: len(some)], answers[len(some) :], strict=True):
                records.append(record)
                if isinstance(left, redis.exceptions.NoPermissionError):
                    known, left = False, -1  # noqa: PLW2901 - as of a record that never expires
                expires.append(int(left) if left >= 0 else None)
        declared = f"{self._fingerprint:016x}"
        found = claimed.decode(errors="replace")
        if found not in ("", declared):
            raise FingerprintMismatch(
                "store.namespace", self._namespace,
                f"holds vectors of feature declaration {found}, the config declares {declared}; "
                "look at it with the config that its members run with",
            )  # fmt: skip
        return StoredCustomers(
            unpack(ids, records, self._fingerprint),
            tuple(0 if record is None else len(record) for record in records),
            tuple(expires), known, bool(found),
        )  # fmt: skip

    def _asked_for_records(self, ids: list[str]) -> list[Any]:
        """As `_asked`, of records that are kept for ever."""
        keys = [f"{self._namespace}:c:{customer}" for customer in ids]
        keys.append(f"{self._namespace}:fingerprint")
        answers: list[Any] = self._server.ask(lambda: list(self._client.mget(keys)))
        return [*answers[:-1], *[-1] * len(ids), answers[-1]]

    def _asked(self, ids: list[str]) -> list[Any]:
        """The records, then how long each is kept, then the namespace's fingerprint."""
        keys = [f"{self._namespace}:c:{customer}" for customer in ids]

        def asked() -> list[Any]:
            pipe = self._client.pipeline(transaction=False)
            for key in keys:
                pipe.get(key)
            for key in keys:
                pipe.pttl(key)
            pipe.get(f"{self._namespace}:fingerprint")
            answers = list(pipe.execute(raise_on_error=False))
            for answer in answers:
                refused = isinstance(answer, redis.exceptions.NoPermissionError)
                if isinstance(answer, Exception) and not (refused and "pttl" in f"{answer}"):
                    raise answer
            return answers

        return self._server.ask(asked)
