"""What dashboards are made of: panels of one look, over the metrics of the chosen members.

Expressions are PromQL with bare names of metrics. `_chosen` adds to each the selection by the
variables `job` and `instance`, which every dashboard has, so that none can forget it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from string import ascii_uppercase

from grafana_foundation_sdk.builders import common, dashboard, heatmap, prometheus, stat, table
from grafana_foundation_sdk.builders import timeseries as lines
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import heatmap as heatmap_models
from grafana_foundation_sdk.models import prometheus as prometheus_models

SOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
SELECTION = 'job=~"$job", instance=~"$instance"'
RATE = "$__rate_interval"
HEIGHT = 8
WIDTH = 24  # of a row, in Grafana's units
_METRIC = re.compile(r"\b((?:stream_scorer|process|python)_\w+)(?:\{([^}]*)\})?")

# What a threshold's colour says, from the value on.
Steps = Sequence[tuple[float | None, str]]
GOOD, WATCH, BAD = "green", "orange", "red"
NEUTRAL: Steps = ((None, "blue"),)


def _chosen(expression: str) -> str:
    """The expression over the chosen members."""

    def select(match: re.Match[str]) -> str:
        own = f"{match[2]}, " if match[2] else ""
        return f"{match[1]}{{{own}{SELECTION}}}"

    return _METRIC.sub(select, expression)


def _query(expression: str, legend: str, index: int = 0) -> prometheus.Dataquery:
    query = prometheus.Dataquery().expr(_chosen(expression)).legend_format(legend)
    return query.ref_id(ascii_uppercase[index])


def _thresholds(steps: Steps) -> dashboard.ThresholdsConfig:
    return (
        dashboard.ThresholdsConfig()
        .mode(models.ThresholdsMode.ABSOLUTE)
        .steps([models.Threshold(value=value, color=color) for value, color in steps])
    )


def number(
    title: str, expression: str, meaning: str, unit: str = "short", steps: Steps = NEUTRAL,
    *, width: int = 4, height: int = 4, decimals: int | None = None,
) -> stat.Panel:  # fmt: skip
    """One number as it is now, coloured by `steps`, with its course behind it."""
    panel = (
        stat.Panel()
        .title(title)
        .description(meaning)
        .datasource(SOURCE)
        .unit(unit)
        .thresholds(_thresholds(steps))
        .color_scheme(dashboard.FieldColor().mode(models.FieldColorModeId.THRESHOLDS))
        .color_mode(common_models.BigValueColorMode.VALUE)
        .graph_mode(common_models.BigValueGraphMode.AREA)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .no_value("none")
        .height(height)
        .span(width)
        .with_target(_query(expression, ""))
    )
    return panel if decimals is None else panel.decimals(decimals)


def course(
    title: str, expressions: Mapping[str, str], meaning: str, unit: str = "short",
    *, width: int = 8, stacked: bool = False, least: float | None = 0, most: float | None = None,
    logarithmic: bool = False, counts: bool = False,
) -> lines.Panel:  # fmt: skip
    """Lines over time. expressions: by the text of their legend, in which {{label}} stands for the
    value of a label. least, most: of the axis, which grows where values lie beyond. counts: bars
    of what happened between two points, so that a single one is seen."""
    panel = (
        lines.Panel()
        .title(title)
        .description(meaning)
        .datasource(SOURCE)
        .unit(unit)
        .height(HEIGHT)
        .span(width)
        .line_width(1)
        .fill_opacity(25 if stacked else 8)
        .show_points(common_models.VisibilityMode.NEVER)
        .legend(
            common.VizLegendOptions()
            .display_mode(common_models.LegendDisplayMode.LIST)
            .placement(common_models.LegendPlacement.BOTTOM)
            .show_legend(True)
        )
        .tooltip(
            common.VizTooltipOptions()
            .mode(common_models.TooltipDisplayMode.MULTI)
            .sort(common_models.SortOrder.DESCENDING)
        )
    )
    if counts:
        panel = panel.draw_style(common_models.GraphDrawStyle.BARS).fill_opacity(70)
    if stacked or counts:
        panel = panel.stacking(common.StackingConfig().mode(common_models.StackingMode.NORMAL))
    if logarithmic:
        scale = common.ScaleDistributionConfig().type(common_models.ScaleDistribution.LOG).log(10)
        panel = panel.scale_distribution(scale)
    elif least is not None:
        panel = panel.axis_soft_min(least)
    if most is not None:
        panel = panel.axis_soft_max(most)
    for index, (legend, expression) in enumerate(expressions.items()):
        panel = panel.with_target(_query(expression, legend, index))
    return panel


def distribution(
    title: str, histogram: str, meaning: str, unit: str = "s", *, width: int = 12
) -> heatmap.Panel:
    """How the values of a histogram lie over time."""
    query = _query(f"sum by (le) (increase({histogram}_bucket[{RATE}]))", "{{le}}")
    return (
        heatmap.Panel()
        .title(title)
        .description(meaning)
        .datasource(SOURCE)
        .height(HEIGHT)
        .span(width)
        .calculate(False)
        .color(
            heatmap.HeatmapColorOptions()
            .mode(heatmap_models.HeatmapColorMode.SCHEME)
            .scheme("Blues")
            .steps(32)
        )
        .y_axis(heatmap.YAxisConfig().unit(unit))
        .with_target(query.format(prometheus_models.PromQueryFormat.HEATMAP))
    )


def rows_of(
    title: str, expression: str, meaning: str, labels: Sequence[str], *, width: int = 12
) -> table.Panel:
    """A table of what there is now: one row for each series, with these labels as columns."""
    kept = {label: index for index, label in enumerate(labels)}
    query = _query(expression, "").instant()
    return (
        table.Panel()
        .title(title)
        .description(meaning)
        .datasource(SOURCE)
        .height(HEIGHT)
        .span(width)
        .with_target(query.format(prometheus_models.PromQueryFormat.TABLE))
        .with_transformation(
            models.DataTransformerConfig(
                id_val="organize",
                options={"excludeByName": {"Time": True}, "indexByName": kept},
            )
        )
    )


def row(title: str) -> dashboard.Row:
    """A heading; the panels after it belong to it."""
    return dashboard.Row(title)


Element = dashboard.Row | lines.Panel | stat.Panel | heatmap.Panel | table.Panel


def board(
    uid: str, title: str, meaning: str, elements: Sequence[Element], *, past: str, link: str
) -> models.Dashboard:
    """A dashboard of `elements` in their order. past: how far back it looks at first; link: the uid
    of the dashboard beside it."""
    built = (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(meaning)
        .tags(["stream-scorer"])
        .timezone("browser")
        .readonly()
        .refresh("30s")
        .time(f"now-{past}", "now")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .with_variable(
            dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus")
        )
        .with_variable(_variable("job", "Job", "stream_scorer_alive"))
        .with_variable(_variable("instance", "Member", 'stream_scorer_alive{job=~"$job"}'))
        .annotation(
            dashboard.AnnotationQuery()
            .name("Another model is served")
            .datasource(SOURCE)
            .enable(True)
            .icon_color("purple")
            .expr(_chosen("sum(changes(stream_scorer_model_switches_total[1m])) > 0"))
        )
        .link(
            dashboard.DashboardLink("The other dashboard")
            .type(models.DashboardLinkType.LINK)
            .url(f"/d/{link}")
            .include_vars(True)
            .keep_time(True)
        )
    )
    for element in elements:
        if isinstance(element, dashboard.Row):
            built = built.with_row(element)
        else:
            built = built.with_panel(element)
    return built.build()


def _variable(name: str, label: str, series: str) -> dashboard.QueryVariable:
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(SOURCE)
        .query(f"label_values({series}, {name})")
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .current(models.VariableOption(text="All", value="$__all"))
    )
