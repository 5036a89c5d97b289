"""One tree of errors, named by what the caller must do next.

`InputError`: a person must change something they gave us (exit status 2, one line, no traceback).
`Unavailable`: a server does not answer; wait and try again.
`Halt`: going on would lose or spoil data; stop and let an operator look (exit status 1).

An error's text is its whole message: the command line prints `str(error)` as it is.
"""

from __future__ import annotations

# The remedy where the store, the group and the topic do not belong together any more.
FRESH_START = "set store.namespace and kafka.group_id to new names"


class StreamScorerError(Exception):
    """Root of every error raised on purpose by this package.

    found: what is wrong. remedy: what to do, "" where the text alone says it.
    """

    def __init__(self, found: str = "", remedy: str = "") -> None:
        super().__init__(f"{found}; {remedy}" if remedy else found)
        self.found, self.remedy = found, remedy


class InputError(StreamScorerError):
    """What was given can't be used. The message names the field, the value and the remedy."""

    def __init__(self, field: str, value: object, remedy: str) -> None:
        shown = _shown(value)
        if len(shown) > 200:
            shown = shown[:200] + "..."
        # "(not set)" and the like are ours, and stand in place of a value.
        ours = shown.startswith("(") and shown.endswith(")")
        super().__init__(f"{field}: {shown if ours else repr(shown)}: {remedy}")
        self.found, self.remedy = f"{field}: {shown}", remedy
        self.field, self.value = field, value


def cannot_read(error: OSError) -> str:
    """What an InputError says of a file that the system does not let us read."""
    return f"can't be read: {error.strerror or error}; check path and permissions"


def cannot_write(error: OSError) -> str:
    """What an InputError says of a file that the system does not let us write."""
    return f"can't be written: {error.strerror or error}; check path, permissions and free space"


def _shown(value: object) -> str:
    """A value as it is written in a config or on a command line, rather than as Python shows it."""
    if value is None:
        return "(not given)"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):  # as TOML and JSON have it: a list of one is not its entry
        return "[" + ", ".join(_entry(one) for one in value) + "]"
    if isinstance(value, tuple | set | frozenset):
        return ", ".join(map(str, value)) or "(none)"
    return str(value)


def _entry(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else _shown(value)


class ConfigError(InputError):
    """A setting is wrong."""


class ArtefactError(InputError):
    """A model artefact is missing, corrupt or not for this feature declaration."""


class SnapshotError(InputError):
    """A snapshot directory is missing, corrupt or not for this feature declaration."""


class EventFileError(InputError):
    """An event file can't be read."""


class FingerprintMismatch(InputError):
    """Two parts were compiled from different feature declarations."""


class Unavailable(StreamScorerError):
    """A server does not answer. Nothing was lost: wait and try again."""


class StoreUnavailable(Unavailable):
    """Redis does not answer, is loading, or is out of memory."""


class BusUnavailable(Unavailable):
    """Kafka does not answer or did not confirm a delivery."""


class ClientLost(BusUnavailable):
    """A Kafka client can't go on, but a new one can: join again, from the committed offsets."""


class StoreRewound(StreamScorerError):
    """The store holds less than this consumer had written: read again from `offsets`.

    `offsets` maps (topic, partition) to the next offset that the store still needs.
    """

    def __init__(self, offsets: dict[tuple[str, int], int]) -> None:
        listing = ", ".join(f"{t}[{p}] from {o}" for (t, p), o in sorted(offsets.items()))
        super().__init__(f"the store lost its newest writes; reading again: {listing}")
        self.offsets = offsets


class Halt(StreamScorerError):
    """Going on would lose or spoil data; an operator must look."""


class NotAllowed(Halt, InputError):
    """Kafka does not let this user in, or not do what is needed: `remedy` names the right."""

    def __init__(self, found: str, remedy: str) -> None:
        StreamScorerError.__init__(self, found, remedy)
        self.field, self.value = "kafka.username", "(this user)"


class HistoryGone(Halt):
    """The store needs offsets that Kafka no longer holds."""


class TooManyDeadLetters(Halt):
    """The share of dead letters says that the schema or settings are wrong, not the events."""
