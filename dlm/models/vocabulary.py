"""A network cut to some of its vocabulary's rows, and made whole again.

Whatever has a row for each token is cut together: the embedding, the output layer and its bias.
What is not cut is the same network: hidden states of rows made of kept tokens do not change, and
the logits are those of the kept tokens.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from dlm.errors import UserError
from dlm.models.cut_tokenizer import tokens_of

RECORD = "cut_vocabulary.json"
"""Stands beside the weights of a model whose vocabulary is cut."""


@dataclass(frozen=True)
class CutVocabulary:
    """What a cut model needs to be made whole."""

    source: str
    """Directory or hub name of the model that was cut."""
    revision: str | None
    """Its revision on the hub."""
    rows_sha256: str
    """Of the weights that were cut off."""
    tokens_sha256: str
    """Of the whole vocabulary's tokens, in the order of their ids."""
    kept: tuple[int, ...]
    """Ids in the whole vocabulary, by ids in the cut one."""

    def write(self, directory: Path) -> None:
        """Put it beside the weights."""
        (directory / RECORD).write_text(json.dumps({"format": 1, **asdict(self)}) + "\n")

    @classmethod
    def read(cls, directory: Path) -> "CutVocabulary | None":
        """What stands beside the weights; None where the vocabulary was not cut.

        Raises:
            UserError: It cannot be read.
        """
        path = directory / RECORD
        if not path.exists():
            return None
        try:
            values = json.loads(path.read_text())
            return cls(**{name: values[name] for name in cls.__annotations__ if name != "kept"},
                       kept=tuple(map(int, values["kept"])))  # fmt: skip
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{path} is damaged ({error}): take the directory from where it was written"
            ) from error


def cut_network(network: PreTrainedModel, kept: Sequence[int]) -> str:
    """Keep the vocabulary's rows of these ids, ascending, in place; ties stay.

    Returns:
        The hash of the rows that are cut off.
    """
    whole, digest = int(network.config.vocab_size), cut_rows_sha256(network, kept)
    rows = torch.tensor(kept)
    for old in vocabulary_parameters(network):
        new = nn.Parameter(old.detach()[rows].clone(), requires_grad=old.requires_grad)
        for module in network.modules():
            for name, parameter in list(module.named_parameters(recurse=False)):
                if parameter is old:
                    setattr(module, name, new)
    embedding: Any = network.get_input_embeddings()
    output: Any = network.get_output_embeddings()
    new_ids = {old: new for new, old in enumerate(kept)}
    embedding.num_embeddings = output.out_features = len(kept)
    if embedding.padding_idx is not None:
        embedding.padding_idx = new_ids[embedding.padding_idx]
    for module in network.modules():
        if getattr(module, "vocab_size", None) == whole:
            module.vocab_size = len(kept)  # type: ignore[assignment]
    for config in (network.config, getattr(network, "generation_config", None)):
        for name, value in list(vars(config).items()) if config is not None else ():
            if name.endswith("token_id") and value is not None:
                setattr(config, name, _mapped(value, new_ids))
    network.config.vocab_size = len(kept)
    return digest


def put_back(whole: PreTrainedModel, cut: PreTrainedModel, kept: Sequence[int]) -> None:
    """Give a network the weights of the one that was cut from it, each row in its old place;
    in place."""
    by_row = {id(parameter) for parameter in vocabulary_parameters(whole)}
    trained = dict(cut.named_parameters(remove_duplicate=False))
    rows = torch.tensor(kept)
    with torch.no_grad():
        for name, parameter in whole.named_parameters(remove_duplicate=False):
            if id(parameter) in by_row:
                parameter[rows] = trained[name]
            else:
                parameter.copy_(trained[name])


def vocabulary_parameters(network: PreTrainedModel) -> list[nn.Parameter]:
    """The parameters that have a row for each token, each once."""
    output: Any = network.get_output_embeddings()
    place = next(name for name, module in network.named_modules() if module is output)
    head = network.get_submodule(place.rpartition(".")[0])
    # BERT's and RoBERTa's heads have the bias beside the layer; it is the layer's own where tied.
    biases = [b for b in (output.bias, getattr(head, "bias", None)) if isinstance(b, nn.Parameter)]
    found = [network.get_input_embeddings().weight, output.weight, *biases]
    return list({id(parameter): parameter for parameter in found}.values())


def cut_rows_sha256(network: PreTrainedModel, kept: Sequence[int]) -> str:
    """Hash of the vocabulary's rows that are not among ``kept``."""
    others = torch.ones(int(network.config.vocab_size), dtype=torch.bool)
    others[torch.tensor(kept)] = False
    digest = hashlib.sha256()
    for parameter in vocabulary_parameters(network):
        digest.update(parameter.detach()[others].float().numpy().data)
    return digest.hexdigest()


def tokens_sha256(tokenizer: PreTrainedTokenizerBase) -> str:
    """Hash of all tokens in the order of their ids."""
    return hashlib.sha256(json.dumps(tokens_of(tokenizer)).encode()).hexdigest()


def _mapped(value: Any, new_ids: dict[int, int]) -> Any:
    """An id, or a list of them; one that was cut off (of a token nobody has) is None."""
    if isinstance(value, list):
        return [new_ids[id_] for id_ in value if id_ in new_ids]
    return new_ids.get(value)
