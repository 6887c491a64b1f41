"""dlm data prepare, inspect, stats: a recipe's training rows before anything trains on them."""

import argparse
from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from dlm.config.schema import WITHOUT_MODEL, RecipeConfig
from dlm.errors import UserError
from dlm.verbs.run import checked_one

if TYPE_CHECKING:
    from dlm.data.modules import RowsDataModule
    from dlm.recipe.plan import PlannedStage
    from dlm.training.job import StageJob

_STEPS = 200
_COMPARED = 1000
"""Steps over which padding is measured."""


def data(options: argparse.Namespace) -> int:
    """Prepare the rows of every stage that trains, and show or count them.

    What of a chain cannot be shown yet is said in its place; to prepare it, or to show it alone, is
    refused.
    """
    from dlm.recipe.kinds import data_identity
    from dlm.recipe.plan import plan
    from dlm.training.quiet import quiet_libraries

    recipe, run_dir = checked_one(options)
    quiet_libraries()
    planned = {s.job.name: s for s in plan(recipe, run_dir, data_identity=data_identity)}
    missing = []
    passes_over = options.action != "prepare" and options.stage is None
    for job in training_jobs(recipe, planned, options.stage):
        unfinished = [planned[name] for name in job.exports if planned[name].state.name != "done"]
        if not unfinished:
            _show(options, job)
            continue
        needed = make_first(options, job, unfinished[-1], run_dir)
        if passes_over:
            print(f"not shown: {needed}")
        else:
            missing.append(needed)
    if missing:
        raise UserError("\n".join(missing))
    others = [name for name, stage in planned.items() if stage.job.config.kind in WITHOUT_MODEL]
    if passes_over and others:
        print(f"not shown: {', '.join(others)}, which train no model and have no training rows")
    return 0


def training_jobs(
    recipe: RecipeConfig,
    planned: "dict[str, PlannedStage]",
    stage: str | None,
    lacking: str = "there are no training rows to tokenize",
) -> "list[StageJob]":
    """The stages that train, or one of them.

    Raises:
        UserError: There is none; ``lacking`` says what follows.
    """
    from dlm.recipe.selection import stage_name

    names = list(planned) if stage is None else [stage_name(recipe, "--stage", stage)]
    kinds = {name: recipe.stages[name].kind for name in names}
    jobs = [planned[name].job for name in names if kinds[name] not in WITHOUT_MODEL]
    if not jobs:
        named = f"stage {stage}" if stage else f"recipe {recipe.name}"
        raise UserError(f"{named} trains no model, so {lacking}")
    return jobs


def make_first(
    options: argparse.Namespace,
    job: "StageJob",
    needed: "PlannedStage",
    run_dir: Path,
    what: str = "its tokenizer",
) -> str:
    """Which stage ``what`` (or rows) comes from, and the command that makes it."""
    from dlm.recipe.console import words_of

    what = "a source" if needed.job.config.kind == "generate" else what

    words = ["dlm", "run", options.recipe, *options.overrides]
    command = [*words, "--run-dir", str(run_dir), "--to", needed.job.name]
    why = f" ({needed.state.reason})" if needed.state.reason.startswith("not done") else ""
    return (
        f"stage {job.name}: {what} comes from stage {needed.job.name}, which is "
        f"{needed.state.name} in {run_dir}{why}. Make it with\n  {' '.join(words_of(command))}\n"
        "or give --run-dir a run that has it"
    )


def _show(options: argparse.Namespace, job: "StageJob") -> None:
    from dlm.training.data import build_rows
    from dlm.training.start import starting_tokenizer

    rows = build_rows(job, *starting_tokenizer(job))
    actions: dict[str, Callable[[str, RowsDataModule], None]] = {
        "prepare": _prepared,
        "inspect": partial(_inspect, count=options.rows, verify=options.verify),
        "stats": _stats,
    }
    actions[options.action](job.name, rows)


def _prepared(stage: str, rows: "RowsDataModule") -> None:
    shards = rows.shards
    left_out = shards.index.reached.dropped
    dropped = f", {left_out:,} too long" if left_out else ""
    print(f"{stage}: {len(shards):,} rows, {shards.index.tokens:,} tokens{dropped} in "
          f"{shards.directory}")  # fmt: skip


def _inspect(stage: str, rows: "RowsDataModule", *, count: int, verify: bool) -> None:
    """The first rows, collated as for training."""
    import numpy as np

    from dlm.data.batches.batching import BatchRequest, TokenDataset
    from dlm.data.rows.shards.format import verify as compare

    _prepared(stage, rows)
    shards = rows.shards
    if verify:
        compare(shards.directory, shards.index)
        print(f"{stage}: all {len(shards.index.shards)} shards are as they were written")
    for number in _shown(rows, count):
        alone = BatchRequest(np.array([number]), np.array([0]), 1, 0)
        batch = TokenDataset(rows.train_rows, rows.pad_token_id).__getitems__(alone)
        tokens, maskable = batch.tokens_BL[0].tolist(), batch.maskable_BL[0].tolist()
        pair = batch.response_BL.any()
        first = len(tokens) - int(batch.response_BL.sum()) if pair else 1
        print(f"\nrow {number + 1}: {len(tokens)} tokens, {sum(maskable)} of them maskable")
        if pair:
            print(f"  prompt    {_text(rows, tokens[:first])}")
        print(f"  {'response' if pair else 'text':<8}  {_text(rows, tokens[first:])}")
        pieces = rows.tokenizer.convert_ids_to_tokens(tokens)
        # In brackets what noise may hit.
        shown = [f"[{p}]" if m else p for p, m in zip(pieces, maskable, strict=True)]
        print(f"  tokens    {' '.join(shown)}")
    print("\nIn brackets: tokens that noise may mask; the others are always given.")


def _shown(rows: "RowsDataModule", count: int) -> list[int]:
    """The first rows; where some sources have texts and others pairs, the first of each."""
    import numpy as np

    from dlm.data.rows.masking import has_prompt

    sizes = np.array([size for size in rows.shards.index.reached.source_rows if size])
    starts = np.concatenate([[0], sizes.cumsum()[:-1]])
    if len(np.unique(has_prompt(rows.shards.prompt_lengths[starts]))) == 1:
        return list(range(min(count, len(rows.shards))))
    return [
        start + number
        for start, size in zip(starts.tolist(), sizes.tolist(), strict=True)
        for number in range(min(count, size))
    ]


def _text(rows: "RowsDataModule", tokens: list[int]) -> str:
    from dlm.tokens.text_form import decode_texts

    return repr(decode_texts(rows.tokenizer, [tokens])[0])


def _stats(stage: str, rows: "RowsDataModule") -> None:
    from dlm.data.batches.batching import StepSampler, TokenDataset
    from dlm.data.rows.round_trip import round_trip
    from dlm.data.statistics import duplicates, length_quantiles, padding_share
    from dlm.tokens.text_form import USUAL, form_of
    from dlm.training.rows_report import mostly_unknown

    shards, batches = rows.shards, rows.batches
    first = [example.response for _, example in islice(rows.examples.stream(Counter()), _COMPARED)]
    back = round_trip(rows.tokenizer, first)
    lost = f" (lost: {back.lost})" if back.lost else ""
    lost += f"; {form.note}" if (form := form_of(rows.tokenizer)) != USUAL else ""
    reached, tokens = shards.index.reached, shards.index.tokens
    repeated = duplicates(shards)
    read = rows.train_rows
    sampler = StepSampler(
        read, rows.order, first_step=0, accumulate=batches.accumulate, rank=0, world_size=1
    )
    loaded = TokenDataset(read, rows.pad_token_id, rows.packed_width)
    waste = padding_share(loaded, sampler, _STEPS * batches.accumulate)
    quantiles = length_quantiles(shards).items()
    names = {0.0: "shortest", 0.5: "median", 1.0: "longest"}
    lengths = ", ".join(f"{names.get(q, f'{q:.0%}')} {length}" for q, length in quantiles)
    of = f"a sample of {repeated.of:,} rows" if repeated.sampled else "the rows"
    lines = {
        "rows": f"{len(shards):,}",
        "tokens": f"{tokens:,}",
        "length": lengths,
        "too long": f"{reached.dropped:,} rows left out, {reached.cut_prompts:,} prompts cut",
        "duplicates": f"{repeated.rows:,} ({repeated.share:.2%} of {of})",
        "unknown": f"{reached.unknown_tokens:,} tokens ({reached.unknown_tokens / tokens:.3%})",
        "comes back": f"{back.share:.1%} of the first {back.texts:,} responses or texts{lost}",
        "padding": f"{waste:.1%} of the first {_STEPS} batches",
    }
    if (reason := mostly_unknown(rows)) is not None:
        lines["refused"] = f"by the stage: {reason}"
    print(f"{stage}:")
    for name, line in lines.items():
        print(f"  {name:<10}  {line}")
