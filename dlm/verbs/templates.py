"""dlm generate: the texts that are to be filled in, as the command line gives them."""

import argparse
from typing import TYPE_CHECKING

from dlm.errors import UserError
from dlm.recipe.serving import check_utf8

if TYPE_CHECKING:
    from dlm.generation.infill import InfillTemplate

_IGNORED = {"length_beam": "--length-beam", "rerank": "--rerank"}


def given_templates(options: argparse.Namespace) -> "list[InfillTemplate]":
    """What --infill, or --prefix and --suffix with --span, say; none if there are only prompts.

    Raises:
        UserError: A mask is written wrongly, or options contradict one another.
        SystemExit: There is neither a prompt nor a text to fill in.
    """
    between = [name for name in ("prefix", "suffix", "span") if getattr(options, name) is not None]
    if options.infill is None and not between:
        asked = (options.prompt, options.input, options.num_samples)
        if all(given is None for given in asked):
            options.parser.error(
                "one of the arguments --prompt --input is required, or a text to fill in: "
                "--infill, or --prefix and --suffix with --span (a model of texts needs "
                "--num-samples alone)"
            )
        return []
    if options.infill is not None and between:
        raise UserError(f"--infill and --{between[0]} are two ways to say it: choose one")
    if options.input is not None:
        raise UserError(
            "--input holds prompts, and there is a text to fill in: give that a --prompt, or none"
        )
    for name, option in _IGNORED.items():
        if getattr(options, name) is not None:
            raise UserError(
                f"{option} would be ignored: the masks say the length of what is filled in; "
                "remove it"
            )
    return _infill_texts(options) if options.infill is not None else [_between(options)]


def _infill_texts(options: argparse.Namespace) -> "list[InfillTemplate]":
    from dlm.generation.infill import parse_infill

    count = len(options.infill)
    places = [f"infill text {number} of {count}" for number in range(1, count + 1)]
    for text, place in zip(options.infill, places, strict=True):
        check_utf8(text, place)
    return [
        parse_infill(text, place=place) for text, place in zip(options.infill, places, strict=True)
    ]


def _between(options: argparse.Namespace) -> "InfillTemplate":
    from dlm.generation.infill import InfillTemplate

    prefix, suffix = options.prefix or "", options.suffix or ""
    if options.span is None:
        raise UserError(
            "--prefix and --suffix need --span N, the number of tokens that are to stand between"
        )
    if options.prefix is None and options.suffix is None:
        raise UserError("--span needs a text to stand beside: give --prefix or --suffix")
    check_utf8(prefix, "--prefix")
    check_utf8(suffix, "--suffix")
    return InfillTemplate((prefix, suffix), (options.span,))
