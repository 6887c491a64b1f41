"""The command line: `dlm VERB ...`. Nothing heavy is imported before a verb needs it."""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from io import TextIOWrapper

import dlm.process  # noqa: F401 - the time of an attempt is counted from here
from dlm.host_memory import keep_few_routines

EPILOG = """exit codes: 0 done · 2 your configuration or data · 3 a failed stage
4 the run directory is in use · 75 preempted, run again · 130 interrupted"""


def build_parser() -> argparse.ArgumentParser:
    """All verbs with their arguments."""
    parser = argparse.ArgumentParser(
        prog="dlm",
        description="Diffusion language models: pretrain, adapt, tune, generate, evaluate.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version, help="print the version")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    _run_verbs(verbs)
    _recipe_verbs(verbs)
    _data_verb(verbs)
    _model_verbs(verbs)
    _cluster_verbs(verbs)
    return parser


class _Version(argparse.Action):
    """Print the version and end; it is looked up only then."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(f"dlm {version('dlm')}")
        parser.exit()


def _verb(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, target: str,
          text: str) -> argparse.ArgumentParser:  # fmt: skip
    # No abbreviations: a mistyped flag is refused, and scripts outlive new flags.
    parser = verbs.add_parser(
        name, help=text, description=text[0].upper() + text[1:] + ".", allow_abbrev=False
    )
    parser.set_defaults(target=target, parser=parser)
    return parser


def _recipe_argument(parser: argparse.ArgumentParser, *, optional: bool = False) -> None:
    parser.add_argument(
        "recipe",
        nargs="?" if optional else None,
        default="quickstart" if optional else None,
        help="a recipe file or the name of a shipped recipe" + (" (quickstart)" * optional),
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value",
        help="overrides, e.g. optim.lr=1e-5 or stages.adapt.train.steps=2000",
    )  # fmt: skip


def _cell_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cell", metavar="NAME", help="of a sweep, this run")


def _run_verbs(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    run = _verb(verbs, "run", "run:run", "run a recipe, or continue it where it stopped")
    _recipe_argument(run, optional=True)
    run.add_argument("--run-dir", metavar="DIR", help="where the run lives (runs/<recipe name>)")
    either = "(a name or a kind)"
    run.add_argument("--from", dest="start", metavar="STAGE",
                     help=f"begin with this stage {either}")  # fmt: skip
    run.add_argument("--to", dest="stop", metavar="STAGE", help=f"end with this stage {either}")
    run.add_argument("--only", metavar="STAGE", help=f"this stage alone {either}")
    run.add_argument("--force", metavar="STAGE", action="append", default=[],
                     help=f"do a stage again {either}; what was there is moved aside")  # fmt: skip
    run.add_argument("--seeds", metavar="1,2,3", help="one run a seed, in DIR/seed-N")
    run.add_argument("--cells", metavar="A,B", help="of a sweep (or of --seeds), these runs alone")
    run.add_argument("--dry-run", action="store_true", help="say what would run, and why")
    status = _verb(verbs, "status", "run:status", "show how far each stage of a run is")
    status.add_argument("run_dir", metavar="RUN_DIR", help="the run's directory")
    status.add_argument("--json", action="store_true", help="for programs")
    report = _verb(verbs, "report", "report:report",
                   "show what runs did: curves, scores, samples, settings")  # fmt: skip
    report.add_argument("runs", nargs="+", metavar="RUN",
                        help="run directories; several are put side by side")  # fmt: skip
    report.add_argument("--output", metavar="F.html",
                        help="a page that needs no other file (RUN/report.html)")  # fmt: skip
    report.add_argument("--markdown", metavar="F.md", help="its tables as Markdown")
    report.add_argument("--csv", metavar="DIR", help="its tables and curves as CSV files")
    report.add_argument("--allow-different-data", action="store_true",
                        help="put runs that read different rows side by side")  # fmt: skip


def _recipe_verbs(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    validate = _verb(
        verbs, "validate", "recipes:validate", "check recipes, and that their files are there"
    )
    validate.add_argument("recipes", nargs="+", metavar="RECIPE",
                          help="recipe files or names of shipped recipes, and key=value: "
                               "overrides, for every recipe")  # fmt: skip
    validate.add_argument("--set", dest="overrides", action="append", default=[],
                          metavar="key=value", help="an override too")  # fmt: skip
    show = _verb(verbs, "show", "recipes:show", "print a recipe with everything resolved")
    _recipe_argument(show)
    _cell_argument(show)
    _plan_verb(verbs)
    _bench_verb(verbs)
    listing = _verb(verbs, "ls", "recipes:ls", "list what there is to choose from")
    listing.add_argument(
        "what", nargs="?", default="recipes",
        choices=["recipes", "stages", "tasks", "samplers", "objectives", "generators", "data",
                 "sets"],
        help="which list (recipes)",
    )  # fmt: skip
    listing.add_argument("--markdown", action="store_true", help="sets only: docs/data.md")


def _plan_verb(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    plan = _verb(
        verbs, "plan", "plan:plan",
        "say what each training stage will take: memory, strategy, hours, disk",
    )  # fmt: skip
    _recipe_argument(plan)
    _cell_argument(plan)
    plan.add_argument("--stage", metavar="STAGE", help="this stage alone (a name or a kind)")
    plan.add_argument("--nodes", type=int, metavar="N", help="default: hardware.num_nodes")
    plan.add_argument("--gpus-per-node", type=int, metavar="G",
                      help="default: hardware.devices, else 1")  # fmt: skip
    plan.add_argument("--gpu", metavar="NAME", help="memory and speed of h100 (default), a100-80 "
                      "...")  # fmt: skip
    plan.add_argument("--gpu-memory", type=float, metavar="GIB", help="default: the GPU's")
    plan.add_argument("--host-memory", type=float, metavar="GIB",
                      help="of stages on a CPU (hardware.accelerator=cpu): memory of a node; "
                           "default: this machine's")  # fmt: skip
    plan.add_argument("--tflops", type=float, metavar="X",
                      help="peak of a GPU, in place of --gpu; or of a process on a CPU"
                      )  # fmt: skip
    plan.add_argument("--mfu", type=float, default=0.35, metavar="SHARE",
                      help="share of the peak that does useful work (0.35)")  # fmt: skip
    plan.add_argument("--row-tokens", type=float, metavar="N",
                      help="mean tokens of a row, prompt and response (`dlm data stats` counts "
                           "them); default: data.max_length")  # fmt: skip
    plan.add_argument("--response-share", type=float, metavar="SHARE",
                      help="share of them that noise may hit; default: 0.5; of texts and in "
                           "pretraining 1"
                      )  # fmt: skip
    plan.add_argument("--json", action="store_true", help="for programs, in bytes and FLOPs")


def _bench_verb(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    bench = _verb(
        verbs, "bench", "bench:bench",
        "train a few steps of a stage, keep nothing, and say where the time goes",
    )  # fmt: skip
    _recipe_argument(bench)
    _cell_argument(bench)
    bench.add_argument("--stage", metavar="STAGE",
                       help="the stage (a name or a kind); default: the first that trains"
                       )  # fmt: skip
    bench.add_argument("--steps", type=int, default=20, metavar="N", help="steps measured (20)")
    bench.add_argument("--warmup", type=int, default=5, metavar="N",
                       help="steps before them, which do not count (5)")  # fmt: skip
    bench.add_argument("--run-dir", metavar="DIR",
                       help="the run whose earlier stages are used (runs/<recipe name>)"
                       )  # fmt: skip
    bench.add_argument("--json", action="store_true", help="for programs")


def _data_verb(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    data = _verb(verbs, "data", "data:data", "tokenize a recipe's rows, look at them, count them")
    data.add_argument("action", choices=["prepare", "inspect", "stats"],
                      help="tokenize the training rows of every stage · show rows as the model "
                           "sees them · count rows, tokens, duplicates, padding")  # fmt: skip
    _recipe_argument(data)
    _cell_argument(data)
    data.add_argument("--stage", metavar="STAGE", help="this stage alone (a name or a kind)")
    data.add_argument("--run-dir", metavar="DIR",
                      help="the run whose tokenizers and models are used (runs/<recipe name>)"
                      )  # fmt: skip
    data.add_argument("--rows", type=int, default=3, metavar="N", help="inspect: rows shown (3)")
    data.add_argument("--verify", action="store_true",
                      help="inspect: read every prepared file and compare its checksum"
                      )  # fmt: skip


def _model_verbs(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    place = "a run, a stage's directory, or any Hugging Face directory"
    generate = _verb(verbs, "generate", "models:generate", "write text with a trained model")
    generate.add_argument("model", metavar="RUN|STAGE|HF_DIR", help=place)
    prompts = generate.add_mutually_exclusive_group()
    prompts.add_argument("--prompt", action="append", metavar="TEXT", help="may be repeated")
    prompts.add_argument(
        "--input",
        metavar="FILE",
        help="JSON lines with the field `prompt`; -: standard input, a prompt a line",
    )
    generate.add_argument("--output", metavar="FILE", help="JSON lines with `prompt` and `text`")
    generate.add_argument("--num-samples", type=int, metavar="N",
                          help="answers to each prompt, for samplers that draw (1)")  # fmt: skip
    _infill_arguments(generate)
    generate.add_argument("--trace", metavar="F.html|F.svg|F.jsonl",
                          help="how the text came about, iteration by iteration: a page that "
                               "replays it, a moving picture, or JSON lines")  # fmt: skip
    _generation_arguments(generate, lengths=("predicted", "canvas"))
    _devices_argument(generate)
    _trust_argument(generate)
    evaluate = _verb(verbs, "evaluate", "evaluate:evaluate", "score a trained model on tasks")
    evaluate.add_argument("model", metavar="RUN|STAGE|HF_DIR", help=place)
    evaluate.add_argument(
        "--tasks", required=True, metavar="A,B", help="names (dlm ls tasks) or files"
    )
    evaluate.add_argument("--output", required=True, metavar="DIR",
                          help="a folder for the results, one of its own for each task"
                          )  # fmt: skip
    evaluate.add_argument("--limit", type=int, metavar="N",
                          help="only N rows: the first ones, of several files as many of each"
                          )  # fmt: skip
    evaluate.add_argument("--skip-too-long", action="store_true",
                          help="leave out, and count, prompts that leave no room for an answer"
                          )  # fmt: skip
    evaluate.add_argument("--few-shot", type=int, metavar="K",
                          help="demonstrations before every prompt (0: none); default: as the "
                               "task says")  # fmt: skip
    evaluate.add_argument("--data-root", metavar="DIR", help="local files in place of the hub")
    _devices_argument(evaluate)
    _trust_argument(evaluate)
    _generation_arguments(evaluate, lengths=("predicted", "oracle", "canvas"))
    evaluate.add_argument("--likelihood-samples", type=int, metavar="N",
                          help="tasks of kind perplexity and multiple_choice: draws for each text"
                          )  # fmt: skip
    evaluate.add_argument("--estimator", choices=("exactly_l", "bernoulli", "chain_rule"),
                          help="the same tasks: how the likelihood is estimated")  # fmt: skip
    export = _verb(
        verbs, "export", "models:export", "copy a trained model to a directory of its own"
    )
    export.add_argument("model", metavar="RUN|STAGE", help="a run or a stage's directory")
    export.add_argument(
        "--to", required=True, metavar="DIR", help="a directory that is not there yet"
    )
    export.add_argument("--full-vocabulary", action="store_true",
                        help="put the tokens back that model.vocabulary.keep=used cut off, as the "
                             "model that it began with has them")  # fmt: skip
    export.add_argument("--source", metavar="HF_DIR",
                        help="with it: where that model lies now, if not where it was"
                        )  # fmt: skip
    _trust_argument(export)


def _trust_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--trust-remote-code", action="store_true",
                        help="run Python code that comes with the model (off; nothing asks)"
                        )  # fmt: skip


def _devices_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--devices", type=int, metavar="N",
                        help="share the work between N processes, each with a GPU of its own if "
                             "there are any (1; torchrun and srun say it themselves)"
                        )  # fmt: skip


def _cluster_verbs(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    submit = _verb(verbs, "submit", "submit:submit", "queue a recipe's stages on a cluster")
    _recipe_argument(submit)
    submit.add_argument("--cluster", required=True, metavar="FILE",
                        help="a cluster file, or the name of a shipped one: where it runs"
                        )  # fmt: skip
    submit.add_argument("--run-dir", metavar="DIR", help="where the run lives (runs/<recipe name>)")
    submit.add_argument("--seeds", metavar="1,2,3",
                        help="one run a seed, in DIR/seed-N; Slurm: as job arrays, as the cells "
                             "of a sweep")  # fmt: skip
    submit.add_argument("--max-array-tasks", type=int, metavar="N",
                        help="Slurm: at most N cells of a sweep (or seeds) at once; default: as "
                             "the cluster file says, else all")  # fmt: skip
    either = "(a name or a kind)"
    submit.add_argument("--from", dest="start", metavar="STAGE",
                        help=f"begin with this stage {either}")  # fmt: skip
    submit.add_argument("--to", dest="stop", metavar="STAGE", help=f"end with this stage {either}")
    submit.add_argument("--only", metavar="STAGE", help=f"this stage alone {either}")
    submit.add_argument("--dry-run", action="store_true",
                        help="print the scripts or manifests, queue nothing")  # fmt: skip
    cancel = _verb(verbs, "cancel", "submit:cancel", "take the jobs of a run out of the queue")
    cancel.add_argument("run_dir", metavar="RUN_DIR", help="the run's directory")


def _infill_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--infill", action="append", metavar="TEXT",
                        help="complete a text: [MASK] stands for one token, [MASK:3] for three; "
                             "may be repeated. With --prompt it is the answer that is completed"
                        )  # fmt: skip
    parser.add_argument("--prefix", metavar="TEXT", help="fill in behind this text")
    parser.add_argument("--suffix", metavar="TEXT",
                        help="fill in before this text (both are taken to the letter)"
                        )  # fmt: skip
    parser.add_argument("--span", type=int, metavar="N",
                        help="tokens between --prefix and --suffix")  # fmt: skip


def _generation_arguments(parser: argparse.ArgumentParser, *, lengths: Sequence[str]) -> None:
    parser.add_argument("--sampler", metavar="NAME", help="see dlm ls samplers")
    parser.add_argument("--num-iterations", "--steps", type=int, metavar="N", dest="num_iterations",
                        help="iterations of the reverse process, generation.num_iterations of a "
                             "recipe; --steps is its other name")  # fmt: skip
    parser.add_argument("--length", choices=lengths, help="where lengths come from")
    parser.add_argument("--canvas-length", type=int, metavar="N",
                        help="length canvas: tokens of the canvas that is decoded and cut at its "
                             "end token (as in training)")  # fmt: skip
    parser.add_argument("--length-beam", type=int, metavar="K", help="lengths decoded and reranked")
    parser.add_argument("--rerank", choices=("mean", "joint", "mbr"),
                        help="which of the lengths is given")  # fmt: skip
    parser.add_argument("--temperature", type=float, metavar="X",
                        help="draw tokens at random; 0 takes the likeliest")  # fmt: skip
    parser.add_argument("--threshold", type=float, metavar="P",
                        help="sampler fast-dllm: set tokens likelier than this at once"
                        )  # fmt: skip
    parser.add_argument("--guidance", type=float, metavar="W",
                        help="classifier-free guidance; doubles the network calls")  # fmt: skip
    parser.add_argument("--block-length", type=int, metavar="N",
                        help="answer in blocks of N tokens from left to right")  # fmt: skip
    parser.add_argument("--min-length", type=int, metavar="N",
                        help="an answer's end cannot come before N tokens")  # fmt: skip
    parser.add_argument("--end-penalty", type=float, metavar="X",
                        help="subtract X from the logit of the end token: longer answers"
                        )  # fmt: skip
    parser.add_argument("--prompt-cache", type=int, metavar="K",
                        help="approximate: compute prompts in every K-th iteration")  # fmt: skip
    parser.add_argument("--seed", type=int, metavar="N", help="for samplers that draw at random")
    parser.add_argument("--beam-size", type=int, metavar="K", help="autoregressive models only")
    parser.add_argument("--set", action="append", dest="settings", metavar="generation.KEY=VALUE",
                        help="any setting of a recipe's section generation, such as "
                             "generation.end_last=true; may be repeated, the last of a key holds"
                        )  # fmt: skip


def _take_overrides(options: argparse.Namespace, rest: list[str]) -> None:
    """Accept key=value in any place: behind an option too, and without a recipe before it."""
    stray = [word for word in rest if word.startswith("-") or "=" not in word]
    takes = "recipe" in options and "overrides" in options
    if stray or (rest and not takes):
        options.parser.error(_unknown(options.parser, stray or rest))
    if rest:
        options.overrides = [*options.overrides, *rest]
    if options.verb == "validate":
        given = [word for word in options.recipes if "=" in word and not os.path.exists(word)]
        options.overrides = [*options.overrides, *given]
        options.recipes = [word for word in options.recipes if word not in given]
    if options.verb == "run" and "=" in options.recipe and not os.path.exists(options.recipe):
        options.overrides = [options.recipe, *options.overrides]
        options.recipe = "quickstart"


def _unknown(parser: argparse.ArgumentParser, words: list[str]) -> str:
    from dlm.errors import did_you_mean

    flag = words[0].partition("=")[0]
    hint = did_you_mean(flag, parser._option_string_actions)
    return f"unknown argument{'s' * (len(words) > 1)}: {' '.join(words)}{hint}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out one command; the exit code is the contract of the epilog."""
    if isinstance(sys.stdout, TextIOWrapper):  # a sign that a terminal cannot show ends no run
        sys.stdout.reconfigure(errors="backslashreplace")
    keep_few_routines()
    parser = build_parser()
    options, rest = parser.parse_known_args(arguments)
    _take_overrides(options, rest)
    module, function = options.target.split(":")
    from dlm.config.ranges import option_outside
    from dlm.errors import DlmError, UserError

    try:
        if problem := option_outside(vars(options)):
            raise UserError(problem)
        code: int = getattr(import_module(f"dlm.verbs.{module}"), function)(options)
        sys.stdout.flush()
        return code
    except DlmError as error:
        from dlm.process import process_rank

        if process_rank() == 0:  # which has heard of it, whichever rank it was
            print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has gone, as in `dlm ls | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        return _unforeseen(error)


def _unforeseen(error: Exception) -> int:
    """What the system refused in a line; anything else is ours, with its traceback."""
    from dlm.recipe.console import os_error_text

    if isinstance(error, OSError):
        print(f"error: {os_error_text(error)}", file=sys.stderr)
        theirs = (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError)
        return 2 if isinstance(error, theirs) else 3
    import traceback

    traceback.print_exception(error)
    print(f"error: {type(error).__name__}: {error} (not foreseen: please report it with the lines "
          "above)", file=sys.stderr)  # fmt: skip
    return 3


if __name__ == "__main__":
    sys.exit(main())
