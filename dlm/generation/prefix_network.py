"""A model whose prompts do not see the canvas (prefix_lm): each prompt is computed once."""

import torch
from torch import Tensor

from dlm.diffusion.sampling.network import Wanted
from dlm.generation.lengths import pad
from dlm.generation.model import GenerativeModel
from dlm.generation.slot_network import ContextNetwork
from dlm.models.shift import predicts


class PrefixNetwork(ContextNetwork):
    """States of slots behind cached prompts, one for all rows that begin with the same."""

    def __init__(
        self, model: GenerativeModel, tokens_BL: Tensor, valid_BL: Tensor, lengths: list[int],
        place_BN: Tensor, slot_BN: Tensor,
    ) -> None:  # fmt: skip
        """Raises ValueError if slots stand among what sees itself alone."""
        super().__init__(model, tokens_BL, valid_BL, lengths, place_BN, slot_BN)
        rest_BL = self.response_BL
        self.shift = int(self.backbone.shifts)
        if self.shift:
            rest_BL = predicts(rest_BL, valid_BL)
        if not rest_BL.flatten()[self.write_S].all():
            raise ValueError("masks stand in the prompt")
        self.prompt_lengths: list[int] = (valid_BL & ~rest_BL).sum(dim=1).tolist()
        numbers: dict[tuple[int, ...], int] = {}
        self.prompts = [
            numbers.setdefault(tuple(row[:length]), len(numbers))
            for row, length in zip(tokens_BL.tolist(), self.prompt_lengths, strict=True)
        ]
        prompts = [list(ids) for ids in numbers]
        self.cache = self.backbone.read_prompts(*pad(prompts, model), list(map(len, prompts)))
        device = tokens_BL.device
        self.prompt_B = torch.tensor(self.prompt_lengths, device=device)
        self.length_B = torch.tensor(lengths, device=device)

    def states(self, tokens_BN: Tensor, wanted: Wanted) -> Tensor:
        """Hidden states [S, H]."""
        rows = range(len(self.lengths)) if wanted.rows is None else wanted.rows
        prompts = [self.prompts[row] for row in rows]
        rest = [self.lengths[row] - self.prompt_lengths[row] for row in rows]
        tokens_BL = self.written(tokens_BN)
        row_R = torch.arange(len(rest), device=tokens_BL.device)
        row_R = row_R if wanted.row_R is None else wanted.row_R
        rest_R = (self.length_B - self.prompt_B)[row_R]
        start_R = rest_R.cumsum(0) - rest_R
        row_T = torch.repeat_interleave(row_R, rest_R, output_size=sum(rest))
        first_B = torch.zeros_like(self.length_B).scatter(0, row_R, start_R - self.prompt_B[row_R])
        index_T = torch.arange(len(row_T), device=row_T.device) - first_B[row_T]
        hidden_TH = self.backbone.behind_prompts(
            self.cache, prompts, rest, tokens_BL[row_T, index_T], index_T
        )
        row_S = wanted.slot_S // self.place_BN.shape[1]
        place_S = first_B[row_S] + self.place_BN.flatten()[wanted.slot_S] - self.shift
        # Slots of no consequence may stand in rows that were left out.
        return hidden_TH.index_select(0, place_S.clamp(0, len(hidden_TH) - 1))


def context_network(
    model: GenerativeModel, tokens_BL: Tensor, valid_BL: Tensor, lengths: list[int],
    place_BN: Tensor, slot_BN: Tensor,
) -> ContextNetwork:  # fmt: skip
    """The faster one that the model and its device can take."""
    arguments = (model, tokens_BL, valid_BL, lengths, place_BN, slot_BN)
    if model.backbone.caches_prompts(model.device):
        try:
            return PrefixNetwork(*arguments)
        except ValueError:  # infilling without a prompt: all is canvas
            pass
    return ContextNetwork(*arguments)
