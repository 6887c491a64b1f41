"""Ctrl-C while rows are prepared."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

RECIPE = """
name: prepared
data: {{train: [{{path: {rows}}}], cache: {cache}}}
train: {{steps: 4, global_batch_size: 8}}
hardware: {{accelerator: cpu}}
stages:
  tokenizer:
    kind: tokenizer
    data: {{train: [{{generator: number_text, count: 9}}]}}
    tokenizer_training: {{vocab_size: 50}}
  adapt: {{kind: pretrain, tokenizer: tokenizer, data: {{task: translation}}}}
"""


@pytest.mark.slow
@pytest.mark.parametrize("behind_s", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("times", [1, 2])
def test_an_interrupted_preparation_ends_as_such_and_not_in_native_code(
    times: int, behind_s: float, tmp_path: Path
) -> None:
    recipe, run = tmp_path / "recipe.yaml", tmp_path / "run"
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(f'{{"src": "{n} {n}", "tgt": "{n}"}}\n' for n in range(300_000)))
    recipe.write_text(RECIPE.format(rows=rows, cache=tmp_path / "cache"), encoding="utf-8")
    words = (sys.executable, "-m", "dlm.cli", "run", str(recipe), "--run-dir", str(run))
    process = subprocess.Popen(
        words, env={**os.environ, "HF_HUB_OFFLINE": "1"}, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler) and None,
    )  # fmt: skip
    end = time.monotonic() + 120
    while not any((tmp_path / "cache").rglob("*")):
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.05)
    time.sleep(behind_s)
    for _ in range(times):
        process.send_signal(signal.SIGINT)
        time.sleep(0.1)
    _, error = process.communicate(timeout=60)
    # What comes while Python itself ends, ends it by the signal, which a shell calls 130 too.
    assert process.returncode in (130, -signal.SIGINT), error
    assert "interrupted" in error or times > 1
    assert "terminate called" not in error and "Fatal Python error" not in error
