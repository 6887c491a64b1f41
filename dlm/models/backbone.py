"""A Hugging Face masked or causal language model as the network of a diffusion language model."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from dlm.diffusion.chunked_loss import (
    TokenLosses,
    chunked_losses,
    losses_of_logits,
    rows_at_a_time,
)
from dlm.diffusion.sampling.likeliest import likeliest, likeliest_of_logits
from dlm.errors import UserError
from dlm.models.attention.annealing import Annealing
from dlm.models.attention.documents import Documents, LayerKeys, documents_of
from dlm.models.attention.masks import (
    AttentionPattern,
    attention_mask,
    response_of,
    square_mask,
    within_window,
)
from dlm.models.attention.own_code import as_taken, spare_embeddings
from dlm.models.attention.packed import install, obstacle
from dlm.models.attention.prompt_cache import PromptCache, continued_documents, grown
from dlm.models.families import family_of
from dlm.models.last_layer import cut_last_layer
from dlm.models.packed import Packing, one_row
from dlm.models.positions import (
    CONTINUED,
    ResponsePositions,
    TokenPlaces,
    position_offset,
    positions,
)
from dlm.models.shift import predicts, shift_right

_FILLS_IN = ("bidirectional", "prefix_lm")


class Backbone(nn.Module):
    """Hidden states of a padded batch, and logits only where they are asked for."""

    def __init__(self, network: PreTrainedModel) -> None:
        super().__init__()
        self.network = network
        family = family_of(network.config)
        self._transform = family.head(network)
        self._own_attention = family.own_attention
        self._bias_beside = family.bias_beside
        self.position_offset = position_offset(network.config)
        # How far layers of sliding-window attention see to both sides, in an encoder that has them.
        narrow = "sliding_attention" in (getattr(network.config, "layer_types", None) or ())
        both = family.windowed and narrow
        self._window: int | None = network.config.sliding_window if both else None
        self.causal = family.causal
        """Whether the network was made to predict the next token."""
        self.by_place = family.by_place
        """Whether attention reads how far apart tokens lie in the row, whatever their positions."""
        self.shifted = self.causal
        """Whether its state at i-1 fills in token i."""
        self.attention: AttentionPattern = "bidirectional"
        """Who sees whom where a call does not say."""
        self.end_token_id: int | None = None
        """Ends the prompt: where the response begins, if a call does not say."""
        self.response_positions: ResponsePositions | None = None
        """Where responses stand, seen from their prompts; None: the network has seen none, and
        they follow their prompts."""
        self.annealing: Annealing | None = None
        """How a causal network becomes bidirectional; read in train mode alone."""
        self.step = 0
        """The training step that ``annealing`` stands at."""
        self.strict_speed = False
        """Whether packed rows that need a slow mask are an error."""
        self.say: Callable[[str], None] = print
        """Where the backbone says, once, why they do."""
        self._said: set[str] = set()
        install(network)
        cut_last_layer(network)
        spare_embeddings(network)

    @property
    def max_length(self) -> int:
        """Longest sequence in tokens that the network can read."""
        return positions(self.network.config)

    @property
    def places_responses(self) -> ResponsePositions:
        """``response_positions``, which are those of CONTINUED where nothing is said."""
        return self.response_positions or CONTINUED

    def room_behind(self, prompt: int) -> int:
        """Most tokens of a response, its end included, behind a prompt of this many tokens."""
        return self.places_responses.room(self.max_length, prompt)

    def longest_prompt(self, response: int) -> int:
        """Most tokens of a prompt before a response of this many tokens, its end included."""
        return self.places_responses.longest_prompt(self.max_length, response)

    @property
    def room_text(self) -> str:
        """The room for prompt and response, as messages name it."""
        start = self.places_responses.start
        first = "" if start is None else f", the first {start} of which are the prompt's"
        return f"the model's {self.max_length} positions{first}"

    @property
    def hidden_size(self) -> int:
        """Width of the hidden states."""
        return int(self.network.config.hidden_size)

    @property
    def vocab_size(self) -> int:
        """Width of the output layer."""
        return int(self.network.config.vocab_size)

    def hidden(
        self,
        tokens_BL: Tensor,
        valid_BL: Tensor,
        *,
        attention: AttentionPattern | None = None,
        response_BL: Tensor | None = None,
        packing: Packing | None = None,
        place_M: Tensor | None = None,
    ) -> Tensor:
        """Hidden states of the last layer [B, L, H], or [M, H] of those that are read.

        Under ``bidirectional`` and ``prefix_lm`` the logits of position i are those of token i: of
        a causal network it gets the state of the token before (a row's first token its own).
        ``causal`` and ``prefix_causal`` give the states as they are, to predict what comes next.

        Args:
            tokens_BL: token ids.
            valid_BL: False on padding, which may be on either side.
            attention: who sees whom; None: the backbone's own.
            response_BL: the response, for the patterns that begin with ``prefix``; None: what
                follows the prompt's end token.
            packing: run the network on rows of several documents each, laid out like this; the
                states are the same.
            place_M: the places that are read, numbered through the rows; None: all. Behind the last
                layer's attention no others are computed, where its parts are known.
        """
        pattern = attention or self.attention
        if response_BL is None and (pattern == "prefix_lm" or self.places_responses != CONTINUED):
            assert self.end_token_id is not None, "set where the tokenizer is known"
            response_BL = response_of(tokens_BL, valid_BL, self.end_token_id)
        token_index_BL = (valid_BL.cumsum(dim=1) - 1).clamp(min=0)
        # Before the shift: it moves what is seen, not where tokens stand.
        place = self.places_responses.places(token_index_BL, valid_BL, response_BL)
        shifts = self._shifts(pattern)
        if shifts and pattern == "prefix_lm" and response_BL is not None:
            # Otherwise the response's first token would be predicted without seeing the others.
            response_BL = predicts(response_BL, valid_BL)
        # Shifted, they are the states of other places.
        read_M = None if shifts else place_M
        if packing is None:
            hidden = self._run(
                tokens_BL, valid_BL, response_BL, place, token_index_BL, pattern, read_M=read_M
            )
        else:
            places = packing.places(valid_BL)
            if read_M is not None:
                read_M = places.place_BL.flatten().index_select(0, read_M)
            hidden = self._run(
                places.gather(tokens_BL), places.valid_RW,
                None if response_BL is None else places.gather(response_BL),
                place.map(places.gather), places.gather(token_index_BL), pattern,
                document_BL=places.document_RW,
                documents=self._documents(packing, valid_BL, pattern, response_BL), read_M=read_M,
            )  # fmt: skip
            if read_M is None:
                hidden = places.scatter(hidden)
        if not shifts:
            return hidden
        shifted_BLH = shift_right(hidden, valid_BL)
        return shifted_BLH if place_M is None else _rows(shifted_BLH, place_M)

    def _run(
        self, tokens_BL: Tensor, valid_BL: Tensor, response_BL: Tensor | None, place: TokenPlaces,
        token_index_BL: Tensor, pattern: AttentionPattern, document_BL: Tensor | None = None,
        documents: Documents | None = None, read_M: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """States of the network as they are, of rows of one document or several; [M, H] of the
        places that are read, if not all are."""
        if documents is not None:
            # Square, so that transformers takes it as it is; empty, so that nobody can read it.
            nothing = torch.empty(1, 1, 0, 0, dtype=torch.bool, device=tokens_BL.device)
            kinds = ("full_attention", "sliding_attention")
            return self._states(
                tokens_BL, dict.fromkeys(kinds, nothing) if self._window else nothing, place,
                read_M, documents=documents,
            )  # fmt: skip
        if self.causal or document_BL is not None:
            mask = square_mask(pattern, valid_BL, response_BL, document_BL)
        else:
            mask = attention_mask(pattern, valid_BL, response_BL)
        if self._annealed(pattern) and self.annealing is not None:
            mask = mask & self.annealing.visible(self.step, token_index_BL)
        if mask.dim() == 4:
            mask = as_taken(mask, self._own_attention, self.network.dtype)
        masks: Tensor | dict[str, Tensor] = mask
        if self._window is not None and mask.dim() == 4:
            # One square mask alone would be taken as it is in the sliding-window layers too.
            narrow = within_window(mask, self._window)
            masks = {"full_attention": mask, "sliding_attention": narrow}
        return self._states(tokens_BL, masks, place, read_M)

    def _annealed(self, pattern: AttentionPattern) -> bool:
        trains = self.causal and self.network.training and pattern in _FILLS_IN
        return trains and self.annealing is not None

    def _documents(
        self, packing: Packing, valid_BL: Tensor, pattern: AttentionPattern,
        response_BL: Tensor | None,
    ) -> Documents | None:  # fmt: skip
        """What attention needs to know of packed rows; None: it needs a mask.

        Raises:
            UserError: It does, and ``strict_speed`` is set.
        """
        reason = self._obstacle(valid_BL.device, pattern)
        if reason is None:
            return documents_of(packing, valid_BL, pattern, response_BL, window=self._window)
        self._fall_back(f"packed rows attend through a mask, which is slower: {reason}")
        return None

    def _obstacle(self, device: torch.device, pattern: AttentionPattern) -> str | None:
        return obstacle(self.network, device, self._annealed(pattern))

    def _fall_back(self, note: str) -> None:
        if self.strict_speed:
            raise UserError(f"hardware.strict_speed: {note}; set it to false, or remove the reason")
        if note not in self._said:
            self._said.add(note)
            self.say(note)

    def packs(self, device: torch.device) -> bool:
        """Whether rows to generate in are packed on a device; it says once why they are padded.

        Raises:
            UserError: They are not, and ``strict_speed`` is set.
        """
        reason = self._obstacle(device, self.attention)
        if reason is not None:
            self._fall_back(f"rows are padded in generation, which is slower: {reason}")
        return reason is None

    def _states(
        self, tokens_BL: Tensor, masks: Tensor | dict[str, Tensor], place: TokenPlaces,
        read_M: Tensor | None, **options: Any,
    ) -> Tensor:  # fmt: skip
        if place.type_BL is not None:
            options["token_type_ids"] = place.type_BL
        if self.causal:
            options["use_cache"] = False
        if read_M is not None and self.cuts_last_layer:
            options["read_M"] = read_M
        output = self.network.base_model(
            input_ids=tokens_BL, attention_mask=masks,
            position_ids=place.position_BL + self.position_offset, **options,
        )  # fmt: skip
        hidden: Tensor = output.last_hidden_state
        if read_M is None:
            return hidden
        return hidden[0] if self.cuts_last_layer else _rows(hidden, read_M)

    @property
    def cuts_last_layer(self) -> bool:
        """Whether the last layer is spared what is not read: its parts are known."""
        return family_of(self.network.config).last_layer is not None

    @property
    def shifts(self) -> bool:
        """Whether under its own attention the state before a token fills it in."""
        return self._shifts(self.attention)

    def _shifts(self, pattern: AttentionPattern) -> bool:
        return self.causal and self.shifted and pattern in _FILLS_IN

    def caches_prompts(self, device: torch.device) -> bool:
        """Whether tokens can be computed behind prompts that are kept; it says once why not.

        Raises:
            UserError: They cannot, and ``strict_speed`` is set.
        """
        reason = self._obstacle(device, "bidirectional")
        if reason is not None:
            self._fall_back(f"prompts are computed again in every iteration: {reason}")
        return reason is None

    def read_rows(
        self, tokens_UL: Tensor, valid_UL: Tensor, lengths: list[int],
        response_UL: Tensor | None = None,
    ) -> tuple[Tensor, LayerKeys]:  # fmt: skip
        """Rows that see nothing but all of themselves, padded on the right: laid end to end, their
        states [T, H] as they are, and keys and values of every layer. ``response_UL``: the
        response, if they have one."""
        packing = one_row(lengths, valid_UL)
        documents = documents_of(packing, valid_UL, "bidirectional", window=self._window)
        layers: LayerKeys = {}
        places = packing.places(valid_UL)
        index_UL = torch.arange(tokens_UL.shape[1], device=tokens_UL.device).expand_as(tokens_UL)
        place = self.places_responses.places(index_UL, valid_UL, response_UL)
        hidden_1TH = self._run(
            places.gather(tokens_UL), places.valid_RW, None, place.map(places.gather),
            places.gather(index_UL), "bidirectional", documents=replace(documents, kept=layers),
        )  # fmt: skip
        return hidden_1TH[0], layers

    def behind_prompts(
        self, cache: PromptCache, prompts: list[int], lengths: list[int], tokens_T: Tensor,
        index_T: Tensor, place_T: TokenPlaces, place_M: Tensor,
    ) -> Tensor:  # fmt: skip
        """States [M, H], as they are, of what stands behind prompts of these numbers, this many
        tokens each, laid end to end.

        Args:
            cache: keys and values of the prompts.
            prompts: the number of each row's prompt.
            lengths: tokens of each row behind its prompt.
            tokens_T: these tokens.
            index_T: their places in their rows.
            place_T: where they stand, as ``places_responses`` says, without a row dimension.
            place_M: which of them are read.
        """
        documents = continued_documents(cache, prompts, lengths, self._window)
        valid_1T = torch.ones_like(tokens_T, dtype=torch.bool)[None]
        return self._run(
            tokens_T[None], valid_1T, None, place_T.map(lambda of_T: of_T[None]), index_T[None],
            "bidirectional", documents=documents, read_M=place_M,
        )  # fmt: skip

    def next_states(
        self, cache: PromptCache, rows: list[int], tokens_B: Tensor, place_B: TokenPlaces
    ) -> tuple[Tensor, PromptCache]:
        """States [B, H], as they are, of one token more behind rows of these numbers, a number as
        often as it is wanted, which sees its row and itself; and the rows with it. ``place_B``:
        where these tokens stand, without a row dimension."""
        layers: LayerKeys = {}
        index_B = torch.tensor([cache.lengths[row] for row in rows], device=tokens_B.device)
        documents = continued_documents(cache, rows, [1] * len(rows), self._window)
        hidden_1BH = self._run(
            tokens_B[None], torch.ones_like(tokens_B, dtype=torch.bool)[None], None,
            place_B.map(lambda of_B: of_B[None]), index_B[None], "bidirectional",
            documents=replace(documents, kept=layers),
        )  # fmt: skip
        return hidden_1BH[0], grown(cache, rows, layers)

    def logits(self, hidden: Tensor) -> Tensor:
        """Output layer over any hidden states: [..., H] to [..., V]."""
        # Looked up at every call: a resized vocabulary has another layer.
        output_layer: Any = self.network.get_output_embeddings()
        logits: Tensor = output_layer(self._transform(hidden))
        return logits + self.network.lm_head.bias if self._bias_beside else logits

    def token_losses(
        self, hidden_MH: Tensor, target_M: Tensor, never: int | None = None
    ) -> TokenLosses:
        """The losses of target tokens [M] whose logits come from these states: a few tokens at a
        time where the matrix of all logits would be large. ``never``: a token of probability 0."""
        layer = self._output_matrix()
        rows = rows_at_a_time(len(target_M), self.vocab_size, hidden_MH.device.type)
        if rows is None or layer is None:
            return losses_of_logits(self.logits(hidden_MH), target_M, never)
        transformed_MH = self._transform(hidden_MH)
        return chunked_losses(
            transformed_MH, layer.weight, self._bias(layer), target_M, rows=rows, never=never
        )

    def likeliest(self, hidden_SH: Tensor, forbidden_ids: Tensor) -> tuple[Tensor, Tensor]:
        """The likeliest token of each state that is not forbidden, and its log-probability in
        float32, [S] each, without the matrix of all logits."""
        layer = self._output_matrix()
        if layer is None:
            return likeliest_of_logits(self.logits(hidden_SH), forbidden_ids)
        return likeliest(self._transform(hidden_SH), layer.weight, self._bias(layer), forbidden_ids)

    def _output_matrix(self) -> nn.Linear | None:
        """The output layer, where a part of its rows can be multiplied; None: only a call of it
        will do (weights that are not here, cut by zero3, are gathered for that alone)."""
        layer = self.network.get_output_embeddings()
        return layer if type(layer) is nn.Linear and layer.weight.numel() else None

    def _bias(self, layer: nn.Linear) -> Tensor | None:
        """The output layer's, which is not always its own."""
        head: Any = self.network.lm_head if self._bias_beside else layer
        bias: Tensor | None = head.bias
        return bias

    def save(self, directory: Path) -> None:
        """Write a Hugging Face directory that ``AutoModelForMaskedLM`` loads, or
        ``AutoModelForCausalLM`` if the network is causal."""
        self.network.save_pretrained(directory)


def _rows(hidden_BLH: Tensor, place_M: Tensor) -> Tensor:
    # index_select rather than a boolean mask: its backward is deterministic on CPU.
    return hidden_BLH.flatten(0, 1).index_select(0, place_M)
