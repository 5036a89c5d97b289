"""Where writer schemas come from: .avsc files and Confluent's schema registry.

A single-object key is the fingerprint of a schema, so files answer it; a Confluent key is an id
that only the registry knows. A registry that does not answer is `BusUnavailable`, so the batch
waits: an event becomes a dead letter only when the registry says that it has no such schema.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

from stream_scorer.confidential import shown_address, without_credentials
from stream_scorer.core.avro.schemas import CONFLUENT_MAGIC, fingerprint_prefix
from stream_scorer.errors import BusUnavailable, ConfigError, Halt

# The client's own defaults wait for ever for an answer, and seven seconds between attempts.
CLIENT_DEFAULTS = {"timeout": 5, "max.retries": 2, "retries.wait.ms": 200}


class SchemaLookup:
    """Callable: schema key (frame prefix) -> writer schema as JSON text, or None where unknown.

    schemas: .avsc files, or directories of them; registry: properties of confluent_kafka's
    SchemaRegistryClient, None for no registry. Raises ConfigError where a file is no schema or a
    property is wrong.
    """

    def __init__(
        self, schemas: Sequence[Path] = (), registry: Mapping[str, object] | None = None
    ) -> None:
        self._by_key = dict(_keyed(file) for path in schemas for file in _listed(path))
        self._client: Any = None
        if registry is not None:
            self._url = shown_address(str(registry.get("url", "")))  # for messages
            try:
                self._client = SchemaRegistryClient({**CLIENT_DEFAULTS, **registry})
            except (ValueError, TypeError, OSError) as error:
                # Not `from error`: its text may hold the url with its password.
                reason = without_credentials(str(error))
                raise ConfigError("schema_registry.url", self._url, reason) from None

    def __call__(self, key: bytes) -> str | None:
        """The writer schema. Raises BusUnavailable, or Halt where the registry refuses access."""
        if self._client is None or not key.startswith(CONFLUENT_MAGIC):
            return self._by_key.get(key)
        schema_id = int.from_bytes(key[len(CONFLUENT_MAGIC) :], "big")
        try:
            schema = self._client.get_schema(schema_id)
            definitions: dict[str, str] = {}
            if schema.schema_type == "AVRO":
                self._collect(schema.references or (), definitions)
        except SchemaRegistryError as error:
            # A 404 without one of the registry's own error codes comes from some other server.
            if error.http_status_code == 404 and error.error_code not in (None, -1):
                return None
            raise self._translate(error, f"schema id {schema_id}") from error
        except Exception as error:  # errors of the HTTP client, which may be one of two packages
            reason = without_credentials(repr(error))
            raise BusUnavailable(f"schema registry {self._url}: {reason}") from error
        return _with_definitions(str(schema.schema_str), definitions)

    def register(self, subject: str, schema: str) -> int:
        """The id of the schema (JSON text) under `subject`, registered if it was not yet.

        Raises ConfigError without a registry, BusUnavailable, Halt where it refuses.
        """
        if self._client is None:
            raise ConfigError("schema_registry.url", "", "set it to the registry's address")
        try:
            return int(self._client.register_schema(subject, Schema(schema, "AVRO")))
        except SchemaRegistryError as error:
            raise self._translate(error, f"subject {subject}") from error
        except Exception as error:  # errors of the HTTP client, as above
            reason = without_credentials(repr(error))
            raise BusUnavailable(f"schema registry {self._url}: {reason}") from error

    def close(self) -> None:
        """Close connections to the registry."""
        if self._client is not None:
            self._client.close()

    def _translate(self, error: SchemaRegistryError, about: str) -> Halt | BusUnavailable:
        message = without_credentials(f"schema registry {self._url}, {about}: {error}")
        if error.http_status_code in (401, 403):
            return Halt(f"{message}; check schema_registry.username and schema_registry.password")
        if error.http_status_code == 404:
            return BusUnavailable(f"{message}; check that schema_registry.url is a schema registry")
        if error.http_status_code in (408, 429) or error.http_status_code >= 500:
            return BusUnavailable(message)
        return Halt(message)

    def _collect(self, references: Iterable[Any], definitions: dict[str, str]) -> None:
        """The schemas of all types that are referred to, by name."""
        for reference in references:
            if reference.name not in definitions:
                schema = self._client.get_version(reference.subject, reference.version).schema
                definitions[reference.name] = str(schema.schema_str)
                self._collect(schema.references or (), definitions)


def _listed(path: Path) -> list[Path]:
    return sorted(path.glob("*.avsc")) if path.is_dir() else [path]


def _keyed(file: Path) -> tuple[bytes, str]:
    try:
        text = file.read_text(encoding="utf-8-sig")
        return fingerprint_prefix(text), text
    except OSError as error:
        raise ConfigError("events.schema_directory", file, f"can't be read: {error}") from error
    except Exception as error:  # fastavro raises almost anything for an invalid schema
        raise ConfigError(
            "events.schema_directory", file, f"not an Avro schema: {error!r}"
        ) from error


def _with_definitions(schema: str, definitions: dict[str, str]) -> str:
    """The schema's text with each referenced type inserted where it is first used."""
    if not definitions:
        return schema
    return json.dumps(_inlined(json.loads(schema), "", dict(definitions)))


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
