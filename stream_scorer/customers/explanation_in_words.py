"""Explanations as lines of text for people."""

from __future__ import annotations

from collections.abc import Sequence

from stream_scorer.customers.explanation import ExplainedInput, ExplainedPropensity, Explanation
from stream_scorer.customers.shown_in_words import not_known_in_words, table


def explanation_in_words(found: Explanation) -> list[str]:
    """Each propensity as a sum, then how it was made."""
    if not found.found:
        return [not_known_in_words(found.customer_id, found.namespace, found.erased_until)]
    lines = [
        f"customer {found.customer_id} in namespace {found.namespace}, as of {found.as_of} (newest "
        f"event {found.newest_event}), by model {found.model_version}"
    ]
    if found.forgotten:
        lines.append(
            "forgotten: silent for longer than store.time_to_live_seconds, so nothing is computed"
        )
    for one in found.explained:
        lines += ["", *_propensity(one, found.calibration)]
    if found.explained:
        lines += [
            "", f"method: {found.method}",
            "amounts are log-odds against doing nothing, rounded here; each multiplies the odds by "
            "what stands beside it",
        ]  # fmt: skip
    if found.model_problem:
        lines.append(f"another model should serve, and can't here: {found.model_problem}")
    return lines


def _propensity(one: ExplainedPropensity, calibration: str) -> list[str]:
    up = [_row(i) for i in one.inputs if i.amount > 0]
    down = [_row(i) for i in reversed(one.inputs) if i.amount < 0]
    rows: list[Sequence[str]] = [
        (f"{one.base:+.4f}", "", "base: a customer of whom nothing is known", "")
    ]
    if one.history:
        rows.append((f"{one.history:+.4f}", "", "having anything of this category at all", ""))
    if up:
        rows += [("", "", "pushing up:", ""), *up]
    if down:
        rows += [("", "", "pushing down:", ""), *down]
    if one.other_inputs:
        rows.append((f"{one.other_amount:+.4f}", "", f"{one.other_inputs:,} other inputs", ""))
    rows.append((f"={one.logit:+.4f}", "", "logit", ""))
    lines = [
        f"{one.category_id}, {one.action}: probability {one.probability:.4f}",
        *table(("amount", "odds", "of", "value"), rows),
    ]
    if calibration not in ("", "none"):
        lines.append(
            f"  the network's logit {one.network_logit:.4f} is calibrated ({calibration}) to "
            f"{one.scale:.4f} * {one.network_logit:.4f} {one.shift:+.4f} = {one.logit:.4f}; all "
            "amounts are those of the calibrated logit"
        )
    if not one.adds_up:
        lines.append(
            f"  THE AMOUNTS DO NOT ADD UP: their sum differs from the logit by {one.residual:.3g}, "
            f"more than {one.tolerance:.1g}; do not rely on them, and report this model as a fault"
        )
    else:
        lines.append(f"  checked: the sum of all amounts differs from it by {one.residual:.1g}")
    if not one.engine_agrees:
        lines.append(
            f"  THE ENGINE SCORES {one.engine_probability:.6f}, not {one.probability:.6f}: do not "
            "rely on this, and check the artefact (`stream-scorer models verify`)"
        )
    return lines


def _row(one: ExplainedInput) -> tuple[str, str, str, str]:
    odds = f"{one.odds:.2f}" if 0.01 <= one.odds < 1000 else f"{one.odds:.3g}"
    return f"{one.amount:+.4f}", f"x {odds}", one.words, one.value_in_words
