"""A stage's data: examples -> rows of tokens -> batches, and where the run stands in them."""

import signal
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from lightning import LightningDataModule
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerBase

from dlm.data.batches.batching import StepSampler, TokenBatch, TokenDataset, validation_requests
from dlm.data.batches.mixture import MixtureStream
from dlm.data.batches.order import BatchOrder, GlobalBatches
from dlm.data.batches.shares import MixtureSettings
from dlm.data.batches.token_budget import TokenBudgetOrder, WindowPlace
from dlm.data.examples import ExampleRecipe
from dlm.data.overlap import OverlapIndex
from dlm.data.rows.canvas import CanvasRows
from dlm.data.rows.encoding import EncodedRows
from dlm.data.rows.in_memory import rows_in_memory
from dlm.data.rows.masking import PLAIN, Masking, has_prompt
from dlm.data.rows.protocol import TokenRows
from dlm.data.rows.round_trip import RoundTrip, fitting_form, round_trip
from dlm.data.rows.shards.prepare import token_shards
from dlm.data.rows.shards.reading import TokenShards
from dlm.data.rows.wanted import RowSides, RowsWanted, TooLong
from dlm.data.sources import BadRows
from dlm.errors import UserError
from dlm.process import STOP_SIGNALS
from dlm.tokens.special import SpecialTokens
from dlm.tokens.text_form import set_form


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
    with_step: bool = False
    """Whether batches of training know all rows of their step."""


_ORDER = 2
"""Version of the order of rows, in checkpoints; raised whenever a step's rows change."""
_COMPARED = 200
"""Texts by which the form of a tokenizer's texts is found."""
_COUNTED = 2**18
"""Draws that are counted at once."""


class RowsDataModule(LightningDataModule):
    """Rows of one task; the order of samples is a function of (seed, step) alone."""

    task: ClassVar[str]

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
        sides: RowSides | None = None,
        text_blocks: int | None = None,
        masking: Masking = PLAIN,
        cache: Path | None = None,
        bad_rows: BadRows | None = None,
        mixture: MixtureSettings | None = None,
        overlap: OverlapIndex | None = None,
        say: Callable[[str], None] = print,
    ) -> None:
        """Read and tokenize everything, so that bad data stops a run before it trains.

        Training rows are tokenized into files below ``cache`` and read from there; validation rows
        stay in memory with their texts. ``say`` is told how far the tokenizing is.

        Args:
            train: The training examples.
            validation: The validation examples, if any.
            tokenizer: Turns them into tokens.
            max_length: Most tokens of a row.
            too_long: What becomes of longer rows.
            batches: How rows become batches.
            canvas: Responses are padded to a fixed length.
            sides: Most tokens of prompt and response each; None: only their sum counts.
            text_blocks: Texts are joined and cut into blocks of this many tokens.
            masking: Which tokens may be predicted.
            cache: Where prepared rows are kept; None: the user's cache.
            bad_rows: What becomes of rows that cannot be used; None refuses them.
            mixture: Shares of the training sources; None: every row once an epoch.
            overlap: Evaluation texts to look for in the training examples, in a reading of its own.
            say: Takes one line of progress.

        Raises:
            UserError: A source cannot be read, a row does not fit the template or the model.
        """
        super().__init__()
        self.tokenizer = tokenizer
        self.batches = batches
        self.canvas = canvas
        self.pad_token_id = SpecialTokens.of(tokenizer).pad
        self.bad_rows = bad_rows or BadRows("error")
        self.overlap = overlap
        self.source_names = train.names
        self.counts: Counter[str] = Counter()
        """What was left out of the training rows or cut, by reason."""
        self.validation_counts: Counter[str] = Counter()
        """The same of the validation rows."""
        self.examples = train
        self._known_window = WindowPlace(0, 0)
        self._max_length = max_length
        self._say = say

        def wanted(examples: ExampleRecipe) -> RowsWanted:
            return RowsWanted(
                examples, max_length, too_long, text_blocks, canvas.length if canvas else None,
                sides, self.bad_rows.policy, masking,
            )  # fmt: skip

        if overlap is not None:
            for _ in train.stream(Counter(), overlap, BadRows("skip")):
                pass
        self.shards = token_shards(
            wanted(train), tokenizer, cache=cache, say=say, bad_rows=self.bad_rows
        )
        self._count(self.shards)
        self.train_rows: TokenRows = self.shards
        if canvas is not None:
            self.train_rows = CanvasRows(
                self.shards, canvas.length, SpecialTokens.of(tokenizer).end,
                count_padding=canvas.count_padding,
            )  # fmt: skip
        self.mixture = self._mixture(mixture, self.shards.index.reached.source_rows)
        self.validation_rows: EncodedRows | None = None
        if validation is not None:
            rows = rows_in_memory(
                wanted(validation), tokenizer, counts=self.validation_counts,
                bad_rows=self.bad_rows,
                count_padding=canvas is None or canvas.count_padding,
            )  # fmt: skip
            if tokenizer.unk_token_id is not None:
                unknown = int((rows.tokens == tokenizer.unk_token_id).sum())
                self.validation_counts["unknown_tokens"] = unknown
            self.validation_rows = _spread(rows, batches.validation_rows)
        self.counts["skipped_rows"] = self.bad_rows.count
        self.first_texts = first_texts(validation or train)
        """The first responses or texts: by them the form of the tokenizer's texts is found. None
        where they would have to be fetched again."""
        if self.first_texts:
            set_form(tokenizer, fitting_form(tokenizer, self.first_texts))

    @property
    def packed_width(self) -> int | None:
        """Width of the rows that samples share; None: each has its own."""
        return self._max_length if self.batches.packed else None

    @cached_property
    def round_trip(self) -> RoundTrip:
        """What of the validation responses the tokenizer can give back."""
        rows = self.validation_rows
        answers = rows is not None and has_prompt(rows.prompt_lengths).all()
        return round_trip(self.tokenizer, rows.responses if rows and answers else [])

    @cached_property
    def text_round_trip(self) -> RoundTrip:
        """The same of the first texts, where the validation rows have no responses."""
        return round_trip(self.tokenizer, [] if self.round_trip.texts else self.first_texts)

    def longest_parts(self) -> RowSides | None:
        """Tokens of the longest prompt and of the longest response; None: no row has a prompt."""
        prompt = response = 0
        for rows in filter(None, (self.train_rows, self.validation_rows)):
            for part in _parts(len(rows)):
                prompts = rows.prompt_lengths[part]
                responses = (rows.lengths[part] - prompts)[has_prompt(prompts)]
                prompt = max(prompt, int(prompts.max()))
                response = max(response, int(responses.max(initial=0)))
        return RowSides(prompt, response) if response else None

    def responses_beyond(self, length: int) -> tuple[int, int]:
        """Training and validation rows whose response has more tokens, its end not counted."""
        training, validation = (
            0
            if rows is None
            else sum(
                int((rows.lengths[part] - rows.prompt_lengths[part] - 1 > length).sum())
                for part in _parts(len(rows))
            )
            for rows in (self.train_rows, self.validation_rows)
        )
        return training, validation

    def _count(self, shards: TokenShards) -> None:
        reached = shards.index.reached
        self.counts.update(shards.index.counts)
        self.counts["dropped_rows"] += reached.dropped
        self.counts["cut_prompts"] += reached.cut_prompts
        self.unknown_tokens = reached.unknown_tokens

    def _mixture(
        self, settings: MixtureSettings | None, rows: tuple[int, ...]
    ) -> MixtureStream | None:
        if settings is None:
            return None
        for name, number in zip(self.source_names, rows, strict=True):
            if not number:
                raise UserError(
                    f"source '{name}' has no row left to draw from (too long, or duplicates of "
                    "earlier sources): remove it from data.train, or raise data.max_length"
                )
        shares = settings.shares(dict(zip(self.source_names, rows, strict=True)))
        return MixtureStream(rows, tuple(shares), self.batches.seed)

    def draws_of_sources(self, steps: int) -> list[int]:
        """How often each source of the mixture is drawn in this many steps."""
        assert self.mixture is not None
        counts = np.zeros(len(self.mixture.rows), dtype=np.int64)
        whole = self.order.whole_windows(steps)
        for start in range(0, whole.samples, _COUNTED):
            positions = self.mixture.positions(start, min(_COUNTED, whole.samples - start))
            counts += np.bincount(self.mixture.source_of(positions), minlength=len(counts))
        for step in range(whole.steps, steps):
            sources = self.mixture.source_of(self.order.batch(step))
            counts += np.bincount(sources, minlength=len(counts))
        drawn: list[int] = counts.tolist()
        return drawn

    def copies(self) -> list[str]:
        """What is to be said where a batch has fewer rows to draw from than places for them."""
        size = self.order.usual_rows
        if self.mixture is None:
            rows = len(self.train_rows)
            few = rows < size
            return [f"{rows} rows for batches of about {size}: a batch holds rows more than once, "
                    "each equally often; smaller batches would hold each once"] * few  # fmt: skip
        return [
            f"source '{name}' has {rows} rows, and about {share * size:.0f} in a batch: a batch "
            "holds them more than once, each equally often; a smaller share, or smaller batches, "
            "would hold each once"
            for name, rows, share in zip(
                self.source_names, self.mixture.rows, self.mixture.shares, strict=True
            )
            if rows < share * size
        ]

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
            world_size=self.trainer.world_size, with_step=self.batches.with_step,
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
            TokenDataset(rows, self.pad_token_id, self.packed_width),
            batch_sampler=requests,
            collate_fn=_as_it_is,
            num_workers=self.batches.num_workers,
            persistent_workers=self.batches.num_workers > 0,
            worker_init_fn=leave_stopping_to_the_trainer,
            pin_memory=self.trainer.strategy.root_device.type == "cuda",
        )

    def on_before_batch_transfer(self, batch: TokenBatch, dataloader_idx: int) -> TokenBatch:
        """The stage says what it will predict while the batch is on the host still. (Lightning
        warns of a stage that has this hook itself.)"""
        assert self.trainer is not None
        stage: Any = self.trainer.lightning_module
        drawn: TokenBatch = stage.drawn(batch)
        return drawn

    def state_dict(self) -> dict[str, Any]:
        """Where the run stands in its samples. The sampler needs the trainer's step alone; with a
        token budget the window that it stands in saves counting all those before."""
        assert self.trainer is not None
        step, order = self.trainer.global_step, self.order
        state: dict[str, Any] = {
            "samples_consumed": order.samples_before(step), "order": _ORDER,
        }  # fmt: skip
        if isinstance(order, TokenBudgetOrder):
            state["window"] = list(order.window_of(step))
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the window of a resumed run; say where its order is not that of this version."""
        if state_dict.get("order") == _ORDER:
            self._known_window = WindowPlace(*state_dict.get("window", self._known_window))
            self.__dict__.pop("order", None)  # made anew, from that window on
        elif self.trainer is not None and self.trainer.is_global_zero:
            self._say(
                "the checkpoint is of a version with another order of rows: from here on the order "
                "is the new one, so that a few rows come again, or later, in this epoch"
            )


def leave_stopping_to_the_trainer(worker: int) -> None:
    """A cluster signals every process of a job. A worker that ended would fail the stage before it
    has saved its state; told by the trainer, or left alone by it, workers end by themselves."""
    for sent in STOP_SIGNALS:
        signal.signal(sent, signal.SIG_IGN)


def _as_it_is(batch: Any) -> Any:
    return batch


def first_texts(examples: ExampleRecipe) -> list[str]:
    """The first responses or texts of a set; none of one that would have to be fetched."""
    if any(source.source.hub is not None for source in examples.sources):
        return []
    found = islice(examples.stream(Counter(), bad_rows=BadRows("skip")), _COMPARED)
    return [example.response for _, example in found]


def _spread(rows: EncodedRows, keep: int | None) -> EncodedRows:
    """At most this many of the rows, spread evenly over all of them."""
    every = len(rows)
    if keep is None or keep >= every:
        return rows
    return rows.select([number * every // keep for number in range(keep)])


def _parts(rows: int) -> Iterator[np.ndarray]:
    """The numbers of all rows, a part after the other."""
    for start in range(0, rows, _COUNTED):
        yield np.arange(start, min(start + _COUNTED, rows))
