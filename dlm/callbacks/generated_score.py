"""A generated score on validation rows: what the exported weights are chosen by."""

import json
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from transformers import PreTrainedTokenizerBase

from dlm.distributed.strategies import is_cut
from dlm.generation.generate import generate
from dlm.generation.model import GenerativeModel, ModelKind
from dlm.generation.settings import GenerationSettings
from dlm.generation.text_metrics import text_metric
from dlm.make_way import make_way
from dlm.models.special_tokens import SpecialTokens


class GeneratedScore(Callback):
    """Generates answers to validation prompts and scores them through torchmetrics."""

    def __init__(
        self,
        *,
        tokenizer: PreTrainedTokenizerBase,
        kind: ModelKind,
        prompts: list[str],
        references: list[str],
        settings: GenerationSettings,
        metric: str,
        samples: int,
        directory: Path,
        canvas_length: int | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.kind: ModelKind = kind
        self.prompts, self.references = prompts, references
        self.settings = settings
        self.metric_name = metric
        self.metric: Any = text_metric(metric)
        self.samples = samples
        self.directory = directory
        self.canvas_length = canvas_length

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Where every rank holds a part of the weights all must compute alike, to give theirs.
        alike = is_cut(trainer.strategy)
        mine = slice(None) if alike else slice(trainer.global_rank, None, trainer.world_size)
        prompts, references = self.prompts[mine], self.references[mine]
        model = GenerativeModel(
            pl_module.backbone, self.tokenizer, SpecialTokens.of(self.tokenizer), self.kind,  # type: ignore[arg-type]
            canvas_length=self.canvas_length,
        )  # fmt: skip
        answers = generate(model, prompts, self.settings, references=references).answers
        hypotheses = [answer.text for answer in answers]
        self.metric = self.metric.to(pl_module.device)
        if not alike or trainer.is_global_zero:
            self.metric.update(hypotheses, [[reference] for reference in references])
        # Computed over all devices already; without sync_dist Lightning warns that it might not be.
        pl_module.log(f"validation/{self.metric_name}", self.metric.compute(), sync_dist=True)
        self.metric.reset()
        if trainer.is_global_zero:
            self._write(trainer.global_step, prompts, references, hypotheses)

    def _write(
        self, step: int, prompts: list[str], references: list[str], hypotheses: list[str]
    ) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        path = self.directory / f"step={step:08d}.jsonl"
        with make_way(path).open("w", encoding="utf-8") as file:
            for row in list(zip(prompts, references, hypotheses, strict=True))[: self.samples]:
                names = ("source", "reference", "hypothesis")
                sample = dict(zip(names, row, strict=True))
                file.write(json.dumps(sample, ensure_ascii=False) + "\n")
