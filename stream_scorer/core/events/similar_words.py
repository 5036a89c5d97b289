"""Which known word a wrong one was probably meant to be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from functools import lru_cache

# Comparing with every word takes time, and records with wrong words may come in great numbers.
MOST_COMPARED_WORDS = 200
# Of longer words only how they begin is compared, or kept.
MOST_CHARACTERS = 100


def meant(word: str, known: frozenset[str]) -> str:
    """ "; is 'purchase' meant?" where a known word differs in case or blanks alone, or else is
    close; "" where none is.
    """
    return _meant(word[: _most_characters(known)], known)


def undeclared(event_type: str, event_types: Iterable[str]) -> str:
    """What to do about an event type of a setting that is not among those that are accepted."""
    known = meant(event_type, frozenset(event_types))
    return f"is no accepted event type; add it to events.event_types, or correct it{known}"


@lru_cache(maxsize=1024)
def _meant(word: str, known: frozenset[str]) -> str:
    folded = _folded(known)
    found = folded.get(_fold(word))
    if found is None and len(known) <= MOST_COMPARED_WORDS:
        close = get_close_matches(_fold(word)[:MOST_CHARACTERS], folded, n=1, cutoff=0.75)
        found = folded[close[0]] if close else None
    return "" if found is None else f"; is {found!r} meant?"


@lru_cache(maxsize=16)
def _most_characters(known: frozenset[str]) -> int:
    return max(MOST_CHARACTERS, 2 * max(map(len, known), default=0))


@lru_cache(maxsize=16)
def _folded(known: frozenset[str]) -> Mapping[str, str]:
    return {_fold(word): word for word in sorted(known)}


def _fold(word: str) -> str:
    return " ".join(word.replace("_", " ").replace("-", " ").split()).strip("\ufeff").casefold()
