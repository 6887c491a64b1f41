"""The files of a model directory, looked at before anything is loaded: whole, or what is wrong.

Without torch. A safetensors file is: the length of its header (8 bytes, little-endian), the header
(JSON: name -> dtype, shape, data_offsets), the data (github.com/huggingface/safetensors, "Format").
"""

import json
import re
import struct
from pathlib import Path
from typing import Any

from dlm.errors import UserError
from dlm.models.sums import check_sums, remedy_in_run

_POINTER = b"version https://git-lfs.github.com/spec/"
_INDEX = "model.safetensors.index.json"
_LARGEST_HEADER = 100_000_000
_OTHER_FILES = {
    "adapter_config.json": "it is an adapter (PEFT) and no whole model: merge it into its base "
    "model with peft (merge_and_unload, then save_pretrained), and give that",
    "*.h5": "its weights are TensorFlow's: load it with transformers and write it with "
    "save_pretrained",
    "*.msgpack": "its weights are Flax's: load it with transformers and write it with "
    "save_pretrained",
    "model.*.safetensors": "its weights have a variant's name ({name}): rename the file to "
    "model.safetensors",
}
"""What a directory has in place of model.safetensors -> what to do about it."""
_LOADED = (
    "config.json", "generation_config.json", "dlm.json", "model*.json", "model*.safetensors",
    "length_predictor.*", "tokenizer*.json", "special_tokens_map.json", "added_tokens.json",
    "vocab*", "merges.txt", "*.model",
)  # fmt: skip


def check_files(directory: Path) -> None:
    """Refuse a directory whose files are not whole.

    Raises:
        UserError: A file is a git-lfs pointer, or damaged JSON or safetensors, or a part of the
            weights is not there, or a file is not the one that was exported (of the weights this
            shows where they are loaded); the message says which, and how to get it.
    """
    loaded = [path for pattern in _LOADED for path in sorted(directory.glob(pattern))]
    for path in loaded:
        if not path.is_file():
            raise UserError(f"{path} is a directory where a file belongs. {_remedy(path)}")
        _check_no_pointer(path)
    check_sums(directory, weights=False)
    for path in loaded:
        if path.suffix == ".json":
            _read_json(path)
    weight_shapes(directory)


def weight_shapes(directory: Path) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every tensor in a directory's safetensors files, from their headers; empty
    where there are none.

    Raises:
        UserError: A file is damaged, or one that the index names is not there.
    """
    index = directory / _INDEX
    whole = directory / "model.safetensors"
    files = [whole] if whole.exists() else sorted(directory.glob("model*.safetensors"))
    if index.exists() and not whole.exists():
        named = {str(name) for name in _read_json(index).get("weight_map", {}).values()}
        absent = sorted(name for name in named if not (directory / name).exists())
        if absent:
            raise UserError(
                f"{directory}: {len(absent)} of {len(named)} parts of the weights that {_INDEX} "
                f"names are not there ({', '.join(absent[:3])}): download them too"
            )
        files = [directory / name for name in sorted(named)]
    return {name: shape for path in files for name, shape in _header_shapes(path).items()}


def instead_of_weights(directory: Path) -> str | None:
    """Why a directory has no weights that are read; None where it has."""
    if (directory / "model.safetensors").exists() or any(directory.glob("model-*.safetensors")):
        return None
    for pattern, remedy in _OTHER_FILES.items():
        if found := sorted(directory.glob(pattern)):
            return remedy.format(name=found[0].name)
    return "it has no weights: model.safetensors is missing; take it from where it was saved"


def vocabulary_files(directory: Path) -> list[str]:
    """The names of a directory's files that can hold a tokenizer's vocabulary."""
    patterns = ("tokenizer.json", "vocab*", "*.model", "*.spm", "*.tiktoken")
    return sorted({path.name for pattern in patterns for path in directory.glob(pattern)})


def _check_no_pointer(path: Path) -> None:
    with path.open("rb") as file:
        beginning = file.read(1024)
    if not beginning.startswith(_POINTER):
        return
    size = re.search(rb"^size (\d+)$", beginning, re.MULTILINE)
    whole = f" of {int(size[1]):,} bytes" if size else ""
    raise UserError(
        f"{path} is a git-lfs pointer ({path.stat().st_size} bytes of text) and not the "
        f"file{whole} that it stands for: run `git lfs pull` where it was cloned, or download it"
    )


def _read_json(path: Path) -> dict[str, Any]:
    _check_no_pointer(path)
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:  # not UTF-8 either
        raise UserError(f"{path} is damaged: it is no JSON ({error}). {_remedy(path)}") from error
    return value if isinstance(value, dict) else {}


def _header_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    _check_no_pointer(path)
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            begins = file.read(8)
            if len(begins) < 8:
                raise ValueError("it ends before its header")
            (length,) = struct.unpack("<Q", begins)
            if length > _LARGEST_HEADER:
                raise ValueError("its header is no safetensors header")
            content = file.read(length)
            if len(content) < length:
                raise ValueError("it ends within its header")
            header = json.loads(content)
        header.pop("__metadata__", None)
        end = max((entry["data_offsets"][1] for entry in header.values()), default=0)
        shapes = {name: tuple(map(int, entry["shape"])) for name, entry in header.items()}
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} ({size:,} bytes) is damaged: {error}. {_remedy(path)}") from error
    if 8 + length + end != size:
        raise UserError(
            f"{path} is damaged: it has {size:,} bytes where its header says {8 + length + end:,}. "
            f"{_remedy(path)}"
        )
    return shapes


def _remedy(path: Path) -> str:
    again = "Download it again, or take the directory from where it was written"
    return remedy_in_run(path.resolve().parent) or again
