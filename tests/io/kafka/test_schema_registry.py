"""Writer schemas from files, and from a registry that speaks Confluent's REST on a real socket."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stream_scorer.checks.registry import registry_findings
from stream_scorer.core.avro.decoder import Decoder
from stream_scorer.core.avro.event_encoder import encode_events
from stream_scorer.core.avro.schemas import confluent_prefix, fingerprint_prefix, schema_json
from stream_scorer.core.events.batch import DeadLetter, EventBatch, Reason, RecordBatch
from stream_scorer.errors import BusUnavailable, ConfigError, Halt
from stream_scorer.io.kafka import registry_http, registry_lookups, schema_registry
from stream_scorer.io.kafka.registry_lookups import Lookups, UnknownIdError
from stream_scorer.io.kafka.schema_registry import SchemaLookup
from stream_scorer.settings.tree import Settings

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
    refused: dict[int, tuple[int, Any]] = {}  # noqa: RUF012 - answers by schema id
    authorization: str | None = None
    location: str | None = None
    slow_seconds = 0.0

    def do_GET(self) -> None:
        time.sleep(self.slow_seconds)
        parts = self.path.split("?")[0].strip("/").split("/")
        if parts[:2] == ["schemas", "ids"] and int(parts[2]) in self.refused:
            self._say(*self.refused[int(parts[2])])
        elif parts[:2] == ["schemas", "ids"] and int(parts[2]) in self.schemas:
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
        if self.location is not None:
            self.send_header("Location", self.location)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def registry() -> Iterator[tuple[type[Registry], str]]:
    handler = type("OneRegistry", (Registry,), {
        "schemas": {}, "subjects": {}, "asked": [], "answers": [], "refused": {},
        "protocol_version": "HTTP/1.0",
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
    found = SchemaLookup(registry=settings(registry[1]), patience_seconds=3)
    yield found
    found.close()


def settings(url: str, **more: object) -> dict[str, object]:
    return {"url": url, **more}


def test_schemas_of_files_and_directories_are_found_by_fingerprint(tmp_path: Path) -> None:
    older = json.loads(OURS)
    older["fields"] = [f for f in older["fields"] if f["name"] != "attributes"]
    # Windows programs put a mark before UTF-8.
    (tmp_path / "older.avsc").write_text(json.dumps(older), encoding="utf-8-sig")
    (tmp_path / "notes.txt").write_text("not a schema")
    single = tmp_path / "single.json"
    single.write_text(json.dumps(MONEY | {"fields": []}))
    lookup = SchemaLookup([tmp_path, single])
    assert json.loads(lookup(fingerprint_prefix(json.dumps(older))) or "") == older
    assert lookup(fingerprint_prefix(single.read_text())) == single.read_text()
    assert lookup(confluent_prefix(1)) is None
    assert lookup(fingerprint_prefix('"int"')) is None


@pytest.mark.parametrize(
    "text",
    ["{", '{"type": "nonsense"}', '{"type": "fixed", "name": "F", "size": -5}', "[" * 100_000],
)
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
    handler.answers += [(401, {"error_code": 401, "message": "Unauthorized"})] * 100
    with pytest.raises(BusUnavailable, match=r"schema_registry\.username") as caught:
        lookup(confluent_prefix(2))
    lookup.close()
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "answer",
    [
        (503, {"error_code": 50003, "message": "busy"}),
        (500, b"oops"),
        (404, b"<html>"),
        (403, b"<html>"),
        (404, {"message": "who?"}),
        (400, [1]),
        (408, {"error_code": 408, "message": "slow"}),
        (429, {"error_code": 429, "message": "too many"}),
        (301, b""),
        (302, {"error_code": 302, "message": "moved"}),
        (307, b""),
        (204, b""),
        (200, b"<"),
        (200, b"[" * 100_000),
        (200, [1]),
        (200, {"schema": 5}),
        (200, {"message": "\ud800", "error_code": True}),
    ],
)
def test_a_registry_in_trouble_is_unavailable_and_then_asked_again(
    registry: tuple[type[Registry], str], lookup: SchemaLookup, answer: tuple[int, Any]
) -> None:
    registry[0].schemas[1] = {"schema": OURS}
    registry[0].answers += [answer] * 20
    impatient = SchemaLookup(registry=settings(registry[1]), patience_seconds=0.3)
    with pytest.raises(BusUnavailable):
        impatient(confluent_prefix(1))
    impatient.close()
    registry[0].answers.clear()
    assert lookup(confluent_prefix(1)) == OURS


def test_a_registry_that_does_not_answer_is_unavailable() -> None:
    lookup = SchemaLookup(registry=settings("http://me:secret@127.0.0.1:1"), patience_seconds=0.3)
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


@pytest.mark.parametrize("id_", [True, -1, 2**31, 2**64, 1.0, "1", None])
def test_what_can_be_no_id_is_not_taken_for_the_id_of_a_registered_schema(
    registry: tuple[type[Registry], str], lookup: SchemaLookup, id_: Any
) -> None:
    """Records can't be framed with it: writing the first one ended the process."""
    registry[0].answers += [(200, {"id": id_})]
    with pytest.raises(BusUnavailable, match=r"no message \(HTTP status 200\)"):
        lookup.register("events-value", OURS)


def test_what_the_registry_repeats_of_the_request_is_not_shown(
    registry: tuple[type[Registry], str],
) -> None:
    said = "bad header 'Authorization: Basic bWU6czpwLyM=' of me:s:p/#"
    registry[0].answers += [(422, {"error_code": 42201, "message": said})]
    lookup = SchemaLookup(registry=settings(registry[1], **{"basic.auth.user.info": "me:s:p/#"}))
    _, (dead_letter,) = decoded(lookup, [1])
    lookup.close()
    assert "refuses it: bad header 'Authorization: Basic ***' of me:***" in dead_letter.detail


@pytest.mark.parametrize("status", [400, 403, 404, 409, 410, 418, 422, 451])
def test_a_refusal_of_one_id_is_a_dead_letter_and_the_others_are_decoded(
    registry: tuple[type[Registry], str], lookup: SchemaLookup, status: int
) -> None:
    registry[0].schemas[1] = {"schema": OURS}
    registry[0].refused[7] = status, {"error_code": 40301, "message": "\ud800 not for you"}
    events, dead_letters = decoded(lookup, [7, 1, 7])
    assert len(events) == 1
    assert [dead_letter.reason for dead_letter in dead_letters] == [Reason.UNKNOWN_SCHEMA] * 2
    detail = dead_letters[0].detail
    detail.encode()
    if status == 404:
        assert detail == "no schema is known for schema id 7"
    else:
        assert detail.startswith("schema id 7: the registry refuses it: ")
        assert f"HTTP status {status}, error code 40301" in detail


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ({"schema": "{", "references": []}, "not a valid Avro schema"),
        ({"schema": " " * 2**20 + OURS}, "characters, more than the 1048576 allowed"),
        ({"schema": "syntax", "schemaType": "PROTOBUF"}, "the registry has it as PROTOBUF"),
        (
            {"schema": OURS, "references": 5},
            "the registry lists its references without a valid name",
        ),
        (
            {"schema": OURS, "references": [5]},
            "the registry lists its references without a valid name",
        ),
        (
            {"schema": OURS, "references": [{"name": "a"}]},
            "the registry lists its references without a valid name",
        ),
        (
            {"schema": OURS, "references": [{"name": 5, "subject": "s", "version": 1}]},
            "the registry lists its references without a valid name",
        ),
        (
            {"schema": OURS, "references": [{"name": "a", "subject": "absent", "version": 1}]},
            "it refers to subject 'absent', version 1: the registry does not have it",
        ),
        (
            {"schema": OURS, "references": [{"name": "string", "subject": "text", "version": 1}]},
            "the schemas that it refers to are not valid Avro",
        ),
        (
            {"schema": "5", "references": [{"name": "a", "subject": "text", "version": 1}]},
            "the schemas that it refers to are not valid Avro",
        ),
        (
            {"schema": OURS, "references": [{"name": "string", "subject": "deep", "version": 1}]},
            "the schemas that it refers to are not valid Avro",
        ),
        (
            {"schema": OURS, "references": [{"name": "n0", "subject": "chain-0", "version": 1}]},
            "it refers to more than 64 other schemas",
        ),
        (
            {
                "schema": OURS,
                "references": [
                    {"name": f"l{i}", "subject": "long", "version": 1} for i in range(3)
                ],
            },
            "with the schemas that it refers to it has more than the 1048576 characters",
        ),
        # Each of these was asked for again without end, and nothing else was read.
        (
            {"schema": OURS, "references": [{"name": "a", "subject": "s", "version": 10**400}]},
            "the registry lists its references without a valid name",
        ),
        (
            {
                "schema": OURS,
                "references": [{"name": "a", "subject": "s", "version": 1e999}],
            },
            "the registry lists its references without a valid name",
        ),
        (
            {"schema": OURS, "references": [{"name": "a", "subject": "\ud800", "version": 1}]},
            "the registry lists its references without a valid name",
        ),
        (
            {"schema": OURS, "references": [{"name": "a", "subject": "s", "version": True}]},
            "the registry lists its references without a valid name",
        ),
        # It refers to itself by way of another: the name is then defined within itself.
        (
            {
                "schema": json.dumps(MONEY),
                "references": [{"name": "shop.types.Currency", "subject": "circle", "version": 1}],
            },
            "the type shop.types.Money is defined twice",
        ),
    ],
)
def test_a_schema_that_is_none_is_a_dead_letter_that_says_why(
    registry: tuple[type[Registry], str], lookup: SchemaLookup, schema: Any, says: str
) -> None:
    handler = registry[0]
    handler.schemas |= {1: schema, 2: {"schema": "no JSON"}, 3: {"schema": "[" * 100_000}}
    handler.schemas[4] = {"schema": json.dumps("x" * 500_000)}
    circle = CURRENCY | {"type": "record", "fields": [{"name": "of", "type": "shop.types.Money"}]}
    of_money = [{"name": "shop.types.Money", "subject": "money", "version": 1}]
    handler.schemas[5] = {"schema": json.dumps(circle), "references": of_money}
    handler.schemas[6] = {"schema": json.dumps(MONEY), "references": [
        {"name": "shop.types.Currency", "subject": "circle", "version": 1}]}  # fmt: skip
    handler.subjects |= {"text": 2, "deep": 3, "long": 4, "circle": 5, "money": 6}
    for i in range(100):
        reference = {"name": f"n{i + 1}", "subject": f"chain-{i + 1}", "version": 1}
        handler.schemas[100 + i] = {"schema": OURS, "references": [reference]}
        handler.subjects[f"chain-{i}"] = 100 + i
    events, dead_letters = decoded(lookup, [1])
    assert len(events) == 0
    assert says in dead_letters[0].detail
    assert len(dead_letters[0].detail) < 500


def test_thousands_of_unknown_ids_of_one_batch_are_not_asked_for_one_after_another(
    registry: tuple[type[Registry], str], lookup: SchemaLookup
) -> None:
    registry[0].schemas[2_000_000] = {"schema": OURS}
    ids = [*range(1, 1501), 2_000_000, 2_000_000, 2**32 - 1]
    decoder = Decoder(lookup, max_record_bytes=1000, ahead=lookup.ahead)
    for number in range(1, 4):
        events, dead_letters = until_answered(decoder, ids)
        assert len(events) == 2
        assert len(dead_letters) == 1501
        assert {dead_letter.reason for dead_letter in dead_letters} == {Reason.UNKNOWN_SCHEMA}
        not_asked = [d for d in dead_letters if "put it back with dead-letters replay" in d.detail]
        most = registry_lookups.MOST_UNKNOWN + registry_lookups.FIRST_IDS
        # What was answered for the batches before is remembered, and not asked for again.
        assert 1500 - number * most <= len(not_asked) <= 1500 - number * most // 2
        assert len(registry[0].asked) <= number * most + 1


def test_a_batch_of_more_known_ids_than_are_kept_is_decoded_whole(
    registry: tuple[type[Registry], str], lookup: SchemaLookup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Schemas that made room for others became dead letters, "not asked for"."""
    monkeypatch.setattr(registry_lookups, "MOST_SCHEMAS", 30)
    registry[0].schemas |= {i: {"schema": OURS} for i in range(1, 101)}
    events, dead_letters = decoded(lookup, [*range(1, 101), 1, 5000])
    assert len(events) == 101
    assert [d.detail for d in dead_letters] == ["no schema is known for schema id 5000"]
    assert len(registry[0].asked) == 101


def test_a_slow_registry_and_more_known_ids_than_are_kept_come_to_an_end(
    registry: tuple[type[Registry], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What one call had asked for was forgotten before the next one, so that the consumer waited
    for ever."""
    monkeypatch.setattr(registry_lookups, "MOST_SCHEMAS", 3)
    registry[0].schemas |= {i: {"schema": OURS} for i in range(1, 41)}
    registry[0].slow_seconds = 0.02
    lookup = SchemaLookup(registry=settings(registry[1]), patience_seconds=0.05)
    decoder = Decoder(lookup, max_record_bytes=1000, ahead=lookup.ahead)
    records, calls = batch(range(1, 41)), 0
    while calls < 100:
        calls += 1
        try:
            events, dead_letters = decoder.decode(records)
            break
        except BusUnavailable:
            continue
    assert 1 < calls < 100
    assert (len(events), dead_letters) == (40, [])
    lookup.close()


def test_of_very_many_new_ids_of_one_batch_the_most_frequent_are_asked_for(
    registry: tuple[type[Registry], str], lookup: SchemaLookup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry_lookups, "MOST_ASKED", 20)
    registry[0].schemas |= {i: {"schema": OURS} for i in range(1, 31)}
    events, dead_letters = decoded(lookup, [*range(1, 31), *range(21, 31)])
    assert len(registry[0].asked) == 20
    assert len(events) == 30
    assert [d.record for d in dead_letters] == list(range(10, 20))
    assert "or new; put it back with dead-letters replay" in dead_letters[0].detail
    # What was not asked for is asked for with the next batch.
    assert len(decoded(lookup, range(1, 31))[0]) >= 20


def test_the_id_that_most_records_name_is_asked_for_first(
    registry: tuple[type[Registry], str], lookup: SchemaLookup, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of several threads any may reach the registry first.
    monkeypatch.setattr(registry_lookups, "THREADS", 1)
    registry[0].schemas[2_000_000] = {"schema": OURS}
    decoded(lookup, [*range(1, 100), 2_000_000, 2_000_000])
    assert registry[0].asked[0] == "/schemas/ids/2000000"


def test_a_slow_registry_is_waited_for_a_moment_at_a_time(
    registry: tuple[type[Registry], str],
) -> None:
    handler = registry[0]
    handler.schemas |= {i: {"schema": OURS} for i in range(1, 13)}
    handler.slow_seconds = 0.2
    lookup = SchemaLookup(registry=settings(registry[1]), patience_seconds=0.1)
    decoder = Decoder(lookup, max_record_bytes=1000, ahead=lookup.ahead)
    with pytest.raises(BusUnavailable, match="has not answered yet for"):
        decoder.decode(batch(range(1, 13)))
    events, dead_letters = until_answered(decoder, range(1, 13))
    assert (len(events), dead_letters) == (12, [])
    assert len(handler.asked) == 12  # what was answered between two attempts is remembered
    lookup.close()


def test_what_is_unknown_is_asked_for_again_after_a_while() -> None:
    now = [0.0]
    asked: list[int] = []

    def fetch(id_: int) -> str | UnknownIdError:
        asked.append(id_)
        return UnknownIdError("") if len(asked) == 1 else OURS

    lookups = Lookups(fetch, clock=lambda: now[0])
    lookups.ask([5], 10)
    lookups.ask([5], 10)
    assert isinstance(lookups.answer(5), UnknownIdError)
    now[0] = registry_lookups.UNKNOWN_SECONDS + 1
    lookups.ask([5], 10)
    assert lookups.answer(5) == OURS
    assert asked == [5, 5]
    lookups.close()


def test_what_is_remembered_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_lookups, "MOST_REMEMBERED", 10)
    monkeypatch.setattr(registry_lookups, "MOST_SCHEMAS", 3)
    lookups = Lookups(lambda id_: OURS if id_ % 2 else UnknownIdError(""))
    for id_ in range(100):
        lookups.ask([id_], 10)
    assert (len(lookups._unknown), len(lookups._schemas)) == (10, 3)
    lookups.close()


def test_texts_of_schemas_that_are_remembered_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_lookups, "MOST_TEXT_CHARACTERS", 1000)
    lookups = Lookups(lambda id_: "x" * (2000 if id_ == 50 else 300))
    for id_ in range(49):
        lookups.ask([id_], 10)
    assert (len(lookups._schemas), lookups._text_characters) == (3, 900)
    lookups.ask([50], 10)
    assert lookups.answer(50) == "x" * 2000
    assert len(lookups._schemas) == 1
    lookups.ask([51], 10)
    assert (len(lookups._schemas), lookups._text_characters) == (1, 300)
    lookups.close()


def test_a_refused_id_keeps_nothing_of_the_answer_in_memory(
    registry: tuple[type[Registry], str], lookup: SchemaLookup
) -> None:
    registry[0].schemas[1] = {"schema": OURS, "references": 5}
    decoded(lookup, [1])
    assert lookup._lookups is not None
    found = lookup._lookups.answer(1)
    assert isinstance(found, UnknownIdError)
    assert (found.__traceback__, found.__context__) == (None, None)


def test_an_error_within_a_look_up_is_reported_and_not_lost() -> None:
    def fetch(_id: int) -> str:
        raise ZeroDivisionError("of a look-up")

    lookups = Lookups(fetch)
    with pytest.raises(BusUnavailable, match="ZeroDivisionError"):
        lookups.ask([5], 0.1)
    lookups.close()


HEAD = b"HTTP/1.1 200 OK\r\n"


def dripping_body(connection: socket.socket) -> None:
    connection.sendall(HEAD + b"Content-Length: 1000000\r\n\r\n")
    while True:
        connection.sendall(b" ")
        time.sleep(0.02)


def dripping_head(connection: socket.socket) -> None:
    while True:
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        time.sleep(0.02)


def endless_body(connection: socket.socket) -> None:
    connection.sendall(HEAD + b"\r\n")
    while True:
        connection.sendall(b"x" * 65536)


def endless_chunks(connection: socket.socket) -> None:
    connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    while True:
        connection.sendall(b"5\r\nxxxxx\r\n" * 1000)


def endless_headers(connection: socket.socket) -> None:
    connection.sendall(HEAD)
    while True:
        connection.sendall(b"A: " + b"x" * 1000 + b"\r\n")


def silence(connection: socket.socket) -> None:
    connection.recv(1)
    time.sleep(30)


def hang_up(connection: socket.socket) -> None:
    connection.recv(1)


def nonsense(connection: socket.socket) -> None:
    connection.sendall(b"\x16\x03\x01\x00" * 100)


def a_wrong_length(connection: socket.socket) -> None:
    connection.sendall(HEAD + b"Content-Length: -5\r\n\r\n{}")


def a_wrong_chunk(connection: socket.socket) -> None:
    connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n")


@pytest.fixture
def hostile(request: pytest.FixtureRequest) -> Iterator[str]:
    """A server that answers each connection by the test's parameter."""
    stop = threading.Event()
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(0.05)
    threads: list[threading.Thread] = []
    connections: list[socket.socket] = []

    def answer(connection: socket.socket) -> None:
        try:
            request.param(connection)
        except OSError:
            return
        finally:
            connection.close()

    def serve() -> None:
        while not stop.is_set():
            try:
                connection, _ = server.accept()
            except TimeoutError:
                continue
            connection.settimeout(5)
            connections.append(connection)
            thread = threading.Thread(target=answer, args=(connection,), daemon=True)
            thread.start()
            threads.append(thread)

    serving = threading.Thread(target=serve)
    serving.start()
    yield f"127.0.0.1:{server.getsockname()[1]}"
    stop.set()
    serving.join()
    server.close()


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    "hostile",
    [
        dripping_body, dripping_head, endless_body, endless_chunks, endless_headers, silence,
        hang_up, nonsense, a_wrong_length, a_wrong_chunk,
    ],
    indirect=True,
)  # fmt: skip
def test_a_registry_whose_answer_never_ends_or_is_no_http_is_unavailable_in_time(
    hostile: str, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema_registry, "REQUEST_SECONDS", 0.3)
    monkeypatch.setattr(registry_http, "MOST_ANSWER_BYTES", 1_000_000)
    lookup = SchemaLookup(
        registry=settings(f"{scheme}://me:secret@{hostile}"), patience_seconds=1.5
    )
    with pytest.raises(BusUnavailable, match=rf"schema registry {scheme}://127") as caught:
        lookup(confluent_prefix(1))
    assert "secret" not in str(caught.value)
    lookup.close()
    assert lookup._http is not None
    until = time.monotonic() + 60
    while lookup._http._open:  # a request's thread closes its connection when it wakes
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.parametrize("hostile", [silence], indirect=True)
def test_a_call_waits_no_longer_than_its_patience_whatever_the_registry_does(hostile: str) -> None:
    lookup = SchemaLookup(registry=settings(f"http://{hostile}"), patience_seconds=0.2)
    decoder = Decoder(lookup, max_record_bytes=1000, ahead=lookup.ahead)
    for _ in range(3):
        with pytest.raises(BusUnavailable, match="has not answered yet for 50 of 50 schema ids"):
            decoder.decode(batch(range(1, 51)))
    lookup.close()


def test_the_second_address_answers_where_the_first_does_not(
    registry: tuple[type[Registry], str],
) -> None:
    registry[0].schemas[1] = {"schema": OURS}
    lookup = SchemaLookup(registry=settings(f"http://127.0.0.1:1, {registry[1]}"))
    assert lookup(confluent_prefix(1)) == OURS
    lookup.close()


def test_a_redirect_is_not_followed_with_the_password(registry: tuple[type[Registry], str]) -> None:
    handler, url = registry
    handler.location = f"{url}/elsewhere"
    handler.answers += [(301, b"")] * 20
    lookup = SchemaLookup(registry=settings(url), patience_seconds=0.2)
    with pytest.raises(BusUnavailable, match=r"set schema_registry\.url to the address"):
        lookup(confluent_prefix(1))
    lookup.close()
    assert all(path == "/schemas/ids/1" for path in handler.asked)


def test_a_proxy_of_the_environment_is_used(
    registry: tuple[type[Registry], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", registry[1])
    registry[0].answers += [(200, {"schema": OURS})]
    lookup = SchemaLookup(registry=settings("http://registry.invalid:8081/path"))
    assert lookup(confluent_prefix(1)) == OURS
    lookup.close()
    assert registry[0].asked == ["http://registry.invalid:8081/path/schemas/ids/1"]


def batch(ids: Iterable[int]) -> RecordBatch:
    row = {"event_id": "e", "customer_id": "c", "event_type": "view", "occurred_at": 5}
    values = [encode_events([row], confluent_prefix(id_))[0] for id_ in ids]
    n = len(values)
    return RecordBatch(
        [*values], [None] * n, [("events", 0)], np.zeros(n, np.int32), np.arange(n), np.full(n, -1)
    )


def until_answered(decoder: Decoder, ids: Iterable[int]) -> tuple[EventBatch, list[DeadLetter]]:
    """As the loop does: the same batch again while the registry has not answered."""
    records = batch(ids)
    while True:
        try:
            return decoder.decode(records)
        except BusUnavailable:
            time.sleep(0.01)


def decoded(lookup: SchemaLookup, ids: Iterable[int]) -> tuple[EventBatch, list[DeadLetter]]:
    decoder = Decoder(lookup, max_record_bytes=1000, ahead=lookup.ahead)
    return until_answered(decoder, ids)


def test_the_newest_schema_of_a_subject_is_found_with_what_it_refers_to(
    registry: tuple[type[Registry], str], lookup: SchemaLookup
) -> None:
    server, _ = registry
    server.schemas[7], server.subjects["events-value"] = {"schema": OURS}, 7
    assert lookup.newest("events-value") == OURS
    assert lookup.newest("others-value") is None


@pytest.mark.parametrize(
    ("schema", "said", "ok"),
    [
        ({"schema": OURS}, "can be read as an event", True),
        ({"schema": json.dumps(MONEY)}, "is none of an event", False),
        ({"schema": "{}", "schemaType": "JSON"}, "not as Avro", False),
        (None, "has no subject", True),
    ],
)
def test_doctor_tries_the_newest_schema_of_the_topic(
    registry: tuple[type[Registry], str], schema: dict[str, Any] | None, said: str, ok: bool
) -> None:
    server, url = registry
    shop = Settings.load(None, overrides={"schema_registry": {"url": url}}, environment={})
    if schema is not None:
        server.schemas[9] = schema
        server.subjects[f"{shop.kafka.input_topic}-value"] = 9
    (found,) = registry_findings(shop)
    assert said in found.found
    assert found.ok == ok
