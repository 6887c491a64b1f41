"""How models generate, and what is scored."""

from dataclasses import dataclass, field
from typing import Any, Literal


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
