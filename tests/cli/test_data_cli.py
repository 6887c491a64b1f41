"""dlm data prepare, inspect, stats."""

import os
import shutil
from pathlib import Path

import pytest
from cli_tools import Caller, TrainedRun

from dlm.config.loading import load_recipe
from dlm.data.rows.shards.reading import TokenShards
from dlm.recipe.kinds import data_identity
from dlm.recipe.plan import plan
from dlm.training.data import build_data
from dlm.training.start import starting_point


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DLM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def data_sets(cache: Path) -> list[Path]:
    return sorted(path for path in (cache / "shards").iterdir() if path.is_dir())


def test_what_is_prepared_is_what_the_run_trains_on(
    call: Caller, trained: TrainedRun, cache: Path
) -> None:
    outcome = call("data", "prepare", trained.recipe, "--run-dir", trained.directory)
    assert outcome.code == 0, outcome.err
    # adapt and length read the same rows with the same tokenizer.
    assert outcome.out.count("tokenized into") == len(data_sets(cache)) == 2
    for stage in ("pretrain", "adapt", "length"):
        assert f"\n{stage}: 200 rows, " in f"\n{outcome.out}"
    recipe = load_recipe(str(trained.recipe))
    jobs = [stage.job for stage in plan(recipe, trained.directory, data_identity=data_identity)]
    for job in jobs[1:4]:
        rows = build_data(job, starting_point(job)).train_rows
        assert isinstance(rows, TokenShards)
        assert rows.directory in data_sets(cache), job.name
    assert len(data_sets(cache)) == 2


def test_a_cache_of_the_recipe_goes_before_the_variable(
    call: Caller, trained: TrainedRun, tmp_path: Path, cache: Path
) -> None:
    place = tmp_path / "elsewhere"
    outcome = call("data", "prepare", trained.recipe, "--run-dir", trained.directory,
                   "--stage", "pretrain", f"data.cache={place}")  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert len(data_sets(place)) == 1 and not cache.exists()


def test_a_tokenizer_that_is_not_made_yet_is_named_with_the_command_that_makes_it(
    call: Caller, recipe_file: Path, tmp_path: Path, cache: Path
) -> None:
    outcome = call("data", "prepare", recipe_file, "--run-dir", tmp_path / "run", "seed=3")
    assert outcome.code == 2
    assert "stage pretrain: its tokenizer comes from stage tokenizer, which is missing in" in (
        outcome.err
    )
    command = f"dlm run {recipe_file} seed=3 --run-dir {tmp_path / 'run'} --to"
    assert f"{command} tokenizer\n" in outcome.err and f"{command} pretrain\n" in outcome.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("action", ["stats", "inspect"])
def test_what_of_a_chain_cannot_be_shown_yet_is_said_and_the_rest_is_shown(
    action: str, call: Caller, begun: TrainedRun, tmp_path: Path, cache: Path
) -> None:
    shutil.rmtree(begun.stage("pretrain"))
    recipe = tmp_path / "more.yaml"
    recipe.write_text(
        f"extends: {begun.recipe}\n"
        "stages:\n"
        "  own: {kind: generate, init_from: length,\n"
        "        data: {train: [{generator: number_pairs, count: 5}]}}\n"
        "  taught: {kind: adapt, init_from: pretrain, data: {train: [{stage: own}]}}\n"
        "  scratch: {kind: pretrain, tokenizer: tokenizer,\n"
        "            data: {train: [{generator: number_text, count: 30}]}}\n"
    )
    words = ("data", action, recipe, "--run-dir", begun.directory)
    outcome = call(*words)
    assert outcome.code == 0, outcome.err
    shown = "scratch:\n  rows        30\n" if action == "stats" else "scratch: 30 rows, "
    assert shown in outcome.out
    told = [line for line in outcome.out.splitlines() if line.startswith("not shown: ")]
    why = f"which is missing in {begun.directory}"
    assert [line.partition(f", {why}")[0] for line in told] == [
        "not shown: stage adapt: its tokenizer comes from stage pretrain",
        "not shown: stage length: its tokenizer comes from stage adapt",
        "not shown: stage taught: a source comes from stage own",
        "not shown: tokenizer, evaluate, own, which train no model and have no training rows",
    ]
    assert f"--run-dir {begun.directory} --to pretrain\n" in outcome.out
    refused = call(*words, "--stage", "adapt")
    assert refused.code == 2 and "comes from stage pretrain" in refused.err


@pytest.mark.parametrize("action", ["stats", "inspect"])
def test_a_chain_of_which_nothing_is_made_shows_nothing_and_says_so(
    action: str, call: Caller, recipe_file: Path, tmp_path: Path, cache: Path
) -> None:
    outcome = call("data", action, recipe_file, "--run-dir", tmp_path / "run")
    assert outcome.code == 0, outcome.err
    assert outcome.out.count("not shown: stage ") == 3 and not (tmp_path / "run").exists()


def test_inspect_shows_rows_as_the_model_sees_them(
    call: Caller, trained: TrainedRun, cache: Path
) -> None:
    outcome = call("data", "inspect", trained.recipe, "--run-dir", trained.directory,
                   "--stage", "adapt", "--rows", "2", "--verify")  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert outcome.out.count("\nrow ") == 2 and "all 1 shards are as they were written" in (
        outcome.out
    )
    row = outcome.out.partition("\nrow 1: ")[2].partition("\n\n")[0].splitlines()
    assert row[1].startswith("  prompt    '") and row[2].startswith("  response  '")
    pieces = row[3].split()[1:]
    assert pieces[0] == "<s>" and pieces[-1] == "[</s>]"
    first = pieces.index("</s>")
    assert not any(piece.startswith("[") for piece in pieces[: first + 1])
    assert all(piece.startswith("[") for piece in pieces[first + 1 :])
    assert row[0].startswith(f"{len(pieces)} tokens, {len(pieces) - first - 1} of them maskable")


def test_inspect_of_a_text_has_no_prompt(call: Caller, trained: TrainedRun, cache: Path) -> None:
    outcome = call("data", "inspect", trained.recipe, "--run-dir", trained.directory,
                   "--stage", "pretrain", "--rows", "1")  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert "  text      '" in outcome.out and "prompt" not in outcome.out


def test_inspect_of_texts_and_pairs_shows_both_and_that_both_sides_of_a_pair_are_learnt(
    call: Caller, trained: TrainedRun, cache: Path
) -> None:
    words = (trained.recipe, "--run-dir", trained.directory, "--stage", "pretrain",
             "stages.pretrain.data.train=[{generator: number_text, count: 30}, "
             "{generator: number_pairs, count: 20, task: translation}]")  # fmt: skip
    outcome = call("data", "inspect", *words, "--rows", "1")
    assert outcome.code == 0, outcome.err
    text, pair = (part.splitlines() for part in outcome.out.split("\nrow ")[1:])
    assert text[0].startswith("1: ") and text[1].startswith("  text      '")
    assert pair[0].startswith("31: ") and pair[1].startswith("  prompt    '")
    pieces = pair[3].split()[1:]
    first = pieces.index("</s>")
    given = [place for place, piece in enumerate(pieces) if not piece.startswith("[")]
    assert given == [0, first] and pieces[-1] == "[</s>]"
    assert f"{len(pieces)} tokens, {len(pieces) - 2} of them maskable" in pair[0]
    stats = call("data", "stats", *words)
    assert stats.code == 0 and "rows        50\n" in stats.out


def test_inspect_verifies_checksums_where_that_is_asked_for(
    call: Caller, trained: TrainedRun, cache: Path
) -> None:
    words = ("data", "inspect", trained.recipe, "--run-dir", trained.directory,
             "--stage", "adapt")  # fmt: skip
    assert call(*words).code == 0
    path = data_sets(cache)[0] / "000000.tokens.npy"
    written_ns = path.stat().st_mtime_ns
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(written_ns, written_ns))  # as a disk that forgets
    assert call(*words).code == 0
    outcome = call(*words, "--verify")
    assert outcome.code == 2
    assert f"{path.parent}: 000000.tokens.npy is not what was written" in outcome.err


def test_stats_counts_rows_tokens_duplicates_and_padding(
    call: Caller, trained: TrainedRun, cache: Path
) -> None:
    outcome = call("data", "stats", trained.recipe, "--run-dir", trained.directory,
                   "--stage", "adapt", "stages.adapt.data.max_length=30",
                   "stages.adapt.data.too_long=drop"                   )  # fmt: skip
    assert outcome.code == 0, outcome.err
    lines = outcome.out.partition("adapt:\n")[2].splitlines()
    found = {line.split()[0]: line[14:] for line in lines}
    dropped = int(lines[3].split()[2])
    assert int(found["rows"]) == 200 - dropped < 200
    assert found["length"].endswith("longest 30")
    assert found["unknown"].split()[1] == "tokens"
    assert found["padding"].endswith("% of the first 200 batches")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--stage", "evaluate"], "stage evaluate trains no model"),
        (["--stage", "pretran"], "did you mean 'pretrain'"),
        (["--rows", "0"], "--rows must be at least 1 and"),
        (["stages.adapt.data.text_blocks=16"], "only rows of the task text are joined"),
        (["stages.pretrain.data.text_blocks=65"], "longer than data.max_length = 64"),
        (["stages.pretrain.data.text_blocks=2"], "must be at least 3"),
    ],
)
def test_what_cannot_be_done_is_named(
    words: list[str], message: str, call: Caller, recipe_file: Path
) -> None:
    outcome = call("data", "inspect", recipe_file, *words)
    assert outcome.code == 2
    assert message in outcome.err


def test_texts_in_blocks_train_and_leave_no_padding(
    call: Caller, begun: TrainedRun, tmp_path: Path, cache: Path
) -> None:
    shutil.rmtree(begun.stage("pretrain"))
    blocks = "stages.pretrain.data.text_blocks=32"
    outcome = call("run", begun.recipe, "--run-dir", begun.directory, "--to", "pretrain", blocks)
    assert outcome.code == 0, outcome.err
    counted = call("data", "stats", begun.recipe, "--run-dir", begun.directory,
                   "--stage", "pretrain", blocks)  # fmt: skip
    assert counted.code == 0, counted.err
    assert "median 32" in counted.out and "longest 32" in counted.out
    padding = float(counted.out.partition("padding")[2].split("%")[0])
    assert padding < 2
