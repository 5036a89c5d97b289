"""Where writer schemas come from: .avsc files and Confluent's schema registry.

A single-object key is the fingerprint of a schema, so files answer it; a Confluent key is an id
that only the registry knows. What an answer of the registry means for a record:

- 200 with a schema: it is decoded.
- 404, 410, 422 and other 4xx, of 403 too, with the registry's own error code: the registry has
  spoken about this id, so the record becomes a dead letter. It is asked again after a minute.
- 401, 408, 429, 5xx; 3xx; an answer that is not the registry's, is too long or does not come in
  time: what is wrong is the registry or the way to it, so the batch waits and is tried again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from stream_scorer.core.avro.schemas import CONFLUENT_MAGIC, fingerprint_prefix
from stream_scorer.core.avro.writer_programs import NoSchemaError
from stream_scorer.core.avro.writer_schema import (
    MOST_SCHEMA_CHARACTERS,
    UnusableSchemaError,
    parse_writer_schema,
)
from stream_scorer.errors import BusUnavailable, ConfigError, Halt, cannot_read
from stream_scorer.io.kafka.registry_http import Answer, RegistryHttp
from stream_scorer.io.kafka.registry_lookups import Found, Lookups, UnknownIdError

REQUEST_SECONDS = 5.0
# How long one call waits for answers. The consumer then polls Kafka and comes again.
PATIENCE_SECONDS = 2.0
MOST_REFERENCES = 64
MOST_ID = 2**31 - 1  # the registry's ids are Java's int
# These are about the registry or the way to it, whoever speaks them.
_TROUBLE = (401, 407, 408, 425, 429)

_NO_REFERENCES = "the registry lists its references without a valid name, subject and version"


class SchemaLookup:
    """Callable: schema key (frame prefix) -> writer schema as JSON text, or None where unknown.

    schemas: .avsc files, or directories of them; registry: properties of `RegistryHttp`, None for
    no registry. Raises ConfigError where a file is no schema or a property is wrong. An id that is
    not remembered is waited for until patience_seconds are over.
    """

    def __init__(
        self,
        schemas: Sequence[Path] = (),
        registry: Mapping[str, object] | None = None,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self._by_key = dict(_keyed(file) for path in schemas for file in _listed(path))
        self._patience = patience_seconds
        self._http = None if registry is None else RegistryHttp(registry)
        self._lookups = None if self._http is None else Lookups(_fetcher(self._http))
        self._not_asked: frozenset[int] = frozenset()

    def ahead(self, keys: Sequence[bytes]) -> None:
        """Ask for all ids of a batch at once, most frequent first. Raises BusUnavailable."""
        ids = [id_ for id_ in map(_schema_id, keys) if id_ is not None]
        if self._lookups is not None and ids:
            self._not_asked = self._lookups.ask(ids, self._patience)

    def __call__(self, key: bytes) -> str | None:
        """The writer schema. Raises NoSchemaError with what the registry says, BusUnavailable."""
        if self._lookups is None or not key.startswith(CONFLUENT_MAGIC):
            return self._by_key.get(key)
        schema_id = _schema_id(key)
        if schema_id is None:
            return None
        if schema_id not in self._not_asked:
            self._lookups.ask([schema_id], self._patience)
        found = self._lookups.answer(schema_id)
        if found is None:
            raise NoSchemaError(
                "not asked for, because too many other ids of the same batch are unknown to the "
                "registry, or new; put it back with dead-letters replay",
                only_now=True,
            )
        if isinstance(found, UnknownIdError):
            if not str(found):
                return None
            raise NoSchemaError(str(found))
        return found

    def register(self, subject: str, schema: str) -> int:
        """The id of the schema (JSON text) under `subject`, registered if it was not yet.

        Raises ConfigError without a registry, BusUnavailable, Halt where it refuses.
        """
        if self._http is None:
            raise ConfigError("schema_registry.url", "", "set it to the registry's address")
        path = f"/subjects/{quote(subject, safe='')}/versions"
        answer = self._http.request(
            "POST", path, {"schema": schema, "schemaType": "AVRO"}, 3 * REQUEST_SECONDS
        )
        found: Any = answer.content.get("id") if isinstance(answer.content, dict) else None
        is_number = isinstance(found, int) and not isinstance(found, bool)
        if answer.status == 200 and is_number and found in range(MOST_ID + 1):
            return int(found)
        message = f"schema registry {self._http.shown}, subject {subject}: {answer.in_words()}"
        if answer.status in (401, 403):
            raise Halt(f"{message}; check schema_registry.username and schema_registry.password")
        if _is_about_the_request(answer):
            raise Halt(message)
        raise BusUnavailable(message + _remedy(answer))

    def newest(self, subject: str) -> str | None:
        """The newest schema under `subject`, with what it refers to; None where there is none.

        Raises ConfigError without a registry, NoSchemaError for one that is not Avro,
        BusUnavailable, Halt where it refuses.
        """
        if self._http is None:
            raise ConfigError("schema_registry.url", "", "set it to the registry's address")
        path = f"/subjects/{quote(subject, safe='')}/versions/latest"
        answer = self._http.request("GET", path, None, REQUEST_SECONDS)
        content = answer.content if isinstance(answer.content, dict) else {}
        if answer.status == 404 and _is_about_the_request(answer):
            return None
        if answer.status == 200 and isinstance(content.get("id"), int):
            return self(CONFLUENT_MAGIC + content["id"].to_bytes(4, "big"))
        message = f"schema registry {self._http.shown}, subject {subject}: {answer.in_words()}"
        if _is_about_the_request(answer):
            raise Halt(message)
        raise BusUnavailable(message + _remedy(answer))

    def close(self) -> None:
        """Ask for nothing more."""
        if self._lookups is not None and self._http is not None:
            self._lookups.close()
            self._http.close()


def _schema_id(key: bytes) -> int | None:
    """The id in a Confluent prefix; None for another prefix, and for what can be no id."""
    if not key.startswith(CONFLUENT_MAGIC):
        return None
    schema_id = int.from_bytes(key[len(CONFLUENT_MAGIC) :], "big")
    return schema_id if schema_id <= MOST_ID else None


def _fetcher(http: RegistryHttp) -> Callable[[int], Found]:
    """Asks for one id, with the schemas that it refers to. Raises BusUnavailable."""

    def schema_at(path: str, about: str) -> dict[str, Any]:
        """The registry's answer, with "schema" as text. Raises UnknownIdError, BusUnavailable."""
        answer = http.request("GET", path, None, REQUEST_SECONDS)
        if answer.status == 200 and isinstance(answer.content, dict):
            if isinstance(answer.content.get("schema"), str):
                return answer.content
        elif answer.status == 404 and _is_about_the_request(answer):
            raise UnknownIdError("")
        elif _is_about_the_request(answer):
            raise UnknownIdError(f"the registry refuses it: {answer.in_words()}")
        message = f"schema registry {http.shown}, {about}: {answer.in_words()}"
        raise BusUnavailable(message + _remedy(answer))

    def fetch(schema_id: int) -> Found:
        try:
            found = schema_at(f"/schemas/ids/{schema_id}", f"schema id {schema_id}")
            kind = found.get("schemaType")
            if kind not in (None, "AVRO"):
                return UnknownIdError(f"the registry has it as {str(kind)[:20]}, not as Avro")
            if len(found["schema"]) > MOST_SCHEMA_CHARACTERS:
                return UnknownIdError(
                    f"its schema has {len(found['schema'])} characters, more than the "
                    f"{MOST_SCHEMA_CHARACTERS} allowed"
                )
            return _with_definitions(found["schema"], _definitions(found, schema_at))
        except UnknownIdError as error:
            # A new one: the frames of this one's traceback hold the registry's whole answer.
            return UnknownIdError(str(error))

    return fetch


def _definitions(
    schema: dict[str, Any], schema_at: Callable[[str, str], dict[str, Any]]
) -> dict[str, str]:
    """The schemas of all types that are referred to, by name."""
    definitions: dict[str, str] = {}
    characters = len(schema["schema"])
    waiting = [schema]
    while waiting:
        for name, subject, version in _references(waiting.pop()):
            if name in definitions:
                continue
            if len(definitions) >= MOST_REFERENCES:
                raise UnknownIdError(f"it refers to more than {MOST_REFERENCES} other schemas")
            shown = f"subject {subject[:80]!r}, version {version}"
            path = f"/subjects/{quote(subject, safe='')}/versions/{version}"
            try:
                found = schema_at(path, shown)
            except UnknownIdError as error:
                reason = str(error) or "the registry does not have it"
                raise UnknownIdError(f"it refers to {shown}: {reason}") from None
            definitions[name] = found["schema"]
            characters += len(found["schema"])
            if characters > MOST_SCHEMA_CHARACTERS:
                raise UnknownIdError(
                    "with the schemas that it refers to it has more than the "
                    f"{MOST_SCHEMA_CHARACTERS} characters allowed"
                )
            waiting.append(found)
    return definitions


def _references(schema: dict[str, Any]) -> list[tuple[str, str, int]]:
    """Name, subject and version of each. Raises UnknownIdError where they can't be that."""
    try:
        found = [(r["name"], r["subject"], r["version"]) for r in schema.get("references") or []]
        for name, subject, version in found:
            # Text that is no UTF-8, as JSON allows, can't be asked for.
            f"{name}{subject}".encode()
            is_number = isinstance(version, int) and not isinstance(version, bool)
            if not (isinstance(name, str) and isinstance(subject, str) and is_number):
                raise TypeError
            if not 0 < version <= MOST_ID:
                raise ValueError
    except (TypeError, KeyError, ValueError):
        raise UnknownIdError(_NO_REFERENCES) from None
    return found


def _is_about_the_request(answer: Answer) -> bool:
    """Whether the registry itself has refused this one request."""
    return (
        400 <= answer.status < 500
        and answer.status not in _TROUBLE
        and answer.error_code is not None
    )


def _remedy(answer: Answer) -> str:
    if answer.status == 401:
        return "; check schema_registry.username and schema_registry.password"
    if 300 <= answer.status < 400:
        return "; it redirects: set schema_registry.url to the address that it redirects to"
    if answer.status < 500 and answer.status not in _TROUBLE:
        return "; check that schema_registry.url is the address of a schema registry"
    return ""


def _listed(path: Path) -> list[Path]:
    return sorted(path.glob("*.avsc")) if path.is_dir() else [path]


def _keyed(file: Path) -> tuple[bytes, str]:
    try:
        text = file.read_text(encoding="utf-8-sig")
        parse_writer_schema(text)  # before fastavro, which checks neither sizes nor nesting
        return fingerprint_prefix(text), text
    except OSError as error:
        raise ConfigError("events.schema_directory", file, cannot_read(error)) from error
    except UnusableSchemaError as error:
        raise ConfigError("events.schema_directory", file, str(error)) from error
    except Exception as error:  # fastavro raises almost anything for an invalid schema
        raise ConfigError(
            "events.schema_directory", file, f"not an Avro schema: {error!r}"
        ) from error


def _with_definitions(schema: str, definitions: dict[str, str]) -> str:
    """The schema's text with each referenced type inserted where it is first used.

    Raises UnknownIdError where they are no schemas.
    """
    if not definitions:
        return schema
    try:
        return json.dumps(_inlined(json.loads(schema), "", dict(definitions)))
    # Any JSON may stand where a schema should; RecursionError for what is nested too deep.
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        reason = f"{type(error).__name__}: {error}"[:200]
        raise UnknownIdError(
            f"the schemas that it refers to are not valid Avro ({reason})"
        ) from None


def _inlined(schema: Any, namespace: str, definitions: dict[str, str]) -> Any:
    """`schema` with names of `definitions` replaced at their first use; used ones are removed."""
    if isinstance(schema, str):
        for name in (f"{namespace}.{schema}", schema):
            if name in definitions:
                # Avro refuses a second definition of a name, so later uses keep the name alone.
                return _inlined(json.loads(definitions.pop(name)), "", definitions)
        return schema
    if isinstance(schema, list):
        return [_inlined(branch, namespace, definitions) for branch in schema]
    namespace = schema.get("namespace") or schema.get("name", "").rpartition(".")[0] or namespace
    replaced = dict(schema)
    if "fields" in schema:
        replaced["fields"] = [
            {**field, "type": _inlined(field["type"], namespace, definitions)}
            for field in schema["fields"]
        ]
    for part in ("items", "values", "type"):
        if part in schema and not (part == "type" and "fields" in schema):
            replaced[part] = _inlined(schema[part], namespace, definitions)
    return replaced
