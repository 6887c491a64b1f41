"""`hardware.strict_speed` stops a stage whose packed rows need a mask; else one line says so."""

from pathlib import Path

import pytest
from resume_tools import run

PACKED = (
    "train.layout=packed",
    "train.length_grouping=0",
    "model.dropout=0",
    "train.steps=4",
    "validation.every_n_steps=4",
)
REASON = "attention prefix_causal is not that of whole documents"


@pytest.mark.slow
def test_a_slow_path_is_said_or_refused_and_the_fast_one_is_neither(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    strict = "hardware.strict_speed=true"
    assert run(tmp_path / "run", *PACKED, strict, stop="pretrain") == 0
    assert "through a mask" not in capsys.readouterr().out
    assert run(tmp_path / "run", *PACKED, strict, only="autoregressive") == 2
    assert f"slower: {REASON}; set it to false" in capsys.readouterr().err
    assert run(tmp_path / "run", *PACKED, only="autoregressive") == 0
    assert f"autoregressive: packed rows attend through a mask, which is slower: {REASON}" in (
        capsys.readouterr().out
    )
