"""The card of a model as JSON and as a page, which says in words what to look at first.

The page stands in the model's directory, so it loads nothing from elsewhere. Without matplotlib it
has no plots and says how to get them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from stream_scorer.core.evaluation.model_card import CardRows, ModelCard
from stream_scorer.core.evaluation.quality_by_part import Quality
from stream_scorer.core.evaluation.training_data import NO_CUSTOMER, LeftOutCategory
from stream_scorer.reports import card_quality, page
from stream_scorer.reports.card_quality import KIND_WORDS, interval, number, signed
from stream_scorer.reports.page import moment

LISTED = 200  # categories on the page, of each table; card.json has all
OFF_BY = 0.03  # of predicted over seen: what is less is not worth a line


def writer(card: ModelCard) -> Callable[[str], tuple[bytes, bytes]]:
    """Of the model's version: the card's JSON and its page, as `artefact.save` takes them."""

    def files(model_version: str) -> tuple[bytes, bytes]:
        named = replace(card, model_version=model_version)
        # NaN and infinity are no JSON, and other readers refuse them.
        text = json.dumps(named.as_json(), indent=1, allow_nan=False)
        return f"{text}\n".encode(), html(named)

    return files


def html(card: ModelCard) -> bytes:
    """The page."""
    labels, network = card.labels, card.network
    acts = " or ".join(action for group in labels.actions for action in group)
    parts = [
        page.verdict(verdict(card)),
        page.paragraph(
            f"For each of {len(card.categories):,} values of {labels.by}: how probable it is "
            f"that the customer will {acts} within {labels.horizon_days:g} days. Written "
            f"{moment(card.written)}; feature fingerprint {card.fingerprint}."
        ),
        page.heading("What to look at first"),
        page.items(to_look_at(card)),
        page.heading("Quality on validation rows"),
        *(page.paragraph(note) for note in card.notes),
        *([] if card.quality is None else card_quality.parts(card.quality)),
        page.heading("Rows"),
        _rows(card),
        page.heading("Features"),
        page.paragraph(
            f"{card.columns:,} columns, of which {card.columns_without_value:,} have no value in "
            "any training row; the model knows nothing of those."
        ),
        page.wide(
            page.table(
                ["feature", "meaning", "columns", "without a value"],
                [
                    [f.name, f.meaning, _count(f.columns), _count(f.without_value)]
                    for f in card.features
                ],
            ),
            "Features",
            "words",
        ),
        page.heading("Categories"),
        *_categories(card),
        page.heading("What it is, and what it costs"),
        page.paragraph(_cost(card)),
        page.paragraph(
            "Network: " + ", ".join(f"{name} {_value(v)}" for name, v in network.items())
            + f". Calibration: {card.calibration}."
        ),
    ]  # fmt: skip
    return page.content(f"Model {card.model_version}", parts)


def verdict(card: ModelCard) -> list[str]:
    """How good the model is by its validation rows, in sentences: the answer first."""
    if card.quality is None:
        return ["How good this model is, is not known: it was trained without validation rows."]
    part = card.quality.overall
    minus, ratio = part.log_loss_minus_prior, part.predicted_over_seen
    figures = (
        f"log loss {number(part.log_loss.value)} against {number(part.prior_log_loss)} of the "
        f"prior, difference {signed(minus)}"
    )
    if minus.high is None or minus.low is None:
        said = f"Too few validation customers acted to say how good this model is: {figures}."
    elif minus.high < 0:
        said = f"On validation rows the model is better than the prior: {figures}."
    elif minus.low > 0:
        said = f"On validation rows the model is worse than the prior: {figures}. Do not serve it."
    else:
        said = f"On validation rows no difference from the prior is shown: {figures}."
    if ratio.value is None:
        return [said]
    return [
        said,
        f"Its probabilities add up to {100 * ratio.value:.1f} % of the actions that followed: "
        f"predicted over seen {interval(ratio, 3)}.",
    ]


def to_look_at(card: ModelCard) -> list[str]:
    """What a reader should not miss, in sentences; one that says so where there is nothing."""
    found = list(_of_quality(card.quality)) if card.quality else ["Its quality was not measured."]
    without = card.features_without_value
    if without:
        found.append(f"No training row has a value of: {', '.join(without)}.")
    if card.training.without_weight:
        found.append(f"{card.training.without_weight:,} training rows weigh 0 and teach nothing.")
    if card.left_out:
        whole = len(card.left_out) + len(card.categories)
        found.append(
            f"{len(card.left_out):,} of {whole:,} categories are left out, and with them "
            f"{card.labels_left_out:,} labels of training rows."
        )
    return found or ["Nothing stands out."]


def _of_quality(quality: Quality) -> Iterator[str]:
    named = [
        ("all rows", quality.overall),
        *((f"rows {KIND_WORDS[p.part]}", p) for p in quality.by_moment),
        *((f"customers with {p.part} columns", p) for p in quality.by_history),
        *((f"categories with {p.part} training positives", p) for p in quality.by_category_size),
    ]
    for name, part in named:
        worse = part.log_loss_minus_prior
        if worse.high is None:
            yield f"On {name} too few customers acted for an interval."
        elif worse.high >= 0:
            yield (
                f"On {name} the model is not shown to be better than the prior "
                f"(log loss {signed(worse)})."
            )
        ratio = part.predicted_over_seen
        if ratio.value is None or ratio.low is None or ratio.high is None:
            continue
        beyond_chance = not ratio.low <= 1 <= ratio.high
        if beyond_chance and abs(ratio.value - 1) > OFF_BY:
            how = "too sure" if ratio.value > 1 else "not sure enough"
            reach = f"{number(ratio.low, 3)} to {number(ratio.high, 3)}"
            yield (
                f"On {name} it is {abs(ratio.value - 1):.0%} {how} (predicted over seen "
                f"{number(ratio.value, 3)}, 95 % interval {reach})."
            )


def _rows(card: ModelCard) -> str:
    said = {"training": card.training}
    if card.validation is not None:
        said["validation"] = card.validation
    lines: list[tuple[str, Callable[[CardRows], object]]] = [
        ("rows", lambda r: r.rows),
        ("customers", lambda r: r.customers),
        ("earliest moment", lambda r: moment(r.first_as_of)),
        ("latest moment", lambda r: moment(r.last_as_of)),
        ("labels from events before", lambda r: moment(r.labels_until)),
        *(
            (f"rows {words}", lambda r, kind=kind: _of_kind(r, kind))
            for kind, words in KIND_WORDS.items()
        ),
        ("different cut-offs", lambda r: len(r.cutoffs)),
        ("rows that weigh 0", lambda r: r.without_weight),
        ("refused records of their events", lambda r: sum(s.refused_records for s in r.sources)),
        ("values not used of their events", lambda r: sum(s.ignored_values for s in r.sources)),
    ]
    table = page.table(
        ["of the rows", *said],
        [[name, *(value(rows) for rows in said.values())] for name, value in lines],
    )
    snapshots = [
        page.paragraph(f"{name}: " + (", ".join(s.path for s in rows.sources) or "rows in memory"))
        for name, rows in said.items()
    ]
    return page.wide(table, "Rows") + "".join(snapshots)


def _of_kind(rows: CardRows, kind: str) -> str:
    if not rows.moments:
        return "not known"
    found = next((m for m in rows.moments if m.kind == kind), None)
    if found is None:
        return "-"
    return f"{found.rows:,} ({found.weight / (rows.weight or 1):.1%} of the weight)"


def _categories(card: ModelCard) -> Iterator[str]:
    largest = sorted(card.categories, key=lambda c: -c.positives)[:LISTED]
    yield page.paragraph(
        f"{len(card.categories):,} categories{_first(len(card.categories))}, by how many training "
        "rows acted on them."
    )
    yield page.wide(
        page.table(
            ["category", "positives", "share of rows"],
            [[c.category_id, c.positives, f"{c.share:.3%}"] for c in largest],
        ),
        "Categories",
    )
    if not card.left_out:
        yield page.paragraph("None was left out.")
        return
    yield page.paragraph(
        f"{len(card.left_out):,} were left out{_first(len(card.left_out))}. A category needs "
        f"{card.min_customers:,} customers who acted on it in training (training.min_customers)."
    )
    yield page.wide(
        page.table(
            ["left out", "customers", "why"],
            [[c.category_id, c.customers, why(c)] for c in card.left_out[:LISTED]],
        ),
        "Categories that were left out",
    )


def why(left_out: LeftOutCategory) -> str:
    """The reason in words."""
    return "nobody acted on it" if left_out.reason == NO_CUSTOMER else "too few customers"


def _first(count: int) -> str:
    return f" (the first {LISTED:,} here, all in card.json)" if count > LISTED else ""


def _cost(card: ModelCard) -> str:
    cost = card.scoring
    if cost is None:
        return "There was no row to measure what scoring costs."
    return (
        f"The {cost.engine} engine scored {cost.rows:,} {cost.rows_of} rows, "
        f"{cost.batch_rows:,} at a time and every probability written out, at "
        f"{cost.customers_per_second:,.0f} customers per second, measured once when the model was "
        f"written, on {cost.machine}; another load or machine gives another figure."
    )


def _count(number: int) -> page.Html:
    return page.Html(f'<span class="count">{number:,}</span>')


def _value(value: object) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "-".join(str(part) for part in value) or "none"
    return str(value)
