"""`stream-scorer drift`: is what the namespace scores still like what its model was trained on?

It reads what members sampled (live/drift_watch.py) and compares it with the reference of the model
that serves: the one that is announced, else that of model.path. Nothing is read from Kafka, and
nothing is written.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from stream_scorer.core.drift.live_quality import LiveQuality, QualityAtDelay
from stream_scorer.core.drift.stability import JUDGED
from stream_scorer.core.drift.summary import BlockDrift, DriftSummary, ScoreDrift
from stream_scorer.core.events.moments import moment_text
from stream_scorer.io.stores.announcements import Announcements
from stream_scorer.io.stores.drift_store import DriftStore
from stream_scorer.io.stores.redis_server import RedisServer
from stream_scorer.live.consumer import clock_ms, redis_client
from stream_scorer.live.drift_summary import drift_summary
from stream_scorer.model import artefact
from stream_scorer.result import Result
from stream_scorer.settings.tree import Settings
from stream_scorer.storage.places import place

NAMED = 5  # features and categories that the text lists
VERDICTS = {
    "stable": "stable: what is scored is like what the model was trained on",
    "watch": "watch: something moved, not far enough to act on",
    "drifted": "drifted: look at what moved, and train again on newer rows",
    "unknown": "unknown: nothing could be judged",
}


@dataclass(frozen=True)
class NamespaceDrift(Result):
    """namespace: of the config. model: the directory of the one that serves. report: the page that
    was written, "" where none was asked for. drift: what was found."""

    namespace: str
    model: str
    report: str
    drift: DriftSummary


def drift(
    settings: Settings, report: Path | None = None, max_psi: float | None = None,
    now_ms: int | None = None,
) -> NamespaceDrift:  # fmt: skip
    """Compare, and write the page `report` where one is asked for.

    max_psi: in place of drift.max_psi. Raises InputError for a wrong model or path, and
    StoreUnavailable.
    """
    if report is not None:
        from stream_scorer.reports import plots  # noqa: PLC0415 - its matplotlib is an extra

        plots.new_figure()  # report a missing matplotlib before the work
    limits = settings.drift.limits
    if max_psi is not None:
        limits = replace(limits, max_psi=max_psi)
    namespace, space = settings.store.namespace, settings.feature_space()
    with closing(RedisServer(redis_client(settings))) as server:
        announced = Announcements(server, namespace).current()
        path = settings.model.path
        if announced is not None:
            path = place(announced.model.path, "announced model")
        model = artefact.load(path, space.fingerprint)
        now_ms = clock_ms() if now_ms is None else now_ms
        found = drift_summary(DriftStore(server, namespace), settings, model, now_ms, limits)
    if report is not None:
        from stream_scorer.reports import drift as html  # noqa: PLC0415 - as above

        html.write(report, namespace, found, limits)
    return NamespaceDrift(namespace, str(path), "" if report is None else str(report), found)


def in_words(done: NamespaceDrift) -> list[str]:
    """The result for people, the verdict first."""
    found = done.drift
    lines = [VERDICTS[found.verdict]]
    lines += [f"  {reason}" for reason in found.reasons]
    if found.from_ms is not None and found.to_ms is not None:
        lines.append(
            f"model {found.model_version}, {found.rows:,} rows of about {found.customers:,} "
            f"customers, of {found.members:,} member{'' if found.members == 1 else 's'} from "
            f"{moment_text(found.from_ms)} to {moment_text(found.to_ms)}"
        )
    blocks = sorted((b for b in found.blocks if b.state in JUDGED), key=lambda b: -(b.psi or 0))
    for block in blocks[:NAMED]:
        shift = ""
        if block.mean_shift is not None and block.mean_shift_by_chance is not None:
            shift = (
                f", mean {block.mean_shift:+.2f} deviations "
                f"(by chance ±{block.mean_shift_by_chance:.2f})"
            )
        lines.append(f"feature {block.block}: {_index(block)}{shift}, {block.state}")
    if found.scores and found.scores[0].mean is not None:
        everything = found.scores[0]
        lines.append(
            f"scores: {_index(everything)}, mean {everything.mean:.4f} where training had "
            f"{everything.training_mean:.4f}, {everything.state}"
        )
    if found.events is not None:
        for field, share in found.events.unknown_words.items():
            lines.append(f"{share:.2%} of events have a {field} that its vocabulary lacks")
    for quality in found.quality:
        lines += _quality_in_words(quality)
    lines += [f"note: {note}" for note in found.notes]
    return lines if not done.report else [*lines, f"report in {done.report}"]


def _index(of: BlockDrift | ScoreDrift) -> str:
    """An index, and what it is about where nothing moved."""
    if of.psi is None:
        return "index -"
    return f"index {of.psi:.3f} (by chance {of.psi_by_chance or 0:.3f})"


def _quality_in_words(quality: LiveQuality) -> list[str]:
    if not quality.delays:
        words = f"{quality.followed:,} scores are followed, none long enough to be judged"
        return [f"live quality of {quality.model_version}: {words}"]
    return [
        f"live quality of {quality.model_version} after {one.delay}: {_delay_in_words(one)}"
        for one in quality.delays
    ]


def _delay_in_words(one: QualityAtDelay) -> str:
    words = f"{one.scores:,} scores, {one.positives:,} actions"
    reach = one.intervals
    for name, found in (
        ("recall@10", reach.recall_at_10), ("AUC", reach.micro_auc), ("log loss", reach.log_loss),
        ("predicted over seen", reach.predicted_over_seen),
    ):  # fmt: skip
        if found.value is not None:
            words += f", {name} {found.value:.4f}"
        if found.low is not None and found.high is not None:
            words += f" ({found.low:.4f} to {found.high:.4f})"
    if one.ece is not None and one.ece_by_chance is not None:
        words += f", calibration error {one.ece:.4f} (by chance {one.ece_by_chance:.4f})"
    return words
