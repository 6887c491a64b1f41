"""The power law against data whose exponent is known."""

import numpy as np
import pytest

from dlm.report.power_law import T_975, fit_power_law

SIZES = (1e5, 3e5, 7e5, 1.5e6)


def test_an_exact_power_law_is_found() -> None:
    law = fit_power_law(SIZES, [40.0 * size**-0.35 for size in SIZES])
    assert law.exponent == pytest.approx(0.35) and law.scale == pytest.approx(40.0)
    assert law.exponent_low == pytest.approx(law.exponent_high)
    assert law(1e7) == pytest.approx(40.0 * 1e7**-0.35) and law.r_squared == pytest.approx(1.0)


def test_the_interval_is_that_of_linear_regression_worked_by_hand() -> None:
    # log sizes 0, 1, 2; log losses 0, -1, -1: slope -1/2, squared residuals 1/36 + 1/9 + 1/36.
    law = fit_power_law(np.exp([0.0, 1.0, 2.0]).tolist(), np.exp([0.0, -1.0, -1.0]).tolist())
    error = (1 / 6 / 1 / 2) ** 0.5
    assert law.exponent == pytest.approx(0.5)
    assert law.exponent_high - law.exponent == pytest.approx(12.706 * error)
    middle = np.exp(1.0)
    low, high = law.interval(middle)
    assert np.log(high / law(middle)) == pytest.approx(12.706 * (1 / 6 / 3) ** 0.5)
    assert low * high == pytest.approx(law(middle) ** 2)


def test_the_interval_holds_the_true_exponent_in_95_percent_of_noisy_studies() -> None:
    random = np.random.default_rng(0)
    held = 0
    for _ in range(2000):
        noise = np.exp(random.normal(0, 0.1, len(SIZES)))
        law = fit_power_law(SIZES, (5.0 * np.array(SIZES) ** -0.2 * noise).tolist())
        held += law.exponent_low < 0.2 < law.exponent_high
    assert 0.935 < held / 2000 < 0.965


def test_seeds_of_one_size_are_points_of_their_own() -> None:
    law = fit_power_law([1e5, 1e5, 1e6, 1e6, 1e7], [2.0, 2.0, 1.0, 1.0, 0.5])
    assert law.exponent == pytest.approx(np.log10(2))


@pytest.mark.parametrize(
    ("sizes", "losses", "reason"),
    [
        ([1e5, 1e6, 1e6], [2.0, 1.0, 1.1], "3 sizes or more"),
        ([1e5, 1e6, 1e7], [2.0, 0.0, 1.0], "above 0"),
        ([1e5, 1e6, 1e7], [2.0, float("nan"), 1.0], "above 0"),
    ],
)
def test_what_has_no_power_law_is_refused(
    sizes: list[float], losses: list[float], reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        fit_power_law(sizes, losses)


def test_the_quantiles_are_those_of_tables() -> None:
    assert (T_975[0], T_975[3], T_975[9], T_975[29]) == (12.706, 2.776, 2.228, 2.042)
