"""How often each source of a mixture is drawn.

T5's examples-proportional mixing (Raffel et al. 2020, section 3.5.2): a source of e rows has the
rate min(e, cap) ** (1 / temperature); or the rates are given as weights.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dlm.errors import UserError, did_you_mean


@dataclass(frozen=True)
class MixtureSettings:
    """How shares are made. At most ``weights`` or the other two are set."""

    weights: Mapping[str, float]
    """Source name -> its weight; the shares are their parts of the sum."""
    temperature: float | None = None
    """None is 1: shares in proportion to the rows. The larger, the more alike the shares."""
    cap: int | None = None
    """Largest number of rows that a source counts for (T5's K)."""

    def shares(self, rows: Mapping[str, int]) -> list[float]:
        """Share of each source of so many rows, in their order; they add up to 1.

        Raises:
            UserError: The weights do not name the sources one to one.
        """
        if self.weights:
            self._check_names(list(rows))
            rates = [self.weights[name] for name in rows]
        else:
            counted = [min(number, self.cap or number) for number in rows.values()]
            rates = [number ** (1 / (self.temperature or 1.0)) for number in counted]
        return [rate / sum(rates) for rate in rates]

    def _check_names(self, names: Sequence[str]) -> None:
        for name in self.weights:
            if name not in names:
                raise UserError(
                    f"data.mixture.weights: no training source has the name '{name}'"
                    f"{did_you_mean(name, names)} (they are {', '.join(names)}): correct it"
                )
        for name in names:
            if name not in self.weights:
                raise UserError(
                    f"data.mixture.weights: source '{name}' has no weight, and would never be "
                    "drawn: give it one, or remove the source"
                )
