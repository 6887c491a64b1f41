"""Slots behind prompts that are kept: the prompt is not computed in every iteration.

Exact where prompts do not see the canvas (prefix_lm). An approximation elsewhere (dLLM-cache, arXiv
2506.06295; Fast-dLLM, arXiv 2505.22618): what stands before the canvas keeps the keys and values
that it had in the last iteration in which all was computed.
"""

import torch
from torch import Tensor

from dlm.diffusion.sampling.network import Wanted
from dlm.generation.lengths import pad
from dlm.generation.model import GenerativeModel
from dlm.generation.slot_network import ContextNetwork
from dlm.models.attention.prompt_cache import PromptCache, beginnings
from dlm.models.shift import predicts


class _BehindPrompts(ContextNetwork):
    """States of what stands behind the first ``prompt_lengths`` tokens of each row."""

    prompt_lengths: list[int]
    prompts: list[int]
    """The number of each row's prompt in the cache."""

    def __init__(
        self, model: GenerativeModel, tokens_BL: Tensor, valid_BL: Tensor, lengths: list[int],
        place_BN: Tensor, slot_BN: Tensor, response_BL: Tensor,
    ) -> None:  # fmt: skip
        super().__init__(model, tokens_BL, valid_BL, lengths, place_BN, slot_BN, response_BL)
        # How far before a slot the state lies that fills it in.
        self.shift = int(self.backbone.shifts)
        column_BL = torch.arange(tokens_BL.shape[1], device=tokens_BL.device).expand_as(tokens_BL)
        self.stands_BL = self.backbone.places_responses.places(
            column_BL, valid_BL, self.response_BL
        )

    def behind(self, cache: PromptCache, tokens_BN: Tensor, wanted: Wanted) -> Tensor:
        """Hidden states [S, H]."""
        rows = range(len(self.lengths)) if wanted.rows is None else wanted.rows
        prompts = [self.prompts[row] for row in rows]
        rest = [self.lengths[row] - self.prompt_lengths[row] for row in rows]
        tokens_BL = self.written(tokens_BN)
        row_R = wanted.row_R
        if row_R is None:
            row_R = torch.arange(len(rest), device=tokens_BL.device)
        rest_R = self.rest_B[row_R]
        start_R = rest_R.cumsum(0) - rest_R
        row_T = torch.repeat_interleave(row_R, rest_R, output_size=sum(rest))
        # Where column 0 of each row would lie, if its prompt lay there too.
        first_B = torch.zeros_like(self.rest_B).scatter(0, row_R, start_R - self.prompt_B[row_R])
        column_T = torch.arange(len(row_T), device=row_T.device) - first_B[row_T]
        return self.backbone.behind_prompts(
            cache, prompts, rest, tokens_BL[row_T, column_T], column_T,
            self.stands_BL.map(lambda of_BL: of_BL[row_T, column_T]),
            self.places(first_B, len(row_T), wanted),
        )  # fmt: skip

    def places(self, first_B: Tensor, tokens: int, wanted: Wanted) -> Tensor:
        """Places of the wanted slots' states, where rows begin at those places."""
        row_S = wanted.slot_S // self.place_BN.shape[1]
        place_S = first_B[row_S] + self.place_BN.flatten()[wanted.slot_S] - self.shift
        # Slots of no consequence may stand in rows that were left out.
        return place_S.clamp(0, tokens - 1)

    def set_prompts(self, prompt_B: Tensor) -> None:
        """This many tokens of each row, int64 [B]."""
        self.prompt_B = prompt_B
        self.prompt_lengths = prompt_B.tolist()
        self.length_B = self.valid_BL.sum(dim=1)
        self.rest_B = self.length_B - prompt_B


class PrefixNetwork(_BehindPrompts):
    """prefix_lm: every prompt once, for all rows that begin with it."""

    def __init__(
        self, model: GenerativeModel, tokens_BL: Tensor, valid_BL: Tensor, lengths: list[int],
        place_BN: Tensor, slot_BN: Tensor, response_BL: Tensor,
    ) -> None:  # fmt: skip
        """Raises ValueError if slots stand among what sees itself alone."""
        super().__init__(model, tokens_BL, valid_BL, lengths, place_BN, slot_BN, response_BL)
        rest_BL = predicts(self.response_BL, valid_BL) if self.shift else self.response_BL
        if not rest_BL.flatten()[self.write_S].all():
            raise ValueError("masks stand in the prompt")
        self.set_prompts((valid_BL & ~rest_BL).sum(dim=1))
        numbers: dict[tuple[int, ...], int] = {}
        self.prompts = [
            numbers.setdefault(tuple(row[:length]), len(numbers))
            for row, length in zip(tokens_BL.tolist(), self.prompt_lengths, strict=True)
        ]
        prompts = [list(ids) for ids in numbers]
        of = list(map(len, prompts))
        _, layers = self.backbone.read_rows(*pad(prompts, model), of)
        self.cache = PromptCache(layers, of, tokens_BL.device)

    def states(self, tokens_BN: Tensor, wanted: Wanted) -> Tensor:
        """Hidden states [S, H]."""
        return self.behind(self.cache, tokens_BN, wanted)


class ApproximateNetwork(_BehindPrompts):
    """bidirectional: all rows in full in every N-th iteration, or the next in which the
    network is called; in between what begins with a row's first slot."""

    repeats = False

    def __init__(
        self, model: GenerativeModel, tokens_BL: Tensor, valid_BL: Tensor, lengths: list[int],
        place_BN: Tensor, slot_BN: Tensor, response_BL: Tensor, every: int,
    ) -> None:  # fmt: skip
        super().__init__(model, tokens_BL, valid_BL, lengths, place_BN, slot_BN, response_BL)
        self.set_prompts((place_BN[:, 0] - self.shift).clamp(min=0))
        self.prompts = list(range(len(lengths)))
        self.every = every
        self.last: tuple[int, PromptCache] | None = None

    def states(self, tokens_BN: Tensor, wanted: Wanted) -> Tensor:
        """Hidden states [S, H].

        Which rows are wanted depends on the batch, so all are computed at once: a row that is not
        wanted does not change, and would have the same keys and values later.
        """
        period = wanted.iteration // self.every
        if self.last is not None and self.last[0] == period:
            return self.behind(self.last[1], tokens_BN, wanted)
        hidden_TH, layers = self.backbone.read_rows(
            self.written(tokens_BN), self.valid_BL, self.lengths, self.response_BL
        )
        device = tokens_BN.device
        self.last = period, beginnings(layers, self.lengths, self.prompt_lengths, device)
        begin_B = self.length_B.cumsum(0) - self.length_B
        return hidden_TH.index_select(0, self.places(begin_B, len(hidden_TH), wanted))


def context_network(
    model: GenerativeModel, tokens_BL: Tensor, valid_BL: Tensor, lengths: list[int],
    place_BN: Tensor, slot_BN: Tensor, response_BL: Tensor, prompt_cache: int | None = None,
) -> ContextNetwork:  # fmt: skip
    """The fastest one that the model and its device can take."""
    arguments = (model, tokens_BL, valid_BL, lengths, place_BN, slot_BN, response_BL)
    backbone = model.backbone
    if backbone.attention == "prefix_lm" and backbone.caches_prompts(model.device):
        try:
            return PrefixNetwork(*arguments)
        except ValueError:  # infilling without a prompt: all of it is canvas
            pass
    elif prompt_cache and backbone.caches_prompts(model.device):
        return ApproximateNetwork(*arguments, prompt_cache)
    return ContextNetwork(*arguments)
