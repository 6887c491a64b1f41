"""The length predictor: how many tokens the response will have, from the prompt alone.

(arXiv 2308.12219, section 3.2.) It reads the frozen backbone's features of the *prompt*: a head
that saw the canvas would learn to count target positions and be worthless at decoding. It belongs
to the backbone it was trained on and is refused on another one.
"""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dlm.errors import UserError

_WEIGHTS, _SETTINGS = "length_predictor.safetensors", "length_predictor.json"


class LengthPredictor(nn.Module):
    """One transformer encoder layer, mean pool over the prompt, MLP; classes are lengths 1..max.

    A mean over the prompt does not count its tokens. With ``relative`` each class has a second
    logit, which belongs to the difference of the two lengths: a translation has about as many
    tokens as its source, whatever their number.
    """

    def __init__(
        self, hidden_size: int, *, max_length: int, num_heads: int = 4, dropout: float = 0.1,
        relative: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.settings = {
            "hidden_size": hidden_size,
            "max_length": max_length,
            "num_heads": num_heads,
            "dropout": dropout,
            "relative": relative,
        }
        self.max_length = max_length
        self.encoder = nn.TransformerEncoderLayer(
            hidden_size, num_heads, 4 * hidden_size, dropout, "gelu", batch_first=True,
            norm_first=True,
        )  # fmt: skip
        self.mlp = nn.Sequential(
            nn.LayerNorm(hidden_size),
            nn.Linear(hidden_size, hidden_size),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden_size, max_length),
        )
        self.differences = nn.Linear(hidden_size, 2 * max_length + 1) if relative else None

    def forward(self, feature_BLH: Tensor, valid_BL: Tensor) -> Tensor:
        """Logits of the lengths 1..max_length, [B, max_length]."""
        encoded_BLH = self.encoder(feature_BLH, src_key_padding_mask=~valid_BL)
        share_BL = valid_BL / valid_BL.sum(dim=1, keepdim=True)
        mean_BH = (encoded_BLH * share_BL[..., None]).sum(dim=1)
        logits_BC: Tensor = self.mlp(mean_BH)
        if self.differences is None:
            return logits_BC
        length_C = torch.arange(1, self.max_length + 1, device=valid_BL.device)
        difference_BC = length_C - valid_BL.sum(dim=1, keepdim=True)
        # Differences beyond the longest response share a logit.
        place_BC = difference_BC.clamp(-self.max_length, self.max_length) + self.max_length
        of_difference_BC: Tensor = self.differences(mean_BH).gather(1, place_BC)
        return logits_BC + of_difference_BC

    def save(self, directory: Path, backbone_fingerprint: str) -> None:
        """Write the predictor beside its backbone."""
        save_file(self.state_dict(), directory / _WEIGHTS)
        settings = {**self.settings, "backbone": backbone_fingerprint}
        (directory / _SETTINGS).write_text(json.dumps(settings, indent=2) + "\n")


def has_length_predictor(directory: Path) -> bool:
    """Whether a directory holds a length predictor."""
    return (directory / _SETTINGS).exists()


def load_length_predictor(directory: Path, backbone_fingerprint: str) -> LengthPredictor:
    """Read a predictor that was trained on this very backbone.

    Raises:
        UserError: It was trained on another backbone, or its files are damaged.
    """
    try:
        settings = dict(json.loads((directory / _SETTINGS).read_text(encoding="utf-8")))
        trained_on = str(settings.pop("backbone"))
        predictor = LengthPredictor(settings.pop("hidden_size"), **settings)
        weights = load_file(directory / _WEIGHTS)
    except (OSError, ValueError, KeyError, TypeError, AssertionError, SafetensorError) as error:
        raise UserError(_damaged(directory, error)) from error
    if trained_on != backbone_fingerprint:
        raise UserError(
            f"the length predictor in {directory} was trained on another backbone "
            f"({trained_on[:12]}, not {backbone_fingerprint[:12]}): run the length stage again, "
            "or use generation.length=oracle"
        )
    try:
        predictor.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(_damaged(directory, error)) from error
    return predictor.eval()


def _damaged(directory: Path, error: Exception) -> str:
    return (
        f"the length predictor in {directory} ({_SETTINGS}, {_WEIGHTS}) is damaged "
        f"({str(error).partition(chr(10))[0]}): take both files from where they were written, or "
        "run the length stage again"
    )


def top_lengths(logits_BC: Tensor, beam: int) -> Tensor:
    """The ``beam`` most likely lengths of each row, best first, int64 [B, beam]."""
    return torch.topk(logits_BC, min(beam, logits_BC.shape[1]), dim=1).indices + 1
