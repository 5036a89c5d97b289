"""Addresses are read and shown without the passwords in them, right or wrong."""

from __future__ import annotations

import traceback

import pytest

from stream_scorer.confidential import read_address, shown_address, without_credentials

REDIS = ("redis", "rediss", "unix")
SECRETS = [
    "hunter2",
    "hunter2/x",
    "hunter2?x",
    "hunter2#x",
    "hun:ter2",
    "hun@hunter2",
    "12?hunter2",
]


def test_user_and_password_are_decoded_and_leave_the_url() -> None:
    found = read_address("redis://me:p%2Fq%40r@h:6379/3?protocol=3", REDIS)
    assert (found.url, found.username, found.password) == (
        "redis://h:6379/3?protocol=3", "me", "p/q@r",
    )  # fmt: skip
    assert "p/q" not in repr(found)
    assert read_address("redis://:p@h", REDIS).username == ""
    assert read_address("https://h/registry", ("http", "https")).password is None
    assert read_address("unix:///run/redis@1.sock", REDIS).url == "unix:///run/redis@1.sock"


@pytest.mark.parametrize("secret", SECRETS)
def test_what_stands_in_the_place_of_a_database_is_not_shown(secret: str) -> None:
    assert "hunter2" not in shown_address(f"redis://h/{secret}".replace("@", "%40"))
    assert shown_address("redis://h:1/3") == "redis://h:1/3"


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize(
    "address",
    [
        "redis://me:{}@h:6379/0", "redis://:{}@h", "http://me:{}@h:80/x", "redis:/me:{}@h",
        "me:{}@h:6379", "redis//:{}@h", "redis://h?password={}", "http://me:{}@h:port",
        "http://me:{}@[h/", "unix://me:{}@/run/x", " redis://:{}@h", "redis://me:{}",
        "redis://me:{}/0", "://me:{}@h", "{}@h", "redis :// me:{} @ h", "{}", "{}ü",
    ],
)  # fmt: skip
def test_no_address_shows_a_password(address: str, secret: str) -> None:
    text = address.format(secret)
    if "@" not in address:
        text = text.replace("@", "%40")  # as itself it would make a host of the rest
    assert "hunter2" not in shown_address(text)
    try:
        outcome = repr(read_address(text, REDIS))
    except ValueError as error:
        outcome = "".join(traceback.format_exception(error))
    assert "hunter2" not in outcome


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("redis://me:p/q@h", "%2F"), ("redis://me:p?q@h", "%3F"), ("redis://me:p#q@h", "%23"),
        ("http://h", "must begin with redis://"), ("h:6379", "must begin with redis://"),
        ("redis://h:70000", "port"), ("redis://", "no host"), ("redis://h 1", "blank"),
    ],
)  # fmt: skip
def test_a_wrong_address_has_its_remedy(text: str, remedy: str) -> None:
    with pytest.raises(ValueError, match=remedy):
        read_address(text, REDIS)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("redis://me:p@h:6379/0", "redis://h:6379/0"), ("http://h/x", "http://h/x"),
        ("localhost:6379", "localhost:6379"), ("unix:///run/x@y", "unix:///run/x@y"),
        ("ftp://me@h", "ftp://h"), ("redis://me:a/b@h", "redis://***"),
    ],
)  # fmt: skip
def test_what_is_no_secret_is_shown(text: str, expected: str) -> None:
    assert shown_address(text) == expected


@pytest.mark.parametrize("secret", SECRETS)
def test_a_line_of_the_log_hides_the_credentials_in_it(secret: str) -> None:
    line = f'HTTP Request: GET http://me:{secret}@h/schemas "200 OK"'
    assert without_credentials(line) == 'HTTP Request: GET http://***@h/schemas "200 OK"'
