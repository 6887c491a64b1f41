"""How long an attempt may take and how long ranks wait, as a recipe says it."""

from pathlib import Path

import pytest

from dlm.cli import main
from dlm.config.durations import seconds_of
from dlm.config.loading import load_recipe
from dlm.config.ranges import RANGE_OF, Range
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


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("seed=-1", "seed = -1: must be at least 0 and at most 4,294,967,295"),
        ("seed=99999999999999999999", "must be at least 0 and at most 4,294,967,295"),
        ("stages.adapt.seed=4294967296", "stages.adapt.seed = 4294967296: must be at least 0"),
        ("generation.seed=-3", "generation.seed = -3: must be at least 0 and at most"),
        ("train.steps=1e30", "must be at least 1 and at most 1,000,000,000"),
        ("model.hidden_size=1000000000", "must be at least 1 and at most 262,144"),
        ("hardware.num_workers=5000", "must be at least 0 and at most 1,024"),
        ("hardware.num_threads=5000", "must be at least 1 and at most 1,024"),
        ("data.max_length=1e9", "must be at least 1 and at most 1,048,576"),
        (
            "data.train=[{generator: words, count: 1e30}]",
            "[0].count = 10000000000000000198",
        ),
        ("optim.lr=.inf", "optim.lr = inf: must be above 0"),
        ("optim.lr=.nan", "optim.lr = nan: must be above 0"),
        ("hardware={strategy: ddp, timeout_s: 1e12}", "must be above 0 and at most 315,360,000"),
        (
            "sweep={seed: [" + "1, " * 200 + "1], optim.lr: [" + "1, " * 99 + "1]}",
            "has 20,100 cells",
        ),
        (
            f"sweep={{size: {{{'a' * 65}: {{seed: 1}}, b: {{seed: 2}}}}}}",
            "at most 64 signs",
        ),
        (f"name={'a' * 101}", "at most 100 bytes"),
        ("seed=" + "9" * 5000, "the value is not YAML"),
        ("description=" + "[" * 30 + "]" * 30, "the value is not YAML"),
        (".".join("a" * 2000) + "=1", "its key is nested deeper than 20 levels"),
    ],
)
def test_a_number_that_nothing_can_carry_out_is_refused_with_its_range(
    chain: Path, override: str, expected: str
) -> None:
    with pytest.raises(UserError) as caught:
        load_recipe(chain, [override])
    assert expected in str(caught.value)


def test_every_range_has_an_end_that_its_words_name() -> None:
    for key, allowed in RANGE_OF.items():
        assert not allowed.fits(float("inf")) and not allowed.fits(float("nan")), key
        assert not allowed.fits(allowed.low - 1)
    assert str(Range(0, 5, low_open=True, high_open=True)) == "above 0 and below 5"
    assert [Range(0, 1, high_open=True).fits(x) for x in (-0.1, 0, 0.9, 1)] == [
        False,
        True,
        True,
        False,
    ]


@pytest.mark.parametrize(
    "text",
    ["stages: " + "[" * 3000 + "]" * 3000, "stages: " + "{a: " * 300 + "1" + "}" * 300,
     "a: &a [x, x, x, x, x, x, x, x]\n" + "".join(
         f"a{n}: &a{n} [{', '.join([f'*a{n - 1}' if n else '*a'] * 10)}]\n" for n in range(7)),
     "seed: " + "9" * 5000, "stages: &a {t: *a}"],
    ids=["lists", "mappings", "aliases", "digits", "itself"],
)  # fmt: skip
def test_a_file_that_is_no_recipe_ends_in_a_message(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.yaml").write_text(text, encoding="utf-8")
    assert main(["validate", str(tmp_path / "x.yaml")]) == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path / 'x.yaml'}")


@pytest.mark.parametrize("seeds", ["0-99999999999", "1-20000", "4294967296"])
def test_seeds_of_the_command_line_have_the_same_range(
    seeds: str, chain: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", str(chain), "--seeds", seeds, "--dry-run"]) == 2
    assert f"--seeds {seeds}: a seed must be at least 0 and at most" in capsys.readouterr().err
