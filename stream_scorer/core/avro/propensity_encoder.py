"""Propensity records: many at once to Avro bytes, and back to columns for readers.

Within a batch all records share the moment of scoring, the texts of model version and fingerprint,
and few source partitions and category names. These are encoded once; a compiled loop then puts all
records together in one buffer, which is cut into values.

Only records with every probability as float16 have the schema category_propensities_float16, which
has one field more at its end: whoever does not ask for them keeps the schema of before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Literal, NamedTuple

import fastavro
import numpy as np
import numpy.typing as npt

from stream_scorer.core.avro.event_encoder import cut
from stream_scorer.core.avro.float16 import halves
from stream_scorer.core.avro.primitives import put_bytes, put_long
from stream_scorer.core.avro.schemas import frame_bytes, parsed, single_object_prefix
from stream_scorer.core.events.batch import Int32, Int64, TopicPartition, UInt8
from stream_scorer.errors import InputError
from stream_scorer.jit import bytes_of, kernel

Float32 = npt.NDArray[np.float32]
Precision = Literal["float32", "float16"]
PRECISIONS: tuple[Precision, ...] = ("float32", "float16")

LONG_BYTES = 10  # of the longest varint
# After the head of a record with every probability: no entries, and which field is not null.
FULL = np.array([0, 2], np.uint8)
FULL_FLOAT16 = np.array([0, 0, 2], np.uint8)


class _Pieces(NamedTuple):
    """n byte strings: piece i is buffer[at[i]:at[i + 1]]."""

    buffer: UInt8
    at: Int64

    @classmethod
    def of(cls, pieces: Sequence[bytes]) -> _Pieces:
        lengths = np.fromiter(map(len, pieces), np.int64, len(pieces))
        at = np.concatenate(([0], np.cumsum(lengths)))
        return cls(np.frombuffer(b"".join(pieces), np.uint8), at)


class _Heads(NamedTuple):
    """What B records start with: frame, customer, as-of time, model, source partition and offset.
    All arrays are contiguous.

    model: the bytes from the moment of scoring to the fingerprint, the same for all; sources: the
    encoded (topic, partition) of each partition, and last that of none.
    """

    prefix: UInt8
    ids: _Pieces
    as_of_ms: Int64
    model: UInt8
    sources: _Pieces
    partition_index: Int32
    offsets: Int64


class _HeadPointers(NamedTuple):
    """The same as bare pointers, for a loop that must not count references; `none` is the source of
    a record that has none."""

    prefix: Any
    prefix_bytes: int
    ids: Any
    ids_at: Any
    as_of_ms: Any
    model: Any
    model_bytes: int
    sources: Any
    sources_at: Any
    none: int
    partition_index: Any
    offsets: Any


class _Entries(NamedTuple):
    """Record b has the entries indptr[b] to indptr[b + 1]; probability: 4 bytes each."""

    indptr: Int64
    category: Int32
    class_index: Int32
    probability: UInt8


class PropensityEncoder:
    """Output records of one model version.

    categories: the model's, in its order; classes: C of its scores; fingerprint_hex: 16 digits;
    prefix: the frame, None for single-object encoding. In both methods: customer_ids B UTF-8 texts;
    as_of_ms (B,) int64; the newest event of row b stands in partitions[partition_index[b]] (-1: in
    none) at offsets[b]; partition_index (B,) int32, offsets (B,) int64.
    """

    def __init__(
        self,
        categories: Sequence[str],
        classes: int,
        model_version: str,
        fingerprint_hex: str,
        prefix: bytes | None = None,
    ) -> None:
        self.categories, self.classes = tuple(categories), classes
        self._prefix = prefix or single_object_prefix("category_propensities")
        self._prefix_float16 = prefix or single_object_prefix("category_propensities_float16")
        self._model = _text(model_version) + _text(fingerprint_hex)
        self._names = _Pieces.of([_text(name) for name in categories])

    @property
    def values_per_record(self) -> int:
        """K of a record published in full: N for two classes, else N * C."""
        n = len(self.categories)
        return n if self.classes == 2 else n * self.classes

    def encode_all(
        self,
        customer_ids: Sequence[bytes],
        as_of_ms: Int64,
        scored_at_ms: int,
        partitions: Sequence[TopicPartition],
        partition_index: Int32,
        offsets: Int64,
        probabilities: Float32,
        precision: Precision = "float32",
    ) -> list[bytes]:
        """Records with every probability: (B, K) float32, K = `values_per_record`.

        precision: in which they are written.
        """
        if probabilities.shape != (len(customer_ids), self.values_per_record):
            raise ValueError(f"probabilities {probabilities.shape}: not (B, K)")
        prefix, lead = self._prefix, FULL
        if precision == "float16":
            prefix, lead = self._prefix_float16, FULL_FLOAT16
            full = halves(probabilities).view(np.uint8)
        else:
            full = np.ascontiguousarray(probabilities, "<f4").view(np.uint8)
        heads = self._heads(
            customer_ids, as_of_ms, scored_at_ms, partitions, partition_index, offsets, prefix
        )
        out, ends = _write_full(heads, lead, full)
        return cut(out, ends)

    def encode_entries(
        self,
        customer_ids: Sequence[bytes],
        as_of_ms: Int64,
        scored_at_ms: int,
        partitions: Sequence[TopicPartition],
        partition_index: Int32,
        offsets: Int64,
        indptr: Int64,
        category: Int32,
        class_index: Int32,
        probability: Float32,
    ) -> list[bytes]:
        """Records with chosen entries: row b has those of indptr[b] to indptr[b + 1], best first.

        indptr (B + 1,) int64; category (E,) int32 into `categories`; class_index (E,) int32;
        probability (E,) float32.
        """
        if len(indptr) != len(customer_ids) + 1:
            raise ValueError(f"indptr of {len(indptr)} for {len(customer_ids)} records")
        # The loop checks no bounds.
        if len(category) and not 0 <= category.min() <= category.max() < len(self.categories):
            raise ValueError("an entry's category is not one of the encoder's")
        heads = self._heads(
            customer_ids, as_of_ms, scored_at_ms, partitions, partition_index, offsets
        )
        bits = np.ascontiguousarray(probability, "<f4").view(np.uint8)
        entries = _Entries(indptr, category, class_index, bits)
        out, ends = _write_entries(heads, entries, self._names)
        return cut(out, ends)

    def _heads(
        self,
        customer_ids: Sequence[bytes],
        as_of_ms: Int64,
        scored_at_ms: int,
        partitions: Sequence[TopicPartition],
        partition_index: Int32,
        offsets: Int64,
        prefix: bytes | None = None,
    ) -> _Heads:
        sources = [_text(topic) + _long(partition) for topic, partition in partitions]
        return _Heads(
            prefix=np.frombuffer(prefix or self._prefix, np.uint8),
            ids=_Pieces.of(customer_ids),
            # Contiguous, because bare pointers know no strides.
            as_of_ms=np.ascontiguousarray(as_of_ms, np.int64),
            model=np.frombuffer(_long(scored_at_ms) + self._model, np.uint8),
            sources=_Pieces.of([*sources, _text("") + _long(-1)]),
            partition_index=np.ascontiguousarray(partition_index, np.int32),
            offsets=np.ascontiguousarray(offsets, np.int64),
        )


@dataclass(frozen=True, slots=True)
class PublishedPropensities:
    """B records read back, in the order given.

    as_of_ms, scored_at_ms, offset (B,) int64; partition (B,) int32. probabilities
    (B, K) float32, in the category order of the model version, where every record was published in
    full with the same K, else None. entries[b]: (category_id, class, probability), best first;
    empty for a record published in full.
    """

    customer_ids: list[str]
    as_of_ms: Int64
    scored_at_ms: Int64
    model_versions: list[str]
    fingerprints: list[str]
    topics: list[str]
    partition: Int32
    offset: Int64
    probabilities: Float32 | None
    entries: list[list[tuple[str, int, float]]]

    def __len__(self) -> int:
        return len(self.customer_ids)


def decode_propensities(values: Sequence[bytes]) -> PublishedPropensities:
    """Records that `PropensityEncoder` made, in any frame, as columns. Raises InputError."""
    rows = [_propensity_row(value) for value in values]
    full = [_in_full(row) for row in rows]
    known = [p for p in full if p is not None]
    same = len(known) == len(full) and len({len(p) for p in known}) == 1
    probabilities = np.stack(known) if same else None
    return PublishedPropensities(
        [row["customer_id"] for row in rows],
        np.array([row["as_of"] for row in rows], np.int64),
        np.array([row["scored_at"] for row in rows], np.int64),
        [row["model_version"] for row in rows],
        [row["fingerprint"] for row in rows],
        [row["source"]["topic"] for row in rows],
        np.array([row["source"]["partition"] for row in rows], np.int32),
        np.array([row["source"]["offset"] for row in rows], np.int64),
        probabilities,
        [[(e["category_id"], e["class"], e["probability"]) for e in row["propensities"]]
         for row in rows],
    )  # fmt: skip


def _in_full(row: Any) -> Float32 | None:
    """(K,) float32, None where it was not published in full."""
    if row["probabilities"] is not None:
        return np.frombuffer(row["probabilities"], "<f4")
    if row.get("probabilities_float16") is not None:
        return np.frombuffer(row["probabilities_float16"], "<f2").astype(np.float32)
    return None


def _propensity_row(value: bytes) -> Any:
    halved = value.startswith(single_object_prefix("category_propensities_float16"))
    schema = parsed("category_propensities_float16" if halved else "category_propensities")
    try:
        stream = BytesIO(value[frame_bytes(value) :])
        return fastavro.schemaless_reader(stream, schema, None)
    except (EOFError, IndexError, ValueError) as error:
        raise InputError(
            "propensities",
            value[:40],
            f"is no record of propensities as stream-scorer writes them ({error}); read the topic "
            "that kafka.output_topic names",
        ) from error


def _long(value: int) -> bytes:
    """A zigzag varint."""
    n = (value << 1) ^ (value >> 63)
    out = bytearray()
    while n >= 128:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    return bytes(out)


def _text(value: str) -> bytes:
    return _long(len(value.encode())) + value.encode()


@kernel
def _longest_head_bytes(heads: _Heads) -> int:
    """No head of a record is longer than this."""
    longest = 0
    for pieces in (heads.ids, heads.sources):
        most = 0
        for i in range(len(pieces.at) - 1):
            most = max(most, pieces.at[i + 1] - pieces.at[i])
        longest += most
    return longest + len(heads.prefix) + len(heads.model) + 3 * LONG_BYTES


@kernel(inline=True)
def _pointers(heads):  # type: ignore[no-untyped-def]
    return _HeadPointers(
        bytes_of(heads.prefix), len(heads.prefix),
        bytes_of(heads.ids.buffer), bytes_of(heads.ids.at), bytes_of(heads.as_of_ms),
        bytes_of(heads.model), len(heads.model),
        bytes_of(heads.sources.buffer), bytes_of(heads.sources.at), len(heads.sources.at) - 2,
        bytes_of(heads.partition_index), bytes_of(heads.offsets),
    )  # fmt: skip


@kernel
def _put_head(data, at, row, head):  # type: ignore[no-untyped-def]
    """Write all fields up to the source's offset, of _HeadPointers; the position after them."""
    at = put_bytes(data, at, head.prefix, 0, head.prefix_bytes)
    start = head.ids_at[row]
    length = head.ids_at[row + 1] - start
    at = put_long(data, at, length)
    at = put_bytes(data, at, head.ids, start, length)
    at = put_long(data, at, head.as_of_ms[row])
    at = put_bytes(data, at, head.model, 0, head.model_bytes)
    source = head.partition_index[row]
    if source < 0:
        source = head.none
    start = head.sources_at[source]
    at = put_bytes(data, at, head.sources, start, head.sources_at[source + 1] - start)
    return put_long(data, at, head.offsets[row])


@kernel
def _write_full(heads: _Heads, lead: UInt8, full: UInt8) -> tuple[UInt8, Int64]:
    """Records one after another, and their ends (B,); lead: FULL or FULL_FLOAT16; full (B, bytes of
    all probabilities)."""
    n, width = full.shape
    out = np.empty(n * (_longest_head_bytes(heads) + width + len(lead) + LONG_BYTES), np.uint8)
    ends = np.empty(n, np.int64)
    data, source, head = bytes_of(out), bytes_of(full), _pointers(heads)
    first = bytes_of(lead)
    at: Any = 0
    for row in range(n):
        at = _put_head(data, at, row, head)
        at = put_bytes(data, at, first, 0, len(lead))
        at = put_long(data, at, width)
        at = put_bytes(data, at, source, row * width, width)
        ends[row] = at
    return out[:at], ends


@kernel
def _write_entries(heads: _Heads, entries: _Entries, names: _Pieces) -> tuple[UInt8, Int64]:
    """Records one after another, and their ends (B,); names: of the categories, encoded."""
    indptr, category = entries.indptr, entries.category
    n = len(indptr) - 1
    size = n * (_longest_head_bytes(heads) + 2 + LONG_BYTES)
    for c in category:
        size += names.at[c + 1] - names.at[c] + 4 + LONG_BYTES
    out = np.empty(size, np.uint8)
    ends = np.empty(n, np.int64)
    data, name, bits = bytes_of(out), bytes_of(names.buffer), bytes_of(entries.probability)
    head = _pointers(heads)
    at: Any = 0
    for row in range(n):
        at = _put_head(data, at, row, head)
        # A count of 0 is already the end of the array, which is written below.
        if indptr[row + 1] > indptr[row]:
            at = put_long(data, at, indptr[row + 1] - indptr[row])
        for e in range(indptr[row], indptr[row + 1]):
            start = names.at[category[e]]
            at = put_bytes(data, at, name, start, names.at[category[e] + 1] - start)
            at = put_long(data, at, entries.class_index[e])
            at = put_bytes(data, at, bits, 4 * e, 4)
        data[at] = 0  # end of the array
        data[at + 1] = 0  # null
        at += 2
        ends[row] = at
    return out[:at], ends
