"""The card of a model as JSON and as a page, which says in words what to look at first.

The page stands in the model's directory, so it loads nothing from elsewhere. Without matplotlib it
has no plots and says how to get them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from stream_scorer.core.evaluation.model_card import CardRows, ModelCard
from stream_scorer.core.evaluation.quality_by_part import ALL, Estimate, PartQuality, Quality
from stream_scorer.core.evaluation.training_data import NO_CUSTOMER, LeftOutCategory
from stream_scorer.reports import page

LISTED = 200  # categories on the page, of each table; card.json has all
OFF_BY = 0.03  # of predicted over seen: what is less is not worth a line
COLOURS = {ALL: "#1f6feb", "cutoff": "#888888", "event": "#d9730d", "quiet": "#2da44e"}
KIND_WORDS = {
    "cutoff": "at cut-offs",
    "event": "just after an event",
    "quiet": "between events, as refreshed",
}
MEASURES = (
    "positives", "log loss", "minus the prior's", "macro AUC", "recall@10", "predicted / seen",
    "ECE",
)  # fmt: skip
HOW_TO_READ = (
    "In small print: 95 % intervals of a bootstrap over customers. The prior gives every customer "
    "each category's share of the training rows; a difference below 0 means that the model is "
    "better. Predicted / seen is the sum of probabilities over what then happened: 1 is right, "
    "1.10 is 10 % too sure. ECE is the mean distance of probabilities from what happened, in bins."
)
NO_PLOTS = "There are no plots: they need matplotlib (pip install 'stream-scorer[reports]')."


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
        page.paragraph(
            f"For each of {len(card.categories):,} values of {labels.by}: how probable it is "
            f"that the customer will {acts} within {labels.horizon_days:g} days. Written "
            f"{_moment(card.written)}; feature fingerprint {card.fingerprint}."
        ),
        "<h2>What to look at first</h2>",
        _list(to_look_at(card)),
        "<h2>Quality on validation rows</h2>",
        *(page.paragraph(note) for note in card.notes),
        *([] if card.quality is None else _quality(card.quality)),
        "<h2>Rows</h2>",
        _rows(card),
        "<h2>Features</h2>",
        page.paragraph(
            f"{card.columns:,} columns, of which {card.columns_without_value:,} have no value in "
            "any training row; the model knows nothing of those."
        ),
        _wide(
            page.table(
                ["feature", "meaning", "columns", "without a value"],
                [[f.name, f.meaning, f.columns, f.without_value] for f in card.features],
            ),
            "words",
        ),
        "<h2>Categories</h2>",
        *_categories(card),
        "<h2>What it is, and what it costs</h2>",
        page.paragraph(_cost(card)),
        page.paragraph(
            "Network: " + ", ".join(f"{name} {_value(v)}" for name, v in network.items())
            + f". Calibration: {card.calibration}."
        ),
    ]  # fmt: skip
    return page.content(f"Model {card.model_version}", parts)


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
                f"(log loss {_signed(worse)})."
            )
        ratio = part.predicted_over_seen
        if ratio.value is None or ratio.low is None or ratio.high is None:
            continue
        beyond_chance = not ratio.low <= 1 <= ratio.high
        if beyond_chance and abs(ratio.value - 1) > OFF_BY:
            how = "too sure" if ratio.value > 1 else "not sure enough"
            yield f"On {name} it is {abs(ratio.value - 1):.0%} {how} ({_interval(ratio, 3)})."


def _quality(quality: Quality) -> list[str]:
    overall = quality.overall
    parts = [
        page.paragraph(
            f"{overall.rows:,} of {quality.rows:,} rows were measured, of {overall.customers:,} "
            f"customers. The prior has log loss {_number(overall.prior_log_loss)} and recall@10 "
            f"{_number(overall.prior_recall_at_10, 3)}."
        ),
        _part_table("All rows:", [("all", overall)]),
    ]
    if quality.by_moment:
        moments = [(KIND_WORDS[part.part], part) for part in quality.by_moment]
        parts.append(_part_table("By the moment of the row:", moments))
    histories = [(part.part, part) for part in quality.by_history]
    sizes = [(part.part, part) for part in quality.by_category_size]
    parts += [
        _part_table("By how many columns of the customer have a value:", histories),
        _part_table("By how many training rows acted on the category:", sizes, categories=True),
        f'<p class="soft">{page.text(HOW_TO_READ)}</p>',
    ]
    if not page.can_plot():
        return [*parts, page.paragraph(NO_PLOTS)]
    return [*parts, f'<div class="plots">{_calibration(quality)}{_ratios(quality)}</div>']


def _part_table(
    title: str, parts: Sequence[tuple[str, PartQuality]], *, categories: bool = False
) -> str:
    head = ["", "categories" if categories else "rows", *MEASURES]
    rows = [
        [
            name, part.categories if categories else part.rows, part.positives,
            _in_two_lines(_interval(part.log_loss, 4)),
            _in_two_lines(_signed(part.log_loss_minus_prior)),
            _in_two_lines(_interval(part.macro_auc, 3)),
            _in_two_lines(_interval(part.recall_at_10, 3)),
            _in_two_lines(_interval(part.predicted_over_seen, 3)), _number(part.ece),
        ]
        for name, part in parts
    ]  # fmt: skip
    return page.paragraph(title) + _wide(page.table(head, rows), "parts")


def _in_two_lines(interval: str) -> str:
    return interval.replace(" (", "\n").rstrip(")")


def _rows(card: ModelCard) -> str:
    said = {"training": card.training}
    if card.validation is not None:
        said["validation"] = card.validation
    lines: list[tuple[str, Callable[[CardRows], object]]] = [
        ("rows", lambda r: r.rows),
        ("customers", lambda r: r.customers),
        ("earliest moment", lambda r: _moment(r.first_as_of)),
        ("latest moment", lambda r: _moment(r.last_as_of)),
        ("labels from events before", lambda r: _moment(r.labels_until)),
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
        ["", *said], [[name, *(value(rows) for rows in said.values())] for name, value in lines]
    )
    snapshots = [
        page.paragraph(f"{name}: " + (", ".join(s.path for s in rows.sources) or "rows in memory"))
        for name, rows in said.items()
    ]
    return table + "".join(snapshots)


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
    yield _wide(
        page.table(
            ["category", "positives", "share of rows"],
            [[c.category_id, c.positives, f"{c.share:.3%}"] for c in largest],
        )
    )
    if not card.left_out:
        yield page.paragraph("None was left out.")
        return
    yield page.paragraph(
        f"{len(card.left_out):,} were left out{_first(len(card.left_out))}. A category needs "
        f"{card.min_customers:,} customers who acted on it in training (training.min_customers)."
    )
    yield _wide(
        page.table(
            ["left out", "customers", "why"],
            [[c.category_id, c.customers, why(c)] for c in card.left_out[:LISTED]],
        )
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


def _calibration(quality: Quality) -> str:
    figure, axes = page.new_figure()
    axes.plot([1e-4, 1], [1e-4, 1], color="#aaaaaa", linewidth=1, linestyle="--")
    for name, points in quality.calibration.items():
        # On a logarithmic axis there is no 0.
        shown = [p for p in points if p.acted > 0]
        axes.plot(
            [p.probability for p in shown], [p.acted for p in shown], marker="o", markersize=3,
            linewidth=1.2, label=KIND_WORDS.get(name, name), color=COLOURS[name],
        )  # fmt: skip
    axes.set(xscale="log", yscale="log", xlabel="probability given", ylabel="share that acted")
    axes.legend(frameon=False)
    return page.plot(figure, "Calibration", "On the dashed line probabilities mean what they say.")


def _ratios(quality: Quality) -> str:
    figure, axes = page.new_figure()
    named = [
        ("all", quality.overall),
        *((KIND_WORDS[p.part], p) for p in quality.by_moment),
        *((f"{p.part} columns", p) for p in quality.by_history),
        *((f"{p.part} positives", p) for p in quality.by_category_size),
    ][::-1]
    for number, (_, part) in enumerate(named):
        ratio = part.predicted_over_seen
        if ratio.value is not None and ratio.low is not None and ratio.high is not None:
            reach = [[ratio.value - ratio.low], [ratio.high - ratio.value]]
            axes.errorbar(
                [ratio.value], [number], xerr=reach, fmt="o", capsize=3, markersize=4,
                color=COLOURS[ALL],
            )  # fmt: skip
    axes.axvline(1, color="#aaaaaa", linewidth=1, linestyle="--")
    axes.set_yticks(range(len(named)), [name for name, _ in named])
    axes.set_ylim(-0.5, len(named) - 0.5)
    axes.set(xlabel="predicted over seen")
    caption = "At 1 the model expects as many actions as there were; above it is too sure."
    return page.plot(figure, "Predicted over seen", caption)


def _list(sentences: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{page.text(one)}</li>" for one in sentences) + "</ul>"


def _wide(table: str, kind: str = "") -> str:
    return f'<div class="wide {kind}">{table}</div>'


def _value(value: object) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "-".join(str(part) for part in value) or "none"
    return str(value)


def _moment(text: str) -> str:
    return text.replace("+00:00", "Z").replace("T", " ").removesuffix("Z") + " UTC"


def _number(value: float | None, digits: int = 4) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _interval(found: Estimate, digits: int) -> str:
    if found.low is None or found.high is None:
        return _number(found.value, digits)
    low, high = _number(found.low, digits), _number(found.high, digits)
    return f"{_number(found.value, digits)} ({low} to {high})"


def _signed(found: Estimate) -> str:
    if found.low is None or found.high is None:
        return "-"
    return f"{page.signed(found.value, 4)} ({found.low:+.4f} to {found.high:+.4f})"
