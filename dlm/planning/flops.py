"""Useful work of a step, and the hours that it takes."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Work:
    """Floating-point operations of one optimizer step, over all devices."""

    body: float
    """Every token through the layers: 6 P_body (2 forward, 4 backward), and attention's
    12 layers H L."""
    logits: float
    """6 H V for each masked position."""

    @property
    def total(self) -> float:
        """Padding and recomputation are not useful, and not counted."""
        return self.body + self.logits


def training_work(
    *, body: int, layers: int, hidden: int, vocabulary: int, tokens: float, length: float,
    masked: float,
) -> Work:  # fmt: skip
    """6 P_body tokens + 12 layers H L tokens, and 6 H V masked."""
    return Work(
        body=tokens * (6 * body + 12 * layers * hidden * length),
        logits=6 * hidden * vocabulary * masked,
    )


def predictor_work(
    *, body: int, layers: int, hidden: int, predictor: int, tokens: float, length: float
) -> Work:
    """A length stage: the backbone forward alone, its predictor both ways."""
    attention = (4 * layers + 12) * hidden * length
    return Work(body=tokens * (2 * body + 6 * predictor + attention), logits=0)


def hours(
    work: Work, steps: int, *, gpus: int, peak_tflops: float, mfu: float, checkpointing: bool
) -> float:
    """Time of this many steps. ``mfu`` is of a step without recomputation; with it every layer's
    forward pass is done twice, a third more work in the body."""
    done = work.total + work.body / 3 * checkpointing
    return done * steps / (gpus * peak_tflops * 1e12 * mfu) / 3600
