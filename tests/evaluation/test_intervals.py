"""Intervals against published values, and against what they promise: 95 % of samples are covered.

Counts are whole, so no interval covers just 95 % at every share and number of rows: Wilson's wavers
from 84 to 98 % at single points (Brown, Cai and DasGupta 2001), and holds 95 % over them.
"""

import math
from functools import cache

import numpy as np
import numpy.typing as npt
import pytest

from dlm.evaluation.intervals import (
    Interval,
    bootstrap,
    clopper_pearson,
    mean_in_percent,
    mean_interval,
    paired_marks,
    student,
    wilson,
)

Array = npt.NDArray[np.float64]
ROWS = (20, 30, 50, 100, 250, 500, 1000)
SHARES = (0.004, 0.01, 0.02, 0.05, 0.1, 0.3, 0.5, 0.7, 0.9, 0.95, 0.98, 0.99, 0.996)


@pytest.mark.parametrize(
    ("right", "rows", "of_wilson", "exact"),
    [
        (81, 263, (0.2553, 0.3662), (0.2527, 0.3676)),
        (15, 148, (0.0624, 0.1605), (0.0578, 0.1617)),
        (0, 20, (0.0, 0.1611), (0.0, 0.1684)),
        (1, 29, (0.0061, 0.1718), (0.0009, 0.1776)),
    ],
)
def test_shares_have_the_intervals_of_newcombe_1998_table_1(
    right: int, rows: int, of_wilson: tuple[float, float], exact: tuple[float, float]
) -> None:
    assert wilson(right / rows, rows) == pytest.approx(of_wilson, abs=5e-5)
    assert clopper_pearson(right, rows) == pytest.approx(exact, abs=5e-5)


def test_all_right_of_200_is_no_certainty() -> None:
    found = mean_interval(np.ones(200))
    assert (found.value, round(found.low, 1)) == (100, 98.1)
    assert found.high == pytest.approx(100)
    assert found.method == "Wilson"


def marks(won: int, lost: int, rows: int) -> Interval:
    first, second = np.zeros(rows), np.zeros(rows)
    first[:won] = 1
    second[won : won + lost] = 1
    return paired_marks(first, second)


def test_a_paired_difference_has_tangos_interval() -> None:
    """21 children, 1 and 7 of them discordant: the example of Bentur et al. 2009 in Fagerland,
    Lydersen and Laake (2014), whose R package contingencytables has the same equations."""
    found = marks(1, 7, 21)
    assert found.value == pytest.approx(-100 * 6 / 21)
    assert (found.low, found.high) == pytest.approx((-51.7, -2.6), abs=0.05)
    turned = marks(7, 1, 21)
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low))


def test_two_systems_that_agree_on_few_rows_may_differ_on_others() -> None:
    found = marks(0, 0, 200)
    assert (found.value, found.low, found.high) == pytest.approx((0, -1.885, 1.885), abs=1e-3)


@pytest.mark.parametrize(("freedom", "value"), [(3, 3.182), (5, 2.571), (10, 2.228), (60, 2.000)])
def test_students_t_is_that_of_tables(freedom: int, value: float) -> None:
    assert student(freedom) == pytest.approx(value, rel=0.002)


@cache
def wilson_ends(rows: int) -> Array:
    return np.array([wilson(right / rows, rows) for right in range(rows + 1)])


def covered(share: float, rows: int) -> float:
    """The probability that Wilson's interval holds the share, summed over all counts."""
    count = np.arange(rows + 1)
    ways = np.array([math.lgamma(rows + 1) - math.lgamma(k + 1) - math.lgamma(rows - k + 1)
                     for k in count])  # fmt: skip
    p = np.exp(ways + count * math.log(share) + (rows - count) * math.log1p(-share))
    low, high = wilson_ends(rows).T
    return float(p[(low <= share) & (share <= high)].sum())


@pytest.mark.parametrize("rows", ROWS)
def test_wilson_covers_95_percent_over_the_shares(rows: int) -> None:
    shares = np.linspace(0.004, 0.996, 125)
    assert 0.93 < np.mean([covered(share, rows) for share in shares]) < 0.97


@pytest.mark.parametrize("share", SHARES)
def test_wilson_covers_95_percent_over_the_numbers_of_rows(share: float) -> None:
    numbers = [round(20 * 50 ** (step / 40)) for step in range(41)]
    values = [covered(share, rows) for rows in numbers]
    assert 0.93 < np.mean(values) < 0.97
    assert min(values) > 0.83


@pytest.mark.parametrize(
    ("rows", "outside", "lowest", "highest"),
    [(20, 0.21, 0.852, 0.982), (50, 0.06, 0.922, 0.983), (100, 0.02, 0.936, 0.977)],
)
def test_at_single_shares_coverage_wavers_as_the_table_says(
    rows: int, outside: float, lowest: float, highest: float
) -> None:
    """docs/evaluation.md has the same numbers."""
    values = np.array([covered(share, rows) for share in np.linspace(0.004, 0.996, 249)])
    assert np.mean((values < 0.93) | (values > 0.97)) == pytest.approx(outside, abs=0.005)
    assert (values.min(), values.max()) == pytest.approx((lowest, highest), abs=0.001)


def coverage(made: Array, truth: float, clusters: list[int]) -> float:
    """Share of the drawn sets [sets, rows] whose interval holds the true mean."""
    found = [mean_interval(values, clusters) for values in made]
    return float(np.mean([each.low <= 100 * truth <= each.high for each in found]))


@pytest.mark.parametrize("share", [0.5, 0.8, 0.95])
def test_rows_that_share_a_paragraph_are_one_cluster(share: float) -> None:
    """Five questions a paragraph whose chances are drawn together (a beta of concentration 1.5):
    counted as independent, the interval is half as wide as it must be."""
    draw = np.random.default_rng(0)
    chance = draw.beta(1.5 * share, 1.5 * (1 - share), size=(1500, 60, 1))
    made = (draw.random((1500, 60, 5)) < chance).reshape(1500, 300).astype(np.float64)
    clusters = np.repeat(np.arange(60), 5).tolist()
    assert 0.93 < coverage(made, share, clusters) < 0.975
    assert coverage(made, share, []) < 0.85


@pytest.mark.parametrize(("rows", "present"), [(250, 0.02), (100, 0.1), (20, 0.6), (1000, 0.3)])
def test_scores_between_0_and_1_that_are_mostly_0_are_covered(rows: int, present: float) -> None:
    """Such as token F1 of a weak model."""
    draw = np.random.default_rng(1)
    scores = draw.beta(2, 2, size=(1500, rows)) * (draw.random((1500, rows)) < present)
    assert 0.93 < coverage(scores, present / 2, []) < 0.975


@cache
def rejects(won: int, lost: int, rows: int) -> bool:
    found = marks(won, lost, rows)
    return found.low > 0 or found.high < 0


@pytest.mark.parametrize(
    ("rows", "differing"),
    [(20, 0.3), (20, 0.6), (50, 0.1), (100, 0.06), (100, 0.4), (250, 0.02), (250, 0.3),
     (1000, 0.02), (1000, 0.2)],
)  # fmt: skip
def test_two_equal_systems_are_told_apart_in_3_to_7_percent(rows: int, differing: float) -> None:
    """Of 0/1 scores; where fewer than five rows differ it is less."""
    draw = np.random.default_rng(2)
    differ = draw.binomial(rows, differing, size=1500)
    won = draw.binomial(differ, 0.5)
    found = [rejects(int(w), int(d - w), rows) for w, d in zip(won, differ, strict=True)]
    assert 0.03 < np.mean(found) < 0.07


def test_two_equal_systems_differ_by_less_where_few_rows_tell_them_apart() -> None:
    draw = np.random.default_rng(3)
    differ = draw.binomial(250, 0.008, size=1500)
    won = draw.binomial(differ, 0.5)
    found = [rejects(int(w), int(d - w), 250) for w, d in zip(won, differ, strict=True)]
    assert np.mean(found) < 0.07


@pytest.mark.parametrize("rows", [20, 60])
def test_a_paired_bootstrap_rejects_equal_systems_in_3_to_7_percent(rows: int) -> None:
    draw = np.random.default_rng(4)
    made = draw.normal(size=(400, rows))
    zero = np.stack([np.zeros(rows), np.ones(rows)], axis=1)
    found = []
    for values in made:
        first = np.stack([values, np.ones(rows)], axis=1)
        each = bootstrap(mean_in_percent, first, zero, samples=300)
        found.append(each.low > 0 or each.high < 0)
    assert 0.03 < np.mean(found) < 0.075


def ratio(total: Array) -> float:
    """Of two sums, such as nats to tokens: not known to be a mean."""
    return float(total[0] / total[1])


def test_a_mean_of_values_from_0_to_1_is_not_resampled() -> None:
    """Where all rows are alike no resample has another mean."""
    ones, zeros = (np.stack([np.full(200, x), np.ones(200)], axis=1) for x in (1.0, 0.0))
    right = bootstrap(mean_in_percent, ones, samples=50)
    assert right == mean_interval(np.ones(200)) and round(right.low, 1) == 98.1
    same = bootstrap(mean_in_percent, ones, ones, samples=50)
    assert same == marks(0, 0, 200)
    apart = bootstrap(mean_in_percent, ones, zeros, samples=50)
    assert apart == paired_marks(ones[:, 0], zeros[:, 0])
    clusters = np.repeat(np.arange(40), 5).tolist()
    of_clusters = bootstrap(mean_in_percent, ones, ones, samples=50, clusters=clusters)
    assert of_clusters.method == "paired bootstrap, 50 resamples of 40 clusters"
    resampled = bootstrap(ratio, ones, samples=50)
    assert (resampled.low, resampled.high, resampled.method) == (1, 1, "bootstrap, 50 resamples")


@pytest.mark.parametrize("rows", [20, 100, 1000])
def test_the_bootstrap_of_a_corpus_score_covers_95_percent(rows: int) -> None:
    """Nats to tokens of texts of very different lengths, the true ratio 2."""
    draw = np.random.default_rng(5)
    lengths = draw.integers(3, 60, size=(400, rows)).astype(np.float64)
    nats = lengths * 2 + draw.normal(size=lengths.shape) * np.sqrt(lengths)
    held = []
    for part in np.stack([nats, lengths], axis=2):
        found = bootstrap(ratio, part, samples=300)
        held.append(found.low <= 2 <= found.high)
    assert 0.93 <= np.mean(held) <= 0.97


def test_a_bootstrap_of_clusters_draws_all_their_rows() -> None:
    values = np.stack([np.repeat([0.0, 1.0, 0.2], 4), np.ones(12)], axis=1)
    clusters = np.repeat([0, 4, 8], 4).tolist()
    by_row = bootstrap(ratio, values, samples=500)
    by_cluster = bootstrap(ratio, values, samples=500, clusters=clusters)
    small = np.stack([[0.0, 1.0, 0.2], np.ones(3)], axis=1)
    alone = bootstrap(ratio, small, samples=500)
    assert (by_cluster.low, by_cluster.high) == pytest.approx((alone.low, alone.high))
    assert by_cluster.high - by_cluster.low > by_row.high - by_row.low
    assert by_cluster.method == "bootstrap, 500 resamples of 3 clusters"


def test_scores_between_0_and_1_count_as_the_rows_whose_share_would_vary_as_much() -> None:
    """31 rows, 12 of 0.25 and 19 of 0.75, by hand: the variance with n - 1, and Student's t of 30
    degrees of freedom (2.0423) in place of 1.96."""
    values = np.repeat([0.25, 0.75], [12, 19])
    mean = (12 * 0.25 + 19 * 0.75) / 31
    variance = (12 * (0.25 - mean) ** 2 + 19 * (0.75 - mean) ** 2) / 30 / 31
    rows = mean * (1 - mean) / variance * (1.959964 / 2.0423) ** 2
    found = mean_interval(values)
    assert (found.low, found.high) == pytest.approx(
        tuple(100 * end for end in wilson(mean, rows)), rel=1e-4
    )
    assert found.method == "Wilson, effective rows"


def test_clusters_whose_rows_make_up_for_each_other_are_no_surer_than_their_rows() -> None:
    """A right and a wrong answer about every paragraph: the sums of all clusters are alike."""
    values, clusters = np.tile([1.0, 0.0], 20), np.repeat(np.arange(20), 2).tolist()
    of_clusters, of_rows = mean_interval(values, clusters), mean_interval(values)
    assert of_clusters.low < of_rows.low < 50 < of_rows.high < of_clusters.high
