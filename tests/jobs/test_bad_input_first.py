"""What is wrong with arguments, config or files is reported before a kernel is compiled."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from stream_scorer import kernel_folder
from stream_scorer.jobs import init

# Runs verbs one after the other, each a list of arguments, and ends one that would compile; prints
# of each its exit status and its lines.
PROGRAM = """
import contextlib, io, json, sys
from stream_scorer import cli
from stream_scorer.live import warming
def compile_where_missing(*arguments):
    sys.exit("kernels would be compiled")
warming.compile_where_missing = compile_where_missing
found = []
for arguments in json.loads(sys.argv[1]):
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors):
        try:
            cli.app(cli.spread(arguments))
        except SystemExit as error:
            status = error.code
    found.append([status, errors.getvalue().splitlines()])
print(json.dumps(found))
"""
CUTOFFS = ("--cutoffs", "2026-09-07T00:00Z")
FROM_TO = ("--from", "2026-09-07T00:00Z", "--to", "2026-10-07T00:00Z", "--report", "b")
SHOP = ("-c", "shop/stream_scorer.toml")
LIVE = ("-c", "scorer.toml")
# Arguments, and what the line names.
BAD: list[tuple[tuple[str, ...], str]] = [
    (("run", "-c", "wrong.toml"), "batch.max_events"),
    (("run", *SHOP), "model"),
    (("run", "-c", "other.toml"), "fingerprint"),
    (("run", "-c", "damaged.toml"), "model"),
    (("train", "nothing", *SHOP, "--out", "trained"), "nothing"),
    (("train", "broken", *SHOP, "--out", "trained"), "broken"),
    (("train", "nothing", "-c", "wrong.toml", "--out", "trained"), "batch.max_events"),
    (("evaluate", "nothing", "broken"), "nothing"),
    (("evaluate", "model", "broken"), "broken"),
    (("score", "nothing", "broken", "--out", "scores.parquet"), "nothing"),
    (("score", "model", "broken", "--out", "scores.parquet"), "broken"),
    (("score", "model", "broken", "--out", "s", "--model-engine", "torch"), "model engine"),
    (("export", *LIVE, "--out", "exported", "--as-of", "yesterday"), "--as-of"),
    (("export", *LIVE, "--out", "taken"), "taken"),
    (("replay", "nothing", *SHOP, "--out", "r", *CUTOFFS), "nothing"),
    (("replay", "broken.avro", *SHOP, "--out", "r", *CUTOFFS), "broken.avro"),
    (("replay", "shop/events", *SHOP, "--out", "r", "--cutoffs", "soon"), "--cutoffs"),
    (("replay", "shop/events", *SHOP, "--out", "taken", *CUTOFFS), "taken"),
    (
        ("backtest", "shop/events", *SHOP, "--model", "nothing", *FROM_TO),
        "nothing",
    ),
    (("backtest", "nothing", *LIVE, "--model", "model", *FROM_TO), "nothing"),
    (("publish", "nothing", *LIVE), "nothing"),
    (("publish", "broken.avro", *LIVE), "broken.avro"),
    (("verify", "nothing", *LIVE), "there is no such topic"),
    (("models", "verify", "nothing"), "nothing"),
    (("models", "activate", "nothing", *LIVE), "nothing"),
    (("models", "compare", "nothing", *LIVE), "challenger.path"),
    (("refresh", *LIVE, "--as-of", "yesterday"), "--as-of"),
    (("rollout", "start", "-c", "wrong.toml"), "batch.max_events"),
    (("bench", "nothing"), "nothing"),
]


@pytest.fixture
def folder(config: Path) -> Path:
    """Beside a good config, its model and a shop: bad configs, files, folders and models."""
    at = config.parent
    init.init(at / "shop")
    good = config.read_text()
    (at / "wrong.toml").write_text(good.replace("max_events = 200", "max_events = 0"))
    (at / "other.toml").write_text(good.replace('["2d", "14d"]', '["3d"]'))
    damaged = at / "damaged"
    damaged.mkdir()
    for file in (at / "model").iterdir():
        content = file.read_bytes()
        (damaged / file.name).write_bytes(content[:-1] if file.suffix == ".params" else content)
    (at / "damaged.toml").write_text(f'{good}\n[model]\npath = "damaged"\n'.replace(
        '[model]\nengine = "native"\n', ""
    ))  # fmt: skip
    (at / "broken").mkdir()
    (at / "broken" / "manifest.json").write_text("{")
    (at / "broken.avro").write_bytes(b"Obj\x01 and no more")
    (at / "taken").mkdir()
    (at / "taken" / "file").touch()
    return at


def test_bad_input_of_any_verb_is_reported_before_a_kernel_is_compiled(
    folder: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "kernels"
    program = [sys.executable, "-c", PROGRAM, json.dumps([arguments for arguments, _ in BAD])]
    ran = subprocess.run(
        program, cwd=folder, env=os.environ | {kernel_folder.CACHE_VARIABLE: str(cache)},
        capture_output=True, text=True, check=False, timeout=280,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout.splitlines()[-1])
    wrong = [
        (*arguments, status, lines)
        for (arguments, named), (status, lines) in zip(BAD, found, strict=True)
        if status != 2 or not any(named in line for line in lines)
    ]
    assert not wrong, json.dumps(wrong, indent=1)
    assert list(cache.rglob("*.nbc")) == []
