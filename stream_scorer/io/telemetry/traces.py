"""Traces by OpenTelemetry: spans of micro-batches and of some of their events.

A micro-batch is a span `process TOPIC` of a trace of its own, with a span for each stage. Of its
first few events whose records carry a sampled context (header `traceparent`) it has links
to their contexts, and each of these events has a span `process TOPIC` in the event's own trace. Its
context goes into the headers of the customer's output record, so that a trace which began in the
shop goes on in whoever reads the propensities. Names and attributes are those of OpenTelemetry's
conventions for messaging and for Kafka; `poll`, `send` and `commit` are the operations that they
call receive, send and settle.

A batch becomes spans when it is published, from the moments that its report has anyway: nothing is
called between the stages. An attempt that Kafka fails is a span with that error, and the next one
is another span; an attempt that ends before, as Redis does not answer, has none. Spans are sent by
a thread of the SDK, whose queue is bounded: what a collector does not take is dropped.

Where they are sent to, how many are sampled and what else is set stands in the variables OTEL_*,
which the SDK reads.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping

from stream_scorer.confidential import without_credentials
from stream_scorer.core.events.batch import Position
from stream_scorer.errors import ConfigError
from stream_scorer.io.batch_report import BatchReport

try:
    from opentelemetry import trace
    from opentelemetry.context import Context
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
    from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError as error:
    raise ConfigError(
        "telemetry.traces", "true", f"pip install 'stream-scorer[otel]' ({error})"
    ) from error

SHUTDOWN_SECONDS = 2.0  # for spans that are not sent yet when the consumer stops

log = logging.getLogger(__name__)

# Stages that are operations on a topic: name, type and kind by the conventions. Others are our own.
_OPERATIONS = {
    "poll": ("poll", "receive", SpanKind.CLIENT),
    "publish": ("send", "send", SpanKind.CLIENT),
    "commit": ("commit", "settle", SpanKind.CLIENT),
}
_W3C = TraceContextTextMapPropagator()

Attributes = dict[str, str | int]


class OpenTelemetryTraces:
    """Traces of one consumer. exporter: takes the spans; sent by OTLP over HTTP where it is None.

    endpoint: for OTLP, "" for what OTEL_EXPORTER_OTLP_ENDPOINT or its default says.
    """

    def __init__(
        self,
        *,
        topic: str,
        output_topic: str,
        group: str,
        client: str,
        build: str,
        endpoint: str = "",
        exporter: SpanExporter | None = None,
    ) -> None:
        own = Resource(
            {"service.name": "stream-scorer", "service.version": build,
             "service.instance.id": client}
        )  # fmt: skip
        # What the environment says of the service wins.
        resource = own.merge(OTELResourceDetector().detect())
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(
            BatchSpanProcessor(exporter or OTLPSpanExporter(endpoint=endpoint or None))
        )
        self._tracer = self._provider.get_tracer("stream_scorer", build)
        self._topic, self._output_topic = topic, output_topic
        self._of_all: Attributes = {
            "messaging.system": "kafka", "messaging.consumer.group.name": group,
            "messaging.client.id": client,
        }  # fmt: skip

    def open(
        self, report: BatchReport, traced: Mapping[str, tuple[Position, Mapping[str, str]]]
    ) -> BatchSpans:
        """Begin the spans of a batch that is scored; see the head of this module."""
        # Intervals are of the clock that only grows.
        clock_ns = time.time_ns() - int(time.perf_counter() * 1e9)
        start_ns = clock_ns + int(report.intervals[0][1] * 1e9)
        parents = {customer: _W3C.extract(headers) for customer, (_, headers) in traced.items()}
        contexts = [trace.get_current_span(p).get_span_context() for p in parents.values()]
        batch = self._tracer.start_span(
            f"process {self._topic}",
            Context(),
            SpanKind.CONSUMER,
            self._attributes("process", "process", self._topic)
            | {"messaging.batch.message_count": report.records},
            [Link(context) for context in contexts if context.is_valid],
            start_ns,
        )
        events = {}
        for customer, parent in parents.items():
            _, partition, offset = traced[customer][0]
            events[customer] = self._tracer.start_span(
                f"process {self._topic}",
                parent,
                SpanKind.CONSUMER,
                self._attributes("process", "process", self._topic)
                | {
                    "messaging.destination.partition.id": str(partition),
                    "messaging.kafka.offset": offset,
                },
                [Link(batch.get_span_context())],
                start_ns,
            )
        return BatchSpans(self, report, batch, events, clock_ns)

    def stage(self, batch: Span, name: str, start_ns: int, end_ns: int) -> None:
        """One stage of a batch as a span."""
        operation, kind_of_operation, kind = _OPERATIONS.get(name, (name, "", SpanKind.INTERNAL))
        attributes: Attributes = {}
        if kind_of_operation:
            topic = self._output_topic if name == "publish" else self._topic
            attributes = self._attributes(operation, kind_of_operation, topic)
            operation = f"{operation} {topic}"
        span = self._tracer.start_span(
            operation, trace.set_span_in_context(batch), kind, attributes, (), start_ns
        )
        span.end(end_ns)

    def close(self) -> None:
        """Send what is not sent yet, within `SHUTDOWN_SECONDS`."""
        # On a thread, since it waits for a collector that is away for half a minute, whatever time
        # limit it is given; a stop in good order has a few seconds.
        closing = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
        closing.start()
        closing.join(SHUTDOWN_SECONDS)
        if closing.is_alive():
            log.warning(
                "the collector of traces does not answer: the spans of the last seconds are lost"
            )

    def _attributes(self, name: str, kind: str, topic: str) -> Attributes:
        return self._of_all | {
            "messaging.operation.name": name, "messaging.operation.type": kind,
            "messaging.destination.name": topic,
        }  # fmt: skip


class BatchSpans:
    """The spans of one attempt to publish a batch. headers: of output records, by their key."""

    def __init__(
        self,
        traces: OpenTelemetryTraces,
        report: BatchReport,
        batch: Span,
        events: Mapping[str, Span],
        clock_ns: int,
    ) -> None:
        self._traces, self._report, self._batch = traces, report, batch
        self._events, self._clock_ns = events, clock_ns
        self.headers = {customer.encode(): _headers(span) for customer, span in events.items()}

    def close(self) -> None:
        """It is published and committed."""
        report, end_ns = self._report, 0
        for name, start, end in report.intervals:
            end_ns = max(end_ns, self._clock_ns + int(end * 1e9))
            self._traces.stage(
                self._batch, name, self._clock_ns + int(start * 1e9),
                self._clock_ns + int(end * 1e9),
            )  # fmt: skip
        self._batch.set_attributes(
            {
                "stream_scorer.events.applied": report.applied,
                "stream_scorer.dead_letters": len(report.dead_letters),
                "stream_scorer.propensities": report.propensities,
            }
        )
        for span in (*self._events.values(), self._batch):
            span.end(end_ns)

    def fail(self, error: Exception) -> None:
        """This attempt is given up; the batch is tried again."""
        for span in (*self._events.values(), self._batch):
            # As of the conventions for errors; the text of the exception may be long.
            span.set_attribute("error.type", type(error).__name__)
            span.set_status(Status(StatusCode.ERROR, without_credentials(str(error))[:500]))
            span.end()


def _headers(span: Span) -> list[tuple[str, bytes]]:
    carrier: dict[str, str] = {}
    _W3C.inject(carrier, trace.set_span_in_context(span))
    return [(name, value.encode()) for name, value in carrier.items()]
