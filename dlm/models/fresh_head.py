"""Weights that a checkpoint lacks: refused, or the output layer's alone begun at random, as asked.

transformers draws what a file lacks at random, and says so in a warning at most. (What is tied to
weights that are there is not missing.)
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedModel
from transformers.utils import logging

from dlm.errors import UserError
from dlm.models.families import is_causal
from dlm.models.outside import REMEDY


@dataclass(frozen=True)
class FreshHead:
    """Leave to begin with an output layer that was never trained."""

    seed: int
    """Draws its weights, and nothing else does."""
    say: Callable[[str], None]
    """Is told which weights are fresh."""


@contextmanager
def seeded(fresh: FreshHead | None) -> Iterator[None]:
    """Draw what transformers draws inside by the seed; draws outside do not notice. Its report of
    what is missing is left out: :func:`check_missing` says that."""
    if fresh is None:
        yield
        return
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(fresh.seed)
            yield
    finally:
        logging.set_verbosity(verbosity)


def check_missing(
    name: str | Path, network: PreTrainedModel, missing: Iterable[str], fresh: FreshHead | None
) -> None:
    """Refuse a network with random weights, but for an output layer that is to be fresh; that one
    is tied to the input embedding, in place.

    Args:
        name: where the network came from.
        network: it, as :func:`seeded` transformers loaded it.
        missing: names of its weights that the checkpoint lacks.
        fresh: leave to begin the output layer; None: none.

    Raises:
        UserError: Weights are missing that must not be, or none is missing although the output
            layer is to be fresh.
    """
    missing = sorted(missing)
    body = [key for key in missing if key.startswith(f"{network.base_model_prefix}.")]
    if fresh is None or body:
        _refuse(name, network, body or missing, head=not body)
        return
    if not missing:
        raise UserError(
            f"model.fresh_head: the model '{name}' ({_saved_as(network)}) lacks nothing of its "
            "output layer: leave model.fresh_head out, and the trained one is used"
        )
    _tie(network, missing)
    parameters = dict(network.named_parameters())  # what is tied is in it once
    drawn = ", ".join(key for key in missing if key in parameters)
    fresh.say(
        f"the model '{name}' ({_saved_as(network)}) has no output layer of its own: the output "
        f"embedding is the input's; fresh, from seed {fresh.seed}: {drawn or 'nothing else'}"
    )


def _tie(network: PreTrainedModel, missing: list[str]) -> None:
    """One matrix for input and output, and one bias: transformers leaves tensors apart of which the
    checkpoint has neither."""
    output = network.get_output_embeddings()
    if any(network.get_parameter(key) is output.weight for key in missing):
        network.config.tie_word_embeddings = True
    network.tie_weights()


def _refuse(name: str | Path, network: PreTrainedModel, missing: list[str], *, head: bool) -> None:
    if not missing:
        return
    shown = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
    wanted = "causal" if is_causal(network.config.model_type) else "masked"
    remedy = (
        ", or let a stage begin with a random one and train it (model.fresh_head=true, beside "
        "model.pretrained)"
    )
    code = getattr(network.config, "auto_map", None) or {}
    own = code.get("AutoModelForMaskedLM") or code.get("AutoModelForCausalLM")
    if own and type(network).__module__.startswith("transformers."):
        raise UserError(
            f"the model '{name}' ({_saved_as(network)}) has no weights for {shown}: it comes with "
            f"code of its own (auto_map: {own}), which was not run, and the network of "
            f"transformers of type '{network.config.model_type}' is another. Take another "
            f"checkpoint, or {REMEDY}"
        )
    if not head:
        raise UserError(
            f"the model '{name}' ({_saved_as(network)}) has no weights for {shown}, which would be "
            f"random: they are of the body of a network of type '{network.config.model_type}' as "
            "its config.json describes it, so the two are not of one model; take both from where "
            "it was saved"
        )
    raise UserError(
        f"the model '{name}' ({_saved_as(network)}) has no weights for {shown}, which would be "
        f"random: give a checkpoint that was saved with its {wanted} language model's output layer"
        f"{remedy}"
    )


def _saved_as(network: PreTrainedModel) -> str:
    return f"saved as {', '.join(network.config.architectures or ()) or 'unknown'}"
