"""Answers that say nothing: how many, and what is to be done where most are such."""

from collections.abc import Sequence


def empty_answers(texts: Sequence[str]) -> int:
    """How many of the texts are blank."""
    return sum(not text.strip() for text in texts)


def empty_text(empty: int, answers: int) -> str:
    """How many there are, in words."""
    return f"{empty} of {answers} answers are empty"


def empty_note(empty: int, answers: int, *, on_canvas: bool) -> str | None:
    """What is to be said of answers most of which are empty; None where they are not."""
    if 2 * empty <= answers:
        return None
    remedy = "look at the training: more steps, or lengths of the references (length=oracle)"
    if on_canvas:
        remedy = (
            "the end of a canvas is learnt first. Train with "
            "objective.canvas_padding=first_end_only, or decode with generation.end_last=true, in "
            "blocks (generation.block_length) or with generation.min_length"
        )
    return f"{empty_text(empty, answers)}: {remedy}"


def length_ratio(answers: Sequence[int], references: Sequence[int]) -> float | None:
    """Tokens of all answers by those of all references; None where these have none."""
    return sum(answers) / sum(references) if sum(references) else None
