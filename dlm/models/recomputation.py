"""Activation checkpointing: what a layer computes is computed again when its gradient is wanted.

(arXiv 1604.06174.) Only the layers' inputs are kept. Dropout is repeated exactly, as the state of
the random generators is kept with them: losses and gradients are the same.
"""

from transformers import PreTrainedModel

from dlm.errors import UserError


def recompute_activations(network: PreTrainedModel) -> None:
    """Switch it on for every transformer layer, in train mode alone.

    Raises:
        UserError: The network (code that came with a hub model) is not written for it.
    """
    if not network.supports_gradient_checkpointing:
        raise UserError(
            f"hardware.activation_checkpointing: {type(network).__name__} does not support it; "
            "set it to false"
        )
    options = {"use_reentrant": False}  # works with frozen layers and with DDP
    if hasattr(network, "activation_checkpointing_enable"):  # the name since transformers 5.2x
        network.activation_checkpointing_enable(options)
    else:
        network.gradient_checkpointing_enable(options)
