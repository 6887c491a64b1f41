"""The generation settings that a command line asks for."""

import argparse
from typing import Any

from dlm.errors import UserError
from dlm.recipe.serving import Asked, checked_setting

OPTION_OF = {"sampler": "--sampler", "num_iterations": "--num-iterations",
             "length_beam": "--length-beam", "rerank": "--rerank", "length": "--length",
             "canvas_length": "--canvas-length", "temperature": "--temperature",
             "threshold": "--threshold", "guidance": "--guidance",
             "block_length": "--block-length", "min_length": "--min-length",
             "end_penalty": "--end-penalty", "prompt_cache": "--prompt-cache",
             "seed": "--seed", "beam_size": "--beam-size"}  # fmt: skip
"""Settings that have an option of their own on the command line; the others are given by --set."""


def asked_settings(options: argparse.Namespace) -> Asked:
    """What options and ``--set generation.KEY=VALUE`` say; of equal keys of --set the last holds.

    Raises:
        UserError: A --set is malformed, unknown, of a wrong type or range, or an option says the
            same setting.
    """
    given = {name: getattr(options, name, None) for name in OPTION_OF}
    values = {name: value for name, value in given.items() if value is not None}
    written = {name: OPTION_OF[name] for name in values}
    for text in getattr(options, "settings", None) or []:
        name, value = _set(text)
        if name in values and written[name] == OPTION_OF.get(name):
            raise UserError(f"--set {text} and {OPTION_OF[name]} say the same setting: remove one")
        values[name], written[name] = value, f"--set generation.{name}"
    return Asked(values, written, OPTION_OF)


def _set(text: str) -> tuple[str, Any]:
    """Name and value of a setting that is written as in a recipe."""
    from dlm.config.shipped import parse_override

    try:
        keys, value = parse_override(text)
    except ValueError as error:
        example = "--set takes generation.KEY=VALUE, such as generation.end_last=true"
        raise UserError(f"--set {text}: {example}") from error
    if len(keys) != 2 or keys[0] != "generation":
        name = keys[0] if len(keys) == 1 else "KEY"
        raise UserError(
            f"--set {text}: settings of the section generation alone are given here, as "
            f"generation.{name}=VALUE"
        )
    try:
        return keys[1], checked_setting(keys[1], value)
    except UserError as error:
        raise UserError(f"--set {text}: {error}") from error
