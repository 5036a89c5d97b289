"""Trace contexts of records: sampled ones alone, and no more than asked for."""

from __future__ import annotations

from typing import Any

import pytest

from stream_scorer.io.kafka.trace_headers import trace_contexts

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Record:
    """What is read of a message."""

    def __init__(self, offset: int, headers: Any) -> None:
        self._offset, self._headers = offset, headers

    def topic(self) -> str:
        return "events"

    def partition(self) -> int:
        return 3

    def offset(self) -> int:
        return self._offset

    def headers(self) -> Any:
        return self._headers


def found(*headers: Any, most: int = 10) -> dict[int, dict[str, str]]:
    records: Any = [Record(offset, each) for offset, each in enumerate(headers)]
    contexts = trace_contexts(records, most)
    assert all(position[:2] == ("events", 3) for position in contexts)
    return {position[2]: dict(context) for position, context in contexts.items()}


def test_a_sampled_context_is_taken_and_other_headers_are_not() -> None:
    headers = [("who", b"shop"), ("Traceparent", PARENT.encode()), ("tracestate", b"a=1")]
    assert found(None, headers) == {1: {"traceparent": PARENT, "tracestate": "a=1"}}


@pytest.mark.parametrize(
    "headers",
    [
        None,
        [],
        [("traceparent", PARENT[:-1].encode() + b"0")],  # not sampled
        [("traceparent", b"\xff" * 55)],
        [("traceparent", None)],
        [("traceparent", PARENT.upper().encode())],
        [("traceparent", PARENT.encode() + b"-" + b"x" * 10_000)],
        [("traceparent", PARENT.encode() + b"-more")],  # of version 00, which has nothing more
        [("traceparent", b"ff" + PARENT[2:].encode())],
        [("traceparent", f"00-{'0' * 32}-b7ad6b7169203331-01".encode())],
        [("traceparent", f"00-0af7651916cd43dd8448eb211c80319c-{'0' * 16}-01".encode())],
        [("tracestate", b"a=1")],
    ],
)
def test_what_is_no_sampled_context_is_left_out(headers: Any) -> None:
    assert found(headers) == {}


def test_a_state_that_is_too_long_is_dropped_and_the_parent_kept() -> None:
    headers = [("traceparent", PARENT.encode()), ("tracestate", b"x" * 600)]
    assert found(headers) == {0: {"traceparent": PARENT}}


def test_no_more_are_read_than_asked_for() -> None:
    headers = [("traceparent", PARENT.encode())]
    assert list(found(headers, None, headers, headers, most=2)) == [0, 2]


@pytest.mark.parametrize(
    ("state", "kept"),
    [
        ("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE", True),
        ("fw529a3039@dt=FfAaBb, \t,a_-*/1=x y", True),
        ("", True),
        ("no member", False),
        ("Upper=1", False),
        ("a=1,b=\u00e9", False),
        ("a=1,b=", False),
        ("a=b=c", False),
        (",".join(f"k{n}=1" for n in range(33)), False),
    ],
)
def test_a_malformed_state_is_dropped_and_the_parent_kept(state: str, kept: bool) -> None:
    headers = [("traceparent", PARENT.encode()), ("tracestate", state.encode())]
    assert found(headers) == {0: {"traceparent": PARENT} | ({"tracestate": state} if kept else {})}


def test_a_later_version_may_add_to_the_parent() -> None:
    later = f"01{PARENT[2:]}-more"
    assert found([("traceparent", later.encode())]) == {0: {"traceparent": later}}
