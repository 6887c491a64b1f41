"""ESM's token dropout, which diffusion cannot have.

With ``token_dropout`` the embedding of a mask token is 0, and the others are multiplied by
0.88 / (1 - share of mask tokens in the row), which undoes what fewer inputs do where 12 % of a
protein are masked. Under diffusion all of a response may be masked: the factor grows without bound,
and every token of a row, packed ones too, changes with how many others are masked.
"""

from typing import Any

import torch


def without_token_dropout(network: Any) -> str | None:
    """Switch it off in place, so that rows are what the network saw at its 12 %: mask tokens with
    an embedding of 0, the others as they are.

    Returns:
        What was done, in words; None where the network has no token dropout.
    """
    if not network.config.token_dropout:
        return None
    embeddings = network.base_model.embeddings
    network.config.token_dropout = embeddings.token_dropout = False
    with torch.no_grad():
        # Tied, it is the output layer's row too; a mask token is never predicted.
        embeddings.word_embeddings.weight[network.config.mask_token_id] = 0
    return (
        "token_dropout is off, which would scale every token by how many are masked; the mask "
        "token begins with an embedding of 0, as in pretraining"
    )
