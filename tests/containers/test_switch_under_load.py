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

from stream_scorer.core.avro.propensity_encoder import decode_propensities
from stream_scorer.errors import ArtefactError, FingerprintMismatch
from stream_scorer.jobs import announced_models as job
from stream_scorer.model import artefact
from stream_scorer.model.engines.engine import open_engine
from stream_scorer.model.golden_batch import GoldenBatch
from stream_scorer.settings.tree import Settings

MakeRig = Callable[..., Rig]
WAIT_SECONDS = 30

pytestmark = [
    pytest.mark.containers,
    pytest.mark.filterwarnings("ignore:Please import `csr_matrix`:DeprecationWarning"),
]


def save_other(path: Path, seed: int) -> Path:
    """Another model of the rig's features and of its config's labels, with a golden batch."""
    trained, draw = random_model(), np.random.default_rng(seed)
    head = draw.normal(0, 0.3, trained.parameters["head_weight"].shape).astype(np.float32)
    other = replace(
        trained, parameters={**trained.parameters, "head_weight": head},
        labels=Settings().label_rule(),
    )  # fmt: skip
    rows = sparse.random(5, SPACE.width, 0.5, "csr", np.float32, draw)
    scores = open_engine(artefact.unsaved(other), "native").score(rows)
    artefact.save(other, path, golden=GoldenBatch(rows, scores))
    return path


@pytest.fixture
def other(tmp_path: Path) -> Path:
    return save_other(tmp_path / "other", 31)


def versions_by_partition(rig: Rig) -> dict[int, list[str]]:
    """Of each input partition the model versions of its records, in the order of their sources,
    each named once for as long as it lasts. A customer's first record of a source is that of the
    event; the later ones are of the refresh that follows a switch."""
    records = rig.kafka.read_topic(rig.output, settled=True)
    found = decode_propensities([m.value() or b"" for m in records])
    turns: dict[int, list[str]] = {}
    of_events = set[tuple[str, int, int]]()
    for row in np.argsort(found.offset, kind="stable").tolist():
        source = (found.customer_ids[row], int(found.partition[row]), int(found.offset[row]))
        if source in of_events:
            continue
        of_events.add(source)
        version = found.model_versions[row]
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
    assert set(map(tuple, versions_by_partition(rig).values())) == {(first, second)}
    assert job.status(settings).members == ()


def test_members_roll_back_under_load_to_the_model_of_before(
    make_rig: MakeRig, model: Path, other: Path, tmp_path: Path
) -> None:
    third = save_other(tmp_path / "third", 32)
    rig = make_rig(seed=22)
    rig.under_load()
    settings = Settings.load(rig.members[0].config, environment={})
    for path in (other, third):
        assert job.announce(settings, path, WAIT_SECONDS).ok
        rig.more_is_done()
    assert job.roll_back(settings, WAIT_SECONDS).ok
    rig.more_is_done()
    rig.stop_feeding()
    assert_clean_but_for_scores(rig.finish())
    versions = [artefact.model_version(path) for path in (model, other, third, other)]
    assert set(map(tuple, versions_by_partition(rig).values())) == {tuple(versions)}
