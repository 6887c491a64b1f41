from pathlib import Path

import pytest
from small_platform import Workplace


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID", "NODE_RANK", "GROUP_RANK", "DLM_LEADER"):
        monkeypatch.delenv(name, raising=False)
    return Workplace(tmp_path / "runs" / "small")
