"""Configurations without the hub: from a directory, its cache, or the sizes known here."""

from functools import cache
from pathlib import Path
from typing import Any

import yaml
from transformers import PretrainedConfig

from dlm.errors import UserError
from dlm.models.families import family_of
from dlm.models.outside import config_of_type, open_config
from dlm.places import place_of


@cache
def known_configurations() -> dict[str, dict[str, Any]]:
    """Hub name -> settings of its configuration, ``model_type`` among them."""
    text = (Path(__file__).parent / "known_models.yaml").read_text(encoding="utf-8")
    return {name: row["config"] for row in yaml.safe_load(text) for name in row["names"]}


def offline_config(
    name: str, *, revision: str | None = None, trust_remote_code: bool = False
) -> PretrainedConfig:
    """The configuration of a Hugging Face directory or hub name; nothing is downloaded.

    Raises:
        UserError: It is in no directory, not in the hub's cache and not known.
    """
    name = place_of(name)
    try:
        config = open_config(
            name, revision=revision, local_files_only=True, trust_remote_code=trust_remote_code
        )
    except (OSError, ValueError):
        if Path(name).is_dir():
            raise UserError(
                f"the model '{name}' has no configuration that can be read: a Hugging Face "
                "directory holds a config.json"
            ) from None
        config = _known(name)
    family_of(config)
    return config


def _known(name: str) -> PretrainedConfig:
    known = known_configurations()
    if name not in known:
        raise UserError(
            f"the configuration of the model '{name}' is not on this machine, and nothing is "
            f"downloaded for a plan: fetch it once (`hf download {name} config.json`), give a "
            "local Hugging Face directory, or describe the shape in a model section; known "
            f"without the hub: {', '.join(known)}"
        )
    settings = dict(known[name])
    return config_of_type(settings.pop("model_type"), **settings)
