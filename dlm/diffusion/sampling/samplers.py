"""Named samplers: which parts the loop is put together from."""

import difflib
from dataclasses import dataclass

from dlm.diffusion.sampling.renoise import RENOISE, RenoiseRule
from dlm.diffusion.sampling.schedule import ScheduleName


@dataclass(frozen=True)
class Sampler:
    """Parts of the reverse process."""

    renoise: RenoiseRule
    schedule: ScheduleName
    description: str


SAMPLERS: dict[str, Sampler] = {
    "reparam-uncond-deterministic-linear": Sampler(
        RENOISE["reparam-uncond"], "linear", "RDM: any slot may return to noise, linear schedule"
    ),
    "reparam-uncond-deterministic-cosine": Sampler(
        RENOISE["reparam-uncond"], "cosine", "RDM, the paper's: any slot may return, cosine"
    ),
    "frozen-linear": Sampler(
        RENOISE["frozen"], "linear", "LLaDA: the most certain slots are set and stay, linear"
    ),
    "frozen-cosine": Sampler(
        RENOISE["frozen"], "cosine", "MaskGIT: the most certain slots are set and stay, cosine"
    ),
}


def get_sampler(name: str) -> Sampler:
    """The sampler of that name.

    Raises:
        ValueError: No sampler has that name; the message lists those there are.
    """
    if name in SAMPLERS:
        return SAMPLERS[name]
    near = difflib.get_close_matches(name, SAMPLERS, n=1)
    hint = f"did you mean '{near[0]}'? " if near else ""
    raise ValueError(f"unknown sampler '{name}': {hint}choose from {', '.join(SAMPLERS)}")
