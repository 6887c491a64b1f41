"""`hardware.strict_speed` stops a stage whose packed rows need a mask; else one line says so."""

from pathlib import Path

import pytest
from family_tools import run_family, write_family

PACKED = ("train.layout=packed", "train.length_grouping=0", "model.dropout=0")
STRICT = "hardware.strict_speed=true"
ANNEALED = "model.attention_annealing_steps=5"


@pytest.mark.slow
def test_a_slow_path_is_said_or_refused_and_the_fast_one_is_neither(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_family(tmp_path / "gpt2", "gpt2")
    assert run_family(model, tmp_path / "fast", *PACKED, STRICT, stop="adapt") == 0
    assert "through a mask" not in capsys.readouterr().out
    reason = "packed rows attend through a mask, which is slower: attention is being annealed"
    assert run_family(model, tmp_path / "run", *PACKED, ANNEALED, STRICT, stop="adapt") == 2
    assert f"{reason}; set it to false" in capsys.readouterr().err
    assert run_family(model, tmp_path / "run", *PACKED, ANNEALED, stop="adapt") == 0
    assert f"adapt: {reason}" in capsys.readouterr().out
