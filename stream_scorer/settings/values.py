"""Values of settings that are written as text: moments, durations, paths, and lists in files."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, BeforeValidator, WrapValidator

from stream_scorer.core.events.moments import EPOCH, parse_iso_8601
from stream_scorer.core.features.space import parse_duration_ms
from stream_scorer.errors import ConfigError
from stream_scorer.settings import sources as config_sources
from stream_scorer.settings.connections import existing_file
from stream_scorer.storage.places import ObjectPath, Place, is_address, place

# Blanks, marks of byte order, characters of no width and zero bytes, at both ends of a word.
_UNSEEN = re.compile(r"^[\s\ufeff\u200b\u2060\0]+|[\s\ufeff\u200b\u2060\0]+$")


def _existing_directory(path: Path) -> Path:
    if not path.is_dir():
        raise ValueError("there is no such directory; correct the path")
    return path


def _words(value: object) -> object:
    if not isinstance(value, str | Path):
        return value
    path = existing_file(Path(value))
    try:
        text = config_sources.read_text(path)
    except OSError as error:
        raise ValueError(f"can't be read: {error}; check permissions") from None
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8 text; save it as UTF-8") from None
    # A word with a blank that nobody sees would be no event's category, and count nothing. A mark
    # of UTF-8 stands within a file that was put together from several.
    words = [_UNSEEN.sub("", line) for line in re.split(r"\r\n|\r|\n", text)]
    return [word for word in words if word]


def _moment(value: object) -> object:
    """ISO 8601 text, or a moment as TOML writes it, to text that `parse_iso_8601` reads."""
    if isinstance(value, date):
        value = value.isoformat()
    if not isinstance(value, str):
        return value
    try:
        moment = parse_iso_8601(value)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise ValueError("write ISO 8601 with a zone, such as 2026-11-24T08:00:00Z")
    if moment < EPOCH:
        raise ValueError("times are counted from 1970 on; write a later one")
    return value


def _place(value: object, as_path: Callable[[object], object]) -> object:
    if isinstance(value, ObjectPath):
        return value
    return place(value, "model.path") if is_address(value) else as_path(value)


def _place_or_none(value: object, as_path: Callable[[object], object]) -> object:
    return None if value in ("", None) else _place(value, as_path)


def _period(value: object) -> object:
    """A duration that ends, or "" for never."""
    if value in (0, ""):
        return ""
    if isinstance(value, str):
        try:
            found = parse_duration_ms(value)
        except ConfigError as error:
            raise ValueError(f'{error.remedy}, or "" for never') from None
        if found is None:
            raise ValueError('write such as "1d", or "" for never')
    return value


Moment = Annotated[str, BeforeValidator(_moment)]
Words = Annotated[tuple[str, ...], BeforeValidator(_words)]
ExistingDirectory = Annotated[Path, AfterValidator(_existing_directory)]
if TYPE_CHECKING:
    ModelPlace = Place
    ModelPlaceOrNone = Place | None
else:  # an address of object storage is none of the types that pydantic knows
    ModelPlace = Annotated[Path, WrapValidator(_place)]
    ModelPlaceOrNone = Annotated[Path | None, WrapValidator(_place_or_none)]
Period = Annotated[str, BeforeValidator(_period)]
