"""Settings that say which events count, and a namespace that was read with others of them.

The time to live, the remembered event ids and the ignored customers are no part of the feature
declaration, so a change of them lets `run` go on in the same namespace. What was left out before,
or counted before, stays so: a customer who is no longer ignored lacks the events of before, and
nothing in a vector shows it. So each namespace keeps every value that it was read with.
"""

from __future__ import annotations

import json
import logging

from stream_scorer.errors import InputError
from stream_scorer.io.stores.redis import RedisStore
from stream_scorer.settings.tree import Settings

log = logging.getLogger(__name__)

SHOWN_CUSTOMERS = 3
REMEDY = "replay the events into a new namespace"
Rules = dict[str, list[int] | list[str]]


def rules_text(settings: Settings) -> str:
    """The settings' rules, as a namespace keeps them."""
    return _text(_rules(settings))


def bind_rules(store: RedisStore, settings: Settings) -> None:
    """Claim the namespace for the settings; log where it was read with other rules before.

    Raises FingerprintMismatch, and InputError where another program wrote over the rules.
    """
    now = _rules(settings)
    before = _parsed(store.claim(_text(now)), store.rules_key)
    both: Rules = {name: _union(before[name], now[name]) for name in now}
    if both != before:
        store.change_rules(_text(both))
    for line in _in_words(before, now):
        log.warning("%s", line)


def changed_rules(store: RedisStore, settings: Settings) -> tuple[str, ...]:
    """What in the namespace may come from other rules than those of the settings, in words."""
    text = store.rules()
    return _in_words(_parsed(text, store.rules_key), _rules(settings)) if text else ()


def _rules(settings: Settings) -> Rules:
    return {
        "store.time_to_live_seconds": [settings.store.time_to_live_seconds],
        "events.remember_event_ids": [settings.events.remember_event_ids],
        "events.ignored_customer_ids": sorted(settings.events.ignored_customer_ids),
    }


def _in_words(before: Rules, now: Rules) -> tuple[str, ...]:
    lines = []
    for name in ("store.time_to_live_seconds", "events.remember_event_ids"):
        (value,) = now[name]
        others = [str(other) for other in before[name] if other != value]
        if others:
            lines.append(
                f"{name} is {value}, and this namespace was read with {', '.join(others)} as well: "
                f"its vectors are not what the events give with {value}; {REMEDY}"
            )
    ignored = set(now["events.ignored_customer_ids"])
    no_longer = [str(i) for i in before["events.ignored_customer_ids"] if i not in ignored]
    if no_longer:
        shown = ", ".join(map(repr, no_longer[:SHOWN_CUSTOMERS]))
        shown += ", ..." if len(no_longer) > SHOWN_CUSTOMERS else ""
        lines.append(
            f"events.ignored_customer_ids no longer has {shown}: this namespace lacks their events "
            f"of before; {REMEDY}"
        )
    return tuple(lines)


def _union(a: list[int] | list[str], b: list[int] | list[str]) -> list[int] | list[str]:
    return sorted({*a, *b})


def _text(rules: Rules) -> str:
    return json.dumps(rules, separators=(",", ":"), sort_keys=True)


def _parsed(text: str, key: str) -> Rules:
    names = ("store.time_to_live_seconds", "events.remember_event_ids")
    try:
        found = json.loads(text)
        numbers: Rules = {name: sorted(int(value) for value in found[name]) for name in names}
        ignored = sorted(str(value) for value in found["events.ignored_customer_ids"])
    except (ValueError, TypeError, KeyError):
        raise InputError(
            "stored rules", key,
            "its value is not what this program writes, so another has written it; delete this "
            "key and start again",
        ) from None  # fmt: skip
    return {**numbers, "events.ignored_customer_ids": ignored}
