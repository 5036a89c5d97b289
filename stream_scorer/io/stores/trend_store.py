"""Records of the shop's trend in Redis, one for each partition that feeds a namespace.

Keys, under the namespace NS:
  NS:trend:TOPIC:PARTITION      one record (core/trend_record.py)
  NS:trends                     a line "PARTITION TOPIC" for each of these, the topic as JSON

A record is written only where none of a higher offset is stored (scripts/save_trends.lua), so a
member that no longer owns a partition can't take its record back. Of records that Redis lost, the
events are read again (live/trend_keeper.py); nothing here has to notice it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from stream_scorer.core.events.batch import TopicPartition
from stream_scorer.core.trend_record import TrendPlan, TrendRecord
from stream_scorer.errors import InputError
from stream_scorer.io.stores.redis_script import Call, Script
from stream_scorer.io.stores.redis_server import RedisServer


class TrendStore:
    """The records of one namespace. `server` must not be that of the namespace's customers: its
    errors say that Redis lost writes, and whoever saves customers must see each of them.

    Raises StoreUnavailable, and InputError where something else is stored.
    """

    def __init__(self, server: RedisServer, namespace: str, plan: TrendPlan) -> None:
        self._server, self._client, self.plan = server, server.client, plan
        self._namespace, self._list_key = namespace, f"{namespace}:trends"
        self._save = Script(self._client, "save_trends.lua")

    def partitions(self) -> list[TopicPartition]:
        """Those that have a record."""
        text = self._server.ask(lambda: self._client.get(self._list_key)) or b""
        return sorted(self._listed(text))

    def load(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, TrendRecord]:
        """Their records; without those that have none."""
        if not partitions:
            return {}
        keys = [self._key(tp) for tp in partitions]
        values = self._server.ask(lambda: self._client.mget(keys))
        return {
            tp: TrendRecord.decode(value, self.plan, key)
            for tp, key, value in zip(partitions, keys, values, strict=True)
            if value is not None
        }

    def save(self, records: Mapping[TopicPartition, TrendRecord]) -> None:
        """Store them, but for those of which a newer one is stored."""
        calls: list[Call] = [
            ([self._list_key, self._key(tp)], [_line(tp), record.encode()])
            for tp, record in records.items()
        ]
        if calls:
            self._server.ask(lambda: self._save.run(calls))

    def _key(self, partition: TopicPartition) -> str:
        return f"{self._namespace}:trend:{partition[0]}:{partition[1]}"

    def _listed(self, text: bytes) -> list[TopicPartition]:
        try:
            words = [line.split(b" ", 1) for line in text.splitlines()]
            return [(str(json.loads(topic)), int(partition)) for partition, topic in words]
        except ValueError:
            remedy = (
                "is not what this program writes, so another has written it; delete this key: "
                "each record is listed again when it is saved next"
            )
            raise InputError("stored trend", self._list_key, remedy) from None


def _line(partition: TopicPartition) -> str:
    """json.dumps leaves no line break, and nothing that is not ASCII, in a topic's name."""
    return f"{partition[1]} {json.dumps(partition[0])}"
