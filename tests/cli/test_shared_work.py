"""--devices, and who speaks where there are several ranks."""

from pathlib import Path

import pytest
from cli_tools import Caller


@pytest.mark.parametrize("verb", [["evaluate", "--tasks", "numbers_en_de"], ["generate"]])
def test_devices_that_cannot_be_are_refused(
    call: Caller, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, verb: list[str]
) -> None:
    words: list[str | Path] = [
        verb[0], tmp_path, *verb[1:], "--output", tmp_path / "new", "--devices",
    ]  # fmt: skip
    assert call(*words, "0").err == "error: --devices must be at least 1 and at most 1,024, not 0\n"
    for variable, value in {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(variable, value)
    outcome = call(*words, "3")
    assert outcome.code == 2
    assert outcome.err == (
        "error: --devices 3 where torchrun has started 2 ranks on each node: remove it\n"
    )


def test_a_further_rank_leaves_the_message_to_rank_0(
    call: Caller, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RANK", "1")
    outcome = call("generate", tmp_path / "nothing", "--devices", "0")
    assert (outcome.code, outcome.out, outcome.err) == (2, "", "")
