"""Answers that say nothing: how many, and what is to be done where most are such."""

from collections.abc import Sequence


def empty_answers(texts: Sequence[str]) -> int:
    """How many of the texts are blank."""
    return sum(not text.strip() for text in texts)


def empty_note(texts: Sequence[str], *, on_canvas: bool) -> str | None:
    """What is to be said of answers most of which are empty; None where they are not."""
    empty = empty_answers(texts)
    if 2 * empty <= len(texts):
        return None
    remedy = "look at the training: more steps, or lengths of the references (length=oracle)"
    if on_canvas:
        remedy = (
            "the end of a canvas is learnt first. Train with "
            "objective.canvas_padding=first_end_only, or decode with generation.end_last=true or "
            "in blocks (generation.block_length)"
        )
    return f"{empty} of {len(texts)} answers are empty: {remedy}"
