"""All series that /metrics can have, with values that grow, for a Prometheus of the tests."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from stream_scorer.io.telemetry.metric import MetricFamily
from stream_scorer.io.telemetry.metric_list import METRICS


def exposition(scrape: int) -> str:
    """What the n-th scrape reads: counters have grown by 10, gauges are small numbers."""
    return "".join(line for family in METRICS for line in _lines(family, scrape))


def _lines(family: MetricFamily, scrape: int) -> Iterator[str]:
    yield f"# TYPE {family.exposed_name} {family.kind}\n"
    values = [choices or ("one", "another") for choices in family.labels.values()]
    for combination in itertools.product(*values):
        pairs = dict(zip(family.labels, combination, strict=True))
        if family.kind == "gauge":
            yield _line(family.name, pairs, 0.5)
        elif family.kind == "counter":
            yield _line(f"{family.name}_total", pairs, 10 * scrape)
        else:
            bounds = [*map(str, family.buckets), "+Inf"]
            for index, bound in enumerate(bounds):
                yield _line(f"{family.name}_bucket", {**pairs, "le": bound}, index * scrape)
            yield _line(f"{family.name}_count", pairs, (len(bounds) - 1) * scrape)
            yield _line(f"{family.name}_sum", pairs, 0.1 * scrape)


def _line(name: str, pairs: dict[str, str], value: float) -> str:
    labels = ",".join(f'{label}="{text}"' for label, text in pairs.items())
    return f"{name}{{{labels}}} {value}\n"


class Exposed:
    """Serves `exposition` on a free port of loopback; a context manager."""

    def __init__(self) -> None:
        scrapes = itertools.count(1)
        self.scrapes = 0

        class Handler(BaseHTTPRequestHandler):
            def do_GET(handler) -> None:  # noqa: N805 - self is the one outside
                self.scrapes = next(scrapes)
                text = exposition(self.scrapes).encode()
                handler.send_response(200)
                handler.send_header("Content-Type", "text/plain; version=0.0.4")
                handler.send_header("Content-Length", str(len(text)))
                handler.end_headers()
                handler.wfile.write(text)

            def log_message(handler, *_: object) -> None:  # noqa: N805
                """No line for each scrape."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever)

    def __enter__(self) -> Exposed:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
