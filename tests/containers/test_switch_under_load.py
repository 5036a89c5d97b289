"""Members under load take an announced model: no gap, no repeat, and each at one moment."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from harness.member import wait_until
from harness.rig import Rig
from harness.stream import SPACE, random_model
from harness.verdict import Verdict
from scipy import sparse

from stream_scorer.core.avro.propensity_encoder import PublishedPropensities, decode_propensities
from stream_scorer.core.canary import in_canary
from stream_scorer.core.labels.labels import LabelRule
from stream_scorer.errors import ArtefactError, FingerprintMismatch
from stream_scorer.jobs import announced_models as job
from stream_scorer.model import artefact
from stream_scorer.model.engines.engine import open_engine
from stream_scorer.model.golden_batch import GoldenBatch
from stream_scorer.settings.tree import Settings

MakeRig = Callable[..., Rig]
WAIT_SECONDS = 30
LABELS = Settings().label_rule()
CANARY_SHARE, CANARY_SALT = 0.3, "spring"

pytestmark = [
    pytest.mark.containers,
    pytest.mark.filterwarnings("ignore:Please import `csr_matrix`:DeprecationWarning"),
]


def save_other(path: Path, seed: int, labels: LabelRule = LABELS) -> Path:
    """Another model of the rig's features, with a golden batch. labels: its config's own."""
    trained, draw = random_model(), np.random.default_rng(seed)
    head = draw.normal(0, 0.3, trained.parameters["head_weight"].shape).astype(np.float32)
    parameters = {**trained.parameters, "head_weight": head}
    other = replace(trained, parameters=parameters, labels=labels)
    rows = sparse.random(5, SPACE.width, 0.5, "csr", np.float32, draw)
    scores = open_engine(artefact.unsaved(other), "native").score(rows)
    artefact.save(other, path, golden=GoldenBatch(rows, scores))
    return path


@pytest.fixture
def other(tmp_path: Path) -> Path:
    return save_other(tmp_path / "other", 31)


@pytest.fixture
def challenger(tmp_path: Path) -> Path:
    """Of the labels of the model that rigs score with."""
    return save_other(tmp_path / "challenger", 33, random_model().labels)


def published_by(rig: Rig) -> PublishedPropensities:
    """All that is in the output topic."""
    records = rig.kafka.read_topic(rig.output, settled=True)
    return decode_propensities([m.value() or b"" for m in records])


def rows_of_events(found: PublishedPropensities) -> list[int]:
    """In the order of their sources. A customer's first record of a source is that of the event;
    the later ones are of the refresh that follows a switch."""
    first: dict[tuple[str, int, int], int] = {}
    for row in np.argsort(found.offset, kind="stable").tolist():
        source = (found.customer_ids[row], int(found.partition[row]), int(found.offset[row]))
        first.setdefault(source, row)
    return list(first.values())


def versions_by_partition(
    found: PublishedPropensities, left_out: frozenset[str] = frozenset()
) -> dict[int, list[str]]:
    """Of each input partition the model versions that scored its events, in their order, each named
    once for as long as it lasts. left_out: versions that are no part of it."""
    turns: dict[int, list[str]] = {}
    for row in rows_of_events(found):
        version = found.model_versions[row]
        if version in left_out:
            continue
        seen = turns.setdefault(int(found.partition[row]), [])
        if not seen or seen[-1] != version:
            seen.append(version)
    return turns


def assert_clean_but_for_scores(verdict: Verdict) -> None:
    """The judge scores with the first model alone, as of events, and counts the records of the
    refresh that follows a switch as repeats."""
    scores = ("probability of", "as of")
    rest = [f for f in verdict.findings if not f.what.startswith(scores)]
    assert not rest, "\n".join(str(f) for f in rest[:20])


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_members_under_load_switch_each_at_one_moment(
    make_rig: MakeRig, model: Path, other: Path, delivery: str, tmp_path: Path
) -> None:
    rig = make_rig(seed=21, settings={"kafka": {"delivery": delivery}})
    rig.under_load()
    settings = Settings.load(rig.members[0].config, environment={})

    spoilt = tmp_path / "spoilt"
    shutil.copytree(other, spoilt)
    content = bytearray((spoilt / artefact.PARAMS_FILE).read_bytes())
    content[len(content) // 2] ^= 4
    (spoilt / artefact.PARAMS_FILE).write_bytes(content)
    features = (replace(SPACE.features[0], name="renamed"), *SPACE.features[1:])
    foreign = type(SPACE).compile(features, SPACE.vocabularies)
    artefact.save(random_model(foreign), tmp_path / "foreign")
    for bad, error in ((spoilt, ArtefactError), (tmp_path / "foreign", FingerprintMismatch)):
        with pytest.raises(error):
            job.announce(settings, bad, WAIT_SECONDS)
    assert job.status(settings).announcement is None

    late = rig.member().start()  # it starts while the others switch
    done = job.announce(settings, other, WAIT_SECONDS)
    assert done.ok, done.not_switched
    print(f"{delivery}: {len(done.members)} members switched in {done.seconds} s")
    late.reading()
    rig.more_is_done()
    there = job.status(settings)
    assert there.ok, there.problems
    assert {m.model_version for m in there.members} == {done.announcement.model.model_version}

    def partitions() -> list[int]:
        # What a heartbeat says of them may be five seconds old.
        return sorted(p for m in job.status(settings).members for p in m.partitions)

    wait_until("each partition has one member", lambda: partitions() == list(range(6)), 20)
    rig.stop_feeding()
    verdict = rig.finish()
    assert_clean_but_for_scores(verdict)
    first = artefact.load(model).manifest.model_version
    second = done.announcement.model.model_version
    assert set(map(tuple, versions_by_partition(published_by(rig)).values())) == {(first, second)}
    assert job.status(settings).members == ()


def test_members_roll_back_under_load_and_a_canary_serves_the_same_customers_throughout(
    make_rig: MakeRig, model: Path, other: Path, challenger: Path, tmp_path: Path
) -> None:
    third = save_other(tmp_path / "third", 32)
    canary = {
        "path": str(challenger), "mode": "canary", "share": CANARY_SHARE, "salt": CANARY_SALT,
    }  # fmt: skip
    # For ever, because a refresh as of now would find customers of such old events forgotten.
    kept = {"time_to_live_seconds": 0}
    rig = make_rig(seed=22, settings={"challenger": canary, "store": kept})
    rig.under_load()
    settings = Settings.load(rig.members[0].config, environment={})
    for path in (other, third):
        assert job.announce(settings, path, WAIT_SECONDS).ok
        rig.more_is_done()
    assert job.roll_back(settings, WAIT_SECONDS).ok
    rig.more_is_done()
    rig.stop_feeding()
    assert_clean_but_for_scores(rig.finish())
    found = published_by(rig)
    versions = [artefact.model_version(path) for path in (model, other, third, other)]
    by_canary = artefact.model_version(challenger)
    turns = versions_by_partition(found, frozenset({by_canary}))
    assert set(map(tuple, turns.values())) == {tuple(versions)}

    served = in_canary(found.customer_ids, CANARY_SHARE, CANARY_SALT)
    assert (served == (np.array(found.model_versions) == by_canary)).all()
    of_events = np.isin(np.arange(len(found)), rows_of_events(found))
    for some in (of_events, ~of_events):
        assert set(served[some]) == {True, False}, "a canary and the active model served some"


def test_a_canary_that_fails_is_replaced_and_counted_and_a_shadow_publishes_nothing(
    make_rig: MakeRig, model: Path, challenger: Path
) -> None:
    version = artefact.model_version(challenger)
    members, rigs = {}, {}
    for mode, sabotage in (("canary", "challenger-fails"), ("shadow", "challenger-reports")):
        section = {"path": str(challenger), "mode": mode, "share": CANARY_SHARE}
        rig = make_rig(seed=23, partitions=2, settings={"challenger": section}, sabotage=sabotage)
        rig.publish(600)
        rigs[mode], members[mode] = rig, rig.member().start()

    def metric(mode: str, name: str, **labels: str) -> float:
        return members[mode].metric(f"stream_scorer_challenger_{name}", **labels)

    wait_until("the canary fails", lambda: metric("canary", "failures") == 1, 90)
    assert metric("canary", "on", model_version=version) == 0
    assert f"challenger {version} failed and is switched off" in members["canary"].log()

    wait_until(
        "the shadow compares", lambda: metric("shadow", "customers", outcome="compared") > 0, 90
    )

    def reported(name: str, measure: str) -> bool:
        rigs["shadow"].publish(20)  # where nothing was compared, a report is of NaN
        return metric("shadow", name, measure=measure) > 0

    wait_until("how often they agree", lambda: reported("agreement", "overlap"), 90)
    wait_until("how far they differ", lambda: reported("difference", "max"), 90)
    assert metric("shadow", "on", model_version=version) == 1
    assert metric("shadow", "failures") == 0

    for rig in rigs.values():
        rig.finish().assert_clean()  # every customer scored, by the active model
        assert set(published_by(rig).model_versions) == {artefact.model_version(model)}
    for words in ("customers compared", "of the top 10 are the same"):
        assert words in members["shadow"].log()
