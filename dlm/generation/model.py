"""An exported model, opened for use."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from transformers import PreTrainedTokenizerBase

from dlm.data.sources import file_sha256
from dlm.errors import UserError
from dlm.models.backbone import Backbone
from dlm.models.build import load_backbone, load_tokenizer
from dlm.models.length_predictor import (
    LengthPredictor,
    has_length_predictor,
    load_length_predictor,
)
from dlm.models.special_tokens import SpecialTokens

DESCRIPTION_FILE = "dlm.json"
ModelKind = Literal["diffusion", "autoregressive"]


@dataclass(frozen=True)
class GenerativeModel:
    """A network with its tokenizer and, if it has one, its length predictor."""

    backbone: Backbone
    tokenizer: PreTrainedTokenizerBase
    special: SpecialTokens
    kind: ModelKind
    length_predictor: LengthPredictor | None = None

    @property
    def device(self) -> torch.device:
        """Where the network lies."""
        return next(self.backbone.parameters()).device

    @property
    def forbidden_ids(self) -> torch.Tensor:
        """Tokens that are never generated: every special one, and rows of the output layer that
        the tokenizer does not know."""
        beyond = range(len(self.tokenizer), self.backbone.vocab_size)
        return torch.tensor([*sorted(self.tokenizer.all_special_ids), *beyond], device=self.device)


def open_model(
    place: str | Path, *, device: torch.device | str = "cpu", trust_remote_code: bool = False
) -> GenerativeModel:
    """Open an export of ours, any Hugging Face directory or a hub name.

    Raises:
        UserError: It cannot be loaded, or its length predictor belongs to another backbone.
    """
    directory = Path(place)
    backbone = load_backbone(place, trust_remote_code=trust_remote_code).eval().to(device)
    tokenizer = load_tokenizer(place)
    predictor = None
    if has_length_predictor(directory):
        predictor = load_length_predictor(directory, backbone_fingerprint(directory)).to(device)
    return GenerativeModel(
        backbone, tokenizer, SpecialTokens.of(tokenizer), read_kind(directory), predictor
    )


def backbone_fingerprint(directory: Path) -> str:
    """Hash of a directory's network weights."""
    files = sorted(p for p in directory.glob("model*.safetensors"))
    if not files:
        raise UserError(f"{directory} holds no model*.safetensors: give a model directory")
    return hashlib.sha256("".join(map(file_sha256, files)).encode()).hexdigest()


def write_kind(directory: Path, kind: ModelKind, objective: str) -> None:
    """Say beside the weights how the network generates and what it was trained with."""
    description = {"format": 1, "kind": kind, "objective": objective}
    (directory / DESCRIPTION_FILE).write_text(json.dumps(description, indent=2) + "\n")


def read_kind(directory: Path) -> ModelKind:
    """How the network generates; a plain Hugging Face directory is read as diffusion."""
    path = directory / DESCRIPTION_FILE
    if not path.exists():
        return "diffusion"
    kind: ModelKind = json.loads(path.read_text())["kind"]
    return kind
