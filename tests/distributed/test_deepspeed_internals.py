"""What `dlm/distributed/zero_state.py` reads inside DeepSpeed is there in the installed version.

DeepSpeed has no public way to a rank's part of masters and moments. Where this fails, read the
class that it names, mend zero_state.py, run `pytest -m slow -k zero`, and only then move the cap
of `deepspeed` in pyproject.toml.
"""

import importlib
import inspect
import re

import pytest

INTERNALS = {
    "runtime.zero.stage3.DeepSpeedZeroOptimizer_Stage3": [
        "fp16_groups", "fp32_partitioned_groups_flat", "grad_position", "get_param_id",
    ],
    "runtime.zero.stage_1_and_2.DeepSpeedZeroOptimizer": ["bit16_groups"],
    "runtime.bf16_optimizer.BF16_Optimizer": ["bf16_groups"],
    "runtime.engine.DeepSpeedEngine": ["basic_optimizer", "optimizer"],
    "utils.tensor_fragment.tensor_fragment": ["lp_fragment_address", "hp_fragment_address"],
    "utils.tensor_fragment.fragment_address": ["start", "numel"],
}  # fmt: skip


@pytest.mark.parametrize("path", INTERNALS)
def test_the_internals_that_are_read_exist(path: str) -> None:
    module, _, name = path.rpartition(".")
    found = getattr(importlib.import_module(f"deepspeed.{module}"), name)
    source = inspect.getsource(found)
    for attribute in INTERNALS[path]:
        assert re.search(
            rf"self\.{attribute} = |def {attribute}\(|^    {attribute}: ", source, re.MULTILINE
        ), f"{name} of the installed DeepSpeed has no {attribute}"


def test_parameters_carry_their_place_in_the_masters() -> None:
    from deepspeed.utils import mixed_precision_linkage

    assert "._hp_mapping = " in inspect.getsource(mixed_precision_linkage)
