"""`models compare`: which model is better, by what customers then did."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from stream_scorer.cli import app
from stream_scorer.core.avro.event_encoder import encode_events
from stream_scorer.core.canary import in_canary
from stream_scorer.core.evaluation.model_comparison import UNDECIDED, better_model
from stream_scorer.core.evaluation.scoring_times import ScoringTimes
from stream_scorer.demo.embedded import EmbeddedKafka
from stream_scorer.errors import ConfigError, InputError, StoreUnavailable
from stream_scorer.io.kafka.producer import ConfirmedProducer
from stream_scorer.io.stores.announcements import Announcements
from stream_scorer.jobs.backtest import backtest
from stream_scorer.jobs.compare import Window, compare, in_words
from stream_scorer.model import artefact
from stream_scorer.model.spec import Layout, NetworkSpec
from stream_scorer.settings.tree import Settings
from tests.jobs.result_keys import COMPARISON, keys_of
from tests.jobs.test_backtest import CONFIG, DAY, START, WORDS, shopping, written
from tests.model.symbol_json import symbol_json

FROM, TO = START + 20 * DAY, START + 60 * DAY
SERVED = """
[model]
path = "active"
[challenger]
path = "next"
mode = "{mode}"
share = 0.4
"""


def model(folder: Path, name: str, odds: float, training: dict[str, Any] | None = None) -> None:
    """Gives every customer about the same probabilities, exp(odds) to 1."""
    settings = Settings.load(folder / "plain.toml", environment={})
    space, rule, spec = settings.feature_space(), settings.label_rule(), NetworkSpec((4,))
    index, draw = np.arange(4), np.random.default_rng(1)
    parameters = {
        key: draw.normal(0, 0.05, shape).astype(np.float32)
        for key, shape in Layout.of(space, rule, index).shapes(spec).items()
    }
    parameters["calibration_scale"][:] = 1
    parameters["calibration_shift"][:] = odds
    symbol = symbol_json(Layout.of(space, rule, index), spec)
    made = artefact.TrainedModel(space, rule, index, spec, parameters, symbol)
    artefact.save(made, folder / name, training)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With events, an active model that is far too sure, and a better one."""
    (tmp_path / "plain.toml").write_text(CONFIG.format(half_life="14d"))
    trained = {"last_as_of_ms": FROM - 7 * DAY}
    model(tmp_path, "active", 3.0, trained)
    model(tmp_path, "next", 0.0, {"last_as_of_ms": FROM - 9 * DAY})
    for mode in ("shadow", "canary"):
        text = CONFIG.format(half_life="14d") + SERVED.format(mode=mode)
        (tmp_path / f"{mode}.toml").write_text(text)
    written(tmp_path / "e.avro", shopping())
    return tmp_path


@pytest.fixture(autouse=True)
def announced(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """What members were told to serve, in place of Redis; nothing at first."""
    told: list[Path] = []

    def current(_self: Announcements) -> Any:
        return SimpleNamespace(model=SimpleNamespace(path=str(told[-1]))) if told else None

    monkeypatch.setattr(Announcements, "current", current)
    return told


def settings_of(folder: Path, mode: str) -> Settings:
    return Settings.load(folder / f"{mode}.toml", environment={})


def test_a_shadow_is_compared_on_the_same_rows_as_a_backtest_of_both(folder: Path) -> None:
    settings, events = settings_of(folder, "shadow"), [folder / "e.avro"]
    found = compare(settings, events, Window(FROM, TO))
    same = backtest(
        settings, events, [folder / "next", folder / "active"],
        ScoringTimes(FROM, TO, "event"), folder / "out",
    )  # fmt: skip
    assert (found.rows, found.judged, found.pending) == (same.rows, same.judged, same.pending)
    assert found.pending > 0
    assert found.differences == same.intervals
    assert found.models["challenger"].metrics == same.metrics["model"]
    assert found.models["active"].metrics == same.metrics["model 2"]
    assert (found.paired, found.on_all_rows) == (True, None)
    assert (found.better, found.more_customers) == ("challenger", None)
    words = in_words(found)
    assert words[0].startswith("challenger is better: log loss of challenger minus active -")
    assert f"{found.pending:,} wait for their horizon, the last until" in words[1]


def test_a_canary_is_compared_on_the_customers_that_each_model_serves(folder: Path) -> None:
    events = [folder / "e.avro"]
    found = compare(settings_of(folder, "canary"), events, Window(FROM, TO))
    shadow = compare(settings_of(folder, "shadow"), events, Window(FROM, TO))
    assert not found.paired
    assert found.on_all_rows == shadow.differences
    served = in_canary([f"c{i}" for i in range(40)], 0.4, "challenger")
    active, challenger = found.models["active"], found.models["challenger"]
    assert (active.customers, challenger.customers) == (40 - served.sum(), served.sum())
    assert active.rows + challenger.rows == found.judged == shadow.judged
    loss = found.differences.log_loss
    assert active.metrics.log_loss is not None
    assert challenger.metrics.log_loss is not None
    gap = challenger.metrics.log_loss - active.metrics.log_loss
    assert loss.difference == pytest.approx(gap)
    all_rows = found.on_all_rows
    assert all_rows is not None
    # Between different customers an interval is wider than on the same rows.
    assert width(loss) > width(all_rows.log_loss)
    assert "challenger minus active, on the customers that each serves" in " ".join(in_words(found))


def width(found: Any) -> float:
    return float(found.high - found.low)


def test_scores_are_compared_from_the_end_of_both_trainings_on(folder: Path) -> None:
    settings, events = settings_of(folder, "shadow"), [folder / "e.avro"]
    found = compare(settings, events, Window(every="7d"))
    assert found.from_time.startswith(str(np.datetime64(FROM, "ms"))[:19])
    assert not any(of.not_held_back for of in found.models.values())
    early = compare(settings, events, Window(FROM - DAY, TO, "7d"))
    assert [of.not_held_back for of in early.models.values()] == [True, False]
    model(folder, "untold", 1.0)
    untold = settings.challenger.model_copy(update={"path": folder / "untold"})
    with pytest.raises(InputError, match=r"--from: .*does not say until when it was trained"):
        compare(settings.model_copy(update={"challenger": untold}), events, Window())
    with pytest.raises(InputError, match=r"--from: .*must lie before"):
        compare(settings, events, Window(TO, FROM))


def test_before_a_horizon_is_over_the_scores_that_wait_are_counted(folder: Path) -> None:
    late = Window(START + 57 * DAY)
    found = compare(settings_of(folder, "canary"), [folder / "e.avro"], late)
    assert (found.judged, found.better, found.more_customers) == (0, "undecided", None)
    assert found.pending == found.rows > 0
    assert in_words(found)[0] == (
        f"nothing can be said yet: no horizon is over, {found.pending} scores wait for it"
    )


def test_models_that_hardly_differ_need_more_customers(folder: Path) -> None:
    model(folder, "alike", 3.0001)
    settings = settings_of(folder, "canary")
    alike = settings.challenger.model_copy(update={"path": folder / "alike"})
    many = written(folder / "many.avro", shopping(3000, customers=100))
    window = Window(FROM, TO, "7d")
    found = compare(settings.model_copy(update={"challenger": alike}), many, window)
    assert (found.better, found.too_few_outcomes) == ("undecided", False)
    assert found.more_customers is not None
    words = in_words(found)[0]
    assert words.startswith("no difference can be seen yet: log loss ")
    assert words.endswith(" more customers would show a difference of this size")


@pytest.mark.parametrize(("customers", "mode"), [(29, "shadow"), (1, "shadow"), (60, "canary")])
def test_few_customers_decide_nothing(folder: Path, customers: int, mode: str) -> None:
    events = written(folder / "few.avro", shopping(1500, customers=customers))
    found = compare(settings_of(folder, mode), events, Window(FROM, TO, "7d"))
    assert better_model(found.differences.log_loss) != UNDECIDED, "the interval alone decides"
    assert (found.better, found.too_few_outcomes, found.more_customers) == ("undecided", True, None)
    fewest = min(model.customers for model in found.models.values())
    assert fewest < 30
    words = in_words(found)[0]
    assert words.startswith("too few outcomes to say which is better: active ")
    assert f"{fewest} customers, of whom {fewest} acted" in words


def test_customers_who_do_nothing_decide_nothing(folder: Path) -> None:
    # Of each customer one purchase long ago, but for nine who come again.
    once = [
        {**event, "customer_id": f"c{i}", "occurred_at": FROM}
        for i, event in enumerate(shopping(100))
    ]
    again = [{**event, "occurred_at": FROM + 3 * DAY} for event in once[:9]]
    (end,) = shopping(1)
    ends = {**end, "customer_id": "somebody", "occurred_at": TO}
    events = written(folder / "quiet.avro", [*once, *again, ends])
    found = compare(settings_of(folder, "shadow"), events, Window(FROM + DAY, FROM + 2 * DAY, "1d"))
    assert better_model(found.differences.log_loss) != UNDECIDED, "the interval alone decides"
    active = found.models["active"]
    assert (active.customers, active.customers_acted) == (100, 9)
    assert (found.better, found.too_few_outcomes) == ("undecided", True)


def test_without_another_model_there_is_nothing_to_compare(folder: Path) -> None:
    settings, events = settings_of(folder, "shadow"), [folder / "e.avro"]
    for path, words in ((None, "name the model"), (folder / "active", "it is the active model")):
        rule = settings.challenger.model_copy(update={"path": path})
        with pytest.raises(ConfigError, match=rf"challenger\.path: .*{words}"):
            compare(settings.model_copy(update={"challenger": rule}), events, Window())


def test_the_announced_model_is_the_active_one_and_without_redis_that_of_the_config(
    folder: Path, announced: list[Path], monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    settings, events = settings_of(folder, "shadow"), [folder / "e.avro"]
    model(folder, "switched", 2.0, {"last_as_of_ms": FROM - 9 * DAY})
    announced.append(folder / "switched")
    found = compare(settings, events, Window(FROM, TO, "7d"))
    assert found.models["active"].path == str(folder / "switched")

    def away(_self: Announcements) -> None:
        raise StoreUnavailable("no Redis")

    monkeypatch.setattr(Announcements, "current", away)
    found = compare(settings, events, Window(FROM, TO, "7d"))
    assert found.models["active"].path == str(folder / "active")
    assert "no Redis; so the active model is taken to be that of model.path" in caplog.messages


def test_the_input_topic_gives_what_the_same_events_in_a_file_give(
    folder: Path, kafka: EmbeddedKafka
) -> None:
    rows = sorted(shopping(), key=lambda e: e["occurred_at"])
    settings = settings_of(folder, "canary")
    servers = settings.kafka.model_copy(update={"bootstrap_servers": kafka.bootstrap_servers})
    producer = ConfirmedProducer({"bootstrap.servers": kafka.bootstrap_servers})
    keys = [e["customer_id"].encode() for e in rows]
    producer.send(servers.input_topic, [*keys, None], [*encode_events(rows), b"junk"])
    assert producer.settle() == []
    producer.close()
    window = Window(FROM, TO, "7d")
    of_file = compare(settings, [folder / "e.avro"], window)
    found = compare(settings.model_copy(update={"kafka": servers}), ["topic"], window)
    assert found.dead_letters == {"undecodable": 1}
    assert "1 records left out: undecodable" in " ".join(in_words(found))
    assert found.models == of_file.models
    assert found.differences == of_file.differences


def test_the_verb_prints_json_and_writes_a_page(folder: Path) -> None:
    report = folder / "report.html"
    done = CliRunner().invoke(
        app,
        ["models", "compare", str(folder / "e.avro"), "-c", str(folder / "canary.toml"),
         "--every", "7d", "--report", str(report), "--json"],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["mode"], found["every"], list(found["models"])) == (
        "canary", "7d", ["active", "challenger"],
    )  # fmt: skip
    assert found["from"].startswith("2016")
    page = report.read_text()
    assert "Challenger minus active, had both scored all rows" in page
    assert page.count("<figure>") == 2
    assert found["categories"] == len(WORDS)
    assert keys_of(found) == COMPARISON
