"""Which stages a person means by --from, --to, --only and --force."""

from collections.abc import Collection

from dlm.config.schema import SECTIONS_OF_KIND, RecipeConfig
from dlm.errors import UserError, did_you_mean


def stage_name(recipe: RecipeConfig, option: str, given: str) -> str:
    """The stage that is called so, or the only one of that kind.

    Raises:
        UserError: There is none, or the kind has several.
    """
    names = list(recipe.stages)
    if given in names:
        return given
    of_kind = [name for name in names if recipe.stages[name].kind == given]
    if len(of_kind) == 1:
        return of_kind[0]
    if of_kind:
        listed = ", ".join(of_kind)
        raise UserError(
            f"{option} {given}: recipe {recipe.name} has {len(of_kind)} stages of this kind: name "
            f"one of {listed}"
        )
    listed = f"its stages: {', '.join(names)}"
    if given in SECTIONS_OF_KIND:
        raise UserError(f"{option} {given}: recipe {recipe.name} has no stage of kind {given}; "
                        f"{listed}")  # fmt: skip
    hint = did_you_mean(given, names) or f"; {listed}"
    raise UserError(f"{option} {given}: recipe {recipe.name} has no such stage{hint}")


def select_stages(
    recipe: RecipeConfig,
    *,
    start: str | None,
    stop: str | None,
    only: str | None,
    force: Collection[str],
) -> tuple[list[str], list[str]]:
    """The stages between ``start`` and ``stop``, or ``only``; and those among them to force."""
    if not recipe.stages:
        raise UserError(f"recipe {recipe.name} has no stages: add one under `stages:`")

    def named(option: str, given: str | None) -> str | None:
        return None if given is None else stage_name(recipe, option, given)

    start, stop, only = named("--from", start), named("--to", stop), named("--only", only)
    forced = [stage_name(recipe, "--force", given) for given in force]
    if only is not None and (start is not None or stop is not None):
        raise UserError("--only cannot be combined with --from or --to: give one of them")
    names = list(recipe.stages)
    first = names.index(only or start or names[0])
    last = names.index(only or stop or names[-1])
    if first > last:
        raise UserError(f"--from {start} comes after --to {stop}: exchange them")
    selected = names[first : last + 1]
    for name in forced:
        if name not in selected:
            raise UserError(
                f"--force {name}: the stage is not among those that run ({', '.join(selected)}): "
                "leave --force out, or change --only, --from or --to"
            )
    return selected, forced
