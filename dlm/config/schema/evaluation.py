"""How models generate, and what is scored."""

from dataclasses import dataclass, field
from typing import Any, Literal

from dlm.config.schema.fields import WHEN_SET, where


@dataclass(frozen=True)
class GenerationConfig:
    """How text is generated; shown beside every score."""

    sampler: str = "reparam-uncond-deterministic-cosine"
    """Name of a sampler; ``dlm ls samplers`` lists them."""
    num_iterations: int | None = None
    """Iterations M of the reverse process. None: the sampler's own (``dlm ls samplers``), 10 for
    most. For fast-dllm and eb a number is a limit: what is left in the last iteration is set.
    ``steps`` is understood as its other name."""
    length: Literal["predicted", "oracle", "canvas"] | None = None
    """Lengths from the length predictor, from the reference, or from the answer itself: a canvas of
    ``canvas_length`` tokens is decoded and cut at its first end token. None: canvas for a model
    that was trained with one and has no length predictor, else predicted."""
    canvas_length: int | None = None
    """length canvas only: tokens of the canvas. None: as in training (``data.canvas_length``)."""
    length_beam: int = 5
    """Number of predicted lengths decoded and reranked; not read with a canvas."""
    rerank: Literal["mean", "joint", "mbr"] = "mean"
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
    score: Literal["log_probability", "margin", "entropy", "random"] | None = None
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


@dataclass(frozen=True)
class SystemConfig:
    """One row of an evaluation table: a model and how it generates."""

    model: str = ""
    """Name of an earlier stage, or a Hugging Face directory."""
    generation: dict[str, Any] = field(default_factory=dict)
    """Fields of ``generation`` that differ for this system."""


@dataclass(frozen=True)
class LikelihoodConfig:
    """How tasks of kind perplexity and multiple_choice estimate a likelihood; None: as the task
    says."""

    estimator: Literal["exactly_l", "bernoulli", "chain_rule"] | None = None
    """exactly_l masks l tokens, l uniform (LLaDA); bernoulli each with probability t (MDLM), of
    greater variance; chain_rule goes from left to right, exactly, in as many rows as tokens."""
    samples: int | None = None
    """Draws for each text (not for chain_rule), at least 2."""
    seed: int | None = None
    """Seed of the draws."""


@dataclass(frozen=True)
class EvaluationConfig:
    """Stage kind ``evaluate``: systems x tasks, with intervals and paired comparisons."""

    systems: dict[str, SystemConfig] = field(default_factory=dict)
    """The systems, by the name shown in the table."""
    tasks: list[str] = field(default_factory=list)
    """Names of shipped tasks (``dlm ls tasks``) or task files."""
    only: dict[str, list[str]] = field(default_factory=dict)
    """System name -> the tasks it is evaluated on; default all."""
    compare: list[list[str]] = field(default_factory=list)
    """Pairs of systems: the first minus the second, with the 95 % interval of the paired
    difference."""
    limit: int | None = None
    """Only this many rows of each task: the first ones, of several files as many of each."""
    too_long: Literal["error", "skip"] = "error"
    """Tasks that generate: a prompt that leaves no room for an answer in the model's positions is
    refused before anything is run, or its row is left out and counted (the paper, section 4.3)."""
    oracle_lengths: bool = True
    """Beside every system with predicted lengths a row "NAME, oracle length" of the same answers
    with the references' lengths, on tasks that generate, unless another system already has them.
    It decodes one candidate a prompt, the other ``generation.length_beam`` of them."""
    likelihood: LikelihoodConfig = field(default_factory=LikelihoodConfig)
    """For the tasks that estimate one."""
    bootstrap_samples: int = 1000
    """Resamples of the bootstrap, where an interval is found by it."""
