"""A request that ends a transaction reaches the broker after the next transaction has begun."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from threading import Event

import pytest
from runners import free_port
from servers import KafkaServer
from tcp_proxy import KafkaProxy

from stream_scorer.errors import ClientLost
from stream_scorer.io.kafka.consumer import KafkaSource
from stream_scorer.io.kafka.sink import KafkaSink
from stream_scorer.io.stores.memory import MemoryStore

pytestmark = pytest.mark.containers

END_TXN = 26
MOST_POLLS = 600  # of 50 ms each


@pytest.fixture
def proxied(start_kafka: Callable[..., KafkaServer]) -> Iterator[tuple[KafkaServer, KafkaProxy]]:
    """A broker that all clients reach through a proxy."""
    port = free_port()
    with KafkaProxy(port) as proxy:
        yield start_kafka(port=port, advertised_port=proxy.port), proxy


def test_late_commit_does_not_publish_half_of_the_next_transaction(
    proxied: tuple[KafkaServer, KafkaProxy],
) -> None:
    """The first commit times out in the client, which asks again and succeeds."""
    kafka, proxy = proxied
    for name in ("in", "out", "dead"):
        kafka.create_topic(name)
    kafka.produce("in", [(b"k", b"1"), (b"k", b"2")])
    seen: list[bytes | None] = []

    def published() -> list[bytes | None]:
        return [m.value() for m in kafka.read_topic("out")]

    with ExitStack() as closing:
        source = KafkaSource(
            {"bootstrap.servers": kafka.bootstrap, "group.id": "g"}, "in", MemoryStore(1),
            max_events=1, max_age_ms=50, in_transaction=lambda _start: None,
        )  # fmt: skip
        closing.callback(source.close)

        def metadata() -> bytes:
            # Asked for when the records of a transaction are in the topic, before its commit.
            if proxy.kept.is_set():
                proxy.let_go()
                Event().wait(1.0)
                seen.extend(published())
            return source.group_metadata()

        def sink() -> KafkaSink:
            made = KafkaSink(
                {
                    "bootstrap.servers": kafka.bootstrap,
                    "transactional.id": "t",
                    "delivery.timeout.ms": 10_000,
                    "socket.timeout.ms": 2000,
                },
                "out", "dead", max_dead_letter_bytes=1000, clock_ms=lambda: 0,
                group_metadata=metadata,
            )  # fmt: skip
            closing.callback(made.close)
            return made

        batches = (b for _ in range(MOST_POLLS) if len(b := source.poll()))
        first = sink()
        batch = next(batches)
        proxy.keep_back(END_TXN)
        first.deliver([b"k"], [b"first"], [], batch.next_offsets())
        assert proxy.kept.is_set()
        batch = next(batches)
        with pytest.raises(ClientLost, match="may still be on its way"):
            first.deliver([b"k"], [b"second"], [], batch.next_offsets())
        sink().deliver([b"k"], [b"second"], [], batch.next_offsets())
    assert seen == [b"first"]
    assert published() == [b"first", b"second"]
    assert kafka.committed("g", "in") == {0: 2}
