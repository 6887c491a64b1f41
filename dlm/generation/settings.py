"""How text is generated, and what comes out."""

from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class GenerationSettings:
    """Everything that decides the text; kept beside every score."""

    sampler: str = "reparam-uncond-deterministic-cosine"
    num_iterations: int = 10
    length: Literal["predicted", "oracle"] = "predicted"
    length_beam: int = 5
    rerank: Literal["mean", "joint"] = "mean"
    batch_tokens: int = 8192
    beam_size: int = 5
    length_penalty: float = 1.0
    max_new_tokens: int = 128

    def shown(self, kind: str) -> dict[str, Any]:
        """The settings that matter to a diffusion or an autoregressive model."""
        values = asdict(self)
        if kind == "autoregressive":
            names = ["beam_size", "length_penalty", "max_new_tokens"]
        else:
            names = ["sampler", "num_iterations", "length"]
            names += ["length_beam", "rerank"] if self.length == "predicted" else []
        return {name: values[name] for name in names}


@dataclass(frozen=True)
class Generated:
    """The answer to one prompt."""

    text: str
    """The answer."""
    length: int
    """Its tokens, without the end token."""
    score: float
    """Diffusion: its score under ``rerank``; autoregressive: mean
    log-probability of its tokens."""


@dataclass(frozen=True)
class Generation:
    """The answers to all prompts, in their order."""

    answers: list[Generated]
    network_calls: int
    """Forward passes of the network, batched ones counted once."""
