"""Reread: what may change is applied, the rest is named, and a wrong file changes nothing."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from stream_scorer.live.reread import Reread
from stream_scorer.live.stop import Stop
from stream_scorer.settings.tree import Settings


class Changed:
    """A config file that is read again, and what was done with it."""

    def __init__(self, path: Path) -> None:
        self.path, self.stop, self.applied = path, Stop(hangup_rereads=True), list[Settings]()
        path.write_text("")
        apply = dict.fromkeys(
            ("publish.top_k", "publish.threshold", "telemetry.log_level"), self.applied.append
        )
        self.reread = Reread(self.load(), self.stop, self.load, apply)

    def load(self) -> Settings:
        return Settings.load(self.path, environment={})

    def write(self, text: str) -> None:
        self.path.write_text(text)

    def hang_up(self) -> None:
        self.stop.reread_asked = True
        self.reread.check()
        assert not self.stop.reread_asked


@pytest.fixture
def changed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Changed:
    caplog.set_level(logging.INFO)
    return Changed(tmp_path / "c.toml")


def test_nothing_is_read_before_it_is_asked_for(changed: Changed) -> None:
    changed.write("[publish]\ntop_k = 3\n")
    changed.reread.check()
    assert changed.applied == []


def test_changes_are_applied_once_together_and_logged_one_by_one(
    changed: Changed, caplog: pytest.LogCaptureFixture
) -> None:
    changed.write('[publish]\ntop_k = 3\nthreshold = 0.5\n[telemetry]\nlog_level = "debug"\n')
    changed.hang_up()
    (now,) = changed.applied
    assert (now.publish.top_k, now.publish.threshold, now.telemetry.log_level) == (3, 0.5, "debug")
    assert caplog.messages == [
        "publish.threshold: 0.1 -> 0.5, from now on",
        "publish.top_k: 10 -> 3, from now on",
        "telemetry.log_level: 'info' -> 'debug', from now on",
    ]
    caplog.clear()
    changed.hang_up()
    assert caplog.messages == ["the config was read again: nothing has changed"]


def test_what_needs_a_restart_is_named_without_its_value_and_left(
    changed: Changed, caplog: pytest.LogCaptureFixture
) -> None:
    text = '[redis]\npassword = "hidden"\n[model]\npath = "other"\n[publish]\ntop_k = 4\n'
    changed.write(text)
    changed.hang_up()
    (now,) = changed.applied
    assert now.publish.top_k == 4
    assert now.redis == Settings().redis
    assert "redis.password has changed, which needs a restart; left as it is" in caplog.messages
    assert any(
        "model.path has changed" in m and "models activate DIR -c FILE" in m
        for m in caplog.messages
    )
    assert "hidden" not in caplog.text
    caplog.clear()
    changed.hang_up()  # it differs from what runs still
    assert "redis.password has changed" in caplog.text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[publish]\ntop_k = -1\n", "publish.top_k: '-1'"),
        ("[publish\n", "is not valid TOML"),
        ("[publish]\ntop_k = 3\nunheard = 1\n", "unknown setting"),
    ],
)
def test_a_wrong_file_changes_nothing_and_is_logged_with_its_remedy(
    changed: Changed, caplog: pytest.LogCaptureFixture, text: str, said: str
) -> None:
    changed.write(text)
    changed.hang_up()
    assert changed.applied == []
    (line,) = caplog.messages
    assert line.startswith("the config was read again and is wrong, so nothing changes: ")
    assert said in line
    changed.path.unlink()
    changed.hang_up()
    assert "can't read this file" in caplog.messages[-1]
