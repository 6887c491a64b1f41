"""The site builds without a warning, says everything the program reads, and needs no network."""

import logging
import re
from dataclasses import dataclass
from pathlib import Path

import hooks
import pytest
import reference
from mkdocs.commands.build import build
from mkdocs.config import load_config
from mkdocs.exceptions import Abort

from dlm.cli import build_parser
from dlm.config import schema
from dlm.config.shipped import shipped_recipes

ROOT = Path(__file__).parents[2]


def html(site: Path, page: str) -> str:
    return (site / page).read_text(encoding="utf-8")


def test_every_setting_has_its_place(site: Path) -> None:
    page = html(site, "reference/settings.html")
    for key in ("data.train[].holdout.share", "evaluation.systems.NAME.model", "train.ema_decay"):
        assert f'id="{key}"' in page
    fields = reference.docstrings(schema.TrainConfig)
    assert len(fields) > 10 and all(f'id="train.{name}"' in page for name in fields)


def test_a_setting_shows_type_range_default_readers_and_fingerprint(site: Path) -> None:
    text = re.sub(r"<[^>]+>", "", html(site, "reference/settings.html"))
    assert "whole number · at least 1 and at most 1,000,000,000 · default 1000" in text
    assert "one of auto, padded, packed · default auto · only pretrain, adapt, instruct" in text
    assert "at least 1 and at most 1,024 · default null · not part of the fingerprint" in text


def test_every_verb_and_flag_has_its_place(site: Path) -> None:
    page = html(site, "reference/verbs.html")
    verbs = next(action for action in build_parser()._actions if action.dest == "verb")
    assert isinstance(verbs.choices, dict)
    for name, verb in verbs.choices.items():
        assert f'id="{name}"' in page
        for action in verb._actions:
            if action.dest != "help":
                assert all(f"<code>{flag}" in page for flag in action.option_strings)
                assert action.help, f"dlm {name}: {action.dest} has no help"


def test_recipes_and_lists_stand_where_pages_ask_for_them(site: Path) -> None:
    for name in shipped_recipes():
        assert f"<code>{name}</code>" in html(site, "recipes.html")
    assert "<code>mask-predict</code>" in html(site, "method.html")
    assert "<!-- dlm ls" not in html(site, "guides/your-data.html")


def test_nothing_is_fetched_from_a_network(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        text = page.read_text(encoding="utf-8")
        fetched = re.findall(r'<(?:script|link|img|iframe)[^>]*(?:src|href)="?([^" >]+)', text)
        assert fetched and not [url for url in fetched if re.match(r"(https?:)?//", url)]
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//", sheet.read_text(encoding="utf-8"))


def test_lists_and_tables_need_no_empty_line_before_them(site: Path) -> None:
    for page in site.rglob("*.html"):
        paragraphs = re.findall(r"<p>(.*?)</p>", page.read_text(encoding="utf-8"), re.DOTALL)
        assert not [text for text in paragraphs if re.search(r"^(- |\|)", text, re.MULTILINE)], page


def test_what_is_inside_a_fence_stays_as_it_is() -> None:
    text = "a\n- b\n  c\n- d\n```text\ne\n- f\n```\n- g\n"
    wanted = "a\n\n- b\n  c\n- d\n```text\ne\n- f\n```\n\n- g\n"
    assert hooks.spaced(text) == wanted


def test_files_that_are_not_on_the_site_are_named_in_place_of_a_link(site: Path) -> None:
    assert "<code>dlm/cluster/settings.py</code>" in html(site, "cluster.html")
    assert not list(site.rglob("*.py"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[x](nowhere.md)", "'nowhere.md'"),
        ("[x](other.md#nothing)", "'other.md#nothing'"),
        ("[x](../nowhere.py)", "'../nowhere.py'"),
        ("<!-- dlm ls sampler -->", "`dlm ls sampler`"),
        ("Fine.", 'not included in the "nav" configuration'),
    ],
)
def test_what_leads_nowhere_or_cannot_be_reached_fails_the_build(
    text: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    pages = tmp_path / "docs"
    pages.mkdir()
    (pages / "index.md").write_text(f"# Page\n\n{text}\n")
    (pages / "other.md").write_text("# Other\n")
    nav = [{"Page": "index.md"}, {"Other": "other.md"}][: 1 if "nav" in said else 2]
    monkeypatch.setattr(reference, "PAGES", {})
    config = load_config(
        str(ROOT / "mkdocs.yml"), docs_dir=str(pages), site_dir=str(tmp_path / "site"),
        nav=[{"All": nav}], extra_css=[],
    )  # fmt: skip
    with caplog.at_level(logging.INFO), pytest.raises(Abort):
        build(config)
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    (warning,) = [record.getMessage() for record in warnings if record.name.startswith("mkdocs")]
    assert said in warning


@dataclass(frozen=True)
class Undocumented:
    known: int = 0
    """A text."""
    unknown: int = 1
    other: int = 2
    """A text."""


def test_a_setting_without_a_docstring_is_refused() -> None:
    with pytest.raises(AssertionError, match=r"Undocumented\.unknown has no docstring"):
        reference.docstrings(Undocumented)


def test_text_of_a_docstring_is_no_markup() -> None:
    text = reference._escaped("a * b, [x] <y> and ``code * <z>`` {#id}")
    assert text == r"a \* b, \[x\] &lt;y&gt; and ``code * <z>`` \{\#id\}"
