"""What verbs return: frozen types, whose JSON has the keys that others read."""

from __future__ import annotations

import json
import pkgutil
from collections.abc import Iterator
from dataclasses import FrozenInstanceError, dataclass
from importlib import import_module
from inspect import getmembers, isfunction
from types import ModuleType
from typing import Any, get_type_hints

import pytest

from stream_scorer import jobs
from stream_scorer.bench.timing import Machine, Measurement
from stream_scorer.checks.finding import Finding
from stream_scorer.checks.members import ModelStatus
from stream_scorer.core.evaluation.training_data import LeftOutCategory
from stream_scorer.core.events.refused import Refusal, RefusedRecord
from stream_scorer.core.features.ignored_values import IgnoredValue
from stream_scorer.core.features.parity import Difference
from stream_scorer.customers.erasure_receipt import (
    ErasedPosition,
    ErasureReceipt,
    ForgottenCustomer,
    NamedDeadLetters,
    PlannedErasure,
    StillHeld,
    TombstoneSent,
)
from stream_scorer.customers.history import CustomerHistory, HistoryEntry, HistoryPoint
from stream_scorer.io.files.snapshot_info import LeftOut
from stream_scorer.io.stores.announcements import Announcement, ModelIdentity
from stream_scorer.io.stores.members import Member, MemberSaid
from stream_scorer.jobs.announced_models import AnnouncedModel
from stream_scorer.jobs.bench import Benchmark
from stream_scorer.jobs.convert import ConvertedModel
from stream_scorer.jobs.customer_forget import ForgottenList
from stream_scorer.jobs.dead_letters import DeadLetterList, ListedDeadLetter, ReplayedDeadLetters
from stream_scorer.jobs.doctor import Diagnosis
from stream_scorer.jobs.export import Exported
from stream_scorer.jobs.models import Activated, ListedModel, ModelList, ModelSummary
from stream_scorer.jobs.publish import Published
from stream_scorer.jobs.refresh import Refreshed
from stream_scorer.jobs.rollout import CalledOff, RolledOut
from stream_scorer.jobs.score import BulkScores
from stream_scorer.jobs.topics import CheckedTopic, CheckedTopics, CreatedTopic, CreatedTopics
from stream_scorer.jobs.train import Trained
from stream_scorer.jobs.verify import Verification
from stream_scorer.jobs.warm import Warmed
from stream_scorer.jobs.web import ServedPages
from stream_scorer.live.loop import Totals
from stream_scorer.past.replayed import (
    LabelledSnapshot,
    RebuiltNamespace,
    ReplayedPropensities,
)
from stream_scorer.past.vectors import FoldCounts
from stream_scorer.result import Result
from stream_scorer.rollout.namespaces import (
    DroppedNamespace,
    ListedNamespace,
    NamespaceList,
    NamespacePartition,
    NamespaceTopic,
)
from stream_scorer.settings.topics import Problem

SUMMARY = ModelSummary("m", "v", "f", 3, 2, None, "2026-11-24T08:00:00+00:00", True)
IDENTITY = ModelIdentity("/m", "v", "s")
ANNOUNCEMENT = Announcement(1, IDENTITY, None, 7)
MEMBER = Member("m", "c", "h", 1, (0,), "v", "/m", 1, "f", "b", "serving", "", 0, 1.5, False)
COUNTS = FoldCounts(7, 5, 3, 1, 1, 1)
REFUSED = RefusedRecord("a.jsonl", 0, 7, "undecodable", "no JSON")
DEAD_LETTER = ListedDeadLetter("in", 0, 1, None, "t", "undecodable", "d", None, 9, False, True)
TOMBSTONE = TombstoneSent("out", 0, 9, 1)
FORGOTTEN = ForgottenCustomer("c", "t", True, 99, 3, "t", (), None, TOMBSTONE)
COUNT_KEYS = [
    "records", "events", "applied", "duplicates", "too_old", "ignored_events", "outside_window",
    "erased_events", "dead_letters", "refused",
]  # fmt: skip

# The command line's contract: keys may be added, and none renamed, moved or taken away.
KEYS: list[tuple[Result, list[str]]] = [
    (Published(1, 0, "in", 0.1),
     ["published", "refused", "topic", "seconds", "dead_letters", "refusals", "refused_records",
      "too_large"]),
    (CreatedTopics((CreatedTopic("in", True, 4),)), ["topics"]),
    (CreatedTopic("in", True, 4), ["name", "created", "partitions"]),
    (CheckedTopics(True, (CheckedTopic("in", True, 4, ()),)), ["ok", "topics"]),
    (CheckedTopic("in", True, None, ()), ["name", "ok", "partitions", "problems"]),
    (Problem("a", "b"), ["found", "remedy"]),
    (Exported(1, 0, 0, 0, 1, 0, "s", 0.1),
     ["rows", "later", "forgotten", "ignored_customers", "shards", "shards_before", "out",
      "seconds", "early_trend_days", "erased_customers", "sample_customers"]),
    (LabelledSnapshot(1, {}, (REFUSED,), 1, 1, "s", 0.1),
     ["events", "dead_letters", "refused", "rows", "cutoffs", "out", "seconds", "refusals",
      "ignored_values", "ignored_events", "outside_window", "event_rows", "quiet_rows",
      "erased_events", "sample_customers", "sampled_out_events"]),
    (Refusal("undecodable", 1, REFUSED, "correct it"),
     ["reason", "records", "example", "remedy"]),
    (IgnoredValue("category_id", "unknown_word", 3, "brot", "add it"),
     ["field", "problem", "events", "example", "remedy"]),
    (REFUSED, ["source", "partition", "position", "reason", "detail"]),
    (ReplayedPropensities(COUNTS, {}, (), 2, 99, "p", {}, 0.1),
     [*COUNT_KEYS, "customers", "bytes_per_customer", "out", "stages", "seconds", "refusals",
      "ignored_values"]),
    (RebuiltNamespace(COUNTS, {}, (), "n", "f", {"in": {"0": 4}}, {}, 0.1),
     [*COUNT_KEYS, "namespace", "fingerprint", "source_offsets", "stages", "seconds", "refusals",
      "ignored_values"]),
    (Trained("m", "v", 9, 3, None, 1.5),
     ["model", "model_version", "rows", "categories", "validation_log_loss", "seconds",
      "left_out", "event_rows", "warning", "trend_warning", "quiet_rows", "customers",
      "min_customers", "categories_left_out", "labels_left_out", "columns",
      "columns_without_value", "features_without_value", "rows_without_weight",
      "averaged_seeds", "erased_rows", "samples"]),
    (LeftOutCategory("c", 1, "too_few_customers"), ["category_id", "customers", "reason"]),
    (LeftOut(), ["refusals", "ignored_values", "ignored_events", "outside_window"]),
    (BulkScores(1, 3, "v", "native", "s", 0.1, 10, {}, 5),
     ["rows", "categories", "model_version", "model_engine", "out", "seconds",
      "customers_per_second", "stages", "peak_memory_bytes", "erased_rows"]),
    (SUMMARY, ["model", "model_version", "fingerprint", "categories", "classes",
               "validation_log_loss", "written", "golden_batch", "card"]),
    (ModelList(()), ["models"]),
    (ListedModel("m", True, None, SUMMARY),
     ["name", "active", "problem", "model", "model_version", "fingerprint", "categories", "classes",
      "validation_log_loss", "written", "golden_batch", "card"]),
    (ListedModel("m", False, "a file is missing", None), ["name", "active", "problem"]),
    (ConvertedModel("m", "v", "m.onnx", 9, "5e", True),
     ["model", "model_version", "file", "bytes", "sha256", "golden_batch"]),
    (Activated("m", None, True), ["active", "previous", "golden_batch"]),
    (IDENTITY, ["path", "model_version", "manifest_sha256"]),
    (ANNOUNCEMENT, ["number", "model", "previous", "announced_ms"]),
    (MEMBER, ["member", "client_id", "host", "pid", "partitions", "model_version", "model_path",
              "announcement", "fingerprint", "build", "state", "reason", "started_ms",
              "status", "silent_seconds", "gone"]),
    (MemberSaid("m", "c", "h", 1, (0,), "v", "/m", 1, "f", "b", "serving", "", 0),
     ["member", "client_id", "host", "pid", "partitions", "model_version", "model_path",
      "announcement", "fingerprint", "build", "state", "reason", "started_ms", "status"]),
    (ModelStatus(True, ANNOUNCEMENT, (MEMBER,), ()),
     ["ok", "announcement", "members", "problems"]),
    (AnnouncedModel(True, ANNOUNCEMENT, True, (MEMBER,), (), 0.1),
     ["ok", "announcement", "golden_batch", "members", "not_switched", "seconds",
      "link_not_moved"]),
    (Diagnosis(True, (Finding("redis", "there"),)), ["ok", "findings"]),
    (Finding("redis", "away", "start it"), ["check", "ok", "found", "remedy", "warning"]),
    (Verification(True, 1, 0, 0, 0, 9, 0, 0, 7, (), 0.1),
     ["ok", "checked", "different", "absent", "unverifiable", "events", "foreign_keys",
      "split_customers", "seed", "differences", "seconds", "changed_rules", "trends_checked",
      "trends_unverifiable", "trend_differences", "forgotten_on_request",
      "drift_samples_of_forgotten"]),
    (Difference("c", "bought", 1.5, 2.5), ["customer_id", "what", "stored", "recomputed"]),
    (DeadLetterList("d", 1, 1, 0, {"undecodable": 1}, (DEAD_LETTER,)),
     ["topic", "matched", "replayed", "unreadable", "reasons", "dead_letters"]),
    (DEAD_LETTER, ["topic", "partition", "offset", "time", "failed_at", "reason", "detail", "key",
                   "bytes", "cut", "replayed"]),
    (Refreshed("", 1, 3, 2, 1, (0,), False, 0.1),
     ["as_of", "partitions", "customers", "refreshed", "unmoved", "unfinished", "superseded",
      "seconds", "unread"]),
    (ReplayedDeadLetters("in", 1, 1, 0, 0, 0, 0, 0, 0.1),
     ["topic", "matched", "replayed", "already", "repeated", "cut", "foreign", "refused",
      "seconds"]),
    (Benchmark((), {}, {}, Machine("a processor", 2, 9, {}), (), "2026-11-28"),
     ["results", "ratios", "ratio_ranges", "machine", "notes", "measured_on"]),
    (Machine("a processor", 2, 9, {}), ["processor", "cores", "memory_bytes", "versions"]),
    (Measurement.of("decode", "ours", "events/s", [1.0, 2.0]),
     ["stage", "case", "unit", "median", "min", "max", "runs"]),
    (NamespaceList("r", (), (), 0.1), ["redis", "namespaces", "unknown", "seconds"]),
    (ListedNamespace("n", True, "f", "i", False, 1, None, None, 0, ()),
     ["namespace", "configured", "fingerprint", "identity", "being_dropped", "customers", "bytes",
      "shares_group_with", "files", "topics", "members"]),
    (NamespaceTopic("in", "g", 1, True, 3, ()),
     ["topic", "group", "members", "served", "behind", "partitions"]),
    (NamespacePartition(0, 7, None), ["partition", "watermark", "behind"]),
    (RolledOut("n", "o", "f", "switch", False, 1, 2, 6, (), 0.1),
     ["namespace", "replaces", "fingerprint", "step", "done", "behind", "moved", "partitions",
      "to_do", "seconds"]),
    (CalledOff("n", "o"), ["namespace", "replaces"]),
    (DroppedNamespace("n", 7, 0.1), ["namespace", "keys", "seconds"]),
    (Warmed(1, 0, "f", "p", 0.1), ["kernels", "compiled", "folder", "processor", "seconds"]),
    (ServedPages("http://127.0.0.1:9110/", 1.5), ["url", "seconds"]),
    (Totals(), ["records", "applied", "duplicates", "too_old", "ignored_events", "dead_letters",
                "propensities", "batches", "seconds", "erased_events"]),
    (TOMBSTONE, ["topic", "partition", "offset", "sent"]),
    (FORGOTTEN, ["customer_id", "forgotten_at", "known", "record_bytes", "values", "newest_event",
                 "positions", "forgotten_before", "tombstone"]),
    (ErasedPosition("in", 0, 7), ["topic", "partition", "offset"]),
    (StillHeld("Redis", "a dump", "the next one"), ["where", "what", "until"]),
    (NamedDeadLetters("dead", 9, True, {"c": 1}), ["topic", "read", "complete", "customers"]),
    (ErasureReceipt(True, "", "t", ("n",), "r", "out", None, (FORGOTTEN,), 2, None, (), "1", 0.1),
     ["done", "problem", "time", "namespaces", "redis", "output_topic", "model_version",
      "customers", "drift_samples", "dead_letters", "still_held", "stream_scorer", "seconds"]),
    (PlannedErasure(("n",), 3, 2, 1), ["namespaces", "customers", "known", "members"]),
    (ForgottenList("n", {"c": "t"}), ["namespace", "customers"]),
    (HistoryEntry("soup", 1, 0.5), ["category_id", "class", "probability"]),
    (HistoryPoint("t", "t", "v", 0, 7, True, False, (HistoryEntry("soup", 1, 0.5),)),
     ["as_of", "scored_at", "model_version", "partition", "offset", "newest", "deleted",
      "propensities"]),
    (CustomerHistory("c", "out[0]", 1, 0, 0, ()),
     ["customer_id", "source", "records", "repeats", "tombstones", "points", "notes"]),
]  # fmt: skip


@pytest.mark.parametrize(("result", "keys"), KEYS, ids=lambda v: type(v).__name__)
def test_the_keys_of_the_json_are_the_contract(result: Result, keys: list[str]) -> None:
    assert list(result.as_json()) == keys
    assert json.loads(json.dumps(result.as_json())) == result.as_json()


def test_a_finding_with_a_remedy_is_not_ok() -> None:
    assert [Finding("redis", "there").ok, Finding("redis", "away", "start it").ok] == [True, False]


def test_parts_are_written_by_their_own_as_json() -> None:
    @dataclass(frozen=True)
    class Whole(Result):
        parts: tuple[Finding, ...]
        by_name: dict[str, Finding]

    finding = Finding("redis", "there")
    found = Whole((finding,), {"a": finding}).as_json()
    assert found == {"parts": [finding.as_json()], "by_name": {"a": finding.as_json()}}


def test_no_result_can_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        COUNTS.applied = 9  # type: ignore[misc]


def job_modules() -> list[ModuleType]:
    return [import_module(f"{jobs.__name__}.{m.name}") for m in pkgutil.iter_modules(jobs.__path__)]


def verbs() -> Iterator[tuple[str, Any]]:
    """Functions that are named as their module's verb, with what they return."""
    others = {"listing", "activate", "rollback", "create", "check", "rebuild", "propensities",
              "replay", "verify", "dropped", "status", "cancel", "dropped_old", "show",
              "explain"}  # fmt: skip
    for module in job_modules():
        own = [f for _, f in getmembers(module, isfunction) if f.__module__ == module.__name__]
        for function in own:
            if function.__name__ in {module.__name__.rpartition(".")[2]} | others:
                yield f"{module.__name__}.{function.__name__}", get_type_hints(function)["return"]


def test_every_verb_returns_a_frozen_result() -> None:
    found = dict(verbs())
    assert len(found) >= 22
    for name, returned in found.items():
        assert isinstance(returned, type), name
        assert issubclass(returned, Result), name
