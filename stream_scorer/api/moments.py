"""Moments as people write them, and pairs of customers and moments."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TypeAlias, TypeGuard

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stream_scorer.core.events.batch import Int64
from stream_scorer.core.events.moments import nearest_ms, parse_iso_8601
from stream_scorer.errors import InputError

Moment: TypeAlias = datetime | str | int
"""A datetime with a zone, ISO 8601 text with a zone, or whole milliseconds since 1970 UTC."""

Pairs: TypeAlias = "pa.Table | Iterable[tuple[str, Moment]]"
"""(customer, moment) pairs, or a table with columns customer_id and as_of."""

REMEDY = "give ISO 8601 with a zone, a datetime with a zone, or integer ms since 1970 UTC"


def is_moment(given: object) -> TypeGuard[Moment]:
    """Whether this is one moment, as opposed to pairs of customers and moments."""
    return isinstance(given, datetime | str | int | np.integer)


def moment_ms(given: Moment, field: str = "moment") -> int:
    """Milliseconds since 1970 UTC. Raises InputError for anything that is not a `Moment`."""
    if isinstance(given, int | np.integer) and not isinstance(given, bool):
        return int(given)
    moment: object = given
    if isinstance(given, str):
        try:
            moment = parse_iso_8601(given)
        except ValueError:
            raise InputError(field, given, REMEDY) from None
    if not isinstance(moment, datetime) or moment.tzinfo is None:
        raise InputError(field, given, REMEDY)
    return nearest_ms(moment)


def pairs_of(given: Pairs) -> tuple[list[str], Int64]:
    """(customer ids, their moments (R,) int64 in ms). Raises InputError."""
    if isinstance(given, pa.Table):
        return _pairs_of_table(given)
    ids: list[str] = []
    moments: list[int] = []
    for row, pair in enumerate(given):
        if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2:
            remedy = "give (customer_id, moment) pairs, or one moment for all customers"
            raise InputError(f"moments[{row}]", pair, remedy)
        customer, moment = pair
        ids.append(str(customer))
        moments.append(moment_ms(moment, f"moments[{row}]"))
    return ids, np.array(moments, np.int64)


def _pairs_of_table(table: pa.Table) -> tuple[list[str], Int64]:
    for name in ("customer_id", "as_of"):
        if name not in table.column_names:
            raise InputError("moments", table.column_names, f"the table lacks the column {name}")
        if table[name].null_count:
            raise InputError(f"moments.{name}", None, "fill the nulls, or leave those rows out")
    kind, as_of = table.schema.field("as_of").type, table["as_of"]
    if pa.types.is_timestamp(kind) and kind.tz is not None:
        as_of = pc.cast(as_of, pa.timestamp("ms", tz="UTC"), safe=False).cast(pa.int64())
    elif not pa.types.is_integer(kind):
        raise InputError("moments.as_of", kind, "give timestamps with a zone, or integer ms")
    moments = as_of.cast(pa.int64()).to_numpy()
    return table["customer_id"].cast(pa.string()).to_pylist(), moments.astype(np.int64)
