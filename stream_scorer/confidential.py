"""What messages may show: secrets by their names, and addresses without user and password.

A "/", "?" or "#" ends the part of an address that names user and host (RFC 3986, section 3.2). In a
password it has to be written %2F, %3F or %23: as itself it would make host and port out of parts of
the password, which clients then show in their errors.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import SplitResult, unquote, urlsplit

HIDDEN = "***"
_SECRET = re.compile(
    r"passw|pwd|secret|credential|token|jaas|basic[._]auth|sasl[._](?!mechanism)|\.pem"
    r"|(^|[._-])key($|[._-])|userinfo|user\.info",
    re.IGNORECASE,
)
# Greedy: a password may hold an @ itself.
_USER_INFO = re.compile(r"(\w[\w+.-]*://)\S*@")


@dataclass(frozen=True, slots=True)
class Address:
    """One address. url: without user and password, which are None where it has none."""

    url: str
    username: str | None
    password: str | None

    def __repr__(self) -> str:  # the one of a dataclass would show the password
        return f"Address({shown_address(self.url)!r})"


def is_secret(name: str) -> bool:
    """Whether the value of a setting or librdkafka property of this name must not be shown."""
    # Those who write the password itself into password_file must not read it in an error either.
    names_a_file = name.endswith(("_file", ".location")) and "passw" not in name
    return bool(_SECRET.search(name)) and not names_a_file


def read_address(text: str, schemes: tuple[str, ...]) -> Address:
    """The address, its user and password decoded. Raises ValueError, whose text shows neither."""
    try:
        parts = urlsplit(text)
    except ValueError:
        raise ValueError("is no address: check the brackets of its host") from None
    if parts.scheme not in schemes or "://" not in text:
        raise ValueError(f"must begin with {' or '.join(f'{scheme}://' for scheme in schemes)}")
    if _cut_within_user_info(parts):
        raise ValueError(
            'has an "@" behind its host: in a password write / as %2F, ? as %3F, # as %23 and '
            "@ as %40, or set username and password on their own"
        )
    try:
        _ = parts.port
    except ValueError:
        raise ValueError("has a port that is no number from 0 to 65535") from None
    if re.search(r"\s", text):
        raise ValueError("holds a blank; remove it, or write it as %20")
    if not parts.hostname and parts.scheme != "unix":
        raise ValueError("names no host")
    return Address(
        f"{parts.scheme}://{text.partition('://')[2].removeprefix(_user_info(parts))}",
        None if parts.username is None else unquote(parts.username),
        None if parts.password is None else unquote(parts.password),
    )


def shown_address(text: str) -> str:
    """An address as messages may show it, right or wrong: scheme, host, port and path.

    What can't be told from a part of a password is left out.
    """
    scheme, found, _ = text.partition("://")
    if not found or not re.fullmatch(r"\w[\w+.-]*", scheme):
        # Such as localhost:6379, which lacks its scheme. Without a port it may be a password in the
        # place of an address.
        return text if re.fullmatch(r"[A-Za-z0-9.-]+:\d{1,5}(/\d*)?", text) else HIDDEN
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        return f"{scheme}://{HIDDEN}"
    if _cut_within_user_info(parts):
        return f"{scheme}://{HIDDEN}"
    path = parts.path
    if scheme in ("redis", "rediss") and not re.fullmatch(r"/?\d*", path):
        path = f"/{HIDDEN}"  # a database is a number, so this is something else
    return f"{scheme}://{parts.netloc.rpartition('@')[2]}{path}"


def without_credentials(line: str) -> str:
    """Free text, such as a line of the log, with users and passwords of addresses in it hidden."""
    return _USER_INFO.sub(rf"\1{HIDDEN}@", line)


def _user_info(parts: SplitResult) -> str:
    user_info, at, _ = parts.netloc.rpartition("@")
    return user_info + at


def _cut_within_user_info(parts: SplitResult) -> bool:
    """Whether an @ stands where only path, query and fragment should."""
    if parts.scheme == "unix" and not parts.netloc:
        return False  # a path may hold any character
    return any("@" in part for part in (parts.path, parts.query, parts.fragment))
