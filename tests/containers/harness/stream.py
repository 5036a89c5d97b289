"""A known stream of customer behaviour: the same seed gives the same records.

A few customers do most of it, a tenth comes days late, some events have no category or value, and
one record in a hundred can't be applied. Plain Python counts what was made, so that the verdict
does not rest on the product's own code alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from random import Random
from typing import Any

import numpy as np

from stream_scorer.core.avro.event_encoder import encode_events
from stream_scorer.core.features.space import Feature, FeatureSpace
from stream_scorer.core.labels.labels import LabelRule
from stream_scorer.model import inference_network
from stream_scorer.model.artefact import TrainedModel
from stream_scorer.model.spec import Layout, NetworkSpec

START_MS = 1_700_000_000_000
STEP_MS = 60_000
LATE_MS = 10 * 86_400_000
EVENT_TYPES = ("view", "click", "cart", "purchase")
CATEGORIES = tuple(f"category-{i:02d}" for i in range(12))
CHANNELS = ("web", "app", "shop")
LIFETIME = "lifetime"  # the feature whose columns are plain counts by category
FEATURES = [
    Feature(LIFETIME, by=("category_id",)),
    Feature("acts", by=("category_id", "event_type"), half_lives=("6h", "5d")),
    Feature("spent", on=("purchase",), by=("category_id",), value="value", half_lives=("14d",)),
    Feature("since", kind="recency", by=("category_id",), half_lives=("7d",)),
    Feature("channel", kind="latest", by=("attributes.channel",)),
    Feature("busy", half_lives=("1d",)),
]
VOCABULARIES = {
    "category_id": CATEGORIES, "attributes.channel": CHANNELS, "event_type": EVENT_TYPES,
}  # fmt: skip
SPACE = FeatureSpace.compile(FEATURES, VOCABULARIES, EVENT_TYPES)
Record = tuple[bytes, bytes]


class Stream:
    """Records in the order of publication, without end.

    made: how many so far; bad: those that can't be applied; repeats: the share that producers send
    once more, `repeated` so far.
    """

    def __init__(
        self, seed: int, customers: int = 300, padding_bytes: int = 0, repeats: float = 0.0
    ) -> None:
        self._random = Random(seed)
        self._customers = customers
        self._padding = {"note": "x" * padding_bytes} if padding_bytes else {}
        self._repeats = repeats
        self._recent: list[Record] = []
        self.made = self.bad = self.repeated = 0
        self.lifetime: Counter[tuple[str, str]] = Counter()

    def take(self, count: int) -> list[Record]:
        """The next `count` records, (key, value)."""
        return [self._repeat() or self._record() for _ in range(count)]

    def _repeat(self) -> Record | None:
        """A recent record once more, now and then."""
        if not self._repeats or not self._recent or self._random.random() >= self._repeats:
            return None
        self.repeated += 1
        return self._random.choice(self._recent)

    def _record(self) -> Record:
        draw = self._random
        event = self._event(f"customer-{int(self._customers * draw.random() ** 2):04d}")
        self.made += 1
        customer = event["customer_id"]
        if draw.random() < 0.01:
            self.bad += 1
            return customer.encode(), self._spoilt(event)
        if event["category_id"]:
            self.lifetime[customer, event["category_id"]] += 1
        (value,) = encode_events([event])
        self._recent = [*self._recent[-4:], (customer.encode(), value)]
        return customer.encode(), value

    def _event(self, customer: str) -> dict[str, Any]:
        draw = self._random
        at = START_MS + STEP_MS * self.made
        late = int(draw.random() * LATE_MS) if draw.random() < 0.1 else 0
        channel = {"channel": draw.choice(CHANNELS)} if draw.random() < 0.5 else {}
        return {
            "event_id": f"event-{self.made}",
            "customer_id": customer,
            "event_type": draw.choice(EVENT_TYPES),
            "category_id": draw.choice(CATEGORIES) if draw.random() < 0.95 else None,
            "product_id": f"product-{draw.randrange(1000)}",
            "value": round(draw.random() * 50, 2) if draw.random() < 0.7 else None,
            "occurred_at": at - late,
            "attributes": {**channel, **self._padding},
        }

    def _spoilt(self, event: dict[str, Any]) -> bytes:
        (value,) = encode_events([event])
        (sneeze,) = encode_events([{**event, "event_type": "sneeze"}])
        return self._random.choice([value[:-3], b"\0\0\0\0\7" + value, b"", sneeze])


def random_model(space: FeatureSpace = SPACE, seed: int = 1) -> TrainedModel:
    """A small model of random parameters."""
    rule, spec = LabelRule("category_id", (("purchase",),), 1), NetworkSpec((8,), 0.0, True, (4,))
    index = np.arange(len(CATEGORIES))
    layout, draw = Layout.of(space, rule, index), np.random.default_rng(seed)
    parameters = {
        name: draw.normal(0, 0.3, shape).astype(np.float32)
        for name, shape in layout.shapes(spec).items()
    }
    symbol = inference_network.inference_symbol(layout, spec).tojson()
    return TrainedModel(space, rule, index, spec, parameters, symbol)


def toml_features() -> Iterator[str]:
    """The declaration as lines of a config."""
    for feature in FEATURES:
        yield "[[features]]"
        yield f'name = "{feature.name}"'
        yield f'kind = "{feature.kind}"'
        for name in ("on", "by", "half_lives"):
            values = getattr(feature, name)
            if values and not (name == "half_lives" and values == ("inf",)):
                yield f"{name} = {list(values)!r}"
        if feature.value != 1.0:
            yield f"value = {feature.value!r}"
