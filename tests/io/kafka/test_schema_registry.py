"""Writer schemas from files, and from a registry that speaks Confluent's REST on a real socket."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stream_scorer.core.avro.decoder import Decoder
from stream_scorer.core.avro.event_encoder import encode_events
from stream_scorer.core.avro.schemas import confluent_prefix, fingerprint_prefix, schema_json
from stream_scorer.core.events.batch import RecordBatch
from stream_scorer.errors import BusUnavailable, ConfigError, Halt
from stream_scorer.io.kafka.schema_registry import SchemaLookup

OURS = schema_json("customer_event")
MONEY = {
    "type": "record", "name": "Money", "namespace": "shop.types",
    "fields": [{"name": "units", "type": "long"}, {"name": "currency", "type": "Currency"}],
}  # fmt: skip
CURRENCY = {
    "type": "enum", "name": "Currency", "namespace": "shop.types", "symbols": ["EUR", "USD"],
}  # fmt: skip


class Registry(BaseHTTPRequestHandler):
    """The part of the REST interface that clients use to read and register schemas."""

    schemas: dict[int, dict[str, Any]] = {}  # noqa: RUF012 - one server per test
    subjects: dict[str, int] = {}  # noqa: RUF012
    asked: list[str] = []  # noqa: RUF012
    answers: list[tuple[int, Any]] = []  # noqa: RUF012 - given before anything else
    authorization: str | None = None

    def do_GET(self) -> None:
        parts = self.path.split("?")[0].strip("/").split("/")
        if parts[:2] == ["schemas", "ids"] and int(parts[2]) in self.schemas:
            self._say(200, self.schemas[int(parts[2])])
        elif parts[0] == "subjects" and parts[1] in self.subjects:
            schema_id = self.subjects[parts[1]]
            self._say(
                200,
                {"subject": parts[1], "version": 1, "id": schema_id, **self.schemas[schema_id]},
            )
        else:
            self._say(404, {"error_code": 40403, "message": "Schema not found"})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        subject = self.path.split("/")[2]
        known = [i for i, schema in self.schemas.items() if schema["schema"] == body["schema"]]
        schema_id = known[0] if known else len(self.schemas) + 1
        self.schemas[schema_id] = {"schema": body["schema"]}
        self.subjects[subject] = schema_id
        self._say(200, {"id": schema_id})

    def _say(self, status: int, body: Any) -> None:
        self.asked.append(self.path)
        type(self).authorization = self.headers.get("Authorization")
        if self.answers:
            status, body = self.answers.pop(0)
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def registry() -> Iterator[tuple[type[Registry], str]]:
    handler = type("OneRegistry", (Registry,), {
        "schemas": {}, "subjects": {}, "asked": [], "answers": [], "protocol_version": "HTTP/1.0",
    })  # fmt: skip
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield handler, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def lookup(registry: tuple[type[Registry], str]) -> Iterator[SchemaLookup]:
    found = SchemaLookup(registry=settings(registry[1]))
    yield found
    found.close()


def settings(url: str, **more: object) -> dict[str, object]:
    return {"url": url, "retries.wait.ms": 1, "max.retries": 1, **more}


def test_schemas_of_files_and_directories_are_found_by_fingerprint(tmp_path: Path) -> None:
    older = json.loads(OURS)
    older["fields"] = [f for f in older["fields"] if f["name"] != "attributes"]
    (tmp_path / "older.avsc").write_text(json.dumps(older))
    (tmp_path / "notes.txt").write_text("not a schema")
    single = tmp_path / "single.json"
    single.write_text(json.dumps(MONEY | {"fields": []}))
    lookup = SchemaLookup([tmp_path, single])
    assert json.loads(lookup(fingerprint_prefix(json.dumps(older))) or "") == older
    assert lookup(fingerprint_prefix(single.read_text())) == single.read_text()
    assert lookup(confluent_prefix(1)) is None
    assert lookup(fingerprint_prefix('"int"')) is None


@pytest.mark.parametrize("text", ["{", '{"type": "nonsense"}'])
def test_a_file_that_is_no_schema_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.avsc").write_text(text)
    with pytest.raises(ConfigError, match=r"bad\.avsc"):
        SchemaLookup([tmp_path])
    with pytest.raises(ConfigError, match="can't be read"):
        SchemaLookup([tmp_path / "absent.avsc"])


def test_a_registered_schema_decodes_records_of_its_id(
    registry: tuple[type[Registry], str], lookup: SchemaLookup
) -> None:
    schema_id = lookup.register("events-value", OURS)
    assert lookup.register("events-value", OURS) == schema_id
    row = {"event_id": "e", "customer_id": "c", "event_type": "view", "occurred_at": 5}
    values = [*encode_events([row] * 3, confluent_prefix(schema_id))]
    records = RecordBatch(
        [*values, confluent_prefix(99) + b"x"], [None] * 4, [("events", 0)],
        np.zeros(4, np.int32), np.arange(4), np.full(4, -1),
    )  # fmt: skip
    fresh = SchemaLookup(registry=settings(registry[1]))
    events, dead_letters = Decoder(fresh, max_record_bytes=1000).decode(records)
    fresh.close()
    assert [events.customer_id[i] for i in range(len(events))] == ["c"] * 3
    assert [(dead_letter.offset, dead_letter.reason.value) for dead_letter in dead_letters] == [
        (3, "unknown_schema")
    ]


def test_types_of_referred_schemas_are_included(
    registry: tuple[type[Registry], str], lookup: SchemaLookup
) -> None:
    ours = json.loads(OURS)
    ours["fields"] += [
        {"name": "price", "type": ["null", "shop.types.Money"]},
        {"name": "was", "type": {"type": "array", "items": "shop.types.Money"}},
    ]
    money = {"name": "shop.types.Money", "subject": "money", "version": 1}
    currency = {"name": "shop.types.Currency", "subject": "currency", "version": 1}
    registry[0].schemas.update(
        {
            1: {"schema": json.dumps(ours), "references": [money]},
            2: {"schema": json.dumps(MONEY), "references": [currency]},
            3: {"schema": json.dumps(CURRENCY)},
        }
    )
    registry[0].subjects.update({"money": 2, "currency": 3})
    found = json.loads(lookup(confluent_prefix(1)) or "")
    assert found["fields"][-2]["type"][1]["fields"][1]["type"] == CURRENCY
    assert found["fields"][-1]["type"] == {"type": "array", "items": "shop.types.Money"}
    assert fingerprint_prefix(json.dumps(found))


def test_credentials_go_along_and_are_not_shown(registry: tuple[type[Registry], str]) -> None:
    handler, url = registry
    properties = settings(url, **{"basic.auth.user.info": "me:secret"})
    lookup = SchemaLookup(registry=properties)
    assert lookup(confluent_prefix(1)) is None
    assert handler.authorization == "Basic bWU6c2VjcmV0"
    handler.answers += [(401, {"error_code": 401, "message": "Unauthorized"})]
    with pytest.raises(Halt, match=r"schema_registry\.username") as caught:
        lookup(confluent_prefix(1))
    lookup.close()
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "answer",
    [
        (503, {"error_code": 50003, "message": "busy"}),
        (500, b"oops"),
        (404, b"<html>"),
        (200, b"<"),
    ],
)
def test_a_registry_in_trouble_is_unavailable_and_then_asked_again(
    registry: tuple[type[Registry], str], lookup: SchemaLookup, answer: tuple[int, Any]
) -> None:
    registry[0].schemas[1] = {"schema": OURS}
    registry[0].answers += [answer, answer]
    with pytest.raises(BusUnavailable):
        lookup(confluent_prefix(1))
    registry[0].answers.clear()
    assert lookup(confluent_prefix(1)) == OURS


def test_a_registry_that_does_not_answer_is_unavailable() -> None:
    lookup = SchemaLookup(registry=settings("http://me:secret@127.0.0.1:1"))
    with pytest.raises(BusUnavailable, match=r"127\.0\.0\.1:1") as caught:
        lookup(confluent_prefix(1))
    lookup.close()
    assert "secret" not in str(caught.value)


def test_registering_needs_a_registry_and_a_schema_it_accepts(
    registry: tuple[type[Registry], str], lookup: SchemaLookup
) -> None:
    with pytest.raises(ConfigError, match=r"schema_registry\.url"):
        SchemaLookup().register("events-value", OURS)
    with pytest.raises(ConfigError, match=r"schema_registry\.url"):
        SchemaLookup(registry={"url": "nonsense"})
    registry[0].answers += [(409, {"error_code": 409, "message": "incompatible"})]
    with pytest.raises(Halt, match="incompatible"):
        lookup.register("events-value", OURS)
