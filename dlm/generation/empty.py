"""Answers that say nothing: how many, and what is to be done where most are such."""

from collections.abc import Container, Sequence

from dlm.generation.settings import GenerationSettings


def empty_answers(texts: Sequence[str]) -> int:
    """How many of the texts are blank."""
    return sum(not text.strip() for text in texts)


def empty_text(empty: int, answers: int) -> str:
    """How many there are, in words."""
    return f"{empty} of {answers} answers are empty"


def empty_note(
    empty: int, answers: int, *, on_canvas: bool, in_use: Container[str] = (),
    references: bool = True,
) -> str | None:  # fmt: skip
    """What is to be said of answers most of which are empty; None where they are not.

    Args:
        empty: How many are.
        answers: Their number.
        on_canvas: They end themselves.
        in_use: Settings that are in use, so that they are no remedy.
        references: There are some, whose lengths could be taken.
    """
    if 2 * empty <= answers:
        return None
    oracle = ", or lengths of the references (length=oracle)" if references else ""
    remedy = f"look at the training: more steps{oracle}"
    if on_canvas:
        left = [how for name, how in _ON_CANVAS.items() if name not in in_use]
        remedy = (
            "the end of a canvas is learnt first. Train with "
            f"objective.canvas_padding=first_end_only, or decode {' or '.join(left)}"
        )
    return f"{empty_text(empty, answers)}: {remedy}"


_ON_CANVAS = {
    "end_last": "with generation.end_last=true",
    "block_length": "in blocks (generation.block_length)",
    "min_length": "with generation.min_length",
}
"""Setting -> the remedy that it is."""


def in_use(settings: GenerationSettings) -> frozenset[str]:
    """Which of those remedies are taken."""
    return frozenset(name for name in _ON_CANVAS if getattr(settings, name))


def length_ratio(answers: Sequence[int], references: Sequence[int]) -> float | None:
    """Tokens of all answers by those of all references; None where these have none."""
    return sum(answers) / sum(references) if sum(references) else None
