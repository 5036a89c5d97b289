"""Whether the schema registry answers, and whether what it has of the input topic can be read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

from stream_scorer.checks.finding import Finding
from stream_scorer.core.avro.resolution import event_program
from stream_scorer.core.avro.writer_programs import NoSchemaError
from stream_scorer.core.avro.writer_schema import UnusableSchemaError
from stream_scorer.errors import InputError, StreamScorerError
from stream_scorer.live.consumer import lookup_of
from stream_scorer.settings.tree import Settings

PATIENCE_SECONDS = 5.0


def registry_findings(settings: Settings) -> Iterator[Finding]:
    """Nothing without a registry. The newest schema under the topic's own subject is tried."""
    if not settings.schema_registry.url:
        return
    check, subject = "schema registry", f"{settings.kafka.input_topic}-value"
    try:
        with closing(lookup_of(settings, PATIENCE_SECONDS)) as lookup:
            schema = lookup.newest(subject)
        if schema is None:
            yield Finding(
                check,
                f"it answers, and has no subject {subject} yet; `publish` registers one, and "
                "producers that name their subjects otherwise are read all the same",
            )
            return
        event_program(schema)
    except UnusableSchemaError as error:
        yield Finding(
            check,
            f"the newest schema of {subject} is none of an event: {error}",
            "see docs/how-to/bring-your-events.md for the fields and types of an event, and "
            "register a schema that has them",
        )
    except NoSchemaError as error:
        yield Finding(check, f"subject {subject}: {error}", "register the schema as Avro")
    except InputError as error:
        yield Finding(check, f"{error.field}: {error.value}", error.remedy)
    except StreamScorerError as error:
        remedy = error.remedy or "check schema_registry.url, and that it runs and lets this user in"
        yield Finding(check, error.found, remedy)
    else:
        yield Finding(check, f"the newest schema of {subject} can be read as an event")
