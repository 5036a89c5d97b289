"""A customer's history for people: a small curve for each category, then a table by moment."""

from __future__ import annotations

from collections.abc import Sequence

from stream_scorer.customers.history import CustomerHistory, HistoryPoint

CATEGORIES = 3  # shown where none is asked for: those that are most probable now
CURVE_POINTS = 60
ROWS = 30
BLOCKS = "▁▂▃▄▅▆▇█"
NOTHING = "·"
BAR_CELLS = 12
VERSION_CHARACTERS = 8

Key = tuple[str, int]


def history_in_words(found: CustomerHistory) -> list[str]:
    """The newest `ROWS` moments, and curves of the newest `CURVE_POINTS`."""
    if not found.points:
        return [f"customer {found.customer_id} has no score in {found.source}", *_notes(found)]
    first, last = found.points[0], found.points[-1]
    lines = [
        f"customer {found.customer_id}: {len(found.points):,} scores from {found.source}, as of "
        f"{first.as_of} to {last.as_of}"
    ]
    if found.repeats:
        lines.append(f"{found.repeats:,} were published twice and count once")
    if found.tombstones:
        lines.append(
            f"{found.tombstones:,} tombstones: scores marked - were deleted by one, and go with "
            "the topic's compaction"
        )
    keys = _shown(found.points)
    width = max((len(_name(key)) for key in keys), default=0)
    for key in keys:
        values = [_value(point, key) for point in found.points[-CURVE_POINTS:]]
        known = [v for v in values if v is not None]
        shown = f"{known[-1]:.4f}" if known else "none"
        lines.append(f"{_name(key):{width}}  {curve(values)}  {shown} now")
    lines += ["", *_table(found.points[-ROWS:], keys)]
    if len(found.points) > ROWS:
        lines.append(f"the newest {ROWS} of {len(found.points):,} are shown; --json has all")
    return lines + _notes(found)


def curve(values: Sequence[float | None]) -> str:
    """A character for each value, from 0 to the greatest; `NOTHING` where there is none."""
    most = max((v for v in values if v is not None), default=0.0)
    top = len(BLOCKS) - 1
    return "".join(
        NOTHING if v is None else BLOCKS[round(v / most * top) if most else 0] for v in values
    )


def _shown(points: Sequence[HistoryPoint]) -> list[Key]:
    """Those of the newest point that has any, most probable first."""
    for point in reversed(points):
        if point.propensities:
            entries = point.propensities[:CATEGORIES]
            return [(entry.category_id, entry.class_index) for entry in entries]
    return []


def _table(points: Sequence[HistoryPoint], keys: Sequence[Key]) -> list[str]:
    names = [_name(key) for key in keys]
    cells = [max(len(name), 7 + BAR_CELLS) for name in names]
    head = "  ".join(f"{name:{cell}}" for name, cell in zip(names, cells, strict=True))
    moment = max(len(point.as_of) for point in points)
    lines = [f"  {'as of':{moment}}  {'model':{VERSION_CHARACTERS}}  {head}".rstrip()]
    for point in reversed(points):
        mark = "*" if point.newest else "-" if point.deleted else " "
        values = [_cell(_value(point, key), cell) for key, cell in zip(keys, cells, strict=True)]
        version = f"{point.model_version[:VERSION_CHARACTERS]:{VERSION_CHARACTERS}}"
        lines.append(f"{mark} {point.as_of:{moment}}  {version}  {'  '.join(values)}".rstrip())
    if any(point.newest for point in points):
        lines.append("* what readers of the topic take")
    return lines


def _cell(value: float | None, width: int) -> str:
    if value is None:
        return f"{'none':{width}}"
    bar = "█" * round(value * BAR_CELLS)
    return f"{value:.4f} {bar:{max(width - 7, 0)}}"


def _value(point: HistoryPoint, key: Key) -> float | None:
    for entry in point.propensities:
        if (entry.category_id, entry.class_index) == key:
            return entry.probability
    return None


def _name(key: Key) -> str:
    return key[0] if key[1] == 1 else f"{key[0]}, class {key[1]}"


def _notes(found: CustomerHistory) -> list[str]:
    return [f"note: {note}" for note in found.notes]
