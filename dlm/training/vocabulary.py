"""The vocabulary of a stage that keeps only the tokens of its rows."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from lightning.pytorch.utilities import rank_zero_only
from transformers import PreTrainedTokenizerBase

from dlm.data.rows.encoding import EncodedRows, encode_responses
from dlm.data.rows.in_memory import rows_in_memory
from dlm.data.rows.shards.prepare import token_shards
from dlm.data.rows.shards.reading import TokenShards
from dlm.data.rows.wanted import RowsWanted
from dlm.data.sources import Source, below, stream_rows
from dlm.errors import UserError
from dlm.files import write_text
from dlm.models.cut_tokenizer import cut_tokenizer, tokens_to_keep
from dlm.training.job import StageJob
from dlm.training.sources import build_bad_rows, build_examples

FILE = "kept_tokens.json"
"""In the stage's directory: a resumed stage keeps the tokens that it began with."""
_ANY_LENGTH = 2**31 - 1
_TEXTS = 1000


@dataclass(frozen=True)
class _Portion:
    """Rows one after the other."""

    tokens: npt.NDArray[Any]
    offsets: npt.NDArray[np.int64]
    first: int
    """Number of the first row."""


def cut_to_rows(
    job: StageJob, tokenizer: PreTrainedTokenizerBase, *, first: int
) -> tuple[PreTrainedTokenizerBase, tuple[int, ...]]:
    """The tokenizer cut to what a stage's rows need, and the ids that it keeps.

    Every process of the stage finds the same; rows are tokenized by one of them, for all.

    Args:
        job: the stage.
        tokenizer: the whole one.
        first: this many first ids stay as they are.

    Raises:
        UserError: The rows cannot be read, the tokenizer cannot be cut, or it would split a row
            otherwise when cut.
    """
    file = job.directory / FILE
    kept = _read(file, job.fingerprint)
    if kept is not None:
        _say(job, f"the vocabulary is cut to {len(kept):,} of {len(tokenizer):,} tokens")
        return cut_tokenizer(tokenizer, kept), kept
    whole = list(_portions(job, tokenizer))
    chosen = tokens_to_keep(
        tokenizer, _used(job, tokenizer, whole),
        characters=job.config.model.vocabulary.characters, first=first,
    )  # fmt: skip
    cut = cut_tokenizer(tokenizer, chosen.ids)
    _verify(job, tokenizer, whole, list(_portions(job, cut)), np.array(chosen.ids))
    if job.directory.is_dir():
        _write(file, job.fingerprint, chosen.ids)
    why = ", ".join(f"{count:,} {reason}" for reason, count in chosen.counts.items())
    _say(
        job,
        f"the vocabulary of {len(tokenizer):,} tokens is cut to {len(chosen.ids):,}: {why}; "
        "the rows are split as before",
    )
    return cut, chosen.ids


def _portions(job: StageJob, tokenizer: PreTrainedTokenizerBase) -> Iterator[_Portion]:
    """All rows, whatever their length: what of them is cut or left out later is not known yet."""
    config = job.config
    train, validation = build_examples(config, job.exports)
    bad_rows = build_bad_rows(job, lists=False)
    cache = None if config.data.cache is None else Path(config.data.cache).expanduser()

    def wanted(examples: Any) -> RowsWanted:
        return RowsWanted(examples, _ANY_LENGTH, "drop", on_bad_row=config.data.on_bad_row)

    rows = 0
    shards: TokenShards = token_shards(
        wanted(train), tokenizer, cache=cache, say=lambda note: _say(job, note), bad_rows=bad_rows
    )
    for shard in shards.shards():
        yield _Portion(shard.tokens, shard.offsets, rows)
        rows += len(shard.prompts)
    if validation is not None:
        held: EncodedRows = rows_in_memory(
            wanted(validation), tokenizer, counts=Counter(), bad_rows=bad_rows
        )
        yield _Portion(held.tokens, held.offsets, rows)


def _used(
    job: StageJob, tokenizer: PreTrainedTokenizerBase, portions: Iterable[_Portion]
) -> list[int]:
    """Ids that occur."""
    occurs = np.zeros(len(tokenizer), dtype=bool)
    for portion in portions:
        occurs[portion.tokens] = True
    root = Path(job.config.data.root or "")
    for name in job.config.model.vocabulary.extra:
        texts: list[str] = []
        for _, row in stream_rows(Source(split="", path=below(root, name))):
            texts += _strings(row)
            if len(texts) >= _TEXTS:
                occurs[_ids(tokenizer, texts)] = True
                texts = []
        occurs[_ids(tokenizer, texts)] = True
    used: list[int] = np.flatnonzero(occurs).tolist()
    return used


def _ids(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> npt.NDArray[np.int64]:
    rows = encode_responses(tokenizer, texts) if texts else []
    return np.array([id_ for row in rows for id_ in row], dtype=np.int64)


def _strings(value: Any) -> list[str]:
    """Every text in a row, however deep."""
    if isinstance(value, str):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for part in parts for text in _strings(part)]


def _verify(
    job: StageJob,
    tokenizer: PreTrainedTokenizerBase,
    whole: list[_Portion],
    cut: list[_Portion],
    kept: npt.NDArray[np.int64],
) -> None:
    """Compare every row of both tokenizers, token by token.

    Raises:
        UserError: One is split otherwise.
    """
    for before, after in zip(whole, cut, strict=False):
        back = kept[after.tokens]
        if np.array_equal(before.offsets, after.offsets) and np.array_equal(before.tokens, back):
            continue
        for number in range(len(before.offsets) - 1):
            old = before.tokens[before.offsets[number] : before.offsets[number + 1]]
            new = back[after.offsets[number] : after.offsets[number + 1]]
            if not np.array_equal(old, new):
                split, otherwise = (
                    " ".join(tokenizer.convert_ids_to_tokens(ids.tolist())[:40])
                    for ids in (old, new)
                )
                raise UserError(
                    f"{job.name}: model.vocabulary.keep=used: cut to the tokens that occur, the "
                    f"tokenizer splits row {before.first + number + 1} otherwise: '{otherwise}' in "
                    f"place of '{split}'. Set it to full, or remove the row"
                )
    assert len(whole) == len(cut), "portions end by their numbers of tokens"


def _read(file: Path, fingerprint: str) -> tuple[int, ...] | None:
    """What an earlier attempt at the same stage kept; None where there was none."""
    try:
        values = json.loads(file.read_text())
        return tuple(map(int, values["kept"])) if values["fingerprint"] == fingerprint else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(file: Path, fingerprint: str, kept: tuple[int, ...]) -> None:
    write_text(file, json.dumps({"fingerprint": fingerprint, "kept": kept}) + "\n", durable=False)


def _say(job: StageJob, note: str) -> None:
    rank_zero_only(print)(f"{job.name}: {note}", flush=True)
