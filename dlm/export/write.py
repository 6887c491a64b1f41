"""Write an export: the stage's files, verified, with a card, settings and a script beside them."""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import safe_open

from dlm.errors import UserError
from dlm.export.card import SCRIPT, Exported, model_card
from dlm.export.history import History, read_history
from dlm.files import write_json
from dlm.generation.model import DESCRIPTION_FILE, read_description
from dlm.generation.settings import GenerationSettings
from dlm.models.checkpoint_files import check_files
from dlm.models.outside import open_config
from dlm.models.positions import positions
from dlm.models.sums import SUMS, check_sums, write_sums
from dlm.recipe.fingerprint import plain
from dlm.recipe.manifest import EXPORT, read_manifest, verify_exports
from dlm.training.export import give_usual_modes

CARD, TRAINING = "README.md", "training.json"


def write_export(
    source: Path,
    target: Path,
    name: str,
    generation: GenerationSettings | None,
    copy: Callable[[Path, Path], object] | None = None,
    *,
    trust_remote_code: bool = False,
) -> Exported:
    """Copy a stage's ``export/`` (or any model directory) to ``target``, which appears at once.

    Args:
        source: The directory to copy.
        target: Where to; not there yet.
        name: The model's name in its card.
        generation: The stage's settings, which go into dlm.json. None: it is of no stage.
        copy: Writes the directory to another one. None: as it is.
        trust_remote_code: run code that comes with the model.

    Raises:
        UserError: The files are not those that were written there.
    """
    _verify(source)
    history = read_history(source)
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        (copy or shutil.copytree)(source, partial)
        (partial / SUMS).unlink(missing_ok=True)  # they are written anew, of what this changes
        if generation is not None:
            _add_settings(partial, generation)
        exported = _look_at(partial, name, trust_remote_code)
        if exported.with_script:
            shutil.copyfile(Path(__file__).with_name(SCRIPT), partial / SCRIPT)
        if history.stages:
            write_json(partial / TRAINING, _training(history))
        if history.stages or not (partial / CARD).exists():
            (partial / CARD).write_text(model_card(exported, history), encoding="utf-8")
        write_sums(partial)
        give_usual_modes(partial)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return exported


def _verify(source: Path) -> None:
    manifest = read_manifest(source.parent) if source.name == EXPORT else None
    if manifest is None:
        check_files(source)
        check_sums(source)
    elif problems := verify_exports(source.parent, manifest):
        raise UserError(
            f"{source.parent}: {problems[0]}. Put the file back as it was written, or make the "
            f"stage anew with --force {manifest.stage}"
        )


def _add_settings(directory: Path, generation: GenerationSettings) -> None:
    path = directory / DESCRIPTION_FILE
    said = json.loads(path.read_text(encoding="utf-8"))
    write_json(path, said | {"generation": plain(generation)})


def _look_at(directory: Path, name: str, trust_remote_code: bool) -> Exported:
    try:
        config = open_config(directory, trust_remote_code=trust_remote_code)
    except (OSError, ValueError) as error:
        raise UserError(f"{directory} is no model that transformers reads: {error}") from error
    said, path = read_description(directory), directory / DESCRIPTION_FILE
    raw: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    lengths = directory / "length_predictor.json"
    architecture = (config.architectures or ["unknown"])[0]
    return Exported(
        name=name,
        architecture=architecture,
        parameters=_parameters(directory),
        positions=positions(config),
        description=said,
        objective=raw.get("objective", ""),
        longest_answer=json.loads(lengths.read_text())["max_length"] if lengths.exists() else None,
        with_script=said.ours and said.kind == "diffusion" and not said.shifted
        and architecture.endswith("ForMaskedLM"),
    )  # fmt: skip


def _parameters(directory: Path) -> int:
    """Of the network; tied weights lie in the file once."""
    count = 0
    for path in sorted(directory.glob("model*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118 - it is no mapping
                size = 1
                for extent in file.get_slice(key).get_shape():
                    size *= extent
                count += size
    return count


def _training(history: History) -> dict[str, Any]:
    """The manifests without what tells of the machine they were made on."""
    stages = []
    for stage in history.stages:
        values = stage.manifest.as_json()
        kept = {k: v for k, v in values.items() if k not in ("host", "command", "exports")}
        stages.append(_without_places(kept))
    return {"stages": stages, "scores": [asdict(result)["metrics"] for result in history.results]}


def _without_places(value: Any) -> Any:
    """Absolute paths without their folders."""
    if isinstance(value, dict):
        return {key: _without_places(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_places(item) for item in value]
    return Path(value).name if isinstance(value, str) and value.startswith("/") else value
