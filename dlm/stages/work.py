"""Useful floating-point operations of a stage's batches."""

from dataclasses import dataclass
from typing import Self

from dlm.data.batches.batching import TokenCounts
from dlm.planning.flops import predictor_work, training_work
from dlm.planning.parameters import Parameters, count_parameters
from dlm.planning.shapes import NetworkShape, network_shape
from dlm.stages.base import TrainingStage
from dlm.stages.length import LengthPrediction


@dataclass(frozen=True)
class StageWork:
    """The formula of dlm/planning/flops.py, with what a batch really has."""

    parameters: Parameters
    network: NetworkShape
    copies: int
    """Noisy rows of each clean one."""

    @classmethod
    def of(cls, stage: TrainingStage) -> Self:
        """Of a stage whose weights no strategy has cut yet."""
        network = stage.backbone.network
        predictor = stage.predictor if isinstance(stage, LengthPrediction) else None
        return cls(count_parameters(network, predictor), network_shape(network.config),
                   stage.copies)  # fmt: skip

    def flops(self, counts: TokenCounts, predicted: int) -> float:
        """Of one micro-batch, both passes.

        Args:
            counts: What the network reads, of one copy.
            predicted: Positions of all copies whose logits are computed.
        """
        parameters, network = self.parameters, self.network
        # Each row's own length counts: the mean over tokens of the length of their row.
        length = counts.pairs / max(counts.tokens, 1)
        if parameters.predictor:
            return predictor_work(
                body=parameters.body, layers=network.layers, hidden=network.hidden,
                predictor=parameters.predictor, tokens=counts.tokens, length=length,
            ).total  # fmt: skip
        tokens = counts.tokens * self.copies
        whole = training_work(
            body=parameters.body, layers=network.layers, hidden=network.hidden,
            vocabulary=network.vocabulary, tokens=tokens, length=length, masked=predicted,
        ).total  # fmt: skip
        # Frozen weights (LoRA's) have no gradient of their own: 4 of the 6.
        return whole - 2 * parameters.frozen_body * tokens
