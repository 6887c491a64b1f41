"""What the recipe runner hands to the code that carries out one stage."""

from dataclasses import dataclass
from pathlib import Path

from dlm.config.schema import StageConfig


@dataclass(frozen=True)
class StageJob:
    """One stage, resolved: nothing is left to look up but files."""

    recipe: str
    """Name of the recipe."""
    name: str
    """Name of the stage."""
    config: StageConfig
    """The stage's configuration, recipe defaults included."""
    seed: int
    """Seed of the stage."""
    fingerprint: str
    """Content key of the stage (sha256, hexadecimal)."""
    directory: Path
    """The stage's own directory: checkpoints/, export/, logs/, samples/."""
    exports: dict[str, Path]
    """Earlier stage name -> its verified export directory."""
    evaluation_sets: tuple[tuple[str, str | None], ...] = ()
    """Tasks of the recipe's evaluate stages, each with the folder of its local files."""
