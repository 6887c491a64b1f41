"""The table of data sets: its page is up to date, and its tasks exist."""

from pathlib import Path

import pytest

from dlm.cli import main
from dlm.data.paper_sets import paper_sets, sets_page
from dlm.evaluation.tasks import load_task, shipped_tasks

PAGE = Path(__file__).parents[2] / "docs" / "data.md"


def test_the_page_is_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    assert PAGE.read_text(encoding="utf-8") == sets_page()
    assert main(["ls", "sets", "--markdown"]) == 0
    assert capsys.readouterr().out == sets_page()


def test_every_set_says_what_a_reader_needs() -> None:
    needed = {"name", "use", "fields", "licence", "local"}
    known = needed | {"hub", "config", "revision", "tasks", "note"}
    for row in paper_sets():
        assert needed <= set(row) <= known
        assert ("hub" in row) == ("revision" in row)


def test_its_tasks_are_shipped_and_read_the_same_hub_sets() -> None:
    hubs = {row.get("hub") for row in paper_sets()}
    tasks = [task for row in paper_sets() for task in row.get("tasks", ())]
    for task in tasks:
        names = [name for name in shipped_tasks() if name.startswith(task.partition("{")[0])]
        assert names, task
        assert {load_task(name).source.get("hub") for name in names} <= hubs | {None}


def test_markdown_is_for_sets_only(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ls", "tasks", "--markdown"]) == 2
    assert "--markdown is for `dlm ls sets`" in capsys.readouterr().err
