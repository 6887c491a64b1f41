"""Named samplers: which parts the loop is put together from.

A new one is a line in ``SAMPLERS``; ``get_sampler`` also reads RDM's names with their strength of
routing noise, such as ``reparam-cond-stochastic0.2-cosine``.
"""

import difflib
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

from dlm.diffusion.sampling.choice import ScoreName
from dlm.diffusion.sampling.rules import (
    ANCESTRAL,
    CMLM,
    ENTROPY_BOUND,
    FROZEN,
    LEFT_TO_RIGHT,
    REPARAM_COND,
    REPARAM_UNCOND,
    THRESHOLD,
    Rule,
)
from dlm.diffusion.sampling.schedule import ScheduleName


@dataclass(frozen=True)
class Sampler:
    """Parts of the reverse process."""

    rule: Rule
    """Which slots are noise next."""
    description: str
    """One line for people."""
    schedule: ScheduleName = "linear"
    """How many slots are noise after each iteration."""
    score: ScoreName = "log_probability"
    """How sure the network is of a slot."""
    score_of_drawn: bool = False
    """Whether that is read off the distribution that tokens are drawn from, tempered and cut, or
    off the network's own (which the log-probability of a token is in any case)."""
    temperature: float = 0.0
    """Tokens are drawn in proportion to p^(1/temperature); 0: the most likely one."""
    top_k: int | None = None
    """Draw from this many of the likeliest tokens."""
    top_p: float | None = None
    """Draw from the smallest set of tokens with so much probability."""
    routing_noise: float = 0.0
    """Gumbel noise on the scores, times the share of slots that are noise (RDM's stochastic)."""
    threshold: float | None = None
    """Of the rule that reads it: the probability from which on tokens are set."""
    entropy_bound: float | None = None
    """Of the rule that reads it: nats."""
    end_last: bool = False
    """Slots that would take the end token are ranked below all others."""
    num_iterations: int | None = 10
    """Iterations where nobody says how many, of each block if there are blocks; None: as many as a
    row has slots."""
    block_length: int | None = None
    """Slots of a block where nobody says how many; None: one block."""
    source: str = ""
    """The paper, and where its code decides, the code."""

    @property
    def defaults(self) -> str:
        """What holds where nothing is said, in words."""
        unlimited = "no limit of iterations" if self.rule.stops_early else "an iteration a slot"
        iterations = self.num_iterations
        parts = [unlimited if iterations is None else f"{iterations} iterations"]
        named = (("blocks of", self.block_length), ("threshold", self.threshold),
                 ("entropy bound", self.entropy_bound), ("temperature", self.temperature),
                 ("top-p", self.top_p))  # fmt: skip
        return ", ".join(parts + [f"{name} {value:g}" for name, value in named if value])

    @property
    def limit(self) -> float:
        """The number that its rule reads; NaN: it reads none."""
        value = getattr(self, self.rule.limit) if self.rule.limit else math.nan
        assert value is not None, f"a sampler of this rule needs {self.rule.limit}"
        return float(value)

    @property
    def repeats(self) -> bool:
        """Whether the same canvas has the same prediction in every iteration."""
        return self.temperature == 0 and self.score != "random"

    @property
    def draws(self) -> bool:
        """Whether it needs random numbers."""
        drawn = self.temperature > 0 or self.routing_noise > 0
        return drawn or self.score == "random" or self.rule.draws


_RDM = "RDM: any slot may return to noise"
_IF_FELL = "RDM: a slot returns to noise if its score fell"

SAMPLERS: dict[str, Sampler] = {
    "reparam-uncond-deterministic-linear": Sampler(REPARAM_UNCOND, f"{_RDM}, linear schedule"),
    "reparam-uncond-deterministic-cosine": Sampler(
        REPARAM_UNCOND, f"{_RDM}, cosine schedule (the paper's)", "cosine"
    ),
    "reparam-cond-deterministic-linear": Sampler(REPARAM_COND, f"{_IF_FELL}, linear schedule"),
    "reparam-cond-deterministic-cosine": Sampler(
        REPARAM_COND, f"{_IF_FELL}, cosine schedule", "cosine"
    ),
    "frozen-linear": Sampler(FROZEN, "the surest slots are set and stay, linear schedule"),
    "frozen-cosine": Sampler(
        FROZEN, "the surest slots are set and stay, cosine schedule (MaskGIT)", "cosine"
    ),
    "cmlm-linear": Sampler(CMLM, "the least sure tokens, as they were set, are masked again"),
    "cmlm-cosine": Sampler(CMLM, "the same with the cosine schedule", "cosine"),
    "ancestral-linear": Sampler(
        ANCESTRAL, "the reverse process itself: slots are set at random, tokens drawn",
        temperature=1.0,
    ),
    "ancestral-cosine": Sampler(
        ANCESTRAL, "the same with the cosine schedule", "cosine", temperature=1.0
    ),
    "left-to-right-linear": Sampler(LEFT_TO_RIGHT, "the first slots are set first"),
    # Under the names of the systems that made them known:
    "rdm": Sampler(
        REPARAM_UNCOND, "RDM: reparam-uncond-deterministic-cosine", "cosine",
        source="arXiv 2302.05737",
    ),
    "mask-predict": Sampler(CMLM, "CMLM: cmlm-linear", source="arXiv 1904.09324"),
    "mdlm": Sampler(
        ANCESTRAL, "MDLM: ancestral-linear, tokens drawn", temperature=1.0, num_iterations=128,
        source="arXiv 2406.07524, its config.yaml (c112c52)",
    ),
    "llada": Sampler(
        FROZEN, "LLaDA: the surest slots are set and stay", "llada", num_iterations=None,
        source="arXiv 2502.09992, its generate.py (b7e6c35)",
    ),
    "dream-entropy": Sampler(
        FROZEN, "Dream: the slots of least entropy are set and stay", "dream", "entropy",
        score_of_drawn=True, temperature=0.2, top_p=0.95, num_iterations=None,
        source="arXiv 2508.15487, alg='entropy', README (a1b4472)",
    ),
    "fast-dllm": Sampler(
        THRESHOLD, "Fast-dLLM: all tokens of a probability or more are set at once",
        threshold=0.9, num_iterations=None, block_length=32,
        source="arXiv 2505.22618, its llada/ scripts (24cc59e)",
    ),
    "eb": Sampler(
        ENTROPY_BOUND, "EB-sampler: as many slots at once as an entropy bound allows",
        score="entropy", entropy_bound=0.1, num_iterations=None, source="arXiv 2505.24857",
    ),
}  # fmt: skip

_RANGES: dict[str, tuple[str, Callable[[float], bool]]] = {
    "temperature": ("at least 0", lambda x: 0 <= x < math.inf),
    "top_k": ("at least 1", lambda x: x >= 1),
    "top_p": ("above 0 and at most 1", lambda x: 0 < x <= 1),
    "threshold": ("between 0 and 1", lambda x: 0 <= x <= 1),
    "entropy_bound": ("at least 0", lambda x: 0 <= x < math.inf),
}
_RDM_NAME = re.compile(
    r"reparam-(uncond|cond)-(deterministic|stochastic(\d+\.?\d*)?)-(linear|cosine)"
)


def get_sampler(name: str) -> Sampler:
    """The sampler of that name.

    Raises:
        ValueError: No sampler has that name; the message lists those there are.
    """
    if name in SAMPLERS:
        return SAMPLERS[name]
    if match := _RDM_NAME.fullmatch(name):
        condition, _, strength, schedule = match.groups()
        noise = float(strength or 1.0)
        known = SAMPLERS[f"reparam-{condition}-deterministic-{schedule}"]
        return replace(known, routing_noise=noise)
    near = difflib.get_close_matches(name, SAMPLERS, n=1)
    hint = f"did you mean '{near[0]}'? " if near else ""
    raise ValueError(f"unknown sampler '{name}': {hint}choose from {', '.join(SAMPLERS)}")


def customised(name: str, **given: Any) -> Sampler:
    """The named sampler with some of its numbers replaced; None keeps the sampler's own.

    Raises:
        ValueError: The sampler does not read one of them, or a value is impossible.
    """
    sampler = get_sampler(name)
    known = {field.name for field in fields(Sampler)}
    chosen = {key: value for key, value in given.items() if value is not None and key in known}
    changed = replace(sampler, **chosen)
    for key, (text, fits) in _RANGES.items():
        if key in chosen and not fits(chosen[key]):
            raise ValueError(f"{key} must be {text}, not {chosen[key]}")
    for key in ("threshold", "entropy_bound"):
        if key in chosen and sampler.rule.limit != key:
            preset = next(name for name, one in SAMPLERS.items() if one.rule.limit == key)
            raise ValueError(f"{key} is not read by sampler '{name}': use '{preset}', or remove it")
    if changed.end_last and not sampler.rule.ranks:
        raise ValueError(
            f"end_last is not read by sampler '{name}', which does not rank positions alone: use "
            "one of reparam, frozen or cmlm (llada, mask-predict), or remove it"
        )
    if sampler.rule.score not in (None, changed.score):
        wanted = f"score={sampler.rule.score}, not {changed.score}"
        raise ValueError(f"sampler '{name}' needs {wanted}: remove it")
    cut = changed.top_k is not None or changed.top_p is not None
    if changed.temperature == 0 and cut and not changed.score_of_drawn:
        raise ValueError(
            "top_k and top_p are not read at temperature 0, where the most likely token is taken: "
            "give a temperature above 0, or remove them"
        )
    return changed
