"""Tables, charts and marked differences by themselves."""

import math
import re

import pytest

from dlm.report.charts import (
    HEIGHT,
    WIDTH,
    Series,
    bar_chart,
    interval_graphic,
    line_chart,
    log_ticks,
    number_text,
    ticks,
)
from dlm.report.curves import thinned
from dlm.report.samples import difference_html
from dlm.report.tables import Cell, Column, Table, table_csv, table_html, table_markdown

TABLE = Table(
    "scores", "Scores",
    (Column("system"), Column("bleu", number=True), Column("drawn", graphic=True)),
    ((
        Cell("a|b <i>"), Cell("12.3", 12.3456, "x/metrics.json: scores.bleu"), Cell(markup="<svg>"),
    ),),
)  # fmt: skip


def test_a_table_is_html_with_the_file_of_every_figure() -> None:
    page = table_html(TABLE)
    assert '<td class="number" title="x/metrics.json: scores.bleu">12.3</td>' in page
    assert "a|b &lt;i&gt;" in page and "<svg>" in page
    assert "from <code>x/metrics.json</code>" in page


def test_a_table_is_markdown_without_graphics_whose_cells_stay_cells() -> None:
    lines = table_markdown(TABLE).splitlines()
    assert lines[2:5] == ["| system | bleu |", "|---|---:|", r"| a\|b &lt;i&gt; | 12.3 |"]
    assert lines[-1] == "from x/metrics.json"


def test_the_many_files_of_a_markdown_table_are_named_by_patterns() -> None:
    places = ["a/1_x/m.json: k", "b/1_x/m.json: k; b/2_x/m.json: k", "c/1_x/logs/v.csv"]
    rows = tuple((Cell("1", source=place),) for place in places)
    shown = table_markdown(Table("t", "T", (Column("n"),), rows))
    assert shown.endswith(
        "\nfrom 4 files, \\*/\\*/m.json, c/1_x/logs/v.csv; the CSV names those of each row\n"
    )


def test_a_table_is_csv_with_the_values_of_the_files() -> None:
    assert table_csv(TABLE).splitlines() == [
        "system,bleu,source", "a|b <i>,12.3456,x/metrics.json: scores.bleu",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0.0, 1.0, [0, 0.2, 0.4, 0.6, 0.8, 1.0]), (3.1, 3.9, [3.2, 3.4, 3.6, 3.8]),
     (-50, 2000, [0, 500, 1000, 1500, 2000]), (0.00011, 0.0005, [0.0002, 0.0003, 0.0004, 0.0005])],
)  # fmt: skip
def test_ticks_are_round_and_inside(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (9e4, 2e6, [1e5, 2e5, 5e5, 1e6, 2e6]),
        (1.0, 1e6, [1.0, 10.0, 100.0, 1e3, 1e4, 1e5, 1e6]),
        (0.6, 0.7, [0.6, 0.65, 0.7]),
    ],
)
def test_ticks_of_a_logarithmic_axis_are_round(
    low: float, high: float, expected: list[float]
) -> None:
    assert log_ticks(low, high) == expected


def test_ticks_are_read_at_a_glance() -> None:
    shown = [number_text(value) for value in (0.05, 2, 1500, 20_000, 1.5e6, 3e9)]
    assert shown == ["0.05", "2", "1,500", "20k", "1.5M", "3G"]


def places(chart: str, colour: int) -> list[tuple[float, float]]:
    found = re.search(rf'class="line c{colour}[^"]*" points="([^"]*)"', chart)
    assert found is not None
    pairs = (pair.split(",") for pair in found[1].split())
    return [(float(x), float(y)) for x, y in pairs]


def test_a_line_is_where_its_values_are_and_the_exported_step_is_ringed() -> None:
    chart = line_chart("loss", "step", "nats", [
        Series("low", [(0, 1.0), (10, 1.0)], 0, marked_x=10),
        Series("high", [(0, 3.0), (5, 2.0)], 1),
    ])  # fmt: skip
    low, high = places(chart, 0), places(chart, 1)
    assert low[0][1] > high[0][1] and low[0][0] == high[0][0]
    assert high[1][0] == pytest.approx((low[0][0] + low[1][0]) / 2, abs=0.1)
    assert high[1][1] == pytest.approx((low[0][1] + high[0][1]) / 2, abs=0.1)
    ring = f'<circle class="ring" cx="{low[1][0]}" cy="{low[1][1]}"'
    assert chart.count(ring) == 1 and "exported step" in chart
    assert "<span>low</span>" in chart and ">nats</text>" in chart and ">step</text>" in chart


@pytest.mark.parametrize("value", [0.0, -3.0, 5e8])
def test_a_constant_or_single_value_is_drawn(value: float) -> None:
    for points in ([(7.0, value)], [(7.0, value), (8.0, value)]):
        drawn = line_chart("t", "x", "y", [Series("s", points)])
        assert "nan" not in drawn and "inf" not in drawn
        assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in places(drawn, 0))
    assert "nan" not in bar_chart("t", "x", "y", ["a"], [Series("s", [(0, 0.0)])])


def test_nothing_is_drawn_of_nothing() -> None:
    assert line_chart("t", "x", "y", [Series("s", [])]) == ""
    assert bar_chart("t", "x", "y", [], []) == ""


def test_a_long_curve_is_drawn_as_means_and_says_so() -> None:
    points = [(float(x), float(x % 2)) for x in range(1000)]
    means, width = thinned(points, 250)
    assert width == 4 and len(means) == 250 and {y for _, y in means} == {0.5}
    chart = line_chart("t", "x", "y", [Series("s", points, pale=True, marked_x=501)])
    assert "mean of 4 logged steps" in chart
    assert chart.count('class="ring"') == 2  # at its step, and in the legend


def test_bars_are_as_high_as_their_values() -> None:
    chart = bar_chart("t", "x", "y", ["a", "b"], [Series("s", [(0, 1.0), (1, 4.0)])])
    heights = [float(h) for h in re.findall(r'<rect class="bar[^>]* height="([\d.]+)"><', chart)]
    assert heights[1] == pytest.approx(4 * heights[0], rel=0.02)


def test_an_interval_that_was_not_estimated_is_a_point_alone() -> None:
    assert "whisker" in interval_graphic(1.0, 0.5, 2.0, (0.0, 3.0))
    alone = interval_graphic(1.0, math.nan, math.nan, (0.0, 3.0), hollow=True)
    assert "whisker" not in alone and 'class="hollow' in alone


@pytest.mark.parametrize(
    ("reference", "answer", "expected"),
    [
        ("a dog runs", "a dog runs", "a dog runs"),
        ("a dog runs.", "a cat runs.", "a <del>dog</del> <ins>cat</ins> runs."),
        ("the dog", "dog", "<del>the</del> dog"),
        ("a truck", "a truck.", "a truck<ins>.</ins>"),
        ("a dog", "", '<del>a dog</del>'),
        ("", "", '<span class="empty">(empty)</span>'),
        ("", "<b>&", "<ins>&lt;b&gt;&amp;</ins>"),
    ],
)  # fmt: skip
def test_what_differs_from_the_reference_is_marked(
    reference: str, answer: str, expected: str
) -> None:
    assert difference_html(reference, answer) == expected


def test_a_text_without_end_is_cut_and_says_so() -> None:
    assert "(cut here)" in difference_html("a", "b " * 5000)
    assert len(difference_html("a", "b " * 5000)) < 4000
