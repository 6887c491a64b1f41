"""What became of a stage's rows: said before it trains, and kept in its manifest."""

from typing import Any

from dlm.data.modules import RowsDataModule


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
    return notes + data.round_trip.warnings("validation responses")


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
