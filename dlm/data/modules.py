"""A DataModule per task: sources -> template -> tokens -> batches."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from lightning import LightningDataModule
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerBase

from dlm.data.batching import StepSampler, TokenBatch, TokenDataset, validation_requests
from dlm.data.encoding import EncodedRows, encode_rows, limit_length
from dlm.data.order import BatchOrder, GlobalBatches
from dlm.data.prompts import Template, stream_examples
from dlm.data.sources import BadRows, Source
from dlm.data.token_budget import TokenBudgetOrder, WindowPlace
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

    global_batch_size: int | None
    accumulate: int
    validation_batch_size: int
    validation_rows: int | None
    length_grouping: int
    num_workers: int
    seed: int
    global_batch_tokens: int | None = None
    """Tokens of a step, in place of ``global_batch_size`` (None then)."""
    packed: bool = False
    """Whether rows share the network's rows."""


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
        bad_rows: BadRows | None = None,
    ) -> None:
        """Read and tokenize everything, so that bad data stops a run before it trains.

        ``bad_rows`` decides what becomes of rows that cannot be used; None refuses them.

        Raises:
            UserError: A source cannot be read, a row does not fit the template or the model.
        """
        super().__init__()
        self.tokenizer = tokenizer
        self.template = Template.of(self.task, prompt, response)
        self.batches = batches
        self.canvas = canvas
        self.pad_token_id = SpecialTokens.of(tokenizer).pad
        self.bad_rows = bad_rows or BadRows("error")
        self._known_window = WindowPlace(0, 0)
        self.dropped = 0
        self.unknown_tokens = 0
        self._limit = (max_length, drop_too_long)
        self.train_rows = self._encode(train)
        self.validation_rows = self._encode(validation) if validation else None
        keep = batches.validation_rows
        if self.validation_rows is not None and keep is not None:
            every = len(self.validation_rows)
            kept = min(keep, every)
            self.validation_rows = self.validation_rows.select(
                [number * every // kept for number in range(kept)]
            )

    def _encode(self, sources: list[Source]) -> EncodedRows:
        examples = [
            example
            for source in sources
            for example in stream_examples(source, self.template, bad_rows=self.bad_rows)
        ]
        self.bad_rows.finish()
        canvas = self.canvas
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

    @cached_property
    def order(self) -> GlobalBatches:
        """The samples of every step."""
        batches, lengths = self.batches, self.train_rows.lengths
        if batches.global_batch_tokens is not None:
            return TokenBudgetOrder(
                lengths, batches.global_batch_tokens, batches.seed, batches.length_grouping,
                packed=batches.packed, known=self._known_window,
            )  # fmt: skip
        assert batches.global_batch_size is not None, "rows or tokens"
        return BatchOrder(lengths, batches.global_batch_size, batches.seed, batches.length_grouping)

    def train_dataloader(self) -> DataLoader[TokenBatch]:
        """Endless micro-batches of this device, from the step that the trainer stands at."""
        assert self.trainer is not None
        sampler = StepSampler(
            self.train_rows, self.order, first_step=self.trainer.global_step,
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

    def _loader(self, rows: EncodedRows, requests: Any) -> DataLoader[TokenBatch]:
        assert self.trainer is not None
        return DataLoader(
            TokenDataset(rows, self.pad_token_id, self._limit[0] if self.batches.packed else None),
            batch_sampler=requests,
            collate_fn=_as_it_is,
            num_workers=self.batches.num_workers,
            persistent_workers=self.batches.num_workers > 0,
            pin_memory=self.trainer.strategy.root_device.type == "cuda",
        )

    def state_dict(self) -> dict[str, Any]:
        """Where the run stands in its samples. The sampler needs the trainer's step alone; with a
        token budget the window that it stands in saves counting all those before."""
        assert self.trainer is not None
        step, order = self.trainer.global_step, self.order
        state: dict[str, Any] = {"samples_consumed": order.samples_before(step)}
        if isinstance(order, TokenBudgetOrder):
            state["window"] = list(order.window_of(step))
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the window of a resumed run."""
        self._known_window = WindowPlace(*state_dict.get("window", self._known_window))


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
