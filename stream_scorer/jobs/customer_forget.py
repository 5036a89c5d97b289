"""`stream-scorer customer forget`: customers deleted for good, with a receipt."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from stream_scorer.atomic import write_file
from stream_scorer.core.events.erased_customers import erased_line
from stream_scorer.core.events.moments import moment_text
from stream_scorer.customers import erasing
from stream_scorer.customers.erasure_receipt import (
    ErasureReceipt,
    PlannedErasure,
    planned_in_words,
    receipt_in_words,
)
from stream_scorer.errors import InputError
from stream_scorer.past.forgotten_customers import read_erased
from stream_scorer.result import Result
from stream_scorer.settings.tree import Settings


@dataclass(frozen=True)
class ForgottenList(Result):
    """customers: by id the moment of ISO 8601 up to which nothing counts."""

    namespace: str
    customers: Mapping[str, str]


def planned(settings: Settings, customers: Mapping[str, int | None]) -> PlannedErasure:
    """What `forget` would delete; nothing is changed. Raises as `forget`."""
    return erasing.planned(settings, list(customers))


def forget(
    settings: Settings,
    customers: Mapping[str, int | None],
    *,
    version: str,
    receipt: Path | None = None,
    scan_dead_letters: bool = False,
    wait_seconds: float = erasing.WAIT_SECONDS,
) -> ErasureReceipt:
    """Forget these customers, each up to its moment in ms since 1970 UTC; None: now.

    receipt: a new file to which the result is written as JSON; `problem` says where that failed
    after the request was done. Raises InputError where it exists, and as `customers.erasing.erase`.
    """
    if receipt is not None:
        _refuse_existing(receipt)
    done = erasing.erase(
        settings, customers, version=version, scan_dead_letters=scan_dead_letters,
        wait_seconds=wait_seconds,
    )  # fmt: skip
    if receipt is not None:
        try:
            write_file(receipt, json.dumps(done.as_json(), indent=2).encode() + b"\n")
        except OSError as error:
            problem = (
                f"the receipt {receipt} is not written: {error.strerror or error}; check its "
                "folder, and keep what is printed here"
            )
            problem = f"{done.problem}; {problem}" if done.problem else problem
            return replace(done, done=False, problem=problem)
    return done


def listing(settings: Settings) -> ForgottenList:
    """Who was forgotten in the settings' namespace. Raises StoreUnavailable and InputError."""
    found = {i: moment_text(ms) for i, ms in sorted(erasing.listed(settings).items())}
    return ForgottenList(settings.store.namespace, found)


def requested(ids: Sequence[str], again: Path | None) -> dict[str, int | None]:
    """The customers to forget: `ids` now, and those of `again`, a list or a receipt of before, up
    to the moments in it. Raises InputError."""
    found: dict[str, int | None] = {}
    if again is not None:
        found |= read_erased("--again", again)
    return found | dict.fromkeys(ids)


def planned_words(found: PlannedErasure) -> list[str]:
    """What would be deleted, for people."""
    return planned_in_words(found)


def in_words(done: ErasureReceipt) -> list[str]:
    """The receipt for people."""
    return receipt_in_words(done)


def listing_in_words(found: ForgottenList) -> list[str]:
    """The list as `--forgotten FILE` and `--again FILE` read it."""
    return [erased_line(i, at) for i, at in found.customers.items()]


def _refuse_existing(receipt: Path) -> None:
    if receipt.exists():
        remedy = "is there already; a receipt is not written over, name a new file"
        raise InputError("--receipt", receipt, remedy)
    if not receipt.absolute().parent.is_dir():
        raise InputError("--receipt", receipt, "its folder does not exist; make it first")
