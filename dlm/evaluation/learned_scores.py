"""Scores by trained models, loaded only where a task names them: COMET and BERTScore.

They are no dependencies of ours. A row's score is written into samples.jsonl and read back from
there, so that intervals and comparisons never run the model again.
"""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dlm.errors import UserError
from dlm.evaluation.scores import Texts

COMET_MODEL = "Unbabel/wmt22-comet-da"
BERTSCORE_MODEL = "xlm-roberta-large"
_BERTSCORE_LAYER = 17  # what the package takes for this model
_COMET_PYTHON = "DLM_COMET_PYTHON"


@dataclass(frozen=True)
class LearnedScore:
    """A score by a trained model."""

    check: Callable[[], None]
    """Raises UserError where the package is absent."""
    rows: Callable[[Texts], list[float]]
    """The score of every row, about 0 to 1."""
    signature: Callable[[], str]


def _check_bertscore() -> None:
    if importlib.util.find_spec("bert_score") is None:
        raise UserError(
            "metric 'bertscore' needs the package bert-score, which is not installed: pip install "
            "bert-score (or 'dlm[bertscore]'), or leave the metric out of the task"
        )


def _bertscore(texts: Texts) -> list[float]:
    import torch
    from bert_score import score

    *_, f1 = score(
        texts.hypotheses, texts.references, model_type=BERTSCORE_MODEL,
        num_layers=_BERTSCORE_LAYER, device="cuda" if torch.cuda.is_available() else "cpu",
    )  # fmt: skip
    return [float(value) for value in f1]


def _comet_python() -> str:
    """The interpreter that has COMET: unbabel-comet 2.2 pins transformers < 5 and numpy < 2, and so
    cannot be installed beside this package."""
    given = os.environ.get(_COMET_PYTHON)
    if given:
        return given
    if importlib.util.find_spec("comet") is not None:
        return sys.executable
    raise UserError(
        "metric 'comet' needs the package unbabel-comet, which is not installed. It cannot live "
        "beside dlm's own libraries, so give it an environment: python -m venv comet-env && "
        f"comet-env/bin/pip install unbabel-comet && export {_COMET_PYTHON}=comet-env/bin/python; "
        "or leave the metric out of the task"
    )


def _check_comet() -> None:
    python = _comet_python()
    try:
        tried = subprocess.run([python, "-c", "import comet"], capture_output=True, text=True)
    except OSError as error:
        raise UserError(f"{_COMET_PYTHON}={python} cannot be run: {error.strerror}") from error
    if tried.returncode:
        last = (tried.stderr.strip().splitlines() or ["no message"])[-1]
        raise UserError(
            f"{python} cannot import COMET ({last}): {python} -m pip install unbabel-comet"
        )


def _comet(texts: Texts) -> list[float]:
    rows = [
        {"src": source, "mt": hypothesis, "ref": references[0]}
        for source, hypothesis, references in zip(
            texts.sources, texts.hypotheses, texts.references, strict=True
        )
    ]
    script = str(Path(__file__).with_name("comet_script.py"))
    done = subprocess.run(
        [_comet_python(), script, COMET_MODEL], input=json.dumps(rows), text=True,
        stdout=subprocess.PIPE,
    )  # fmt: skip
    if done.returncode:
        raise UserError(f"COMET ended with exit code {done.returncode}; its messages are above")
    # Its libraries may print too; what is asked for comes last.
    scores: list[float] = json.loads(done.stdout.strip().splitlines()[-1])
    return scores


LEARNED: dict[str, LearnedScore] = {
    "comet": LearnedScore(
        _check_comet, _comet, lambda: f"COMET {COMET_MODEL}, the first reference, mean over rows"
    ),
    "bertscore": LearnedScore(
        _check_bertscore, _bertscore,
        lambda: f"BERTScore F1 {BERTSCORE_MODEL} L{_BERTSCORE_LAYER}, best of the references, no "
        "rescaling, mean over rows",
    ),
}  # fmt: skip
"""Metric name -> the score."""
