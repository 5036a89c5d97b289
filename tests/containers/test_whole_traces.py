"""Traces from the event's headers to the output record's, through a process that runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from confluent_kafka import Producer
from harness.member import wait_until
from harness.rig import Rig
from servers import KafkaServer

from tests.io.telemetry.otlp_collector import Collector, collecting

pytestmark = pytest.mark.containers

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as found:
        yield found


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_the_trace_of_an_event_goes_on_in_its_customers_record(
    make_rig: Callable[..., Rig], kafka: KafkaServer, collector: Collector, delivery: str
) -> None:
    telemetry = {"traces": True, "traces_endpoint": f"{collector.address}/v1/traces"}
    rig = make_rig(seed=3, settings={"kafka": {"delivery": delivery}, "telemetry": telemetry})
    (member,) = rig.start()
    records = [record for record in rig.stream.take(40) if record[0] is not None]
    traced, _ = records[-1]
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "partitioner": "murmur2_random"})
    for number, (key, value) in enumerate(records):
        sampled = number == len(records) - 1
        parent = f"00-{TRACE}-{SPAN}-{'01' if sampled else '00'}".encode()
        producer.produce(rig.input, key=key, value=value, headers=[("traceparent", parent)])
    assert producer.flush(30) == 0

    def headers() -> list[tuple[bytes | None, str]]:
        found = [(m.key(), dict(m.headers() or ())) for m in kafka.read_topic(rig.output)]
        return [(key, h["traceparent"].decode()) for key, h in found if "traceparent" in h]

    rig.caught_up()
    ((key, parent),) = wait_until("a record with a trace", headers, 30)
    version, trace_id, span_id, flags = parent.split("-")
    assert (key, version, trace_id, flags) == (traced, "00", TRACE, "01")
    assert span_id != SPAN, "of the consumer's own span, whose parent is the event's"
    member.ask_to_stop()
    assert member.ended() == 0, member.log()[-3000:]
    sent = b"".join(body for _, body in collector.taken)
    for part in (TRACE, SPAN, span_id):
        assert bytes.fromhex(part) in sent
    assert f"process {rig.input}".encode() in sent
