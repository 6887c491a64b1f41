"""What comes out of a generation."""

from dataclasses import dataclass, field

from dlm.generation.trace import History


@dataclass(frozen=True)
class Generated:
    """The answer to one prompt."""

    text: str
    """The answer."""
    length: int
    """Its tokens, without the end token."""
    score: float
    """Diffusion: its score under ``rerank``, on a canvas the mean log-probability of its tokens and
    their end; autoregressive: mean log-probability of its tokens."""


@dataclass(frozen=True)
class Generation:
    """The answers to all prompts, in their order."""

    answers: list[Generated]
    network_calls: int
    """Forward passes of the network, batched ones counted once."""
    histories: list[History] = field(default_factory=list)
    """What the canvas of each answer went through; none unless it was asked for."""
    without_end: int = 0
    """Answers of ``length="canvas"`` that fill it without an end token."""
