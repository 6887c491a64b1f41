"""How long an attempt may take and how long ranks wait, as a recipe says it."""

from pathlib import Path

import pytest

from dlm.config.durations import seconds_of
from dlm.config.loading import load_recipe
from dlm.errors import UserError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("3h30m", 12_600),
        ("1d12h", 129_600),
        ("90s", 90),
        ("00:55:00", 3_300),
        ("1-02:00:00", 93_600),
        ("45:00", 2_700),
        ("3300", 3_300),
        ("2.5", 2.5),
        (" 1H 5M ", 3_900),
    ],
)
def test_durations_are_read_as_people_and_clusters_write_them(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "3h30", "1:2:3:4", "-5", "30m3h", "h"])
def test_what_is_no_duration_is_refused_with_the_forms(text: str) -> None:
    with pytest.raises(ValueError, match="write 3h30m"):
        seconds_of(text)
    with pytest.raises(ValueError, match="must be above 0: write 3h30m"):
        seconds_of("00:00")


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("hardware.max_time=soon", "hardware.max_time = 'soon': not a duration: write 3h30m"),
        ("hardware.max_time='0'", "hardware.max_time = '0': must be above 0"),
        ("hardware.timeout_s=60", "hardware.timeout_s = 60.0: ignored setting: it needs hardware."),
        ("hardware={timeout_s: 0, strategy: ddp}", "hardware.timeout_s = 0.0: must be above 0"),
        ("train.on_nonfinite=ignore", "train.on_nonfinite"),
    ],
)
def test_limits_that_cannot_be_meant_are_refused(chain: Path, override: str, expected: str) -> None:
    with pytest.raises(UserError) as caught:
        load_recipe(chain, [override])
    assert expected in str(caught.value)


@pytest.mark.parametrize("given", ["3300s", "00:55:00", "'55:00'", "55m"])
def test_a_deadline_is_read_from_a_recipe(chain: Path, given: str) -> None:
    stage = load_recipe(chain, [f"hardware.max_time={given}"]).stages["adapt"]
    assert stage.hardware.max_time is not None and seconds_of(stage.hardware.max_time) == 3_300


@pytest.mark.parametrize("given", ["3300", "55:00"])
def test_what_yaml_takes_for_a_number_is_to_be_quoted(chain: Path, given: str) -> None:
    with pytest.raises(UserError, match="= 3300: must be quoted text"):
        load_recipe(chain, [f"hardware.max_time={given}"])
