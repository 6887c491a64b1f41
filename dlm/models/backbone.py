"""A Hugging Face masked language model as the network of a diffusion language model."""

from pathlib import Path

from torch import Tensor, nn
from transformers import PreTrainedModel

from dlm.models.attention import AttentionPattern, attention_mask
from dlm.models.lm_head import lm_head

# Model types whose position ids start behind the padding index.
_OFFSET_POSITIONS = ("roberta", "xlm-roberta", "xlm-roberta-xl", "camembert")


class Backbone(nn.Module):
    """Hidden states of a padded batch, and logits only where they are asked for."""

    def __init__(self, network: PreTrainedModel) -> None:
        super().__init__()
        self.network = network
        self._head = lm_head(network)
        padding_index = network.config.pad_token_id or 0
        offset = network.config.model_type in _OFFSET_POSITIONS
        self.position_offset = padding_index + 1 if offset else 0

    @property
    def max_length(self) -> int:
        """Longest sequence in tokens that the network can read."""
        return int(self.network.config.max_position_embeddings) - self.position_offset

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
        attention: AttentionPattern = "bidirectional",
        response_BL: Tensor | None = None,
    ) -> Tensor:
        """Hidden states of the last layer [B, L, H].

        ``valid_BL`` is False on padding, which may be on either side.
        """
        position_BL = (valid_BL.cumsum(dim=1) - 1).clamp(min=0) + self.position_offset
        output = self.network.base_model(
            input_ids=tokens_BL,
            attention_mask=attention_mask(attention, valid_BL, response_BL),
            position_ids=position_BL,
        )
        hidden: Tensor = output.last_hidden_state
        return hidden

    def logits(self, hidden: Tensor) -> Tensor:
        """Output layer over any hidden states: [..., H] to [..., V]."""
        return self._head(hidden)

    def save(self, directory: Path) -> None:
        """Write a Hugging Face directory that ``AutoModelForMaskedLM`` loads."""
        self.network.save_pretrained(directory)
