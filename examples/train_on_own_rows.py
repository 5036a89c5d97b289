"""A model trained on rows of one's own: features from the package, labels by a rule of one's own.

The rule here is one that the settings can't express: a category counts as wanted where the customer
spent more than 10 on it within two weeks. Make the folder that it reads with
`stream-scorer init shop`. Training needs MXNet.
"""

from datetime import datetime, timedelta, timezone

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

import stream_scorer as ss

TWO_WEEKS = timedelta(days=14)
SPENT = 10.0


def labels_of(
    events: pa.Table, categories: tuple[str, ...], ids: list[str], moment: datetime
) -> npt.NDArray[np.uint8]:
    """(R, V) uint8: class 1 where customer r spent more than SPENT on category v."""
    at = events["occurred_at"]
    after = pc.and_(
        pc.greater_equal(at, pa.scalar(moment)), pc.less(at, pa.scalar(moment + TWO_WEEKS))
    )
    spent = (
        events.filter(after).group_by(["customer_id", "category_id"]).aggregate([("value", "sum")])
    )
    row_of = {customer: row for row, customer in enumerate(ids)}
    column_of = {category: column for column, category in enumerate(categories)}
    labels = np.zeros((len(ids), len(categories)), np.uint8)
    for found in spent.to_pylist():
        if found["customer_id"] in row_of and (found["value_sum"] or 0) > SPENT:
            labels[row_of[found["customer_id"]], column_of[found["category_id"]]] = 1
    return labels


def rows_at(events: pa.Table, settings: ss.Settings, moments: list[datetime]) -> ss.LabelledRows:
    """Every customer known at each moment, with its features and labels."""
    space, categories = settings.feature_space(), settings.vocabularies["category_id"]
    pairs: list[tuple[str, datetime]] = []
    labels = []
    for moment in moments:
        _, ids = ss.features_at(events, space, moment)
        pairs += [(customer, moment) for customer in ids]
        labels.append(labels_of(events, categories, ids, moment))
    matrix, ids = ss.features_at(events, space, pairs)
    return ss.labelled_rows(matrix, np.vstack(labels), ids, [moment for _, moment in pairs])


def main() -> None:
    """Train, and say what the model thinks of one customer."""
    settings = ss.Settings.load("shop/stream_scorer.toml")
    events = ss.read_events("shop/events", settings)
    first = datetime(2026, 7, 20, tzinfo=timezone.utc)
    weeks = [first + timedelta(weeks=week) for week in range(4)]
    training = rows_at(events, settings, weeks)
    # Labels of the last training week reach two weeks further: validation begins after them.
    validation = rows_at(events, settings, [weeks[-1] + TWO_WEEKS])
    model = ss.train(settings, training, "shop/own_model", validation=validation)
    print(f"{model}, trained on {len(training)} rows")

    now, ids = ss.features_at(events, model.feature_space, "2026-09-21T00:00:00Z")
    print(ids[0])
    for found in model.propensities(now[:1], top_k=3).to_pylist():
        print(f"  {found['category_id']}: {found['probability']:.3f}")


if __name__ == "__main__":
    main()
