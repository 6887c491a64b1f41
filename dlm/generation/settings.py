"""How text is generated: declared once, for recipes, command lines and whatever generates.

Without torch: a recipe is read in a moment.
"""

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from dlm.errors import UserError
from dlm.setting import WHEN_SET, where

if TYPE_CHECKING:
    from dlm.diffusion.sampling.samplers import Sampler

LengthSource = Literal["predicted", "oracle", "canvas"]
ScoreName = Literal["log_probability", "margin", "entropy", "random"]
Rerank = Literal["mean", "joint", "mbr"]
AUTOREGRESSIVE_ONLY = ("beam_size", "length_penalty", "max_new_tokens")
OF_BOTH_KINDS = ("batch_tokens", "min_length", "end_penalty")
"""Read by diffusion models and autoregressive ones; what is in neither tuple is diffusion's."""
OF_CANVAS = ("canvas_length", "end_last", "end_penalty")
"""Of answers that end themselves."""
_SAMPLER_OPTIONS = ("temperature", "top_k", "top_p", "score", "threshold", "entropy_bound",
                    "end_last")  # fmt: skip
_UNLESS_SET = (*_SAMPLER_OPTIONS, "guidance", "block_length", "prompt_cache")
_UNLESS_ZERO = ("min_length", "end_penalty")


@dataclass(frozen=True)
class GenerationSettings:
    """Everything that decides the text: section ``generation`` of a recipe, shown beside every
    score."""

    sampler: str = "reparam-uncond-deterministic-cosine"
    """Name of a sampler; ``dlm ls samplers`` lists them."""
    num_iterations: int | None = None
    """Iterations M of the reverse process. None: the sampler's own (``dlm ls samplers``), 10 for
    most. For fast-dllm and eb a number is a limit: what is left in the last iteration is set.
    ``steps`` is understood as its other name."""
    length: LengthSource | None = None
    """Lengths from the length predictor, from the reference, or from the answer itself: a canvas of
    ``canvas_length`` tokens is decoded and cut at its first end token. None: canvas for a model
    that was trained with one and has no length predictor, else predicted."""
    canvas_length: int | None = None
    """length canvas only: tokens of the canvas. None: as in training (``data.canvas_length``)."""
    length_beam: int = 5
    """Number of predicted lengths decoded and reranked; not read with a canvas."""
    rerank: Rerank = "mean"
    """Which of them is given: mean, the one of the highest mean log-probability of its tokens (the
    paper); joint, of the highest joint probability of length and tokens; mbr, the one that agrees
    most with the others by chrF (minimum Bayes risk)."""
    temperature: float | None = None
    """Draw tokens in proportion to p^(1/temperature); 0 takes the likeliest. None here and below:
    what the sampler says."""
    top_k: int | None = None
    """Draw from this many of the likeliest tokens; needs a temperature."""
    top_p: float | None = None
    """Draw from the smallest set of tokens with so much probability; needs a temperature."""
    score: ScoreName | None = None
    """How sure the network is of a position."""
    threshold: float | None = None
    """fast-dllm only: tokens of this probability or more are set at once."""
    entropy_bound: float | None = None
    """eb only: this many positions are set at once as their entropy allows, in nats."""
    guidance: float | None = None
    """Classifier-free guidance w: u + (w+1)(c-u) with the prompt and with all of it masked (LLaDA,
    SMDM); doubles the network calls."""
    guidance_keeps_special: bool = field(default=False, metadata=WHEN_SET)
    """Its begin, end and other special tokens stay where the prompt is masked for ``guidance``."""
    block_length: int | None = None
    """Answer in blocks of this many tokens from left to right, ``num_iterations`` each; it must
    divide every length. On a canvas an answer is done with the block that holds its end. None: the
    sampler's own, one block for all but fast-dllm (32, the last one shorter)."""
    end_last: bool | None = None
    """length canvas only: positions that would be end tokens are set behind all others (of a
    block). For samplers that choose positions by how sure the network is of them."""
    min_length: int = field(default=0, metadata=WHEN_SET)
    """Least tokens of an answer: its end cannot come before. On a canvas and in the twin the end
    token is barred so long; predicted lengths are of so many at least; lengths of references
    (oracle) and of spans to fill in are given, and it is not read there."""
    end_penalty: float = field(default=0.0, metadata=WHEN_SET)
    """length canvas and autoregressive: subtracted from the logit of the end token, so that answers
    grow longer; scores are those of what is left."""
    prompt_cache: int | None = None
    """Approximate, for bidirectional attention: keys and values of what stands before the canvas
    are computed anew only in every N-th iteration, in between the canvas alone. None: in
    every iteration. Attention prefix_lm needs no approximation: there they never change."""
    seed: int = 0
    """For samplers that draw at random."""
    batch_tokens: int = where(8192)
    """Largest padded size of a decoding batch, in tokens."""
    beam_size: int = 5
    """autoregressive only: beam size, 1 is greedy."""
    length_penalty: float = 1.0
    """autoregressive only: hypotheses are ranked by log-probability / length^penalty."""
    max_new_tokens: int = 128
    """autoregressive only: longest output."""

    def parts(self) -> "Sampler":
        """The sampler with its options; iterations and blocks are its own where nothing is said.

        Raises:
            ValueError: There is no such sampler, or it does not read one of the options.
        """
        from dlm.diffusion.sampling.samplers import customised

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
