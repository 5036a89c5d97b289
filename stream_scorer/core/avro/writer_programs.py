"""The programs of a topic's writer schemas: each compiled once, what is unknown remembered."""

from __future__ import annotations

from collections.abc import Callable

from stream_scorer.core.avro.frames import key_in_words
from stream_scorer.core.avro.program import Program
from stream_scorer.core.avro.resolution import event_program
from stream_scorer.core.avro.schemas import schema_json, single_object_prefix
from stream_scorer.core.avro.writer_schema import UnusableSchemaError

# A topic has few schemas; the limits are for keys made of corrupt bytes and for hostile schemas.
# So many programs are kept, and no more bytes of them: one may have a megabyte of instructions and
# one of symbols.
MAX_SCHEMAS = 1024
MAX_PROGRAM_BYTES = 2**27
# So many unknown keys are remembered, in 16 MB (246 bytes each, measured). That is several times a
# micro-batch of 10,000 records, each with a key of its own. Of still more the oldest are forgotten,
# and only asked for again before their time.
MAX_UNKNOWN = 65_536
# A schema may be registered after its first record was seen: ask again after so many batches.
ASK_AGAIN_AFTER_BATCHES = 100


class NoSchemaError(Exception):
    """A lookup has no schema of a key; the message says why. only_now: it may have it already."""

    def __init__(self, why: str, *, only_now: bool = False) -> None:
        super().__init__(why)
        self.only_now = only_now


class WriterPrograms:
    """Programs by schema key. lookup: as `Decoder` takes it."""

    def __init__(self, lookup: Callable[[bytes], str | None]) -> None:
        self._lookup = lookup
        self._programs: dict[bytes, Program | UnusableSchemaError] = {}
        self._program_bytes = 0
        # By key: the batch that asked for it, and what is wrong.
        self._unknown: dict[bytes, tuple[int, str]] = {}
        self._batches = 0

    def begin_batch(self) -> None:
        """Count one batch more: what is unknown is asked for again after some."""
        self._batches += 1

    def must_ask(self, key: bytes) -> bool:
        """Whether `program_of` would call the lookup."""
        asked, _ = self._unknown.get(key, (-ASK_AGAIN_AFTER_BATCHES, ""))
        return key not in self._programs and self._batches - asked >= ASK_AGAIN_AFTER_BATCHES

    def program_of(self, key: bytes) -> Program | UnusableSchemaError | str:
        """The program of a schema key, why there is none, or in words that the key is unknown."""
        found = self._programs.get(key)
        if found is not None:
            return found
        if not self.must_ask(key):
            return self._unknown[key][1]
        detail, only_now = f"no schema is known for {key_in_words(key)}", False
        try:
            schema = self._lookup(key)
        except NoSchemaError as error:
            schema, only_now = None, error.only_now
            detail = f"{key_in_words(key)}: {error}"
        if schema is None and key == single_object_prefix("customer_event"):
            schema = schema_json("customer_event")
        if schema is None:
            self._unknown.pop(key, None)
            if not only_now:
                if len(self._unknown) >= MAX_UNKNOWN:
                    del self._unknown[next(iter(self._unknown))]
                self._unknown[key] = self._batches, detail
            return detail
        try:
            found = event_program(schema)
        except UnusableSchemaError as error:
            # A new one: the frames of this one's traceback hold the whole schema.
            found = UnusableSchemaError(str(error))
        self._keep(key, found)
        return found

    def _keep(self, key: bytes, found: Program | UnusableSchemaError) -> None:
        self._program_bytes += _bytes_of(found)
        while self._programs and (
            len(self._programs) >= MAX_SCHEMAS or self._program_bytes > MAX_PROGRAM_BYTES
        ):
            self._program_bytes -= _bytes_of(self._programs.pop(next(iter(self._programs))))
        self._programs[key] = found


def _bytes_of(found: Program | UnusableSchemaError) -> int:
    return found.size_bytes if isinstance(found, Program) else 0
