"""Made-up work that calls every compiled kernel with the types of the real path.

Kernels are compiled for the types of the arguments that they are called with, so what is to be
compiled ahead is found by doing the work on a handful of events, not from a list. The work is cut
into `PARTS` that need nothing of each other, as numba compiles one function at a time in a process:
each part can run in a process of its own (warming.py). Two tests hold this: every kernel of the
package is reached, and nothing of what the verbs call is compiled after it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
from scipy import sparse

from stream_scorer import jit
from stream_scorer.core.avro import attributes, event_encoder
from stream_scorer.core.avro.decoder import Decoder
from stream_scorer.core.avro.propensity_encoder import PRECISIONS, PropensityEncoder
from stream_scorer.core.avro.schemas import parsed
from stream_scorer.core.evaluation.metrics import row_macro_auc
from stream_scorer.core.events.batch import NO_TIMESTAMP, EventBatch, RecordBatch, StringColumn
from stream_scorer.core.events.decoded import DecodedBatch
from stream_scorer.core.events.validation import EventRules
from stream_scorer.core.features import csr
from stream_scorer.core.features.fold import fold_stream
from stream_scorer.core.features.fold_plan import Memory
from stream_scorer.core.features.preparation import Preparation, PreparedEvents
from stream_scorer.core.features.space import Feature, FeatureSpace
from stream_scorer.core.features.state import NEVER, CustomerStates, StateArrays
from stream_scorer.core.features.state_codec import empty_states, pack, unpack
from stream_scorer.core.labels.labels import LabelledRows, LabelRule
from stream_scorer.core.propensities import PublishPolicy, published_in_full, select
from stream_scorer.io.stores.memory import MemoryStore
from stream_scorer.model.artefact import Artefact
from stream_scorer.model.engines.engine import engines_here
from stream_scorer.model.engines.native import NativeEngine
from stream_scorer.model.manifest import FORMAT, Manifest
from stream_scorer.model.spec import PAIRS, Layout, NetworkSpec, TrainingOptions

NOW_MS = 1_767_225_600_000
PARTITION = ("rehearsal", 0)
CATEGORIES = ("bread", "wine")


def _space() -> FeatureSpace:
    """Every kind of feature."""
    by = ("category_id",)
    return FeatureSpace.compile(
        [
            Feature("bought", on=("purchase",), by=by, half_lives=("2d", "inf")),
            Feature("spent", value="value", half_lives=("14d",), transform="log1p"),
            Feature("products", by=("product_id", "attributes.channel"), buckets=8),
            Feature("seen", kind="recency", by=by, half_lives=("14d",)),
            Feature("channel", kind="latest", value="attributes.channel"),
            Feature("day", kind="calendar", by=("day_of_week",)),
        ],
        {"category_id": CATEGORIES},
    )


def _event(customer: str, category: str | None = "bread") -> dict[str, Any]:
    return {
        "event_id": "1", "customer_id": customer, "event_type": "purchase", "value": 1.0,
        "category_id": category, "product_id": "7", "occurred_at": NOW_MS,
        "attributes": {"channel": "1"},
    }  # fmt: skip


def _records(values: list[bytes | None]) -> RecordBatch:
    n = len(values)
    return RecordBatch(
        values, [None] * n, [PARTITION], np.zeros(n, np.int32), np.arange(n, dtype=np.int64),
        np.full(n, NO_TIMESTAMP, np.int64),
    )  # fmt: skip


def _prepared(events: EventBatch, records: RecordBatch, event_ids: int = 0) -> PreparedEvents:
    """Events validated and interned, with the columns that they touch."""
    rules = EventRules(frozenset(("purchase",)), None, False, 0)
    preparation = Preparation(rules, _space(), Memory(event_ids=event_ids))
    return preparation.prepare(DecodedBatch(events, [], records), NOW_MS)


def _nobody(customers: int) -> CustomerStates:
    """Customers who never did anything, made without the kernel that reads records."""
    starts, texts = np.zeros(customers + 1, np.int64), np.empty(0, np.uint32)
    values, moments = np.empty(0, np.float32), np.empty(0, np.int64)
    arrays = StateArrays(
        np.full(customers, NEVER, np.int64),
        starts, texts, np.empty(0, np.int32), moments,
        starts, texts, values,
        starts, texts, values, moments,
        starts, np.empty(0, np.uint64),
        starts, texts, values,
    )  # fmt: skip
    return CustomerStates([str(c) for c in range(customers)], arrays)


def decoding() -> None:
    """Records of our own schema and of a producer's, with and without a bad one; and back."""
    schema = parsed("customer_event")
    theirs = json.loads(json.dumps(schema))
    for field in theirs["fields"]:
        if field["name"] == "attributes":
            field["type"] = {"type": "map", "values": "long"}
    theirs.pop("__fastavro_parsed__", None)
    theirs.pop("__named_schemas", None)
    decoder = Decoder(lambda _key: json.dumps(theirs), max_record_bytes=1 << 20)
    ours = event_encoder.encode_events([_event("1"), _event("2", None)])
    other = event_encoder.framed(
        bytes((0, 0, 0, 0, 1)), fastavro.parse_schema(theirs),
        _event("1") | {"attributes": {"channel": 1}},
    )  # fmt: skip
    for values in (ours, [*ours, b"bad"], [*ours, other]):
        records = _records(list(values))
        events, _ = decoder.decode(records)
        event_encoder.encode_event_batch(events)
        _prepared(events, records, event_ids=2)
    attributes.write_maps(np.frombuffer(b"ab", np.uint8), attributes.map_entries(0), np.arange(1))


def folding() -> None:
    """Events of columns made by hand into customers without any; the longest of all to compile."""
    texts = {
        name: StringColumn.of(["1", "2"])
        for name in ("event_id", "customer_id", "category_id", "product_id")
    }
    maps = StringColumn.of(["\0", "\0"])
    events = EventBatch(
        **texts, event_type=StringColumn.of(["purchase"] * 2), attributes=maps,
        value=np.ones(2), has_value=np.ones(2, np.bool_),
        occurred_at_ms=np.full(2, NOW_MS, np.int64), partitions=[PARTITION],
        partition_index=np.zeros(2, np.int32), offsets=np.arange(2, dtype=np.int64),
        record_index=np.arange(2, dtype=np.int64),
    )  # fmt: skip
    prepared = _prepared(events, _records([None, None]))
    fold_stream(_nobody(2), prepared.stream, _space())


def records() -> None:
    """Customers' records to states and back, in a store that makes room for more."""
    store, states = MemoryStore(1), empty_states(["1", "2"])
    for _ in range(2):
        store.save(states, np.arange(2), states)
        store.load(["1", "3"])
    store._make_room(np.zeros(0, np.int64), 1)  # what a store does that is full
    unpack(["1", "2"], [*pack(states, 1)], 1)


def publishing() -> None:
    """Vectors of states, and output records of scores, in every mode."""
    states, space = _nobody(2), _space()
    csr.build(states, space, np.full(2, NOW_MS, np.int64))
    scores = np.full((2, len(CATEGORIES), 2), 0.5, np.float32)
    encoder = PropensityEncoder(CATEGORIES, 2, "0" * 16, "0" * 16)
    head = (
        [b"1", b"2"], np.full(2, NOW_MS, np.int64), NOW_MS, [PARTITION], np.zeros(2, np.int32),
        np.zeros(2, np.int64),
    )  # fmt: skip
    for precision in PRECISIONS:
        encoder.encode_all(*head, published_in_full(scores), precision)
    encoder.encode_entries(*head, *select(scores, PublishPolicy("top_k", 1, 0.0)))


def scoring() -> None:
    """The native engine on networks with two and with more classes."""
    space, network = _space(), NetworkSpec((2, 2), 0.0, True, (2, 2))
    for actions in ((("purchase",),), (("view",), ("purchase",))):
        rule = LabelRule("category_id", actions, 1)
        layout = Layout.of(space, rule, np.arange(len(CATEGORIES)))
        parameters = {
            name: np.zeros(shape, np.float32) for name, shape in layout.shapes(network).items()
        }
        manifest = Manifest(
            FORMAT, "0" * 16, "0" * 16, {}, CATEGORIES, layout.category_index, rule, rule.classes,
            network, {}, {}, {}, {}, {},
        )  # fmt: skip
        NativeEngine(Artefact(Path(), manifest, layout, parameters, "")).warm_up(2)


def training() -> None:
    """Training on two rows and calibration on two later ones, where MXNet is installed."""
    if "mxnet" not in engines_here():
        return
    # MXNet takes a second.
    from stream_scorer.model import training as real  # noqa: PLC0415

    space, n = _space(), len(CATEGORIES)
    ones = np.ones((2, space.width), np.float32)
    for actions in ((("purchase",),), (("view",), ("purchase",))):
        rows = LabelledRows(
            ["1", "2"], np.full(2, NOW_MS, np.int64), sparse.csr_matrix(ones),
            np.array([0, n, n], np.int64), np.arange(n, dtype=np.uint32), np.ones(n, np.uint8),
        )  # fmt: skip
        later = replace(rows, as_of_ms=rows.as_of_ms + 1)
        for pairs in PAIRS:
            options = TrainingOptions(
                NetworkSpec((2, 2), 0.0, True, (2, 2), pairs), min_customers=1, average_seeds=1,
                batch_rows=2, epochs=1, min_steps=1,
            )  # fmt: skip
            real.train([rows], [later], space, LabelRule("category_id", actions, 1), options)


def measuring() -> None:
    """The AUC of rows, for model cards and evaluations: of single and of double precision."""
    acted = np.eye(2, dtype=np.bool_)
    for kind in (np.float32, np.float64):
        row_macro_auc(np.zeros((2, 2), kind), acted)


# Longest first: what is left to do last is then short.
PARTS: Mapping[str, Callable[[], None]] = {
    part.__name__: part
    for part in (folding, decoding, scoring, records, publishing, training, measuring)
}


def main(names: Sequence[str]) -> None:
    """Do the parts `names`, with a line on stdout for each kernel that is ready: how many kernels
    the modules have that were imported until now, 1 if it was compiled, else 0, and its name."""

    def seen(name: str, compiled: bool) -> None:
        print(len(jit.kernels()), int(compiled), name, flush=True)

    with jit.watching(seen):
        for name in names:
            PARTS[name]()
