"""Classifier-free guidance against numbers by hand."""

import pytest
import torch

from dlm.diffusion.sampling.guidance import Guided
from dlm.diffusion.sampling.network import EverySlot, Wanted


@pytest.mark.parametrize(
    ("weight", "expected"), [(0.0, [1.0, 5.0]), (0.5, [1.5, 6.0]), (1.0, [2.0, 7.0])]
)
def test_logits_are_u_and_w_plus_1_times_the_way_from_u_to_c(
    weight: float, expected: list[float]
) -> None:
    """c = (1, 5) and u = (0, 3): weight 0 is c alone."""
    with_prompt = EverySlot(lambda _: torch.tensor([[[1.0, 5.0]]]))
    without = EverySlot(lambda _: torch.tensor([[[0.0, 3.0]]]))
    guided = Guided(with_prompt, without, weight)
    states = guided.states(torch.zeros(1, 1).long(), Wanted(torch.tensor([0]), None, None))
    assert guided.logits(states).tolist() == [expected]
