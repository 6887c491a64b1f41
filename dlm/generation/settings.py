"""How text is generated, and what comes out."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from dlm.diffusion.sampling.choice import ScoreName
from dlm.diffusion.sampling.samplers import Sampler, customised
from dlm.errors import UserError
from dlm.generation.rerank import Rerank
from dlm.generation.trace import History

LengthSource = Literal["predicted", "oracle", "canvas"]
_SAMPLER_OPTIONS = ("temperature", "top_k", "top_p", "score", "threshold", "entropy_bound",
                    "end_last")  # fmt: skip
_UNLESS_SET = (*_SAMPLER_OPTIONS, "guidance", "block_length", "prompt_cache")
_UNLESS_ZERO = ("min_length", "end_penalty")


@dataclass(frozen=True)
class GenerationSettings:
    """Everything that decides the text; kept beside every score."""

    sampler: str = "reparam-uncond-deterministic-cosine"
    num_iterations: int | None = None
    """None: as many as the sampler's own."""
    length: LengthSource | None = None
    """None: what suits the model; ``lengths.settled`` decides."""
    canvas_length: int | None = None
    length_beam: int = 5
    rerank: Rerank = "mean"
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    score: ScoreName | None = None
    threshold: float | None = None
    entropy_bound: float | None = None
    guidance: float | None = None
    guidance_keeps_special: bool = False
    block_length: int | None = None
    end_last: bool | None = None
    min_length: int = 0
    end_penalty: float = 0.0
    prompt_cache: int | None = None
    seed: int = 0
    batch_tokens: int = 8192
    beam_size: int = 5
    length_penalty: float = 1.0
    max_new_tokens: int = 128

    def parts(self) -> Sampler:
        """The sampler with its options; iterations and blocks are its own where nothing is said.

        Raises:
            ValueError: There is no such sampler, or it does not read one of the options.
        """
        options = (*_SAMPLER_OPTIONS, "num_iterations", "block_length")
        return customised(self.sampler, **{name: getattr(self, name) for name in options})

    def check_parts(self) -> None:
        """
        Raises:
            UserError: There are no such ``parts``.
        """
        try:
            self.parts()
        except ValueError as error:
            raise UserError(str(error)) from error

    def shown(self, kind: str) -> dict[str, Any]:
        """The settings that matter to a diffusion or an autoregressive model."""
        values = asdict(self)
        if kind == "autoregressive":
            names = ["beam_size", "length_penalty", "max_new_tokens"]
            if self.temperature:
                drawn = ("temperature", "top_k", "top_p")
                names = [name for name in drawn if values[name] is not None]
                names += ["seed", "max_new_tokens"]
        else:
            names = ["sampler", "num_iterations", "length"]
            names += ["canvas_length"] if self.length == "canvas" else []
            names += ["length_beam", "rerank"] if self.length in ("predicted", None) else []
            names += [name for name in _UNLESS_SET if values[name] is not None]
            parts = self.parts()
            names += ["guidance_keeps_special"] if self.guidance_keeps_special else []
            names += ["seed"] if parts.draws else []
            values["num_iterations"] = parts.num_iterations
            if parts.block_length is not None:
                values["block_length"] = parts.block_length
                names += ["block_length"] * ("block_length" not in names)
        names += [name for name in _UNLESS_ZERO if values[name]]
        return {name: values[name] for name in names}


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
