from dataclasses import replace

import pytest
from small_platform import Workplace, raising, rows_identity, small_recipe, without_stage

from dlm.config.schema import StageConfig
from dlm.errors import UserError
from dlm.recipe.plan import PlannedStage, plan


def actions(place: Workplace, **options: object) -> dict[str, str]:
    recipe = options.pop("recipe", place.recipe)
    options.setdefault("data_identity", rows_identity)
    planned = plan(recipe, place.run_dir, **options)  # type: ignore[arg-type]
    return {stage.job.name: stage.action for stage in planned}


def planned(place: Workplace, stage: str, **options: object) -> PlannedStage:
    options.setdefault("data_identity", rows_identity)
    found = plan(place.recipe, place.run_dir, **options)  # type: ignore[arg-type]
    return next(item for item in found if item.job.name == stage)


def test_a_fresh_run_runs_everything(place: Workplace) -> None:
    assert actions(place) == {"pretrain": "run", "adapt": "run", "twin": "run"}


def test_exports_of_needed_stages_are_handed_over(place: Workplace) -> None:
    job = planned(place, "adapt").job
    assert job.exports == {"pretrain": place.run_dir / "01_pretrain" / "export"}
    assert job.directory == place.run_dir / "02_adapt"
    assert job.seed == 0 and job.config.seed == 0


def test_from_and_to_select_a_part(place: Workplace) -> None:
    place.run(stop="pretrain")
    assert actions(place, start="adapt", stop="adapt") == {
        "pretrain": "not selected",
        "adapt": "run",
        "twin": "not selected",
    }


def test_only_names_what_to_run_first(place: Workplace) -> None:
    stage = planned(place, "adapt", only="adapt")
    assert stage.action == "refuse"
    assert stage.reason == "needs pretrain, which is missing (not started)"
    assert actions(place, only="twin")["twin"] == "run"


def test_what_follows_a_stale_stage_is_blocked(place: Workplace) -> None:
    place.run()
    assert actions(place, recipe=small_recipe(steps=8)) == {
        "pretrain": "refuse",
        "adapt": "blocked",
        "twin": "refuse",
    }
    assert actions(place, recipe=small_recipe(steps=8), force=["pretrain", "twin"]) == {
        "pretrain": "run",
        "adapt": "refuse",
        "twin": "run",
    }


def test_a_stale_stage_that_is_needed_and_not_selected_refuses(place: Workplace) -> None:
    place.run()
    found = actions(place, recipe=small_recipe(steps=8), only="adapt")
    assert found["adapt"] == "refuse"


def test_force_resumes_what_is_begun_so_that_a_preempted_run_ends(place: Workplace) -> None:
    place.kinds.interrupt["pretrain"] = raising(KeyboardInterrupt())
    place.run()
    stage = planned(place, "pretrain", force=["pretrain"])
    assert (stage.action, stage.set_aside) == ("resume", False)
    assert "to begin anew, move" in stage.reason


def test_a_directory_keeps_its_number_when_the_recipe_changes(place: Workplace) -> None:
    place.run()
    recipe = without_stage(place.recipe, "pretrain")
    recipe = replace(
        recipe, stages={**recipe.stages, "new_twin": StageConfig(kind="pretrain", tokenizer="a/b")}
    )
    directories = [
        stage.job.directory.name
        for stage in plan(recipe, place.run_dir, data_identity=rows_identity)
    ]
    assert directories == ["02_adapt", "03_twin", "03_new_twin"]
    (place.run_dir / "07_twin").mkdir()
    with pytest.raises(UserError, match="two directories"):
        plan(recipe, place.run_dir, data_identity=rows_identity)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"only": "adpt"}, "--only adpt.*did you mean 'adapt'"),
        ({"start": "xyz"}, "--from xyz.*its stages: pretrain, adapt, twin"),
        ({"force": ["twinn"]}, "--force twinn.*did you mean 'twin'"),
        ({"start": "twin", "stop": "adapt"}, "--from twin comes after --to adapt"),
        ({"only": "length"}, "--only length: .* no stage of kind length; its stages: pretrain"),
        ({"only": "twin", "start": "adapt"}, "cannot be combined"),
        ({"only": "twin", "force": ["adapt"]}, "--force adapt.*not among those that run"),
    ],
)
def test_a_selection_that_makes_no_sense_is_refused(
    place: Workplace, options: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        actions(place, **options)


def test_a_kind_names_its_only_stage(place: Workplace) -> None:
    assert actions(place, only="autoregressive") == actions(place, only="twin")
    by_kind = actions(place, stop="autoregressive", force=["autoregressive"])
    assert by_kind == actions(place, stop="twin", force=["twin"])


def test_a_kind_of_several_stages_is_refused_with_their_names(place: Workplace) -> None:
    second = StageConfig(kind="autoregressive", tokenizer="org/tokens")
    recipe = replace(place.recipe, stages={**place.recipe.stages, "second": second})
    with pytest.raises(UserError, match="2 stages of this kind: name one of twin, second"):
        actions(place, recipe=recipe, only="autoregressive")
    assert actions(place, recipe=recipe, only="twin")["twin"] == "run"


def test_rows_of_a_stage_that_does_not_run_may_be_gone(place: Workplace) -> None:
    place.run()

    def gone(stage: StageConfig) -> object:
        if stage.kind == "pretrain":
            raise UserError("data.train: no such file")
        return rows_identity(stage)

    assert actions(place, start="adapt", data_identity=gone)["adapt"] == "skip"
    with pytest.raises(UserError, match="no such file"):
        actions(place, data_identity=gone)


def test_changed_rows_are_stale(place: Workplace) -> None:
    place.run()
    stage = planned(place, "twin", data_identity=lambda stage: {"train": ["others"]})
    assert stage.state.name == "stale"
    assert [str(change) for change in stage.state.changes] == [
        'rows.train: ["numbers"] -> ["others"]'
    ]
