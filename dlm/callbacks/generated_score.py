"""A generated score on validation rows: what the exported weights are chosen by."""

import json
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from transformers import PreTrainedTokenizerBase

from dlm.callbacks import EMPTY_ANSWERS, LENGTH_RATIO
from dlm.data.rows.encoding import encode_responses
from dlm.distributed.strategies import is_cut
from dlm.files import make_folder, make_way
from dlm.generation.empty import empty_note, in_use
from dlm.generation.generate import generate
from dlm.generation.lengths import references_beyond
from dlm.generation.model import GenerativeModel, ModelKind
from dlm.generation.settings import GenerationSettings
from dlm.generation.text_metrics import AnswerLengths, text_metric
from dlm.tokens.special import SpecialTokens


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
        self.lengths: Any = AnswerLengths()
        self.reference_tokens: list[int] | None = None
        """Tokens of each validation reference; None: not validated yet."""
        self.samples = samples
        self.directory = directory
        self.canvas_length = canvas_length
        self.beyond: int | None = None
        """Validation references that are longer than an answer can be; None: not validated yet."""
        self._said = False

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Where every rank holds a part of the weights all must compute alike, to give theirs.
        alike = is_cut(trainer.strategy)
        mine = slice(None) if alike else slice(trainer.global_rank, None, trainer.world_size)
        prompts, references = self.prompts[mine], self.references[mine]
        model = GenerativeModel(
            pl_module.backbone, self.tokenizer, SpecialTokens.of(self.tokenizer), self.kind,  # type: ignore[arg-type]
            canvas_length=self.canvas_length,
        )  # fmt: skip
        if self.reference_tokens is None:
            lengths = [len(ids) for ids in encode_responses(self.tokenizer, self.references)]
            self.reference_tokens = lengths
            self.beyond = references_beyond(
                model, model.heads(self.prompts), lengths, self.settings
            )
            if self.beyond and trainer.is_global_zero:
                print(self.note(), flush=True)
        answers = generate(model, prompts, self.settings, references=references).answers
        hypotheses = [answer.text for answer in answers]
        self.metric = self.metric.to(pl_module.device)
        self.lengths = self.lengths.to(pl_module.device)
        if not alike or trainer.is_global_zero:
            self.metric.update(hypotheses, [[reference] for reference in references])
            tokens = [answer.length for answer in answers]
            self.lengths.update(hypotheses, tokens, self.reference_tokens[mine])
        # Computed over all devices already; without sync_dist Lightning warns that it might not be.
        pl_module.log(f"validation/{self.metric_name}", self.metric.compute(), sync_dist=True)
        self.metric.reset()
        self._log_lengths(trainer, pl_module)
        if trainer.is_global_zero:
            self._write(trainer.global_step, prompts, references, hypotheses)

    def _log_lengths(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The share of empty answers and, where answers end themselves, their tokens by the
        references'."""
        answers, empty, tokens, references = self.lengths.compute().tolist()
        self.lengths.reset()
        pl_module.log(EMPTY_ANSWERS, empty / max(1, answers), sync_dist=True)
        if self.settings.length != "oracle" and references:
            pl_module.log(LENGTH_RATIO, tokens / references, sync_dist=True)
        on_canvas = self.settings.length == "canvas" or self.canvas_length is not None
        note = empty_note(empty, answers, on_canvas=on_canvas, in_use=in_use(self.settings))
        if note and trainer.is_global_zero and not self._said:
            self._said = True
            print(f"validation: {note}", flush=True)

    def figures(self) -> dict[str, int]:
        """For the manifest."""
        return {"validation_references_cut": self.beyond} if self.beyond else {}

    def note(self) -> str:
        """That some references are longer than what is compared with them."""
        if self.kind == "autoregressive":
            why = f"generation.max_new_tokens={self.settings.max_new_tokens}, or the model's"
        elif self.settings.length == "canvas":
            why = f"a canvas of {self.settings.canvas_length}, or the model's"
        else:
            why = "the model's"
        return (
            f"validation/{self.metric_name}: {self.beyond} of {len(self.references)} references "
            f"have more tokens than an answer can have ({why} positions behind the prompt), so the "
            "answers to them are cut: raise it, or leave such rows out (data.too_long)"
        )

    def _write(
        self, step: int, prompts: list[str], references: list[str], hypotheses: list[str]
    ) -> None:
        make_folder(self.directory)
        path = self.directory / f"step={step:08d}.jsonl"
        with make_way(path).open("w", encoding="utf-8") as file:
            for row in list(zip(prompts, references, hypotheses, strict=True))[: self.samples]:
                names = ("source", "reference", "hypothesis")
                sample = dict(zip(names, row, strict=True))
                file.write(json.dumps(sample, ensure_ascii=False) + "\n")
