"""dlm generate, dlm export."""

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlm.distributed.share import Share
from dlm.errors import UserError
from dlm.generation.trace_place import trace_place
from dlm.recipe.locate import LocatedModel, locate_model
from dlm.recipe.serving import (
    check_answerable,
    chosen_settings,
    open_located,
    refuse_empty,
    refuse_lengths_of_infilling,
)
from dlm.verbs.generation_settings import asked_settings
from dlm.verbs.prompts import given_prompts
from dlm.verbs.ranks import sharing
from dlm.verbs.templates import given_templates

if TYPE_CHECKING:
    from dlm.data.prompt_forms import PromptForm
    from dlm.generation.answers import Answers
    from dlm.generation.model import GenerativeModel


def generate(options: argparse.Namespace) -> int:
    """Answer prompts on the terminal, or a file of them; or fill in texts."""
    with sharing(options.devices) as share:
        if options.input == "-" and share.size > 1:
            raise UserError("--input -: one process alone has standard input: give a file")
        return _generate(options, share)


def _generate(options: argparse.Namespace, share: Share) -> int:
    templates = given_templates(options)
    located = locate_model(options.model)
    times = options.num_samples or 1
    wanted = asked_settings(options)
    asked = given_prompts(options, templates, partial(_forms_of, located)).each(times)
    templates = [template for template in templates for _ in range(times)]
    prompts = asked.texts
    output = Path(options.output) if options.output else None
    if output is not None:
        _check_output_file(output, options.input)
    trace = None
    if options.trace is not None:
        others = {"--input": options.input, "--output": options.output}
        trace = trace_place(options.trace, said=f"--trace {options.trace}", others=others)

    from dlm.data.prompt_forms import worded_otherwise
    from dlm.generation.answers import answer_prompts, draws, fill_in
    from dlm.training.quiet import quiet_libraries

    quiet_libraries()
    model = open_located(located, trust_remote_code=options.trust_remote_code)
    if not model.texts:
        _refuse_no_prompt(options, model.kind)
        refuse_empty(asked.texts, asked.places)
    _refuse_what_needs_a_canvas(options, model.kind)
    if share.first:
        _say_unknown(model, [*prompts, *(text for given in templates for text in given.texts)])
        if note := worded_otherwise(_forms_of(located), prompts):
            print(note, file=sys.stderr)
    if templates:
        refuse_lengths_of_infilling(wanted.written)
    # Without references there are no oracle lengths, whatever the stage says.
    settings = chosen_settings(wanted, located, model, references=False)
    if times > 1 and not draws(model, settings):
        raise UserError(
            f"--num-samples {times}: nothing is drawn, and the answers to a prompt would all be "
            f"the same: {_what_draws(model)}"
        )
    recorded = trace is not None
    if templates:
        answers = fill_in(model, templates, prompts or None, settings, record=recorded, share=share)
    else:
        check_answerable(wanted, located, model, settings, asked.texts, asked.places)
        answers = answer_prompts(model, prompts, settings, record=recorded, share=share)
    if not share.first:
        return 0
    if output is None:
        print("\n".join(answers.texts))
    else:
        answers.write(output)
        print(f"{len(answers.texts)} answers in {output}")
    _say_empty_or_endless(answers, settings)
    if trace is not None:
        answers.write_trace(trace, options.model, model)
        # Standard output holds the answers alone.
        print(f"trace of {len(answers.texts)} answers in {trace}", file=sys.stderr)
    return 0


def _what_draws(model: "GenerativeModel") -> str:
    if model.kind == "diffusion":
        return "give --temperature, or a --sampler that draws (mdlm)"
    if model.texts:
        return "give --temperature"
    return "an autoregressive model searches for its answers to prompts; remove it"


def _say_empty_or_endless(answers: "Answers", settings: Any) -> None:
    """How many answers say nothing, or do not end."""
    from dlm.generation.empty import empty_answers, empty_note, empty_text, in_use

    count = len(answers.texts)
    if answers.without_end:
        print(f"{answers.without_end} of {count} answers fill the canvas of "
              f"{settings.canvas_length} tokens without an end", file=sys.stderr)  # fmt: skip
    if empty := empty_answers(answers.texts):
        note = empty_note(
            empty, count, on_canvas=settings.length == "canvas", in_use=in_use(settings),
            references=False,
        )  # fmt: skip
        print(note or empty_text(empty, count), file=sys.stderr)


def _forms_of(located: LocatedModel) -> "tuple[PromptForm, ...]":
    """How the prompts of a model on this machine were worded in training, where that is known."""
    from dlm.generation.model import read_description

    return read_description(Path(located.place)).prompts


def export(options: argparse.Namespace) -> int:
    """Copy a finished model out of its run, with a card and a script that generates."""
    located = locate_model(options.model)
    target = Path(options.to)
    if target.exists():
        raise UserError(f"{target} is there already: give --to a new directory")
    if not Path(located.place).is_dir():
        raise UserError(f"{options.model} is not a run or a stage on this machine")
    if target.resolve().is_relative_to(Path(located.place).resolve()):
        raise UserError(f"{target} lies inside {located.place}: give --to another place")
    if options.source is not None and not options.full_vocabulary:
        raise UserError("--source would be ignored without --full-vocabulary: remove it")
    target.parent.mkdir(parents=True, exist_ok=True)

    from dlm.export.full_vocabulary import write_full_vocabulary
    from dlm.export.write import write_export
    from dlm.training.quiet import quiet_libraries

    quiet_libraries()
    notes = ["README.md says what it is"]
    trusted = options.trust_remote_code or located.trusted

    def copy_whole(directory: Path, place: Path) -> None:
        notes.append(write_full_vocabulary(
            directory, place, source=options.source, trust_remote_code=trusted
        ))  # fmt: skip

    settings = located.stage.generation if located.stage else None
    exported = write_export(
        Path(located.place), target, target.resolve().name, settings,
        copy=copy_whole if options.full_vocabulary else None, trust_remote_code=trusted,
    )  # fmt: skip
    print(f"{located.name}: {target} (a Hugging Face directory: {exported.auto_class} loads it; "
          f"{'; '.join(notes)})")  # fmt: skip
    return 0


def _refuse_no_prompt(options: argparse.Namespace, kind: str) -> None:
    """Only a model of texts that ends them itself draws them without being told anything."""
    told = ("prompt", "input", "infill", "prefix", "suffix", "span")
    if any(getattr(options, name) is not None for name in told):
        return
    how = "give --prompt or --input"
    if kind == "diffusion":
        how += (
            ", or say how long texts are to be: --infill '[MASK:20]' draws texts of 20 tokens from "
            "a model that was trained on texts"
        )
    raise UserError(f"--num-samples without a prompt: {options.model} answers prompts; {how}")


def _refuse_what_needs_a_canvas(options: argparse.Namespace, kind: str) -> None:
    """Options that say nothing to a model that writes from left to right."""
    if kind != "autoregressive":
        return
    for option in ("trace", "infill", "span"):
        if getattr(options, option) is not None:
            raise UserError(
                f"--{option}: {options.model} is an autoregressive model, which writes from left "
                "to right and has no canvas; remove it, or name a diffusion model"
            )


def _say_unknown(model: Any, texts: list[str]) -> None:
    """How much of what is given the model cannot read."""
    from dlm.data.rows.encoding import encode_responses, unknown_tokens

    ids = encode_responses(model.tokenizer, texts)
    if unknown := unknown_tokens(model.tokenizer, ids):
        print(
            f"{unknown} of {sum(map(len, ids))} tokens of what is given are unknown to the model, "
            f"which reads them as {model.tokenizer.unk_token}",
            file=sys.stderr,
        )


def _check_output_file(output: Path, given: str | None) -> None:
    """Refuse a place that the answers could not be written to, before they are made."""
    if output.is_dir():
        raise UserError(f"--output {output} is a directory: give it a file, F.jsonl")
    if not output.absolute().parent.is_dir():
        raise UserError(f"--output {output}: there is no directory {output.parent}: make it first")
    if given is not None and output.exists() and output.samefile(given):
        raise UserError(f"--output {output} is the input: give it another name")
