"""What a model is made of: network, training options, and where its inputs stand.

`Layout` is derived from the feature declaration, the label rule and the chosen categories. With
`NetworkSpec` it fixes the name, shape and order of every parameter, so that engines in other
languages read the same artefact. Nothing here needs MXNet or a file.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from stream_scorer.core.events.batch import Int64
from stream_scorer.core.features.space import FeatureSpace
from stream_scorer.core.labels.labels import LabelRule
from stream_scorer.errors import ConfigError

MAX_LAYERS = 100
# On little data many small steps were better than few large ones; where there are steps enough, a
# larger batch costs less.
BATCHES = (64, 128, 256)
STEPS_OF_EPOCH = 128
# Up to so many pairs of training row and category, so many seeds are averaged. What a network has
# learnt by chance is the larger the fewer pairs there are; on the public and the generated data the
# mean lowered the validation log loss of all. Training several costs little where there are few.
PAIRS_OF_SEEDS = ((1_000_000, 5), (32_000_000, 3))
Pairs = Literal["all", "history"]
MOST_UNITS = 4_096
PAIRS: tuple[Pairs, ...] = get_args(Pairs)
Range = tuple[int, int]


@dataclass(frozen=True)
class NetworkSpec:
    """The network's shape.

    hidden: sizes of the deep path over all columns; () leaves it out. dropout: share of its units
    dropped in training. own_path: weights of each category for its own columns. pooled: layer sizes
    of the small network that all categories share, over a category's own columns, the
    customer-wide columns and an embedding of the category; () leaves it out. pairs: for which
    (customer, category) pairs the own and the pooled path are computed: "all", or "history", those
    with a value in one of the category's own columns. tower: units of the context that meet the
    pooled path's embedding of the category, for all pairs; 0, or no pooled path, leaves it out.
    linear_rank: of the linear path from all columns to all outputs, whose weights are a product of
    two matrices; 0 leaves it out.
    """

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 - read by pydantic, not a field

    # Chosen on validation of the public data, where wider or narrower layers changed the log loss
    # by 0.0002 or less and more dropout gave nothing.
    hidden: tuple[int, ...] = (32, 16)
    dropout: float = 0.3
    own_path: bool = True
    pooled: tuple[int, ...] = (16, 16)
    pairs: Pairs = "history"
    tower: int = 16
    linear_rank: int = 16

    def __post_init__(self) -> None:
        for name in ("hidden", "pooled"):
            if len(getattr(self, name)) > MAX_LAYERS:
                raise ConfigError(
                    f"training.network.{name}",
                    f"{len(getattr(self, name))} layers",
                    f"choose at most {MAX_LAYERS} layers",
                )
            if any(size < 1 for size in getattr(self, name)):
                raise ConfigError(
                    f"training.network.{name}",
                    getattr(self, name),
                    "every layer size must be 1 or more",
                )
        if self.pairs not in PAIRS:
            raise ConfigError("training.network.pairs", self.pairs, "choose all or history")
        for name in ("tower", "linear_rank"):
            if not 0 <= getattr(self, name) <= MOST_UNITS:
                remedy = f"choose a whole number from 0 to {MOST_UNITS}"
                raise ConfigError(f"training.network.{name}", getattr(self, name), remedy)
        if not self.pooled:
            # Its embedding is what a tower's units meet.
            object.__setattr__(self, "tower", 0)
        if not 0 <= self.dropout < 1:
            raise ConfigError(
                "training.network.dropout", self.dropout, "choose a share from 0 to below 1"
            )


@dataclass(frozen=True)
class TrainingOptions:
    """How a model is trained.

    min_customers: a category needs so many training customers that acted on it. average_seeds: so
    many networks are trained, with seeds seed, seed + 1 and so on, and the model is the mean of
    their logits; it costs as many times as much to train and to score; 0 is `seeds_of`. batch_rows:
    rows of a step; 0 is `rows_of_step`. epochs: passes over the rows, more where they would make
    fewer than min_steps steps. patience: after so many epochs without a better validation log loss
    training stops; after each of them it goes back to the best parameters and on at a lower rate.
    learning_rate: of Adam, falling by a cosine to a fiftieth; that of weights that meet all columns
    is input_learning_rate of it. class_weights: one per class, () for none. linear_penalty: of half
    the squares of the linear path's weights, against losses summed over the training rows.
    shuffle_rows: rows held in memory to be shuffled.
    """

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 - read by pydantic, not a field

    network: NetworkSpec = field(default_factory=NetworkSpec)
    min_customers: int = 20
    seed: int = 0
    average_seeds: int = 0
    batch_rows: int = 0
    epochs: int = 4
    min_steps: int = 2_000
    patience: int = 3
    learning_rate: float = 0.004
    input_learning_rate: float = 0.5
    # On the public data weight decay gained 0.0002 of log loss or less.
    weight_decay: float = 0.0
    linear_penalty: float = 2_000.0
    class_weights: tuple[float, ...] = ()
    calibrate: bool = True
    shuffle_rows: int = 65_536

    def __post_init__(self) -> None:
        for name in ("min_customers", "epochs", "patience", "shuffle_rows"):
            if getattr(self, name) < 1:
                raise ConfigError(f"training.{name}", getattr(self, name), "choose 1 or more")
        for name in (
            "seed", "average_seeds", "batch_rows", "min_steps", "weight_decay", "linear_penalty",
        ):  # fmt: skip
            if getattr(self, name) < 0:
                raise ConfigError(f"training.{name}", getattr(self, name), "choose 0 or more")
        for name in ("learning_rate", "input_learning_rate"):
            if not 0 < getattr(self, name) < 100:
                raise ConfigError(
                    f"training.{name}", getattr(self, name), "choose a number above 0 and below 100"
                )
        if any(weight <= 0 for weight in self.class_weights):
            raise ConfigError(
                "training.class_weights", self.class_weights, "choose weights above 0"
            )

    def seeds_of(self, pairs: int) -> int:
        """average_seeds, or where that is 0 what `PAIRS_OF_SEEDS` says of so many pairs of row and
        category, as far as the mean's network would not be too wide."""
        if self.average_seeds:
            return self.average_seeds
        wanted = next((seeds for most, seeds in PAIRS_OF_SEEDS if pairs <= most), 1)
        return min(wanted, MOST_UNITS // max(self.network.tower, self.network.linear_rank, 1))

    def rows_of_step(self, rows: int) -> int:
        """batch_rows, or where that is 0 the largest of `BATCHES` that makes an epoch over `rows`
        rows at least `STEPS_OF_EPOCH` steps long."""
        if self.batch_rows:
            return self.batch_rows
        return max((b for b in BATCHES if b * STEPS_OF_EPOCH <= rows), default=BATCHES[0])


@dataclass(frozen=True)
class Layout:
    """Where a network's inputs stand among the F columns, and what it answers.

    category_index: the N categories as indices into a vocabulary of `vocabulary` entries. own: the
    K ranges in which column i belongs to vocabulary entry i. customer: ranges of customer-wide
    columns (totals and calendar), adjoining ones merged. trend: the columns that hold the day of
    the as-of moment, of features of kind "trend"; contrasts: G, of all of them together, the values
    that the trend table has for each day and vocabulary entry.
    """

    columns: int
    vocabulary: int
    category_index: tuple[int, ...]
    classes: int
    own: tuple[Range, ...]
    customer: tuple[Range, ...]
    trend: tuple[int, ...] = ()
    contrasts: int = 0

    @classmethod
    def of(cls, space: FeatureSpace, rule: LabelRule, category_index: Int64) -> Layout:
        """The layout of a model for these categories."""
        if rule.by not in space.vocabularies:
            raise ConfigError("labels.by", rule.by, f"list its values in vocabularies.{rule.by}")
        # A hashed column may be that of several categories, so it is no category's own.
        trends = [b for b in space.blocks if b.kind == "trend"]
        other = sorted({b.fields[0] for b in trends} - {rule.by})
        if other:
            at = f"features.{trends[0].name}.by"
            raise ConfigError(at, other[0], f"a trend is of the field in labels.by, {rule.by}")
        own = [
            b
            for b in space.blocks
            if b.fields == (rule.by,) and not b.buckets and b.kind != "trend"
        ]
        customer: list[Range] = []
        for b in space.blocks:
            # The fields of a calendar are parts of the clock, the same for every category.
            if b.fields and b.kind != "calendar":
                continue
            # Each range is a slice of the CSR in the network, so fewer ranges are fewer operations.
            if customer and customer[-1][1] == b.start:
                customer[-1] = (customer[-1][0], b.stop)
            else:
                customer.append((b.start, b.stop))
        return cls(
            space.width,
            len(space.vocabularies[rule.by]),
            tuple(category_index.tolist()),
            rule.classes,
            tuple((b.start, b.stop) for b in own),
            tuple(customer),
            tuple(b.start for b in trends),
            sum(len(space.features[b.feature].half_lives) - 1 for b in trends),
        )

    @property
    def categories(self) -> int:
        """N."""
        return len(self.category_index)

    @property
    def actions(self) -> int:
        """M: logits for each category; class 0 is the reference, its logit always 0."""
        return self.classes - 1

    @property
    def whole_vocabulary(self) -> bool:
        """Whether category n is vocabulary entry n for every entry."""
        return self.category_index == tuple(range(self.vocabulary))

    @property
    def customer_columns(self) -> int:
        """W."""
        return sum(stop - start for start, stop in self.customer)

    def context_width(self, spec: NetworkSpec) -> int:
        """X: the customer-wide columns and the last hidden layer, side by side."""
        return self.customer_columns + (spec.hidden[-1] if spec.hidden else 0)

    def shapes(self, spec: NetworkSpec) -> dict[str, tuple[int, ...]]:
        """The shape of every parameter of the network, by name. Raises ConfigError if it has none.

        The order of outputs is category by category, within it class 1 to class C - 1.
        """
        n, m, k, x = self.categories, self.actions, len(self.own), self.context_width(spec)
        if not x:
            remedy = (
                "a network without hidden layers needs customer-wide features: declare a feature "
                "without `by`, or give hidden layers"
            )
            raise ConfigError("training.network.hidden", spec.hidden, remedy)
        shapes: dict[str, tuple[int, ...]] = {}
        if spec.hidden:
            shapes["input_weight"] = (self.columns, spec.hidden[0])
            shapes["input_bias"] = (1, spec.hidden[0])
            for i, (a, b) in enumerate(zip(spec.hidden, spec.hidden[1:], strict=False), start=1):
                shapes[f"hidden{i}_weight"] = (b, a)
                shapes[f"hidden{i}_bias"] = (b,)
        if self.customer:
            shapes["customer_mean"] = shapes["customer_scale"] = (1, self.customer_columns)
        shapes["head_weight"] = (n * m, x)
        shapes["head_bias"] = (n * m,)
        uses_own = self.own and (spec.own_path or spec.pooled)
        if (uses_own or self.contrasts) and not self.whole_vocabulary:
            shapes["category_index"] = (n,)
        if self.own and spec.own_path:
            shapes["own_weight"] = (n, k, m)
        if self.own and spec.pooled:
            shapes |= self._pooled_shapes(spec)
        if self.contrasts:
            shapes["trend_weight"] = (self.contrasts, m)
        if spec.linear_rank:
            shapes["linear_weight"] = (self.columns, spec.linear_rank)
            shapes["linear_out_weight"] = (n * m, spec.linear_rank)
        shapes["calibration_scale"] = (1, n, 1)
        shapes["calibration_shift"] = (1, n, m)
        return shapes

    def _pooled_shapes(self, spec: NetworkSpec) -> dict[str, tuple[int, ...]]:
        """Of the pooled path, and of the tower, which shares its embedding of the category."""
        n, m, x = self.categories, self.actions, self.context_width(spec)
        first = spec.pooled[0]
        shapes: dict[str, tuple[int, ...]] = {
            "pooled_own_weight": (first, len(self.own) + self.contrasts),
            "pooled_context_weight": (1, first, x),
            "pooled_category_bias": (n * first,),
        }
        for i, (a, b) in enumerate(zip(spec.pooled, spec.pooled[1:], strict=False), start=1):
            shapes[f"pooled{i}_weight"] = (b, a)
            shapes[f"pooled{i}_bias"] = (b,)
        shapes["pooled_out_weight"] = (m, spec.pooled[-1])
        if spec.pairs == "history":
            shapes["pooled_out_bias"] = (m,)
        if spec.tower:
            shapes["tower_weight"] = (spec.tower, x)
            shapes["tower_bias"] = (spec.tower,)
            shapes["tower_category_weight"] = (m * spec.tower, first)
        return shapes
