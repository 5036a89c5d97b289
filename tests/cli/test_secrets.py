"""No verb shows a secret: not in an error, a log line at any level, or a traceback."""

from __future__ import annotations

import logging
import threading
import traceback
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from stream_scorer import cli
from stream_scorer.errors import ConfigError, StreamScorerError
from stream_scorer.io.kafka.schema_registry import SchemaLookup
from stream_scorer.io.telemetry.log_lines import log_to_stderr
from stream_scorer.settings.tree import Settings

SECRET = "hunter2"
URLS = [
        "http://u:{}@h", "redis:/u:{}@h", "u:{}@h", "redis://u:{}/x@h", "redis://u:{}#x@h/0",
        "redis://u:{}?x@h", "redis://u:{}@h:port/0", "redis://:12/{}@h", "redis://h:x?password={}",
        "{}", "{}/x", "redis://h/{} x",
]  # fmt: skip
REGISTRIES = ["ftp://u:{}@h", "u:{}@h", "http://u:{}/x@h", "http://u:{}#@h", "http://u:{}@h:port",
              "https://a,http://u:{}?@h", "http://u:{}@"]  # fmt: skip
SPOILT = [
    *(f"[redis]\nurl = '{url.format(SECRET)}'" for url in URLS),
    *(f"[schema_registry]\nurl = '{url.format(SECRET)}'" for url in REGISTRIES),
    *(
        f"[{section}]\n{name} = '{SECRET}'"
        for section in ("kafka", "redis", "schema_registry", "store", "nowhere", "kafka.more")
        for name in ("pasword", "passwort", "pw", "pasword_file", "api_ky", "ssl_key_pasword",
                     "urll", "login")
    ),
    f"pasword = '{SECRET}'",
    f"redis = 'redis://u:{SECRET}@h'",
    f"[kafka]\npassword = ['{SECRET}']",
    f"[kafka]\npassword = {{ value = '{SECRET}' }}",
    f"[kafka]\npassword_file = '{SECRET}'",
    f"[kafka]\nssl_key_password_file = '{SECRET}'",
    f"[kafka]\nusername = 'u'\npassword = '{SECRET}'\nbatch = 1",
    f"[redis]\npassword = '{SECRET}'\ntimeout_seconds = 'x'",
    f"[schema_registry]\nurl = 'http://u:{SECRET}@h'\nusername = 'u'",
    *(
        f"[kafka.properties]\n'{name}' = ['{SECRET}']"
        for name in ("sasl.password", "sasl.pasword", "ssl.key.pem", "ssl.keystore.password",
                     "sasl.oauthbearer.client.secret", "sasl.jaas.config", "ssl.certificate.pem")
    ),
    f"[kafka.properties]\n'sasl.password' = '{SECRET}'",
]  # fmt: skip
ENVIRONMENTS = [
    {"KAFKA__PASWORD": SECRET}, {"REDIS__URL": f"http://u:{SECRET}@h"},
    {"REDIS__URL": f"redis://u:{SECRET}/@h"}, {"KAFKA": SECRET},
    {"KAFKA": f'{{"pasword": "{SECRET}"}}'}, {"SCHEMA_REGISTRY__URL": f"u:{SECRET}@h"},
    {"KAFKA__PROPERTIES": f'{{"sasl.password": ["{SECRET}"]}}'},
]  # fmt: skip
# What each verb needs beside its config, so that it gets as far as reading that.
ARGUMENTS = {
    "replay": ["events", "--out", "out"], "publish": ["events"], "export": ["--out", "out"],
    "backtest": ["events", "--model", "m", "--from", "2026-01-01T00:00Z", "--to",
                 "2026-02-01T00:00Z", "--report", "r"],
    "dead-letters replay": ["--all"], "train": ["snapshot", "--out", "m"],
}  # fmt: skip


def verbs(group: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every verb that reads a config."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from verbs(command, (*words, name))
        elif any(p.name == "config" for p in command.params):
            yield (*words, name)


VERBS = sorted(verbs(typer.main.get_command(cli.app)))


@pytest.mark.parametrize("words", VERBS, ids=" ".join)
def test_a_spoilt_config_shows_no_secret_in_any_verb(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    config, arguments = tmp_path / "scorer.toml", ARGUMENTS.get(" ".join(words), [])
    runner = CliRunner()
    command = typer.main.get_command(cli.app)
    required = [
        p for p in _command(command, words).params if p.required and p.param_type_name == "argument"
    ]
    arguments = arguments or ["x"] * len(required)
    for text in SPOILT[len(" ".join(words)) % 12 :: 12]:  # all of them without a verb, below
        config.write_text(text)
        ran = runner.invoke(cli.app, [*words, *arguments, "-c", str(config)])
        assert ran.exit_code == 2, (text, ran.output)
        assert ran.stderr.startswith("stream-scorer: "), (text, ran.stderr)
        assert SECRET not in ran.output, (text, ran.output)


def _command(group: Any, words: tuple[str, ...]) -> Any:
    for word in words:
        group = group.commands[word]
    return group


@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=str)
def test_a_spoilt_variable_shows_no_secret(environment: dict[str, str]) -> None:
    variables = {f"STREAM_SCORER__{name}": value for name, value in environment.items()}
    with pytest.raises(ConfigError) as caught:
        Settings.load(None, environment=variables)
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    assert SECRET not in repr(caught.value)


@pytest.mark.parametrize("text", SPOILT)
def test_a_traceback_of_a_spoilt_config_shows_no_secret(text: str, tmp_path: Path) -> None:
    config = tmp_path / "scorer.toml"
    config.write_text(text)
    with pytest.raises(ConfigError) as caught:
        Settings.load(config, environment={})
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_settings_that_are_right_show_no_secret(tmp_path: Path) -> None:
    (tmp_path / "password").write_text(SECRET)
    config = tmp_path / "scorer.toml"
    config.write_text(
        f"[kafka]\nsecurity_protocol = 'sasl_ssl'\nusername = 'u'\npassword = '{SECRET}'\n"
        f"ssl_key_password = '{SECRET}'\n[kafka.properties]\n'ssl.key.pem' = '{SECRET}'\n"
        f"[redis]\nurl = 'redis://u:{SECRET}@h/0'\n"
        f"[schema_registry]\nurl = 'http://u:{SECRET}@h'\n"
    )
    settings = Settings.load(config, environment={})
    for part in (settings, settings.kafka, settings.redis, settings.schema_registry):
        assert SECRET not in repr(part) + str(part)
    assert settings.redis.shown_url == "redis://h/0"
    assert settings.schema_registry.client_properties() == {
        "url": "http://h", "basic.auth.user.info": f"u:{SECRET}",
    }  # fmt: skip


class _Registry(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(500)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def registry() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Registry)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers = handlers
    root.setLevel(level)
    for name in ("librdkafka", "httpx", "httpx2", "httpcore", "httpcore2"):
        logging.getLogger(name).setLevel(logging.NOTSET)


@pytest.mark.usefixtures("_logging_as_before")
@pytest.mark.parametrize("log_format", ["text", "json"])
@pytest.mark.parametrize("level", ["info", "debug"])
def test_the_log_shows_no_password_of_the_registry(
    registry: str, capsys: pytest.CaptureFixture[str], level: str, log_format: str
) -> None:
    log_to_stderr(level, log_format)
    url = f"http://u:{SECRET}@{registry}"
    settings = Settings.load(None, overrides={"schema_registry": {"url": url}}, environment={})
    # The settings' own properties, and a url with its password, as another caller may give it.
    for properties in (settings.schema_registry.client_properties(), {"url": url}):
        lookup = SchemaLookup(registry={**properties, "max.retries": 0})
        with pytest.raises(StreamScorerError) as caught:
            lookup(b"\0" + (7).to_bytes(4, "big"))
        logging.getLogger("stream_scorer").error("failed", exc_info=caught.value)
        logging.getLogger("httpx2").log(logging.WARNING, "HTTP Request: GET %s", url)
        lookup.close()
    shown = capsys.readouterr().err
    assert "schema registry" in shown
    assert SECRET not in shown
