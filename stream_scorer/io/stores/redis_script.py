"""Lua scripts of this package, run in Redis: what must not be divided runs there as one step."""

from __future__ import annotations

import re
from importlib.resources import files
from typing import Any

import redis

from stream_scorer.errors import StoreUnavailable

Call = tuple[list[Any], list[Any]]  # keys and arguments


class Script:
    """A Lua script of this package, which the server keeps until it restarts."""

    def __init__(self, client: Any, file_name: str) -> None:
        self._client = client
        self.text = files("stream_scorer.io.stores.scripts").joinpath(file_name).read_text()
        self._sha: str | None = None

    def run(self, calls: list[Call]) -> list[Any]:
        """One answer for each call, in one round trip."""
        for _ in range(2):  # again where the server has restarted and forgotten the script
            self._sha = self._sha or self._client.script_load(self.text)
            pipe = self._client.pipeline(transaction=False)
            for keys, arguments in calls:
                pipe.evalsha(self._sha, len(keys), *keys, *arguments)
            # Errors as values: raised, they would have the arguments in their text.
            answers = list(pipe.execute(raise_on_error=False))
            errors = [a for a in answers if isinstance(a, redis.exceptions.RedisError)]
            if not errors:
                return answers
            if not any(isinstance(e, redis.exceptions.NoScriptError) for e in errors):
                raise self._with_command(errors[0])
            self._sha = None
        raise StoreUnavailable("Redis forgets its scripts as soon as they are loaded")

    def _with_command(self, error: redis.exceptions.RedisError) -> redis.exceptions.RedisError:
        """Redis 6 and 7.0 do not say which command the user may not run: the line does."""
        at = re.search(r"can't run this command.*", f"{error}") and re.search(
            r"@user_script:\s*(\d+)", f"{error}"
        )
        if not at:
            return error
        command = re.search(r"redis\.call\('(\w+)'", self.text.splitlines()[int(at.group(1)) - 1])
        if not command:
            return error
        return redis.exceptions.NoPermissionError(
            f"this user has no permissions to run the '{command.group(1).lower()}' command in a "
            "script"
        )
