"""Names and values that would be more than a name in a path, a script or a page."""

from io import StringIO
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from dlm.cli import main
from dlm.cluster.settings import load_cluster
from dlm.config.loading import load_recipe, resolved_yaml
from dlm.errors import UserError
from dlm.evaluation.results import Result
from dlm.evaluation.table import markdown_table, score_table
from dlm.evaluation.tasks import load_task
from dlm.export.card import Exported, model_card
from dlm.export.history import History
from dlm.generation.model import Description
from dlm.names import RESULT, STAGE, TITLE

SIGNS = "".join(map(chr, range(0xA1))) + "­  ﻿\ud800äß中Ա🙂"


def with_names(chain: Path, name: str, system: str) -> Path:
    """The recipe, called so, with a system called so."""
    raw = yaml.safe_load(chain.read_text(encoding="utf-8"))
    evaluation = raw["stages"]["scores"]["evaluation"]
    evaluation["systems"] = {system: {"model": "twin"}}
    evaluation["compare"] = []
    path = chain.with_name("named.yaml")
    path.write_text(yaml.safe_dump({"name": name, **raw}, sort_keys=False), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "name",
    ["a\nb", "a\n#SBATCH --exclusive", "a\x1b[31m", "a\x00", "../a", "/a", "a/b", "a\\b", ".", "..",
     ".a", "-a", " a", "a ", "a\xa0b", "a\u200eb", "a\u2028b", "é" * 51],
)  # fmt: skip
def test_what_is_no_name_is_refused_with_the_rule(name: str, chain: Path) -> None:
    with pytest.raises(UserError) as caught:
        load_recipe(with_names(chain, name, name))
    message = str(caught.value)
    assert message.startswith("2 problems in ")
    assert "  name = " in message and "  stages.scores.evaluation.systems." in message
    assert message.count("printable text on one line, at most 100 bytes") == 2
    assert len(message.splitlines()) == 3  # a name with a line break adds no line


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.text(SIGNS, min_size=1, max_size=12), st.text(SIGNS.replace("\ud800", ""), max_size=12))
def test_a_name_is_refused_or_written_as_it_is_given(chain: Path, name: str, about: str) -> None:
    if not TITLE.fits(name):
        return  # refused: the test above
    named = with_names(chain, name, name)
    described = yaml.safe_dump({"description": about.replace("${", "$")})
    named.write_text(named.read_text(encoding="utf-8") + described, encoding="utf-8")
    recipe = load_recipe(named)
    assert (recipe.name, recipe.description) == (name, about.replace("${", "$"))
    assert list(recipe.stages["scores"].evaluation.systems) == [name]
    written = chain.with_name("written.yaml")
    written.write_text(resolved_yaml(recipe), encoding="utf-8")
    assert load_recipe(written) == recipe


@pytest.mark.parametrize("name", ["table.md", "Comparisons.json"])
def test_a_system_is_not_called_as_a_file_of_the_evaluation(name: str, chain: Path) -> None:
    with pytest.raises(UserError, match=r"may not be table\.md or comparisons\.json"):
        load_recipe(with_names(chain, "chain", name))
    assert TITLE.fits(name) and not RESULT.fits(name)


@pytest.mark.parametrize("name", ["-x", "a" * 65, "a\n", "ä"])
def test_a_stage_is_named_in_plain_letters(name: str) -> None:
    assert not STAGE.fits(name) and STAGE.fits("adapt_2-b")


def test_a_task_is_called_as_its_file_if_that_is_a_name(tmp_path: Path) -> None:
    path = tmp_path / "a\nb.yaml"
    path.write_text("version: 1\nsource: {path: x.jsonl}\nmetrics: [bleu]\n")
    with pytest.raises(UserError, match=r"called as its file, 'a\\nb': it names a folder"):
        load_task(str(path))


@pytest.mark.parametrize(
    ("setting", "key"),
    [
        ({"partition": "a\n#SBATCH --exclusive"}, "partition"),
        ({"account": "a\rb"}, "account"),
        ({"stages": {"adapt": {"constraint": "h100\x0b"}}}, "stages.adapt.constraint"),
        ({"sbatch": ["--exclusive\n"]}, "sbatch[0]"),
        ({"python": "python\nrm"}, "python"),
        ({"environment": {"A B": "x"}}, "environment.A B"),
        ({"environment": {"A": "x\0"}}, "environment.A"),
        ({"container": {"image": "i", "mounts": ["/a\n:/b"]}}, "container.mounts[0]"),
        ({"scheduler": "kubernetes", "kubernetes": {"image": "i", "namespace": "a: b"}},
         "kubernetes.namespace"),
        ({"scheduler": "kubernetes", "kubernetes": {"image": "i", "volumes": {"A_b": "/x"}}},
         "kubernetes.volumes"),
    ],
)  # fmt: skip
def test_a_value_of_the_cluster_file_is_one_value(
    setting: dict[str, object], key: str, tmp_path: Path
) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text(yaml.safe_dump(setting), encoding="utf-8")
    with pytest.raises(UserError, match="1 problem in") as caught:
        load_cluster(str(path))
    assert f"  {key} = " in str(caught.value) or f"  {key}: " in str(caught.value)


def test_a_run_directory_with_a_line_break_is_refused(
    chain: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    data = "data={train: [{generator: number_pairs, count: 9}], validation: []}"
    place = tmp_path / "a\n#SBATCH --exclusive"
    assert (
        main(["run", str(chain), data, "stages.scores=null", "--run-dir", str(place), "--dry-run"])
        == 2
    )
    error = capsys.readouterr().err
    assert "--run-dir '" in error and "must be printable text on one line" in error


def test_a_system_is_shown_by_its_name_and_not_as_markup() -> None:
    system = "[red]a|b[/red] <i>"
    generation = {"kind": "autoregressive", "beam_size": 1, "length_penalty": 0.0}
    score = {"score": 1.0, "ci95_low": 0.0, "ci95_high": 2.0, "signature": "a|b"}
    metrics = {"generation": generation, "scores": {"bleu": score}, "rows": 1, "task_version": 1}
    result = Result(system, "task", metrics, [])
    shown = StringIO()
    Console(file=shown, width=200).print(score_table([result]))
    assert system in shown.getvalue()
    assert r"| \[red]a\|b[/red] &lt;i&gt; |" in markdown_table([result], [])
    exported = Exported("a <b>*c*", "XLMRobertaForMaskedLM", 1, 512, Description(), "", None, True)
    card = model_card(exported, History(results=[result]))
    assert "# a &lt;b&gt;\\*c\\*\n" in card
    assert r"| \[red]a\|b[/red] &lt;i&gt; |" in card and "<i>" not in card
