"""All settings in one typed tree, read from a TOML file and the environment, checked as a whole.

`Settings.load` merges the sources, where the environment wins over the file, checks every field and
then what must fit together across sections, and raises one ConfigError with a line for each wrong
field, so that nobody has to correct a file error by error. The tree is frozen. What every setting
means is explained in deploy/stream_scorer.toml, which `stream-scorer init` copies.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PrivateAttr, ValidationError

from stream_scorer.core.customer_sample import EVERYBODY, CustomerSample
from stream_scorer.core.events.customer_rates import CustomerRates
from stream_scorer.core.events.dead_letter_window import DeadLetterWindow
from stream_scorer.core.events.moments import nearest_ms, parse_iso_8601
from stream_scorer.core.events.similar_words import undeclared
from stream_scorer.core.events.validation import EventRules
from stream_scorer.core.features.declaration_problems import declaration_problems
from stream_scorer.core.features.fold_plan import Memory
from stream_scorer.core.features.space import (
    Feature,
    FeatureSpace,
    as_key,
    parse_duration_ms,
)
from stream_scorer.core.labels.labels import LabelRule
from stream_scorer.core.propensities import PublishPolicy
from stream_scorer.errors import ConfigError
from stream_scorer.model.spec import TrainingOptions
from stream_scorer.settings import sources as config_sources
from stream_scorer.settings.connections import (
    Count,
    CountOrNone,
    Duration,
    KafkaSettings,
    Name,
    SchemaRegistrySettings,
    Section,
    http_address_or_none,
)
from stream_scorer.settings.drift import DriftSettings
from stream_scorer.settings.redis import RedisSettings
from stream_scorer.settings.regions import REGION_VARIABLE, settings_of_region
from stream_scorer.settings.values import (
    ExistingDirectory,
    ModelPlace,
    ModelPlaceOrNone,
    Moment,
    Period,
    Words,
)
from stream_scorer.settings.web import WebSettings


class StoreSettings(Section):
    """How records are kept in Redis."""

    namespace: Name = "stream-scorer"
    # A thousand years at most: its milliseconds must fit beside times since 1970.
    time_to_live_seconds: Annotated[int, Field(ge=0, le=31_557_600_000)] = 34_560_000
    hot_bytes: Annotated[int, Field(ge=0)] = 134_217_728
    trend_save_seconds: Annotated[float, Field(gt=0, le=3600)] = 10.0


class EventSettings(Section):
    """What is accepted as an event."""

    event_types: Annotated[tuple[str, ...], Field(min_length=1)] = (
        "view", "click", "cart", "purchase",
    )  # fmt: skip
    max_record_bytes: Count = 1_000_000
    max_block_bytes: Annotated[int, Field(ge=65_536)] = 134_217_728
    earliest_occurred_at: Moment = "1990-01-01T00:00:00Z"
    allowed_skew_seconds: CountOrNone = 300
    refuse_unknown_category: bool = False
    remember_event_ids: Annotated[int, Field(ge=0, le=1000)] = 0
    schema_directory: ExistingDirectory | None = None
    ignored_customer_ids: Words = ()
    extreme_events_per_hour: CountOrNone = 10_000


class LabelSettings(Section):
    """What the model learns to predict."""

    by: str = "category_id"
    actions: Annotated[tuple[tuple[str, ...], ...], Field(min_length=1)] = (("purchase",),)
    horizon: Duration = "14d"


class BatchSettings(Section):
    """When a micro-batch is complete: by count or by age, whichever comes first."""

    # librdkafka hands out at most a million messages at once.
    max_events: Annotated[int, Field(gt=0, le=1_000_000)] = 5_000
    max_age_ms: Annotated[int, Field(gt=0, le=10_000)] = 100
    overlap: bool = True


class PublishSettings(Section):
    """Which propensities are worth publishing."""

    mode: Literal["top_k", "threshold", "all"] = PublishPolicy.mode
    top_k: CountOrNone = PublishPolicy.top_k
    threshold: Annotated[float, Field(ge=0, le=1)] = PublishPolicy.threshold
    precision: Literal["float32", "float16"] = PublishPolicy.precision
    max_dead_letter_bytes: Count = 500_000


class RefreshSettings(Section):
    """How often, and how fast, customers who do nothing are scored again."""

    every: Period = "1d"
    customers_per_second: Annotated[float, Field(gt=0, le=1_000_000)] = 1000.0
    least_change: Annotated[float, Field(ge=0, le=1)] = 0.001

    @property
    def every_ms(self) -> int:
        """The time from one round to the next in ms, 0 for none."""
        return (parse_duration_ms(self.every) or 0) if self.every else 0


class DeadLetterSettings(Section):
    """How many dead letters there may be before the consumer stops."""

    max_share: Annotated[float, Field(gt=0, le=1)] = 0.5
    window_records: Count = 10_000


class ModelSettings(Section):
    """Which model artefact is used for scoring, and by which engine."""

    path: ModelPlace = Path("model")
    engine: Literal["mxnet", "native", "onnx"] = "mxnet"


class ChallengerSettings(Section):
    """A second model beside the active one, scored by the engine of [model]."""

    path: ModelPlaceOrNone = None
    mode: Literal["shadow", "canary"] = "shadow"
    share: Annotated[float, Field(gt=0, le=1)] = 0.1
    salt: str = "challenger"
    agreement_k: Count = 10


class TelemetrySettings(Section):
    """Metrics, probes and the status page (port 0: none), the log, and traces."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535)] = 0
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["text", "json"] = "text"
    traces: bool = False
    traces_endpoint: Annotated[str, AfterValidator(http_address_or_none)] = ""


class Settings(Section):
    """All settings. `load` reads and checks them; feature space and rules are built from them."""

    kafka: KafkaSettings = KafkaSettings()
    schema_registry: SchemaRegistrySettings = SchemaRegistrySettings()
    redis: RedisSettings = RedisSettings()
    store: StoreSettings = StoreSettings()
    events: EventSettings = EventSettings()
    vocabularies: dict[str, Words] = Field(default_factory=dict)
    features: tuple[Feature, ...] = ()
    labels: LabelSettings = LabelSettings()
    batch: BatchSettings = BatchSettings()
    publish: PublishSettings = PublishSettings()
    refresh: RefreshSettings = RefreshSettings()
    dead_letters: DeadLetterSettings = DeadLetterSettings()
    drift: DriftSettings = DriftSettings()
    model: ModelSettings = ModelSettings()
    challenger: ChallengerSettings = ChallengerSettings()
    training: TrainingOptions = TrainingOptions()
    telemetry: TelemetrySettings = TelemetrySettings()
    web: WebSettings = WebSettings()

    # No setting: a list that grows, which work on past events is given beside the config.
    _erased_customers: dict[str, int] = PrivateAttr(default_factory=dict)
    _customer_sample: CustomerSample = PrivateAttr(default=EVERYBODY)
    # Chosen, and not written: `load` says which of the config's regions these settings are of.
    _region: str = PrivateAttr(default="")

    @classmethod
    def load(
        cls,
        path: str | Path | None,
        *,
        overrides: Mapping[str, Any] | None = None,
        environment: Mapping[str, str] = os.environ,
    ) -> Settings:
        """Read and check settings.

        path: a TOML file; None for the defaults. environment: variables that win over the file, and
        STREAM_SCORER_REGION, which chooses one of the file's regions. overrides: nested values that
        win over both, as in a notebook or a test. Raises ConfigError with a line for each wrong
        field.
        """
        data = {} if path is None else config_sources.read_toml(Path(path))
        variables = config_sources.read_environment(environment)
        region = environment.get(REGION_VARIABLE, "")
        data, variables = settings_of_region(data, variables, region, cls)
        if path is not None:
            _anchor(data, Path(path).parent)
        config_sources.merge(data, variables)
        config_sources.merge(data, overrides or {})
        try:
            settings = cls.model_validate(data)
        except ValidationError as error:
            wrong = config_sources.explain(error, cls, environment)
            wrong += cls._problems_beside(data, error)
        else:
            wrong = settings._problems()
        config_sources.raise_all(wrong + config_sources.not_read(environment, cls))
        settings._region = region
        return settings

    @property
    def region(self) -> str:
        """The region of the config that was chosen, "" where it declares none."""
        return self._region

    def event_rules(self) -> EventRules:
        """Which events are accepted."""
        categories = self.vocabularies.get("category_id")
        return EventRules(
            frozenset(self.events.event_types),
            None if categories is None else frozenset(categories),
            self.events.refuse_unknown_category,
            self.events.allowed_skew_seconds * 1000,
            nearest_ms(parse_iso_8601(self.events.earliest_occurred_at)),
            frozenset(self.events.ignored_customer_ids),
            self._erased_customers,
        )

    @property
    def erased_customers(self) -> Mapping[str, int]:
        """As given to `leaving_out`."""
        return self._erased_customers

    def leaving_out(self, erased_customers: Mapping[str, int]) -> Settings:
        """The same settings for work on past events that leaves out customers who were forgotten on
        request: by id the moment in ms since 1970 UTC up to which nothing counts."""
        settings = self.model_copy()
        settings._erased_customers = dict(erased_customers)
        return settings

    @property
    def customer_sample(self) -> CustomerSample:
        """As given to `sampling`."""
        return self._customer_sample

    def sampling(self, sample: CustomerSample) -> Settings:
        """The same settings for a replay or export that makes rows of these customers alone."""
        settings = self.model_copy()
        settings._customer_sample = sample
        return settings

    def customer_rates(self) -> CustomerRates:
        """A new count of customers' events, for one reading of them."""
        return CustomerRates(self.events.extreme_events_per_hour)

    def dead_letter_window(self, *, live: bool) -> DeadLetterWindow:
        """The rule by which `run`, and work on past events, stop; for one reading of events."""
        limits = self.dead_letters
        return DeadLetterWindow(limits.max_share, limits.window_records, live=live)

    def memory(self) -> Memory:
        """What customers' records remember: the same for live, replays and training."""
        return Memory(self.events.remember_event_ids, 1000 * self.store.time_to_live_seconds)

    def label_rule(self) -> LabelRule:
        """What counts as acting on a category, and within which time. Raises ConfigError."""
        horizon_ms = parse_duration_ms(self.labels.horizon)
        if horizon_ms is None:
            raise ConfigError(
                "labels.horizon", self.labels.horizon, 'must end; write such as "14d"'
            )
        return LabelRule(self.labels.by, self.labels.actions, horizon_ms)

    def publish_policy(self) -> PublishPolicy:
        """Which propensities are published."""
        chosen = self.publish
        return PublishPolicy(chosen.mode, chosen.top_k, chosen.threshold, chosen.precision)

    def feature_space(self) -> FeatureSpace:
        """The declared features as columns. Raises ConfigError, also where none is declared."""
        return FeatureSpace.compile(self.features, self.words(), self.events.event_types)

    def words(self) -> dict[str, tuple[str, ...]]:
        """The vocabularies; the accepted event types are that of event_type where it is needed and
        not listed by itself."""
        # A vocabulary that a feature of hashed columns does not need would change its fingerprint.
        needed = self.labels.by == "event_type" or any(
            "event_type" in f.by and not f.buckets for f in self.features
        )
        if not needed or "event_type" in self.vocabularies:
            return self.vocabularies
        return {**self.vocabularies, "event_type": self.events.event_types}

    @classmethod
    def _problems_beside(cls, data: dict[str, Any], error: ValidationError) -> list[ConfigError]:
        """What else is wrong between settings, as far as those in `error` have no part in it."""
        rest, doubtful = config_sources.without(data, error, cls)
        try:
            settings = cls.model_validate(rest)
        except ValidationError:
            return []
        return [p for p in settings._problems() if not config_sources.rests_on(p, doubtful)]

    def _problems(self) -> list[ConfigError]:
        """One error for each setting that contradicts another, within sections and across them."""
        wrong = self.kafka.problems() + self.redis.problems() + self.schema_registry.problems()
        wrong += self.web.problems()
        for action in {a for group in self.labels.actions for a in group}:
            if action not in self.events.event_types:
                remedy = undeclared(action, self.events.event_types)
                wrong.append(ConfigError("labels.actions", action, remedy))
        if self.events.refuse_unknown_category and "category_id" not in self.vocabularies:
            remedy = "list the categories in vocabularies.category_id, or set this to false"
            wrong.append(ConfigError("events.refuse_unknown_category", True, remedy))
        if self.publish.mode == "top_k" and self.publish.top_k == 0:
            remedy = "must be 1 or more where publish.mode is top_k"
            wrong.append(ConfigError("publish.top_k", 0, remedy))
        if self.features:
            if self.labels.by not in self.words():
                remedy = (
                    f"its values are the categories, so list them in vocabularies."
                    f"{as_key(self.labels.by)}"
                )
                wrong.append(ConfigError("labels.by", self.labels.by, remedy))
            try:
                self.label_rule()
            except ConfigError as error:
                wrong.append(error)
            wrong += declaration_problems(self.features, self.words(), self.events.event_types)
            wrong += [
                ConfigError(
                    f"features.{f.name}.by", list(f.by),
                    f"a trend is of the field in labels.by, {self.labels.by}",
                )
                for f in self.features
                if f.kind == "trend" and f.by != (self.labels.by,)
            ]  # fmt: skip
        return wrong


def _anchor(data: dict[str, Any], directory: Path) -> None:
    """Make the file's paths relative to its directory, also the default path of the model."""
    model = data.setdefault("model", {})
    if isinstance(model, dict):
        model.setdefault("path", "model")
    challenger = data.get("challenger")
    if isinstance(challenger, dict) and challenger.get("path") == "":
        challenger["path"] = None  # no challenger, rather than one in this directory
    config_sources.anchor_paths(data, Settings, directory)
    events = data.get("events")
    if isinstance(events, dict) and isinstance(events.get("ignored_customer_ids"), str):
        events["ignored_customer_ids"] = str(directory / events["ignored_customer_ids"])
    vocabularies = data.get("vocabularies")
    if isinstance(vocabularies, dict):
        for field, value in vocabularies.items():
            if isinstance(value, str):
                vocabularies[field] = str(directory / value)
