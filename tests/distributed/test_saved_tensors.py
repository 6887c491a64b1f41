"""Files of ranks give back every range of every tensor, however they were cut."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning import LightningModule
from torch import nn

from dlm.distributed import portable
from dlm.distributed.portable import GROUPS, TIED, load_whole, put_trained
from dlm.distributed.saved_tensors import (
    AVERAGE,
    AVERAGE_STATE,
    MOMENTS,
    WEIGHT,
    OneFile,
    PiecesOfRanks,
    whole,
)

SHAPES = {"a.weight": (3, 5), "a.bias": (5,), "b.weight": (7, 2)}
KINDS = (WEIGHT, *MOMENTS, AVERAGE)
Tensors = dict[str, dict[str, torch.Tensor]]


def random_tensors(seed: int = 0) -> Tensors:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: {kind: torch.randn(shape, generator=generator) for kind in KINDS}
        for name, shape in SHAPES.items()
    }


def write_ranks(directory: Path, tensors: Tensors, cuts: dict[str, list[int]]) -> None:
    """A file a rank; of each tensor rank r has what lies between cuts r and r + 1."""
    directory.mkdir()
    ranks = len(next(iter(cuts.values()))) - 1
    for rank in range(ranks):
        pieces = {
            name: {
                "shape": list(SHAPES[name]),
                "start": cuts[name][rank],
                "tensors": {
                    kind: tensor.flatten()[cuts[name][rank] : cuts[name][rank + 1]].clone()
                    for kind, tensor in kinds.items()
                },
            }
            for name, kinds in tensors.items()
            if cuts[name][rank] < cuts[name][rank + 1]
        }
        torch.save({"pieces": pieces}, directory / f"rank-{rank:05d}.ckpt")


@st.composite
def cuts_of_ranks(draw: st.DrawFn) -> dict[str, list[int]]:
    ranks = draw(st.integers(1, 4))
    cuts = {}
    for name, shape in SHAPES.items():
        size = torch.Size(shape).numel()
        inner = draw(st.lists(st.integers(0, size), min_size=ranks - 1, max_size=ranks - 1))
        cuts[name] = [0, *sorted(inner), size]
    return cuts


@settings(deadline=None)  # it writes files
@given(cuts_of_ranks(), st.data())
def test_every_range_of_every_cut_is_that_of_the_whole(
    cuts: dict[str, list[int]], data: st.DataObject
) -> None:
    tensors = random_tensors()
    with TemporaryDirectory() as folder:
        write_ranks(Path(folder) / "shards", tensors, cuts)
        saved = PiecesOfRanks(Path(folder) / "shards")
        for name, kinds in tensors.items():
            stop = data.draw(st.integers(0, kinds[WEIGHT].numel()))
            start = data.draw(st.integers(0, stop))
            for kind, tensor in kinds.items():
                assert torch.equal(whole(saved, name, kind), tensor)
                part = saved.part(name, kind, start, stop)
                assert torch.equal(part, tensor.flatten()[start:stop])


def test_a_rank_that_is_missing_is_noticed(tmp_path: Path) -> None:
    cuts = {name: [0, 4, torch.Size(shape).numel()] for name, shape in SHAPES.items()}
    write_ranks(tmp_path / "shards", random_tensors(), cuts)
    (tmp_path / "shards" / "rank-00001.ckpt").unlink()
    with pytest.raises(ValueError, match=r"no rank wrote elements 4 to 15 of a\.weight"):
        whole(PiecesOfRanks(tmp_path / "shards"), "a.weight", WEIGHT)


class Module(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(3, 5)
        self.a.weight = nn.Parameter(torch.zeros(3, 5))
        self.b = nn.Linear(2, 7, bias=False)
        self.tied = nn.Linear(2, 7, bias=False)
        self.tied.weight = self.b.weight
        self.register_buffer("counts", torch.zeros(2))


def sharded_checkpoint(directory: Path, *, average: bool) -> tuple[Path, Tensors]:
    tensors = random_tensors()
    if not average:
        for kinds in tensors.values():
            del kinds[AVERAGE]
    cuts = {name: [0, 3, torch.Size(shape).numel()] for name, shape in SHAPES.items()}
    write_ranks(directory / "shards", tensors, cuts)
    settings = {"lr": 0.1, "betas": (0.9, 0.98)}
    groups = [{"names": ["a.weight", "b.weight"], "settings": settings},
              {"names": ["a.bias"], "settings": settings}]  # fmt: skip
    state = {
        "state_dict": {"counts": torch.tensor([1.0, 2.0])}, "global_step": 4,
        "callbacks": {AVERAGE_STATE: {"updates": 4, "tensors": {}}} if average else {},
        TIED: {"tied.weight": "b.weight"}, GROUPS: {"groups": groups, "step": 4},
    }  # fmt: skip
    torch.save(state, directory / "state.ckpt")
    return directory / "state.ckpt", tensors


def test_lightning_reads_files_of_ranks_as_its_own(tmp_path: Path) -> None:
    path, tensors = sharded_checkpoint(tmp_path, average=True)
    state = load_whole(path)
    Module().load_state_dict(state["state_dict"], strict=True)
    optimizer = torch.optim.AdamW(
        [{"params": [nn.Parameter(tensors[name][WEIGHT]) for name in names]}
         for names in (["a.weight", "b.weight"], ["a.bias"])]
    )  # fmt: skip
    optimizer.load_state_dict(state["optimizer_states"][0])
    again = OneFile(state | {"optimizer_states": [optimizer.state_dict()]},
                    [["a.weight", "b.weight"], ["a.bias"]])  # fmt: skip
    assert again.step == 4 and optimizer.param_groups[1]["lr"] == 0.1
    for name, kinds in tensors.items():
        for kind, tensor in kinds.items():
            assert torch.equal(whole(again, name, kind), tensor), (name, kind)


@pytest.mark.parametrize("average", [False, True])
def test_a_module_gets_what_is_to_be_exported(average: bool, tmp_path: Path) -> None:
    path, tensors = sharded_checkpoint(tmp_path, average=average)
    module = Module()
    put_trained(module, path)
    kind = AVERAGE if average else WEIGHT
    for name in SHAPES:
        assert torch.equal(module.get_parameter(name), tensors[name][kind])
    assert module.get_parameter("tied.weight") is module.get_parameter("b.weight")
    assert module.get_buffer("counts").tolist() == [1, 2]


def test_weights_that_a_checkpoint_lacks_are_named(tmp_path: Path) -> None:
    path, _ = sharded_checkpoint(tmp_path, average=False)
    module = Module()
    module.more = nn.Linear(1, 1, bias=False)
    with pytest.raises(RuntimeError, match=r"weights missing or unknown: \{'more.weight'\}"):
        put_trained(module, path)


class Wide(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(2000, 2000, bias=False) for _ in range(20))


def anonymous_mb() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0]) / 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
def test_files_of_ranks_are_put_together_without_a_second_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = Wide()
    (tmp_path / "shards").mkdir()
    size = 2000 * 2000
    for rank in range(2):
        half = torch.full((size // 2,), float(rank))
        kinds = dict.fromkeys((WEIGHT, *MOMENTS), half)
        pieces = {
            name: {"shape": [2000, 2000], "start": rank * size // 2, "tensors": kinds}
            for name, _ in module.named_parameters()
        }
        torch.save({"pieces": pieces}, tmp_path / "shards" / f"rank-{rank:05d}.ckpt")
    state = {"state_dict": {}, "callbacks": {}, TIED: {}, GROUPS: {"groups": [], "step": 1}}
    torch.save(state, tmp_path / "state.ckpt")
    used: list[float] = []

    def whole_and_look(*arguments: Any) -> torch.Tensor:
        tensor = whole(*arguments)
        used.append(anonymous_mb())
        return tensor

    monkeypatch.setattr(portable, "whole", whole_and_look)
    before = anonymous_mb()
    put_trained(module, tmp_path / "state.ckpt")
    assert module.get_parameter("layers.19.weight").mean() == 0.5 and len(used) == 20
    # 305 MB of weights; of the files one parameter at a time (15 MB), and what malloc keeps.
    assert max(used) - before < 150
