"""dlm validate, dlm show, dlm ls."""

import argparse

from dlm.config.loading import load_cells, load_recipe, resolved_yaml
from dlm.config.references import missing_files
from dlm.errors import UserError
from dlm.verbs.names import unknown_names

KINDS = {
    "tokenizer": "train a subword tokenizer on the run's text",
    "pretrain": "masked language modelling, from scratch or from a Hugging Face model",
    "adapt": "diffusive adaptation to one conditional task",
    "length": "length predictor on the frozen backbone, from the prompt alone",
    "instruct": "diffusive adaptation on a mixture of instructions",
    "autoregressive": "the twin: the same network trained to predict the next token",
    "generate": "rows that an earlier stage's model writes, for later stages to train on",
    "evaluate": "systems x tasks, with intervals and paired comparisons",
}
OBJECTIVES = {
    "rdm_linear": "weight 1-(t-1)/T: the paper's, most at mid noise",
    "elbo": "weight T/t (1/t): without a normaliser an upper bound of -log p",
    "constant": "weight 1, as in CMLM",
    "cart": "weight of a token by how near clean tokens are (Dream)",
}


def validate(options: argparse.Namespace) -> int:
    """Check every recipe; all problems in one message."""
    problems = []
    for name in options.recipes:
        try:
            recipe, cells = load_cells(name, options.overrides)
        except UserError as error:
            problems.append(str(error))
            continue
        runs = [one for _, one in cells] or [recipe]
        found = [line for one in runs for line in (*missing_files(one), *unknown_names(one))]
        found = list(dict.fromkeys(found))
        if found:
            problems.append(f"{name} cannot run:\n  " + "\n  ".join(found))
        else:
            swept = f", {len(cells)} cells ({', '.join(c.name for c, _ in cells)})" * bool(cells)
            stages = dict.fromkeys(stage for one in runs for stage in one.stages)
            print(f"{name}: ok, {len(stages)} stages ({', '.join(stages)}){swept}")
    if problems:
        raise UserError("\n".join(problems))
    return 0


def show(options: argparse.Namespace) -> int:
    """Print a recipe with everything resolved; of a sweep, that of a cell where one is named."""
    from dlm.verbs.run import recipe_of_cell

    if options.cell is not None:
        recipe, _ = recipe_of_cell(options)
    else:
        recipe, _ = load_cells(options.recipe, options.overrides)
    print(resolved_yaml(recipe), end="")
    return 0


def ls(options: argparse.Namespace) -> int:
    """List names with a line each."""
    if options.markdown:
        if options.what != "sets":
            raise UserError(f"--markdown is for `dlm ls sets`, not for {options.what}: remove it")
        from dlm.data.paper_sets import sets_page

        print(sets_page(), end="")
        return 0
    rows = listing(options.what)
    width = max((len(name) for name in rows), default=0)
    for name, text in rows.items():
        print(f"{name:<{width}}  {text}".rstrip())
    return 0


def listing(what: str) -> dict[str, str]:
    """Name -> a line on it, of one of the lists (sets and data too)."""
    if what == "stages":
        return KINDS
    if what == "objectives":
        return OBJECTIVES
    if what == "samplers":
        from dlm.diffusion.sampling.samplers import SAMPLERS

        listing = {
            name: "; ".join(filter(None, (one.description, one.defaults, one.source)))
            for name, one in SAMPLERS.items()
        }
        return listing | {
            "reparam-{uncond,cond}-stochastic<f>-{linear,cosine}": "RDM with routing noise of "
            "strength f, such as reparam-cond-stochastic0.2-cosine"
        }
    if what == "tasks":
        from dlm.evaluation.tasks import load_task, shipped_tasks

        tasks = {name: load_task(name) for name in shipped_tasks()}
        return {name: f"{task.kind:<15}  {task.description}" for name, task in tasks.items()}
    if what == "data":
        from dlm.data.tasks.registry import TASKS

        return {name: f"fields: {shape.fields}" for name, shape in TASKS.items()}
    if what == "sets":
        from dlm.data.paper_sets import paper_sets

        return {row["name"]: f"{row.get('hub', 'local')}: {row['fields']}" for row in paper_sets()}
    if what == "generators":
        from dlm.data.generated import GENERATORS

        return {name: generator.description for name, generator in GENERATORS.items()}
    from dlm.config.shipped import shipped_recipes

    return {name: load_recipe(name).description for name in shipped_recipes()}
