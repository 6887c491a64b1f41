"""Low-rank adapters (LoRA, arXiv 2106.09685), by peft: put into a network, merged, and kept.

They are put in before anything else holds the parameters, and the network stays the Hugging Face
model that it was: what calls it, shards it or compiles it need not know of them.
"""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from dlm.diffusion.counter import counter_seed
from dlm.errors import StageFailed, UserError, did_you_mean
from dlm.models.backbone import Backbone

ALL_LINEAR = "all-linear"
MERGE_TOLERANCE = 1e-4
"""Largest difference of a logit of the merged and of the adapted network, as a share of the
largest logit (float32)."""
_ADAPTERS, _NAME = 204, "default"


@dataclass(frozen=True)
class LoraSettings:
    """Flat settings of the adapters; the schema explains each."""

    rank: int
    alpha: float | None = None
    dropout: float = 0.0
    targets: Sequence[str] = ()
    train_also: Sequence[str] = ()

    @property
    def scale(self) -> float:
        """alpha, twice the rank where nothing is said."""
        return 2.0 * self.rank if self.alpha is None else self.alpha


def add_adapters(network: PreTrainedModel, settings: LoraSettings, *, seed: int) -> str:
    """Freeze a network but for ``train_also``, and give every target an adapter, in place.

    The adapters are drawn from ``seed`` alone, and change nothing before the first step (B is 0).

    Returns:
        What is trained, in words.

    Raises:
        UserError: A name fits no module; the message gives those that exist.
    """
    from peft import LoraConfig, inject_adapter_in_model

    also = _modules_of(network, settings.train_also)
    targets = _targets_of(network, settings, also)
    config = LoraConfig(
        r=settings.rank, lora_alpha=settings.scale, lora_dropout=settings.dropout,  # type: ignore[arg-type]
        target_modules=list(targets),
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # GPT-2 keeps its matrices transposed (Conv1D); peft finds out itself, and says so.
        warnings.filterwarnings("ignore", message="fan_in_fan_out")
        torch.manual_seed(counter_seed(seed, _ADAPTERS))
        inject_adapter_in_model(config, network, adapter_name=_NAME)
    for module in also.values():
        module.requires_grad_(True)
    trained, total = (
        sum(p.numel() for p in network.parameters() if p.requires_grad or not trained_only)
        for trained_only in (True, False)
    )
    kinds = ", ".join(dict.fromkeys(name.rpartition(".")[2] for name in targets))
    beside = f", and all of {', '.join(also)}" if also else ""
    return (
        f"LoRA of rank {settings.rank}, alpha {settings.scale:g} on {len(targets)} layers "
        f"({kinds}){beside}: {trained:,} of {total:,} parameters are trained"
    )


def embedding_is_trained(network: PreTrainedModel) -> bool:
    """Whether the rows of the input embedding are trained."""
    weight: Any = network.get_input_embeddings().weight
    return bool(weight.requires_grad)


def lora_merged(backbone: Backbone, adapter_directory: Path | None, base: str) -> None:
    """Make the network the ordinary model that it stands for, in place: W + alpha / rank x B A.

    Args:
        backbone: with adapters.
        adapter_directory: where the adapter is written in peft's format before; None: nowhere.
        base: the model that the adapter belongs to, for whoever reads it.

    Raises:
        StageFailed: The merged network does not compute what the adapted one did.
    """
    network = backbone.network
    if adapter_directory is not None:
        _save_adapter(network, adapter_directory, base)
    expected = _probe(backbone)
    for name, layer in list(_adapted(network)):
        layer.merge()
        parent, _, own = name.rpartition(".")
        setattr(network.get_submodule(parent), own, layer.get_base_layer())
    del network.peft_config  # it would be taken for a network with adapters
    difference = float((_probe(backbone) - expected).abs().max())
    largest = float(expected.abs().max())
    if not difference <= MERGE_TOLERANCE * max(1.0, largest):
        raise StageFailed(
            f"the merged network differs from the adapted one by {difference:.2g} in a logit, of "
            f"at most {largest:.2g}: weights that are not finite, or too large for float32"
        )


def _targets_of(
    network: PreTrainedModel, settings: LoraSettings, also: dict[str, nn.Module]
) -> dict[str, nn.Module]:
    """The layers that get an adapter, by their full names."""
    linear: dict[str, nn.Module] = {
        name: module
        for name, module in network.named_modules()
        # The vocabulary's matrix may be the embedding too: an adapter on one would part them.
        if isinstance(module, nn.Linear | Conv1D) and module is not network.get_output_embeddings()
    }
    in_full = {id(part) for module in also.values() for part in module.modules()}
    free = {name: module for name, module in linear.items() if id(module) not in in_full}
    found: dict[str, nn.Module] = {}
    if not settings.targets:
        inner = f"{network.base_model_prefix}."
        found = {name: module for name, module in free.items() if name.startswith(inner)}
    for target in settings.targets:
        every = target == ALL_LINEAR
        fitting = {name: m for name, m in linear.items() if every or _ends_with(name, target)}
        if not fitting:
            raise UserError(_no_such("lora.targets", target, linear, "linear layers"))
        both = fitting.keys() - free.keys()
        if both and not every:
            raise UserError(
                f"lora.targets={target}: {min(both)} is trained in full, by lora.train_also; name "
                "it in one of them"
            )
        found |= {name: module for name, module in fitting.items() if name in free}
    if not found:
        raise UserError(
            f"lora.train_also={', '.join(settings.train_also)} leaves no layer for an adapter: "
            "name less, or set lora.rank to 0 to train every weight"
        )
    return found


def _modules_of(network: PreTrainedModel, names: Sequence[str]) -> dict[str, nn.Module]:
    """The modules that are trained in full, by their full names."""
    modules = {name: module for name, module in network.named_modules() if name}
    found: dict[str, nn.Module] = {}
    for wanted in names:
        fitting = {
            name: module
            for name, module in modules.items()
            if _ends_with(name, wanted) and any(True for _ in module.parameters())
        }
        if not fitting:
            raise UserError(_no_such("lora.train_also", wanted, modules, "modules"))
        found |= fitting
    return found


def _ends_with(name: str, ending: str) -> bool:
    return name == ending or name.endswith(f".{ending}")


def _no_such(key: str, name: str, modules: dict[str, nn.Module], what: str) -> str:
    ends = dict.fromkeys(full.rpartition(".")[2] for full in modules)
    names = sorted(end for end in ends if not end.isdigit())
    return (
        f"{key}={name}: the network has no such {what}{did_you_mean(name, names)} "
        f"(there are {', '.join(names)}; more of a name, as in {next(reversed(modules))}, says "
        "more exactly which)"
    )


def _adapted(network: nn.Module) -> Iterator[tuple[str, Any]]:
    from peft.tuners.lora import LoraLayer

    for name, module in network.named_modules():
        if isinstance(module, LoraLayer):
            yield name, module


@torch.no_grad()
def _probe(backbone: Backbone) -> Tensor:
    """Logits of two rows of random tokens."""
    was_training = backbone.network.training
    backbone.network.eval()
    device = next(backbone.parameters()).device
    length = min(16, backbone.max_length)
    generator = torch.Generator().manual_seed(0)
    tokens_BL = torch.randint(backbone.vocab_size, (2, length), generator=generator).to(device)
    valid_BL = torch.ones_like(tokens_BL, dtype=torch.bool)
    hidden_BLH = backbone.hidden(tokens_BL, valid_BL, attention="bidirectional")
    logits_BLV = backbone.logits(hidden_BLH).float()
    backbone.network.train(was_training)
    return logits_BLV


def _save_adapter(network: Any, directory: Path, base: str) -> None:
    """What ``peft.PeftModel.from_pretrained`` puts on the base model."""
    full = [
        name
        for name, module in network.named_modules()
        # Tied weights are written with each of their layers, so that the file needs no tying.
        if not any(module.children()) and ".lora_" not in name and _any_trained(module)
    ]
    config = network.peft_config[_NAME]
    config.base_model_name_or_path, config.inference_mode = base, True
    config.modules_to_save = full or None
    directory.mkdir(parents=True)
    config.save_pretrained(str(directory))
    tensors = {
        f"base_model.model.{name.replace(f'.{_NAME}.', '.')}": tensor.cpu().clone()
        for name, tensor in network.state_dict().items()
        if ".lora_" in name or name.rpartition(".")[0] in full
    }
    save_file(tensors, directory / "adapter_model.safetensors", {"format": "pt"})


def _any_trained(module: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in module.parameters())
