"""A DataModule per task: sources -> template -> tokens -> batches."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from lightning import LightningDataModule
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerBase

from dlm.data.batching import StepSampler, TokenBatch, TokenDataset, validation_requests
from dlm.data.blocks import encode_blocks
from dlm.data.canvas_rows import CanvasRows
from dlm.data.encoding import EncodedRows, encode_rows, limit_length
from dlm.data.order import BatchOrder
from dlm.data.prompts import Template, stream_examples
from dlm.data.rows import TokenRows
from dlm.data.shards.prepare import token_shards
from dlm.data.shards.wanted import RowsWanted
from dlm.data.sources import Source
from dlm.models.special_tokens import SpecialTokens


@dataclass(frozen=True)
class CanvasSettings:
    """Responses are padded with end tokens to a fixed length."""

    length: int
    """Tokens behind the prompt's end."""
    count_padding: bool = True
    """Whether the padding counts in the loss."""


@dataclass(frozen=True)
class BatchSettings:
    """How rows become batches."""

    global_batch_size: int
    accumulate: int
    validation_batch_size: int
    validation_rows: int | None
    length_grouping: int
    num_workers: int
    seed: int


class RowsDataModule(LightningDataModule):
    """Rows of one task; the order of samples is a function of (seed, step) alone."""

    task: ClassVar[str]
    conditional: ClassVar[bool] = True

    def __init__(
        self,
        *,
        train: list[Source],
        validation: list[Source],
        tokenizer: PreTrainedTokenizerBase,
        prompt: str | None,
        response: str | None,
        max_length: int,
        drop_too_long: bool,
        batches: BatchSettings,
        canvas: CanvasSettings | None = None,
        text_blocks: int | None = None,
        cache: Path | None = None,
        say: Callable[[str], None] = print,
    ) -> None:
        """Read and tokenize everything, so that bad data stops a run before it trains.

        Training rows are tokenized into files below ``cache`` and read from there; validation rows
        stay in memory with their texts. ``say`` is told how far the tokenizing is.

        Raises:
            UserError: A source cannot be read, a row does not fit the template or the model.
            StageFailed: The disk of the cache is full.
        """
        super().__init__()
        self.tokenizer = tokenizer
        self.template = Template.of(self.task, prompt, response)
        self.batches = batches
        self.canvas = canvas
        self.pad_token_id = SpecialTokens.of(tokenizer).pad
        self._limit = (max_length, drop_too_long)
        self._blocks = text_blocks
        wanted = RowsWanted(
            train, self.template, self.conditional, max_length, drop_too_long, text_blocks,
            canvas.length if canvas else None,
        )  # fmt: skip
        self.shards = token_shards(wanted, tokenizer, cache=cache, say=say)
        self.train_rows: TokenRows = self.shards
        if canvas is not None:
            self.train_rows = CanvasRows(
                self.shards, canvas.length, SpecialTokens.of(tokenizer).end,
                count_padding=canvas.count_padding,
            )  # fmt: skip
        self.dropped = self.shards.index.reached.dropped
        self.unknown_tokens = self.shards.index.reached.unknown_tokens
        self.validation_rows = self._encode(validation) if validation else None
        keep = batches.validation_rows
        if self.validation_rows is not None and keep is not None:
            every = len(self.validation_rows)
            kept = min(keep, every)
            self.validation_rows = self.validation_rows.select(
                [number * every // kept for number in range(kept)]
            )

    def _encode(self, sources: list[Source]) -> EncodedRows:
        canvas = self.canvas
        of_sources = [list(stream_examples(source, self.template)) for source in sources]
        examples = [e for of_source in of_sources for e in of_source]
        if self._blocks is not None:
            texts = [[e.response for e in of_source] for of_source in of_sources]
            rows = encode_blocks(self.tokenizer, texts, self._blocks)
        else:
            rows = encode_rows(
                self.tokenizer, [e.prompt for e in examples], [e.response for e in examples],
                conditional=self.conditional,
                canvas_length=canvas.length if canvas else None,
                count_padding=canvas is None or canvas.count_padding,
            )  # fmt: skip
        max_length, drop = self._limit
        places = ", ".join(source.place for source in sources)
        rows, dropped = limit_length(
            rows, max_length, drop=drop, place=places,
            where=lambda index: str(examples[index].place),
            canvas_length=canvas.length if canvas else None,
        )  # fmt: skip
        self.dropped += dropped
        if self.tokenizer.unk_token_id is not None:
            self.unknown_tokens += int((rows.tokens == self.tokenizer.unk_token_id).sum())
        return rows

    def train_dataloader(self) -> DataLoader[TokenBatch]:
        """Endless micro-batches of this device, from the step that the trainer stands at."""
        assert self.trainer is not None
        order = BatchOrder(
            self.train_rows.lengths, self.batches.global_batch_size, self.batches.seed,
            self.batches.length_grouping,
        )  # fmt: skip
        sampler = StepSampler(
            self.train_rows, order, first_step=self.trainer.global_step,
            accumulate=self.batches.accumulate, rank=self.trainer.global_rank,
            world_size=self.trainer.world_size,
        )  # fmt: skip
        return self._loader(self.train_rows, sampler)

    def val_dataloader(self) -> DataLoader[TokenBatch] | list[Any]:
        """Every validation row once."""
        if self.validation_rows is None:
            return []
        assert self.trainer is not None
        requests = validation_requests(
            self.validation_rows, self.batches.validation_batch_size,
            rank=self.trainer.global_rank, world_size=self.trainer.world_size,
        )  # fmt: skip
        return self._loader(self.validation_rows, requests)

    def _loader(self, rows: TokenRows, requests: Any) -> DataLoader[TokenBatch]:
        assert self.trainer is not None
        return DataLoader(
            TokenDataset(rows, self.pad_token_id),
            batch_sampler=requests,
            collate_fn=_as_it_is,
            num_workers=self.batches.num_workers,
            persistent_workers=self.batches.num_workers > 0,
            pin_memory=self.trainer.strategy.root_device.type == "cuda",
        )

    def state_dict(self) -> dict[str, Any]:
        """Where the run stands in its samples (the sampler needs the trainer's step alone)."""
        assert self.trainer is not None
        return {"samples_consumed": self.trainer.global_step * self.batches.global_batch_size}


def _as_it_is(batch: Any) -> Any:
    return batch


class TextDataModule(RowsDataModule):
    """Plain text, for masked language modelling: field ``text``."""

    task = "text"
    conditional = False


class TranslationDataModule(RowsDataModule):
    """Sentence pairs: fields ``src`` and ``tgt``."""

    task = "translation"


class InstructionDataModule(RowsDataModule):
    """Instructions with answers: fields ``inputs`` and ``targets``."""

    task = "instruction"


DATA_MODULES: dict[str, type[RowsDataModule]] = {
    module.task: module for module in (TextDataModule, TranslationDataModule, InstructionDataModule)
}
"""Task -> its DataModule."""
