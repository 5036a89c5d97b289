"""Settings: sources, limits, what is said about a wrong one, and what must never be said."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stream_scorer.core.propensities import PublishPolicy
from stream_scorer.errors import ConfigError
from stream_scorer.settings.tree import Settings

EXAMPLE = Path(__file__).parents[2] / "deploy" / "stream_scorer.toml"
SECRET = "hunter2-very-secret"
FEATURE = '[vocabularies]\ncategory_id = ["tea"]\n[[features]]\nname = "x"\non = ["view"]\n'


def load(tmp_path: Path, text: str = "", **environment: str) -> Settings:
    path = tmp_path / "scorer.toml"
    path.write_text(text)
    variables = {f"STREAM_SCORER__{name}": value for name, value in environment.items()}
    return Settings.load(path, environment=variables)


def complaint(tmp_path: Path, text: str = "", **environment: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text, **environment)
    return str(caught.value).splitlines()


def test_defaults_work_locally() -> None:
    settings = Settings.load(None, environment={})
    assert settings.kafka.client_properties()["bootstrap.servers"] == "127.0.0.1:9092"
    assert settings.redis.url == "redis://127.0.0.1:6379/0"


def test_environment_wins_over_file_and_overrides_over_both(tmp_path: Path) -> None:
    text = "[batch]\nmax_events = 10\nmax_age_ms = 20\n"
    assert load(tmp_path, text, BATCH__MAX_EVENTS="11").batch.max_events == 11
    assert load(tmp_path, text, batch__max_events="11").batch.max_age_ms == 20
    path = tmp_path / "scorer.toml"
    environment = {"STREAM_SCORER__BATCH__MAX_EVENTS": "11"}
    over = {"batch": {"max_events": 12}}
    settings = Settings.load(path, overrides=over, environment=environment)
    assert (settings.batch.max_events, settings.batch.max_age_ms) == (12, 20)


def test_environment_takes_lists_and_tables_as_json(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        EVENTS__EVENT_TYPES='["purchase", "refund"]',
        KAFKA__PROPERTIES='{"client.rack": "a", "log.connection.close": false}',
    )
    assert settings.events.event_types == ("purchase", "refund")
    properties = settings.kafka.client_properties()
    assert (properties["client.rack"], properties["log.connection.close"]) == ("a", "false")


@pytest.mark.parametrize(
    ("text", "environment", "expected"),
    [
        ("[batch]\nmax_events = 0", {}, r"batch.max_events: '0': must be greater than 0"),
        ("[batch]\nmax_event = 1", {}, r"batch.max_event: .*: .*did you mean max_events\?"),
        ("[bach]\nmax_events = 1", {}, r"bach: \(a table\): .*did you mean batch\?"),
        ("batch = 3", {}, r"batch: \(a number\): write a section"),
        ("[batch]\nmax_events = 'x'", {}, r"batch.max_events: 'x': write a whole number"),
        ("[kafka]\ninput_topic = 'a b'", {}, r"kafka.input_topic: 'a b': use letters"),
        ("[store]\nnamespace = 'a b'", {}, r"store.namespace: 'a b': use letters"),
        ("[publish]\ntop_k = 0", {}, r"publish.top_k: '0': must be 1 or more"),
        ("[publish]\nthreshold = 1.5", {}, r"publish.threshold: '1.5': must be less"),
        ("[publish]\nmode = 'best'", {}, r"publish.mode: 'best': use 'top_k', 'threshold' or"),
        ("[labels]\nhorizon = '14'", {}, r"labels.horizon: '14': write a number above"),
        ("[labels]\nactions = [['buy']]", {}, r"labels.actions: 'buy': .*add it to events"),
        ("[redis]\nurl = 'http://x'", {}, r"redis.url: 'http://x': must begin with redis://"),
        (
            "[redis]\nssl_ca_file = 'no.pem'",
            {},
            r"redis.ssl_ca_file: '.*no.pem': there is no such file",
        ),
        ("[vocabularies]\ncategory_id = 'no.txt'", {}, r"vocabularies.category_id: .*no such file"),
        (FEATURE + "kindd = 'x'", {}, r"features\[0\].kindd: .*: .*did you mean kind\?"),
        (FEATURE + "kind = 'x'", {}, r"features\[0\].kind: 'x': use 'decayed'"),
        ("[kafka]\nusername = 'u'", {}, r"kafka.username: 'u': set kafka.security_protocol"),
        ("[kafka]\noutput_topic = 'customer-events'", {}, r"kafka.output_topic: .* this name, too"),
        (
            "[kafka.properties]\n'enable.auto.commit' = true",
            {},
            r"kafka.properties\['enable.auto.commit'\]: .*: offsets are committed after delivery",
        ),
        (
            "[kafka.properties]\n'isolation.level' = 'read_uncommitted'",
            {},
            r"kafka.properties\['isolation.level'\]: .*: it is always read_committed",
        ),
        (
            "[kafka]\ndelivery = 'exactly_once'\n[kafka.properties]\nlog_level = 5",
            {},
            r"kafka.properties\['log_level'\]: '5': with it the client does not log every request",
        ),
        (
            "[kafka]\ndelivery = 'exactly_once'\n"
            "[kafka.properties]\n'log.connection.close' = false",
            {},
            r"kafka.properties\['log.connection.close'\]: 'false': with it the client does not log",
        ),
        (
            "[events]\nrefuse_unknown_category = true",
            {},
            r"events.refuse_unknown_category: 'true': list the categories",
        ),
        ("", {"BATCH__MAX_EVENTS": "x"}, r"batch.max_events \(from STREAM_SCORER__BATCH__MAX_EVE"),
        ("", {"BATCHES__MAX_EVENTS": "1"}, r"batches: .*did you mean batch\?"),
        ("", {"EVENTS__EVENT_TYPES": "view"}, r"events.event_types .*'view': write a list, such"),
        ("", {"KAFKA__PROPERTIES": '{"a"'}, r"kafka.properties .*: write a table"),
    ],
)
def test_wrong_setting_is_one_line_with_field_value_and_remedy(
    tmp_path: Path, text: str, environment: dict[str, str], expected: str
) -> None:
    lines = complaint(tmp_path, text, **environment)
    assert len(lines) == 1
    assert re.match(expected, lines[0]), lines[0]


def test_every_wrong_setting_is_named_at_once(tmp_path: Path) -> None:
    lines = complaint(tmp_path, "[batch]\nmax_events = 0\n[publish]\ntop_k = -1")
    assert [line.split(":")[0] for line in lines] == ["batch.max_events", "publish.top_k"]
    lines = complaint(tmp_path, FEATURE[FEATURE.index("[[") :] + "[labels]\nactions = [['buy']]")
    assert [line.split(":")[0] for line in lines] == ["labels.actions", "labels.by"]


def test_wrong_toml_names_file_and_line(tmp_path: Path) -> None:
    (line,) = complaint(tmp_path, "[batch]\nmax_events = = 1")
    assert "scorer.toml" in line
    assert "line 2" in line


def test_missing_file_is_one_line() -> None:
    with pytest.raises(ConfigError, match=r"no/such\.toml.*no such file"):
        Settings.load(Path("no/such.toml"))


def test_secrets_are_never_shown(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        f"[redis]\nurl = 'redis://u:{SECRET}@h/0'\n"
        f"[kafka.properties]\n'sasl.oauthbearer.client.secret' = '{SECRET}'",
        KAFKA__PASSWORD=SECRET,
    )
    assert SECRET not in repr(settings) + str(settings)
    assert settings.redis.shown_url == "redis://h/0"
    assert settings.kafka.client_properties()["sasl.password"] == SECRET


@pytest.mark.parametrize(
    ("text", "environment"),
    [
        (f"[kafka]\npassword = ['{SECRET}']", {}),
        (f"[kafka]\npasword = '{SECRET}'\npassword = 3", {}),
        (f"[kafka.properties]\n'sasl.password' = '{SECRET}'", {}),
        (f"[kafka.properties]\n'ssl.key.pem' = ['{SECRET}']", {}),
        (f"[redis]\nurl = 'http://u:{SECRET}@h'", {}),
        (f"[redis]\npassword = '{SECRET}'\npassword_file = 'secret.txt'", {}),
        ("", {"KAFKA": SECRET}),
        ("", {"KAFKA": f'{{"password": "{SECRET}", "x": 1}}'}),
        ("", {"REDIS__PASSWORD": SECRET, "REDIS__TIMEOUT_SECONDS": "x"}),
    ],
)
def test_error_messages_hold_no_secret(
    tmp_path: Path, text: str, environment: dict[str, str]
) -> None:
    (tmp_path / "secret.txt").write_text(SECRET)
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text.replace("pasword = ", "# "), **environment)
    assert SECRET not in str(caught.value) + repr(caught.value)
    assert caught.value.__suppress_context__


def test_secret_comes_from_a_file_beside_the_config(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text(SECRET + "\n")
    settings = load(tmp_path, "[redis]\npassword_file = 'secret.txt'")
    assert settings.redis.client_options()["password"] == SECRET


def test_tls_and_users_reach_the_clients(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("")
    settings = load(
        tmp_path,
        "[kafka]\nsecurity_protocol = 'sasl_ssl'\nsasl_mechanism = 'PLAIN'\nusername = 'u'\n"
        "password = 'p'\nssl_ca_file = 'ca.pem'\n"
        "[redis]\nurl = 'rediss://h/0'\nusername = 'v'\npassword = 'q'\nssl_ca_file = 'ca.pem'",
    )
    kafka, redis = settings.kafka.consumer_properties(), settings.redis.client_options()
    assert kafka["sasl.username"] == "u"
    assert kafka["sasl.password"] == "p"
    assert kafka["ssl.ca.location"] == redis["ssl_ca_certs"] == str(tmp_path / "ca.pem")
    assert (redis["username"], redis["password"]) == ("v", "q")


def test_exactly_once_makes_the_producer_transactional(tmp_path: Path) -> None:
    text = "[kafka]\ndelivery = 'exactly_once'\nclient_id = 'pod-3'"
    properties = load(tmp_path, text).kafka.producer_properties()
    assert properties["transactional.id"] == "stream-scorer-pod-3"
    assert "transactional.id" not in load(tmp_path).kafka.producer_properties()


def test_vocabulary_comes_from_a_file_beside_the_config(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("bread\n\nfine wine\n")
    settings = load(tmp_path, "[vocabularies]\ncategory_id = 'words.txt'")
    assert settings.vocabularies["category_id"] == ("bread", "fine wine")
    assert settings.event_rules().categories == {"bread", "fine wine"}  # type: ignore[comparison-overlap]


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbfbread\nfine wine\n",
        # As `cat` of two files with marks has it, and blanks that are not to be seen.
        "\ufeffbread\n\ufefffine wine\u200b\n\u2060\ufeff\n".encode(),
        "\u00a0bread\u00a0\n\u3000fine wine\0\0".encode(),
        b"bread\r\nfine wine\r\n",
        b"\xef\xbb\xbfbread\r\nfine wine",
        b"bread\rfine wine\r",
        b"  bread \t\n\xc2\xa0fine wine \n \n",
    ],
)
def test_marks_line_ends_and_blanks_of_a_vocabulary_are_not_part_of_its_words(
    tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "words.txt").write_bytes(content)
    settings = load(tmp_path, "[vocabularies]\ncategory_id = 'words.txt'")
    assert settings.vocabularies["category_id"] == ("bread", "fine wine")


def test_a_line_separator_within_a_word_is_a_part_of_it(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("a\u2028b\x85c\n", encoding="utf-8")
    settings = load(tmp_path, "[vocabularies]\ncategory_id = 'words.txt'")
    assert settings.vocabularies["category_id"] == ("a\u2028b\x85c",)


def test_a_vocabulary_that_is_not_utf8_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_bytes("bread\n".encode("utf-16"))
    (line,) = complaint(tmp_path, "[vocabularies]\ncategory_id = 'words.txt'")
    assert "vocabularies.category_id" in line
    assert "save it as UTF-8" in line


def test_a_config_may_begin_with_a_mark_and_have_windows_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "scorer.toml"
    path.write_bytes(b"\xef\xbb\xbf[kafka]\r\ngroup_id = 'shop'\r\n")
    assert Settings.load(path, environment={}).kafka.group_id == "shop"
    path.write_bytes("[kafka]\n".encode("utf-16"))
    with pytest.raises(ConfigError, match="is not UTF-8 text; save it as UTF-8"):
        Settings.load(path, environment={})


def test_a_secret_in_a_file_may_begin_with_a_mark(tmp_path: Path) -> None:
    (tmp_path / "password").write_bytes(b"\xef\xbb\xbfhunter2\r\n")
    settings = load(tmp_path, "[redis]\npassword_file = 'password'")
    assert settings.redis.secret("redis", "password") == "hunter2"


@pytest.mark.parametrize("section", ["kafka", "redis", "schema_registry"])
def test_a_secret_whose_file_can_not_be_read_is_one_line(tmp_path: Path, section: str) -> None:
    """Also where that is seen only when a client is built: the file may be replaced meanwhile."""
    file = tmp_path / "password"
    file.write_bytes("g\xe4nse".encode("latin-1"))
    text = f"[{section}]\npassword_file = 'password'\n"
    if section == "schema_registry":
        text += "url = 'http://user@registry'\n"
    settings = load(tmp_path, text)
    build = {
        "kafka": settings.kafka.client_properties, "redis": settings.redis.client_options,
        "schema_registry": settings.schema_registry.client_properties,
    }[section]  # fmt: skip
    with pytest.raises(ConfigError, match=rf"{section}\.password_file: \(secret\): is not UTF-8"):
        build()
    file.unlink()
    with pytest.raises(ConfigError, match=r"can't be read: No such file or directory; check path"):
        build()


CALENDAR = '[[features]]\nname = "day"\nkind = "calendar"\nby = ["day_of_week"]\ntime_zone = "{}"\n'


@pytest.mark.parametrize(
    ("zone", "remedy"),
    [
        ("Europa/Berlin", "did you mean 'Europe/Berlin'?"),
        ("Europe", "is no time zone"),
        ("", "is no time zone"),
        ("../UTC", "is no time zone"),
        ("+02:00", "is no time zone"),
        ("localtime", "differs from machine to machine"),
    ],
)
def test_a_time_zone_that_does_not_exist_is_refused_at_load(
    tmp_path: Path, zone: str, remedy: str
) -> None:
    labels = "[vocabularies]\ncategory_id = ['bread']\n"
    (line,) = complaint(tmp_path, labels + CALENDAR.format(zone))
    assert line.startswith(f"features.day.time_zone: {zone!r}: ")
    assert remedy in line
    load(tmp_path, labels + CALENDAR.format("Europe/Berlin"))


def test_what_is_published_without_settings_is_the_policy_s_default() -> None:
    policy = Settings.load(None, environment={}).publish_policy()
    assert policy == PublishPolicy() == PublishPolicy("top_k", 10, 0.1)


def test_settings_without_features_have_no_feature_space() -> None:
    with pytest.raises(ConfigError, match="none is declared"):
        Settings.load(None, environment={}).feature_space()


def test_example_config_is_valid_and_shows_every_setting_with_its_default() -> None:
    settings = Settings.load(EXAMPLE, environment={})
    assert settings.feature_space().width > 1
    sections = _sections(EXAMPLE.read_text())
    for name, field in Settings.model_fields.items():
        assert name in sections, f"deploy/stream_scorer.toml lacks [{name}]"
        default = field.get_default(call_default_factory=True)
        for inner in _fields(default):
            assert re.search(rf"^(# )?{inner} = ", sections[name], re.M), f"{name}.{inner}"
        if name not in ("vocabularies", "features"):
            assert getattr(settings, name) == _as_in_example(name, default)


def _fields(default: Any) -> Iterator[str]:
    """Names of all settings in a section, nested ones too."""
    kind = type(default)
    names = getattr(kind, "model_fields", None) or getattr(kind, "__dataclass_fields__", {})
    for name in names:
        if isinstance(getattr(default, name), dict):  # free names, such as librdkafka's
            continue
        inner = list(_fields(getattr(default, name)))
        yield from inner or [name]


def _as_in_example(name: str, default: Any) -> Any:
    # The only default that depends on where the file lies.
    if name == "model":
        return default.model_copy(update={"path": EXAMPLE.parent / "model"})
    return default


def _sections(text: str) -> dict[str, str]:
    parts = re.split(r"^\[+([a-z_.]+)\]+", text, flags=re.M)
    found: dict[str, str] = {}
    for name, body in zip(parts[1::2], parts[2::2], strict=True):
        found[name.split(".")[0]] = found.get(name.split(".")[0], "") + body
    return found


@pytest.mark.parametrize(
    "written", ["1995-06-01T00:00:00Z", '"1995-06-01T02:00:00+02:00"', '"1995-06-01T00:00Z"']
)
def test_the_earliest_time_is_a_moment_of_toml_or_text(tmp_path: Path, written: str) -> None:
    settings = load(tmp_path, f"[events]\nearliest_occurred_at = {written}\n")
    assert settings.event_rules().earliest_ms == 801_964_800_000


@pytest.mark.parametrize("written", ['"1995-06-01"', "1995-06-01", '"soon"', '"1969-01-01T00:00Z"'])
def test_a_moment_without_a_zone_or_before_1970_is_refused(tmp_path: Path, written: str) -> None:
    (line,) = complaint(tmp_path, f"[events]\nearliest_occurred_at = {written}\n")
    assert "events.earliest_occurred_at" in line
    assert "zone" in line or "1970" in line


def test_every_producer_of_ours_uses_the_partitioner_of_the_settings(tmp_path: Path) -> None:
    text = '[kafka]\npartitioner = "consistent_random"\ndelivery = "exactly_once"\n'
    kafka = load(tmp_path, text).kafka
    assert kafka.sender_properties()["partitioner"] == "consistent_random"
    assert kafka.producer_properties()["partitioner"] == "consistent_random"
    assert "transactional.id" not in kafka.sender_properties()
    assert load(tmp_path).kafka.sender_properties()["partitioner"] == "murmur2_random"
    with pytest.raises(ConfigError, match=r"set kafka.partitioner"):
        load(tmp_path, '[kafka.properties]\npartitioner = "random"\n')


SHOP = """
[events]
event_types = ["look", "order"]
[vocabularies]
category_id = ["soup", "tea"]
[labels]
actions = [["order"]]
[[features]]
name = "acts"
by = ["event_type"]
half_lives = ["14d"]
"""


def test_wrong_values_and_contradictions_are_named_at_once(tmp_path: Path) -> None:
    text = SHOP.replace('[["order"]]', '[["ordr"]]').replace('"soup", "tea"', '"soup", "soup"')
    text += '[[features]]\nname = "x"\non = ["buy"]\nhalf_lives = ["1d"]\n'
    text += '[[features]]\nname = "y"\nby = ["colour"]\nhalf_lives = ["1d"]\n'
    text += "[publish]\ntop_k = 0\n"
    found = complaint(tmp_path, text)
    assert [line.split(":")[0] for line in found] == [
        "labels.actions", "publish.top_k", "vocabularies.category_id", "features.x.on",
        "features.y.by",
    ]  # fmt: skip
    assert "is 'order' meant?" in found[0]
    with_wrong_value = complaint(tmp_path, text + '[batch]\nmax_events = "many"\n')
    assert with_wrong_value == ["batch.max_events: 'many': write a whole number", *found]


def test_all_that_is_wrong_with_the_features_is_named_at_once(tmp_path: Path) -> None:
    text = SHOP + (
        '[[features]]\nname = "bought"\non = ["buy"]\nby = ["category"]\n'
        'half_lives = ["2 days", "x"]\ntransform = "log"\n'
        '[[features]]\nname = "seen"\non = ["loko"]\nhalf_lives = "2d"\nbukets = 3\n'
        '[fields.category_id]\nvocabulary = "x.txt"\n'
    )
    assert [line.split(": ")[:2] for line in complaint(tmp_path, text)] == [
        ["features[1].transform", "'log'"],
        ["features[2].half_lives", "'2d'"],
        ["features[2].bukets", "(not shown)"],
        ["fields", "(a table)"],
        ["features.bought.on", "'buy'"],
        ["features.bought.half_lives", "'2 days'"],
        ["features.bought.half_lives", "'x'"],
        ["features.bought.by", "'category'"],
        ["features.seen.on", "'loko'"],
    ]


def test_a_variable_with_too_few_underscores_is_named() -> None:
    environment = {
        "STREAM_SCORER_KAFKA_BOOTSTRAP_SERVERS": "kafka:9092", "STREAM_SCORER_CONFIG": "a.toml",
        "STREAM_SCORER_WEB_PORT": "tcp://10.0.0.1:80", "STREAM_SCORER_STORE__NAMESPACE": "shop",
    }  # fmt: skip
    with pytest.raises(ConfigError) as caught:
        Settings.load(None, environment=environment)
    assert [line.split(": ")[0] for line in str(caught.value).splitlines()] == [
        "STREAM_SCORER_KAFKA_BOOTSTRAP_SERVERS", "STREAM_SCORER_STORE__NAMESPACE",
    ]  # fmt: skip
    assert "STREAM_SCORER__KAFKA__BOOTSTRAP_SERVERS" in str(caught.value)


def test_what_rests_on_a_wrong_setting_is_not_named_beside_it(tmp_path: Path) -> None:
    wrong_types = SHOP.replace('["look", "order"]', "7")
    assert [line.split(":")[0] for line in complaint(tmp_path, wrong_types)] == [
        "events.event_types"
    ]
    # What it was meant to be is not known.
    misspelt = SHOP.replace("event_types =", "event_typs =")
    assert [line.split(":")[0] for line in complaint(tmp_path, misspelt)] == ["events.event_typs"]
    wrong_feature = SHOP.replace('["14d"]', "14") + "[publish]\ntop_k = 0\n"
    assert [line.split(":")[0] for line in complaint(tmp_path, wrong_feature)] == [
        "features[0].half_lives", "publish.top_k",
    ]  # fmt: skip
    server = '[kafka]\nsecurity_protocol = "tls"\nusername = "me"\n[publish]\ntop_k = 0\n'
    assert [line.split(":")[0] for line in complaint(tmp_path, server)] == [
        "kafka.security_protocol", "publish.top_k",
    ]  # fmt: skip


def test_the_accepted_event_types_are_the_vocabulary_of_event_type(tmp_path: Path) -> None:
    space = load(tmp_path, SHOP).feature_space()
    assert space.vocabularies["event_type"] == ("look", "order")
    assert space.width == 2
    listed = SHOP.replace("[vocabularies]", '[vocabularies]\nevent_type = ["order", "look"]')
    listed_space = load(tmp_path, listed).feature_space()
    assert listed_space.vocabularies["event_type"] == ("order", "look")
    assert listed_space.fingerprint != space.fingerprint
    labels = SHOP.replace("[labels]", '[labels]\nby = "event_type"')
    assert load(tmp_path, labels).feature_space().vocabularies["event_type"] == ("look", "order")


def test_a_declaration_that_needs_no_vocabulary_of_event_types_keeps_its_fingerprint(
    tmp_path: Path,
) -> None:
    hashed = SHOP.replace('half_lives = ["14d"]', 'half_lives = ["14d"]\nbuckets = 64')
    assert "event_type" not in load(tmp_path, hashed).feature_space().vocabularies
    # As it was computed before event types could serve as a vocabulary.
    assert load(tmp_path, hashed).feature_space().fingerprint_hex == "4f034cb8964d5878"


def test_what_stands_in_place_of_a_value_is_not_quoted(tmp_path: Path) -> None:
    found = complaint(tmp_path, "[batch]\nmax_event = 3\n")
    assert found == ["batch.max_event: (not shown): unknown setting; did you mean max_events?"]
