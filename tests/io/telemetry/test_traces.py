"""Spans of micro-batches by OpenTelemetry: names, parents, links and times."""

from __future__ import annotations

import importlib
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import messaging_attributes as names
from opentelemetry.trace import SpanKind, StatusCode

from stream_scorer.errors import BusUnavailable, ConfigError
from stream_scorer.io.batch_report import BatchReport
from stream_scorer.io.telemetry.traces import OpenTelemetryTraces
from tests.io.telemetry.otlp_collector import Collector, collecting

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
CONTEXT = {"traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": "shop=1"}
TRACED = {"ann": (("events", 3, 41), CONTEXT)}
RECEIVE, SEND, SETTLE, PROCESS = (
    names.MessagingOperationTypeValues[name].value
    for name in ("RECEIVE", "SEND", "SETTLE", "PROCESS")
)


def traces(exporter: SpanExporter | None = None, endpoint: str = "") -> OpenTelemetryTraces:
    return OpenTelemetryTraces(
        topic="events", output_topic="propensities", group="scorers", client="member-1",
        build="1.2.3", endpoint=endpoint, exporter=exporter,
    )  # fmt: skip


@pytest.fixture
def memory() -> InMemorySpanExporter:
    return InMemorySpanExporter()


def report() -> BatchReport:
    """Of a batch whose stages took a tenth of a second each, and ended just now."""
    found, now = BatchReport(records=7, applied=5, propensities=2), time.perf_counter()
    for number, stage in enumerate(("poll", "decode", "score", "publish", "commit")):
        found.took(stage, now + 0.1 * number - 0.5, now + 0.1 * number - 0.4)
    return found


def by_name(spans: tuple[ReadableSpan, ...]) -> dict[str, list[ReadableSpan]]:
    found: dict[str, list[ReadableSpan]] = {}
    for span in spans:
        found.setdefault(span.name, []).append(span)
    return found


def interval_ns(span: ReadableSpan) -> tuple[int, int]:
    assert span.start_time is not None
    assert span.end_time is not None
    return span.start_time, span.end_time


def of(span: ReadableSpan) -> dict[str, Any]:
    """The span's attributes."""
    return dict(span.attributes or {})


def test_a_batch_is_a_span_with_its_stages_and_links_to_its_events(
    memory: InMemorySpanExporter,
) -> None:
    made = traces(memory)
    batch = made.open(report(), TRACED)
    batch.close()
    made.close()
    spans = by_name(memory.get_finished_spans())
    of_event, of_batch = sorted(spans.pop("process events"), key=lambda s: s.parent is None)
    assert set(spans) == {
        "poll events", "decode", "score", "send propensities", "commit events"
    }  # fmt: skip
    for (stage,) in spans.values():
        assert stage.parent is not None
        assert stage.parent.span_id == of_batch.context.span_id
        assert interval_ns(stage)[1] - interval_ns(stage)[0] == pytest.approx(1e8, abs=1e4)
    starts, ends = zip(*(interval_ns(stage) for (stage,) in spans.values()), strict=True)
    end = max(ends)
    for span in (of_batch, of_event):
        assert interval_ns(span) == (min(starts), end)
    assert abs(end - time.time_ns()) < 60e9, "of the clock on the wall"
    assert [f"{link.context.trace_id:032x}" for link in of_batch.links] == [TRACE]
    assert of(of_batch)["stream_scorer.propensities"] == 2


def test_an_event_has_a_span_in_its_own_trace_which_goes_on_in_its_customers_record(
    memory: InMemorySpanExporter,
) -> None:
    made = traces(memory)
    batch = made.open(report(), TRACED)
    batch.close()
    made.close()
    (of_event,) = [s for s in memory.get_finished_spans() if s.context.trace_id == int(TRACE, 16)]
    (of_batch,) = [s for s in memory.get_finished_spans() if s.parent is None]
    assert of_event.parent is not None
    assert f"{of_event.parent.span_id:016x}" == SPAN
    assert [link.context.span_id for link in of_event.links] == [of_batch.context.span_id]
    parent = f"00-{TRACE}-{of_event.context.span_id:016x}-01".encode()
    assert batch.headers == {b"ann": [("traceparent", parent), ("tracestate", b"shop=1")]}


def test_names_are_those_of_the_conventions_for_messaging(memory: InMemorySpanExporter) -> None:
    made = traces(memory)
    made.open(report(), TRACED).close()
    made.close()
    spans = by_name(memory.get_finished_spans())
    of_all = {
        names.MESSAGING_SYSTEM: names.MessagingSystemValues.KAFKA.value,
        names.MESSAGING_CONSUMER_GROUP_NAME: "scorers", names.MESSAGING_CLIENT_ID: "member-1",
    }  # fmt: skip
    operations = {
        "poll events": (SpanKind.CLIENT, "poll", RECEIVE, "events"),
        "send propensities": (SpanKind.CLIENT, "send", SEND, "propensities"),
        "commit events": (SpanKind.CLIENT, "commit", SETTLE, "events"),
        "process events": (SpanKind.CONSUMER, "process", PROCESS, "events"),
    }
    for name, (kind, operation, type_, topic) in operations.items():
        for span in spans[name]:
            assert span.kind == kind
            expected = of_all | {
                names.MESSAGING_OPERATION_NAME: operation, names.MESSAGING_OPERATION_TYPE: type_,
                names.MESSAGING_DESTINATION_NAME: topic,
            }  # fmt: skip
            assert expected.items() <= of(span).items()
    of_event, of_batch = sorted(spans["process events"], key=lambda s: s.parent is None)
    assert of(of_batch)[names.MESSAGING_BATCH_MESSAGE_COUNT] == 7
    assert of(of_event)[names.MESSAGING_DESTINATION_PARTITION_ID] == "3"
    assert of(of_event)[names.MESSAGING_KAFKA_OFFSET] == 41
    resource = of_event.resource.attributes
    assert (resource["service.name"], resource["service.version"]) == ("stream-scorer", "1.2.3")


def test_an_attempt_that_failed_is_a_span_with_its_error(memory: InMemorySpanExporter) -> None:
    made = traces(memory)
    made.open(report(), TRACED).fail(BusUnavailable("Kafka is away"))
    made.close()
    spans = memory.get_finished_spans()
    assert [span.name for span in spans] == ["process events"] * 2
    for span in spans:
        assert span.status.status_code == StatusCode.ERROR
        assert span.status.description == "Kafka is away"
        assert of(span)["error.type"] == "BusUnavailable"


def test_the_environment_names_the_service(
    memory: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "propensities-of-the-shop")
    made = traces(memory)
    made.open(report(), {}).close()
    made.close()
    (span, *_) = memory.get_finished_spans()
    assert span.resource.attributes["service.name"] == "propensities-of-the-shop"


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as found:
        yield found


@pytest.mark.parametrize("by_environment", [False, True])
def test_spans_are_sent_by_otlp_before_the_consumer_ends(
    collector: Collector,
    monkeypatch: pytest.MonkeyPatch,
    by_environment: bool,
) -> None:
    address, taken = collector
    if by_environment:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", address)
    made = traces(endpoint="" if by_environment else f"{address}/v1/traces")
    made.open(report(), TRACED).close()
    made.close()
    assert {path for path, _ in taken} == {"/v1/traces"}
    assert bytes.fromhex(TRACE) in b"".join(body for _, body in taken)


class Stuck(SpanExporter):
    """A collector that does not answer until it is let go."""

    def __init__(self) -> None:
        self.let_go = threading.Event()

    def export(self, spans: object) -> SpanExportResult:
        self.let_go.wait()
        return SpanExportResult.SUCCESS


def test_a_collector_that_does_not_answer_does_not_hold_up_the_end_of_the_consumer(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("stream_scorer.io.telemetry.traces.SHUTDOWN_SECONDS", 0.05)
    stuck = Stuck()
    made = traces(stuck)
    made.open(report(), TRACED).close()
    made.close()  # comes back, though the exporter does not
    assert not stuck.let_go.is_set()
    assert "does not answer" in caplog.text
    stuck.let_go.set()


def test_without_the_extra_the_setting_is_an_error_that_names_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "stream_scorer.io.telemetry.traces")
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(ConfigError, match=r"telemetry\.traces.*stream-scorer\[otel\]"):
        importlib.import_module("stream_scorer.io.telemetry.traces")
