"""What became of a stage's rows: said before it trains, and kept in its manifest."""

from string import ascii_lowercase, ascii_uppercase
from typing import Any

from transformers import PreTrainedTokenizerBase

from dlm.data.modules import RowsDataModule
from dlm.data.rows.encoding import encode_responses
from dlm.errors import UserError
from dlm.tokens.text_form import USUAL, form_of

_MOST_UNKNOWN = 0.5


def rows_read(data: RowsDataModule, steps: int) -> dict[str, Any]:
    """How many rows the stage used, left out and drew, and how many tokens it could not read;
    what is of the validation rows says so."""
    counts = {**data.counts, "unknown_tokens": data.unknown_tokens}
    counts |= {f"validation_{key}": value for key, value in data.validation_counts.items()}
    figures: dict[str, Any] = {"train_rows": len(data.train_rows)}
    figures |= {key: value for key, value in counts.items() if value}
    if data.mixture is not None:
        draws = data.draws_of_sources(steps)
        figures["sources"] = {
            name: {"rows": rows, "share": round(share, 6), "draws": drawn}
            for name, rows, share, drawn in zip(
                data.source_names, data.mixture.rows, data.mixture.shares, draws, strict=True
            )
        }
    if (reachable := data.round_trip.share) < 1:
        figures["validation_reachable"] = round(reachable, 6)
    if data.overlap is not None:
        figures["overlap"] = data.overlap.metrics()
    return figures


def refuse_unknown_rows(data: RowsDataModule) -> None:
    """Refuse rows of which a tokenizer knows less than half: there is nothing to learn.

    Raises:
        UserError: It says which share is unknown, and what is often the reason.
    """
    if (reason := mostly_unknown(data)) is not None:
        raise UserError(reason)


def mostly_unknown(data: RowsDataModule) -> str | None:
    """Why rows are refused of which a tokenizer knows less than half, special tokens not counted;
    None where it knows more."""
    each = 3 if all(source.conditional for source in data.examples.sources) else 2
    text_tokens = data.shards.index.tokens - each * len(data.shards)
    return unknown_reason(data.tokenizer, data.unknown_tokens / max(1, text_tokens))


def unknown_reason(tokenizer: PreTrainedTokenizerBase, share: float) -> str | None:
    """Why rows with this share of unknown tokens are refused; None where they are not."""
    if share <= _MOST_UNKNOWN:
        return None
    remedy = "take the tokenizer that belongs to such text, or train one (a `tokenizer` stage)"
    if _loses_capitals(tokenizer):
        remedy = (
            "it lowers case, and its vocabulary has capitals alone: set do_lower_case to false in "
            "its tokenizer_config.json"
        )
    return (
        f"{share:.1%} of the rows' tokens are unknown to the tokenizer, so there is next to "
        f"nothing to learn: {remedy}"
    )


def _loses_capitals(tokenizer: PreTrainedTokenizerBase) -> bool:
    unknown = tokenizer.unk_token_id
    large, small = (
        [i for ids in encode_responses(tokenizer, list(letters)) for i in ids if i != unknown]
        for letters in (ascii_uppercase, ascii_lowercase)
    )
    written = set(tokenizer.get_vocab())
    return not large and not small and not written.isdisjoint(ascii_uppercase)


def data_notes(data: RowsDataModule) -> list[str]:
    """What is said about the rows before the stage trains."""
    reasons = {
        "left_out_rows": "rows are left out by leave_out and keep_only",
        "duplicate_rows": "rows are duplicates of earlier ones, and left out",
        "cut_prompts": "prompts are too long, and lost their beginning",
        "dropped_rows": "rows are too long, and left out",
    }
    notes = [f"{data.counts[key]} {text}" for key, text in reasons.items() if data.counts[key]]
    if data.bad_rows.count:
        notes.append(data.bad_rows.note())
    if data.mixture is not None:
        shares = zip(data.source_names, data.mixture.shares, data.mixture.rows, strict=True)
        text = ", ".join(f"{name} {share:.1%} ({rows} rows)" for name, share, rows in shares)
        notes.append(f"mixture: {text}")
    notes += data.copies()
    if data.overlap is not None:
        notes += data.overlap.lines()
    if data.unknown_tokens:
        notes.append(
            f"{data.unknown_tokens} tokens of the rows are unknown to the tokenizer, and cannot be "
            "generated: train it on text that has their characters"
        )
    if (form := form_of(data.tokenizer)) != USUAL:
        notes.append(f"{form.note}, as the first texts of the rows come back best that way")
    notes += data.round_trip.warnings("validation responses")
    return notes + data.text_round_trip.warnings("texts")


def class_notes(data: RowsDataModule, classes: int) -> list[str]:
    """That some responses are longer than any class of a length predictor."""
    beyond = data.responses_beyond(classes)
    parts = [
        f"{count} {part}"
        for count, part in zip(beyond, ("training rows", "validation rows"), strict=True)
        if count
    ]
    if not parts:
        return []
    return [
        f"responses of {' and '.join(parts)} have more than {classes} tokens, the longest length "
        "that the predictor knows: in training they count as that, in validation as wrong "
        "(length.max_response_length)"
    ]
