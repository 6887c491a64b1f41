import sys
from pathlib import Path

import pytest
from small_platform import Workplace

# Tiny models, and ranks as threads.
sys.path += [str(Path(__file__).parents[1] / name) for name in ("generation", "distributed")]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID", "NODE_RANK", "GROUP_RANK", "DLM_LEADER"):
        monkeypatch.delenv(name, raising=False)
    return Workplace(tmp_path / "runs" / "small")
