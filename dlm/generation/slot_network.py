"""A model as the reverse process sees it: slots inside rows of fixed context."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dlm.diffusion.sampling.network import SlotNetwork, Wanted
from dlm.generation.model import GenerativeModel
from dlm.models.backbone import Backbone
from dlm.models.packed import one_row
from dlm.tokens.special import SpecialTokens


@dataclass(frozen=True)
class SlotRow:
    """A row of tokens with slots in it. Places are columns: ids do not tell a slot, or where the
    prompt ends."""

    tokens: list[int]
    """The whole row, with mask tokens in the slots."""
    slots: Sequence[int]
    """The columns to generate, ascending; at least one."""
    response: int | None
    """Where the response begins, behind the prompt's end token; None: there is no prompt."""

    @classmethod
    def behind(
        cls, head: list[int], count: int, special: SpecialTokens, *, ends: bool = True
    ) -> "SlotRow":
        """``count`` slots behind a head, and then the end token if ``ends``. A head of one token is
        no prompt."""
        tokens = [*head, *[special.mask] * count, *[special.end] * ends]
        first = len(head)
        return cls(tokens, range(first, first + count), first if first > 1 else None)

    @property
    def frame(self) -> list[int]:
        """The columns of begin token, prompt's end and row's end: what is there in any row."""
        ends = [] if self.response is None else [self.response - 1]
        return sorted({0, *ends, *self.end})

    @property
    def end(self) -> list[int]:
        """The column of the row's end token; none where the last slot ends the row."""
        last = len(self.tokens) - 1
        return [] if last in self.slots else [last]


class ContextNetwork(SlotNetwork):
    """States of slots inside the fixed context."""

    def __init__(
        self, model: GenerativeModel, tokens_BL: Tensor, valid_BL: Tensor, lengths: list[int],
        place_BN: Tensor, slot_BN: Tensor, response_BL: Tensor,
    ) -> None:  # fmt: skip
        """``lengths``: tokens of each row, on the host; ``place_BN``: the column of each slot;
        ``response_BL``: what stands behind the prompts."""
        self.backbone: Backbone = model.backbone
        self.vocab_size = model.backbone.vocab_size
        self.tokens_BL, self.valid_BL, self.lengths = tokens_BL, valid_BL, lengths
        self.response_BL = response_BL
        self.place_BN = place_BN
        self.slots_S = slot_BN.flatten().nonzero().squeeze(1)
        row_B1 = torch.arange(len(slot_BN), device=slot_BN.device)[:, None]
        self.write_S = (row_B1 * tokens_BL.shape[1] + place_BN).flatten()[self.slots_S]

    def states(self, tokens_BN: Tensor, wanted: Wanted) -> Tensor:
        """Hidden states [S, H]."""
        tokens_BL = self.written(tokens_BN)
        rows, lengths = wanted.rows, self.lengths
        parts = [tokens_BL, self.valid_BL, self.response_BL]
        if rows is not None and wanted.row_R is not None:
            lengths = [lengths[row] for row in rows]
            parts = [part.index_select(0, wanted.row_R)[:, : max(lengths)] for part in parts]
        tokens_RL, valid_RL, response_RL = parts
        packing = one_row(lengths, valid_RL) if self.backbone.packs(valid_RL.device) else None
        place_S = self._places(wanted, tokens_RL.shape[1])
        return self.backbone.hidden(
            tokens_RL, valid_RL, response_BL=response_RL, packing=packing, place_M=place_S
        )

    def written(self, tokens_BN: Tensor) -> Tensor:
        """The rows [B, L] with these slots."""
        tokens_BL = self.tokens_BL.clone()
        tokens_BL.view(-1)[self.write_S] = tokens_BN.flatten()[self.slots_S]
        return tokens_BL

    def _places(self, wanted: Wanted, width: int) -> Tensor:
        """Where the wanted slots lie among the wanted rows. Slots of no consequence, which may
        come with them, lie anywhere."""
        row_S = wanted.slot_S // self.place_BN.shape[1]
        if wanted.row_R is not None:
            order_B = torch.zeros_like(self.place_BN[:, 0])
            numbers_R = torch.arange(len(wanted.row_R), device=order_B.device)
            row_S = order_B.scatter(0, wanted.row_R, numbers_R)[row_S]
        column_S = self.place_BN.flatten()[wanted.slot_S].clamp(max=width - 1)
        return row_S * width + column_S

    def logits(self, states: Tensor) -> Tensor:
        """The output layer over them."""
        return self.backbone.logits(states)

    def likeliest(self, states: Tensor, forbidden_ids: Tensor) -> tuple[Tensor, Tensor]:
        """A part of the vocabulary at a time."""
        return self.backbone.likeliest(states, forbidden_ids)
