"""Whether the names of a directory's weights are those of the network that its config describes,
seen from the files' headers alone."""

import re
from collections.abc import Iterable
from pathlib import Path

from transformers import PreTrainedModel

from dlm.errors import UserError

_LAYER = re.compile(r"\.(\d+)\.")


def check_names(name: str | Path, network: PreTrainedModel, names: Iterable[str]) -> None:
    """Refuse weights of another network: none has a name of this one, or the file has other layers.

    Args:
        name: Where they lie.
        network: What config.json describes; its tensors need no storage.
        names: The weights' in the files.

    Raises:
        UserError: They are; the message says what the files and config.json have.
    """
    prefix = f"{network.base_model_prefix}."
    wanted = {key.removeprefix(prefix) for key in network.state_dict()}
    # Old files call the weights of a layer norm gamma and beta.
    found = {
        key.removeprefix(prefix).replace(".gamma", ".weight").replace(".beta", ".bias"): key
        for key in names
    }
    if not wanted & set(found):
        raise UserError(
            f"the weights of the model '{name}' are of another network than its config.json "
            f"describes, a {type(network).__name__}: none has a name of that, such as "
            f"{prefix}{min(wanted)}; the file has {min(found.values())}. Take both from where the "
            "model was saved"
        )
    of_network, of_file = _layers(wanted), _layers(found)
    for stem, layers in of_network.items():
        if stem in of_file and of_file[stem] != layers:
            raise UserError(
                f"the weights of the model '{name}' have {of_file[stem]} layers ({stem}), and its "
                f"config.json says {layers}: the two are not of one model; take both from where it "
                "was saved"
            )


def _layers(names: Iterable[str]) -> dict[str, int]:
    """The first part of names that has a number -> how many it counts up to."""
    counts: dict[str, int] = {}
    for name in names:
        if (number := _LAYER.search(name)) is not None:
            stem = name[: number.start()]
            counts[stem] = max(counts.get(stem, 0), int(number[1]) + 1)
    return counts
