"""A DataModule per task: sources -> template -> tokens -> batches."""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
from lightning import LightningDataModule
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerBase

from dlm.data.batching import StepSampler, TokenBatch, TokenDataset, validation_requests
from dlm.data.encoding import EncodedRows, encode_responses, encode_rows, limit_length
from dlm.data.examples import ExampleRecipe
from dlm.data.mixture import MixtureStream
from dlm.data.order import BatchOrder, GlobalBatches
from dlm.data.overlap import OverlapIndex
from dlm.data.prompt_limit import cut_prompt
from dlm.data.prompts import Example
from dlm.data.shares import MixtureSettings
from dlm.data.sources import BadRows
from dlm.data.tasks.registry import TASKS
from dlm.data.token_budget import TokenBudgetOrder, WindowPlace
from dlm.errors import UserError
from dlm.models.special_tokens import SpecialTokens

TooLong = Literal["error", "drop", "truncate_prompt"]


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

    @property
    def conditional(self) -> bool:
        """Whether rows have prompts."""
        return TASKS[self.task].conditional

    def __init__(
        self,
        *,
        train: ExampleRecipe,
        validation: ExampleRecipe | None,
        tokenizer: PreTrainedTokenizerBase,
        max_length: int,
        too_long: TooLong,
        batches: BatchSettings,
        canvas: CanvasSettings | None = None,
        bad_rows: BadRows | None = None,
        mixture: MixtureSettings | None = None,
        overlap: OverlapIndex | None = None,
    ) -> None:
        """Read and tokenize everything, so that bad data stops a run before it trains.

        ``bad_rows`` decides what becomes of rows that cannot be used; None refuses them.
        ``mixture``: shares of the training sources; None: every row once an epoch. ``overlap``
        reads the training examples along.

        Raises:
            UserError: A source cannot be read, a row does not fit the template or the model.
        """
        super().__init__()
        self.tokenizer = tokenizer
        self.batches = batches
        self.canvas = canvas
        self.pad_token_id = SpecialTokens.of(tokenizer).pad
        self.bad_rows = bad_rows or BadRows("error")
        self._known_window = WindowPlace(0, 0)
        self.overlap = overlap
        self.source_names = train.names
        self.counts: Counter[str] = Counter()
        self.unknown_tokens = 0
        self._limit: tuple[int, TooLong] = (max_length, too_long)
        self.train_rows, rows_of_sources = self._encode(train, overlap)
        self.mixture = self._mixture(mixture, train.names, rows_of_sources)
        self.validation_rows = self._encode(validation)[0] if validation else None
        keep = batches.validation_rows
        if self.validation_rows is not None and keep is not None:
            every = len(self.validation_rows)
            kept = min(keep, every)
            self.validation_rows = self.validation_rows.select(
                [number * every // kept for number in range(kept)]
            )

    def _encode(
        self, recipe: ExampleRecipe, overlap: OverlapIndex | None = None
    ) -> tuple[EncodedRows, list[int]]:
        """Rows of all sources one after the other, and how many each has."""
        max_length, too_long = self._limit
        canvas = self.canvas
        examples: list[Example] = []
        sources: list[int] = []
        for number, example in recipe.stream(self.counts, overlap, bad_rows=self.bad_rows):
            examples.append(example)
            sources.append(number)
        self.bad_rows.finish()
        if too_long == "truncate_prompt":
            examples = self._cut(examples, max_length)
        rows = encode_rows(
            self.tokenizer, [e.prompt for e in examples], [e.response for e in examples],
            conditional=self.conditional,
            canvas_length=canvas.length if canvas else None,
            count_padding=canvas is None or canvas.count_padding,
        )  # fmt: skip
        # A row whose response alone is too long cannot be saved by cutting its prompt.
        fits = rows.lengths <= max_length
        rows, dropped = limit_length(
            rows, max_length, drop=too_long != "error", place=recipe.place,
            where=lambda index: str(examples[index].place),
            canvas_length=canvas.length if canvas else None,
        )  # fmt: skip
        self.counts["dropped_rows"] += dropped
        if self.tokenizer.unk_token_id is not None:
            self.unknown_tokens += int((rows.tokens == self.tokenizer.unk_token_id).sum())
        kept = np.array(sources)[fits]
        return rows, np.bincount(kept, minlength=len(recipe.sources)).tolist()

    def _cut(self, examples: list[Example], max_length: int) -> list[Example]:
        """Every prompt cut to the room that its response leaves."""
        prompts, responses = (
            encode_responses(self.tokenizer, texts)
            for texts in ([e.prompt for e in examples], [e.response for e in examples])
        )
        result = []
        for example, prompt, response in zip(examples, prompts, responses, strict=True):
            room = max_length - len(response) - 3  # begin, end and end again
            if self.conditional and len(prompt) > room:
                self.counts["cut_prompts"] += room > 0
                if room > 0:
                    text = cut_prompt(self.tokenizer, example.prompt, room)
                    example = example._replace(prompt=text)
            result.append(example)
        return result

    def _mixture(
        self, settings: MixtureSettings | None, names: list[str], rows: list[int]
    ) -> MixtureStream | None:
        if settings is None:
            return None
        for name, number in zip(names, rows, strict=True):
            if not number:
                raise UserError(
                    f"source '{name}' has no row left to draw from (too long, or duplicates of "
                    "earlier sources): remove it from data.train, or raise data.max_length"
                )
        shares = settings.shares(dict(zip(names, rows, strict=True)))
        return MixtureStream(tuple(rows), tuple(shares), self.batches.seed)

    def draws_of_sources(self, steps: int) -> list[int]:
        """How often each source of the mixture is drawn in so many steps."""
        assert self.mixture is not None
        counts = np.zeros(len(self.mixture.rows), dtype=np.int64)
        for step in range(steps):
            sources = self.mixture.source_of(self.order.batch(step))
            counts += np.bincount(sources, minlength=len(counts))
        drawn: list[int] = counts.tolist()
        return drawn

    @cached_property
    def order(self) -> GlobalBatches:
        """The samples of every step."""
        batches, lengths = self.batches, self.train_rows.lengths
        if batches.global_batch_tokens is not None:
            return TokenBudgetOrder(
                lengths, batches.global_batch_tokens, batches.seed, batches.length_grouping,
                packed=batches.packed, stream=self.mixture, known=self._known_window,
            )  # fmt: skip
        assert batches.global_batch_size is not None, "rows or tokens"
        return BatchOrder(
            lengths, batches.global_batch_size, batches.seed, batches.length_grouping, self.mixture
        )

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


class TranslationDataModule(RowsDataModule):
    """Sentence pairs: fields ``src`` and ``tgt``."""

    task = "translation"


class SummarizationDataModule(RowsDataModule):
    """Texts and their summaries: ``document``, ``summary`` (of a list the first)."""

    task = "summarization"


class HeadlineDataModule(RowsDataModule):
    """Texts and their headlines: ``document``, ``headline``."""

    task = "headline"


class ParaphraseDataModule(RowsDataModule):
    """The same in other words: ``src``, ``tgt``."""

    task = "paraphrase"


class SimplificationDataModule(RowsDataModule):
    """The same in simpler words or sentences: ``src``, ``tgt``."""

    task = "simplification"


class QuestionGenerationDataModule(RowsDataModule):
    """A question whose answer is given: ``context``, ``answers`` or ``answer``, ``question``."""

    task = "question_generation"


class QuestionAnsweringDataModule(RowsDataModule):
    """Extractive answers: ``context``, ``question``, ``answers`` (SQuAD's too) or ``answer``."""

    task = "question_answering"


class MathDataModule(RowsDataModule):
    """Word problems: ``question``, ``answer``; or ``Body``, ``Question``, ``Answer``."""

    task = "math"


class ReasoningDataModule(RowsDataModule):
    """Answers with their reasons first: ``question``, ``rationale``, ``answer``."""

    task = "reasoning"


class MultipleChoiceDataModule(RowsDataModule):
    """The letter of the right choice: ``question``, ``choices``, ``answer``; or ``input``,
    ``target``."""

    task = "multiple_choice"


class InstructionDataModule(RowsDataModule):
    """Instructions with answers: fields ``inputs`` and ``targets``."""

    task = "instruction"


class AlpacaDataModule(RowsDataModule):
    """Instructions with an input: ``instruction``, ``input``, ``output``."""

    task = "alpaca"


class ChatDataModule(RowsDataModule):
    """Conversations: ``messages`` or ``conversations``; every assistant turn is an example."""

    task = "chat"


DATA_MODULES: dict[str, type[RowsDataModule]] = {
    module.task: module for module in RowsDataModule.__subclasses__()
}
"""Task -> its DataModule."""
