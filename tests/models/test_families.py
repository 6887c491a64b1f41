"""The table of families says what transformers' own configurations have."""

import pytest
from transformers import CONFIG_MAPPING

from dlm.models.families import FAMILIES, is_causal

ALL_DROPOUTS = {
    "dropout", "hidden_dropout_prob", "attention_probs_dropout_prob", "attention_dropout",
    "embedding_dropout", "mlp_dropout", "hidden_dropout", "resid_pdrop", "embd_pdrop", "attn_pdrop",
}  # fmt: skip


@pytest.mark.parametrize("model_type", FAMILIES)
def test_rates_of_dropout_are_all_that_the_configuration_has(model_type: str) -> None:
    config = CONFIG_MAPPING[model_type]()
    assert set(FAMILIES[model_type].dropouts) == {n for n in ALL_DROPOUTS if hasattr(config, n)}


def test_types_that_are_not_known_are_not_causal() -> None:
    assert is_causal("llama") and not is_causal("bert") and not is_causal("t5")
