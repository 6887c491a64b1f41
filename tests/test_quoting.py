"""What is written into a script, a manifest or a page reads back as what was given."""

import html
import json
import shlex
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from dlm.cluster.jobs import ClusterJob, Submission
from dlm.cluster.kubernetes import manifests_yaml, render_manifests
from dlm.cluster.settings import ClusterConfig, KubernetesConfig, StageResources
from dlm.cluster.slurm import render_script
from dlm.names import TITLE
from dlm.quoting import (
    markdown_code,
    markdown_row,
    markdown_text,
    on_one_line,
    sbatch_value,
    yaml_text,
)

SIGNS = "".join(map(chr, range(0xA1))) + "­  ﻿äß中Ա🙂�"
"""Every ASCII and control character, and of others what a language may take for a line break."""
TEXTS = st.text(SIGNS, max_size=24)
TITLES = st.text([sign for sign in SIGNS if sign.isprintable()], min_size=1, max_size=24).filter(
    TITLE.fits
)
MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])
quick = settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


class Page(HTMLParser):
    """The text of a page and its elements."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text, self.elements = "", [""]
        self.elements.clear()
        self.feed(page)
        self.close()

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_starttag(self, tag: str, attributes: object) -> None:
        self.elements.append(tag)


def as_slurm_reads(line: str) -> str:
    """The first word behind #SBATCH, by the rules of Slurm's own reader."""
    word, quote, escaped = "", "", False
    for sign in line:
        if escaped:
            word, escaped = word + sign, False
        elif sign == "\\":
            escaped = True
        elif (sign in " \t\n\v\f\r" and not quote) or sign == "#":
            break
        elif sign in (quote or "'\""):
            quote = "" if quote else sign
        else:
            word += sign
    return word


def shown(text: str) -> str:
    """The text as a page shows it: on one line, what cannot be seen as its escape."""
    return on_one_line(" ".join(text.split()))


@quick
@given(TEXTS)
def test_a_text_in_markdown_is_that_text_and_no_markup(text: str) -> None:
    for before, after, elements in (
        ("", "", ["p"]),
        ("# ", "", ["h1"]),
        ("- ", "", ["ul", "li"]),
        ("# ", "\n\n", ["h1"]),
    ):
        page = Page(MARKDOWN.render(f"{before}{markdown_text(text)}{after}"))
        assert page.text.strip() == shown(text)
        assert page.elements == elements or not shown(text)


@quick
@given(TEXTS, TEXTS.filter(lambda text: bool(shown(text))))
def test_a_cell_of_a_markdown_table_is_one_cell(text: str, code: str) -> None:
    row = markdown_row([markdown_text(text), markdown_code(code, in_table=True)])
    page = Page(MARKDOWN.render(f"| a | b |\n|---|---|\n{row}"))
    assert page.elements == ["table", "thead", "tr", "th", "th", "tbody", "tr", "td", "td", "code"]
    cells = page.text.split("\n")
    assert shown(text) in cells and shown(code) in cells


@quick
@given(st.dictionaries(TEXTS, st.one_of(TEXTS, st.lists(TEXTS, max_size=2)), max_size=3))
def test_values_in_yaml_are_those_values(values: dict[str, object]) -> None:
    assert yaml.safe_load(yaml_text(values)) == values


@pytest.mark.parametrize(
    "text",
    [
        "1e3",
        "0o7",
        "0x1f",
        "1_000",
        "12:30:00",
        ".inf",
        "y",
        "No",
        "~",
        "null",
        "",
        "2001-01-01",
        "<<",
        "=",
        "1.",
        "+1",
        "a: b",
        "a #b",
    ],
)
def test_what_a_reader_of_yaml_may_take_for_another_scalar_is_quoted(text: str) -> None:
    # kubectl reads YAML 1.1 in Go's way, which differs from that of Python.
    assert yaml_text({"value": text}) == f"value: {json.dumps(text)}\n"


@quick
@given(st.text([sign for sign in SIGNS if sign.isprintable()], min_size=1))
def test_a_value_for_sbatch_is_one_word_that_begins_no_comment(text: str) -> None:
    assert as_slurm_reads(f"{sbatch_value(text)} # comment") == text


@quick
@given(TITLES)
def test_a_name_in_html_is_that_name(name: str) -> None:
    page = Page(f"<p>{html.escape(name)}</p>")
    assert (page.text, page.elements) == (name, ["p"])


def submission(name: str, place: Path, cluster: ClusterConfig) -> Submission:
    resources = StageResources(nodes=1, gpus_per_node=0, processes_per_node=1, partition=name)
    job = ClusterJob("adapt", "03_adapt", (), resources, (f"description={name}",))
    return Submission(name, place / name, place, cluster, (job,))


def test_scripts_of_five_hundred_names_are_valid_and_say_nothing_else(tmp_path: Path) -> None:
    names: list[str] = []

    @settings(max_examples=500, deadline=None, database=None, derandomize=True)
    @given(TITLES)
    def collect(name: str) -> None:
        names.append(name)

    collect()
    cluster = ClusterConfig(environment={"A": "b\nc'd"})
    ordinary = submission("plain", tmp_path, cluster)
    plain = render_script(ordinary, ordinary.jobs[0])
    for number, name in enumerate(names):
        one = submission(name, tmp_path, cluster)
        script = render_script(one, one.jobs[0])
        assert script.count("\n") == plain.count("\n")
        assert script.count("\n#SBATCH ") == plain.count("\n#SBATCH ")
        (tmp_path / f"{number}.sbatch").write_text(script, encoding="utf-8")
    check = 'for script in "$1"/*.sbatch; do bash -n "$script" || exit 1; done'
    subprocess.run(["bash", "-c", check, "bash", tmp_path], check=True)
    assert len(set(names)) > 400


def test_a_script_hands_over_the_words_that_it_was_given(tmp_path: Path) -> None:
    name = """a "b" 'c' $(touch gone) `touch gone` # | <d> *"""
    one = submission(name, tmp_path, ClusterConfig(python="/py thon", setup=["touch set-up"]))
    (tmp_path / name / "slurm").mkdir(parents=True)
    fakes = 'srun() { printf "%s\\0" "$@" >words; }; squeue() { :; }; scontrol() { :; }\n'
    script = render_script(one, one.jobs[0]).replace("cd ", fakes + "cd ", 1)
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    words = (tmp_path / "words").read_text().split("\0")
    assert words[2:] == [
        "/py thon", "-m", "dlm.cli", "run", f"{tmp_path}/{name}/slurm/recipe.yaml", "--run-dir",
        f"{tmp_path}/{name}", "--only", "adapt", f"description={name}", "",
    ]  # fmt: skip
    assert not (tmp_path / "gone").exists() and (tmp_path / "set-up").exists()


@quick
@given(TITLES, TEXTS)
def test_manifests_for_kubernetes_hold_the_names_and_values_they_were_given(
    name: str, text: str
) -> None:
    kubernetes = KubernetesConfig(image=name, node_selector={name: name})
    cluster = ClusterConfig(scheduler="kubernetes", environment={"A": text}, kubernetes=kubernetes)
    one = submission(name, Path("/runs"), cluster)
    [(jobset, rendered)] = render_manifests(one, {"": f"name: {text}\n"}, "now").items()
    assert list(yaml.safe_load_all(manifests_yaml(rendered))) == rendered
    assert jobset.isascii() and len(jobset) <= 24
    pod = rendered[1]["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    words = shlex.split(pod["containers"][0]["command"][-1])
    assert words[-1] == f"description={name}" and f"/runs/{name}" in words
