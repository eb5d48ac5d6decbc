"""How much more windows differ than independent rows would: the design effect, and tests that allow for it.

Rows of one day, one customer or one machine resemble each other, so a window of a thousand of them says less
than a thousand independent ones. Its *dispersion* is the variance of a window's shares over what independent
rows would give; tests divide by it, and their tails are as heavy as the few blocks it was learnt from make
them.

Source: Kish, Survey Sampling, 1965; Rao & Scott, The analysis of categorical data from complex sample
surveys, 1981; Thomas & Rao, Small-sample comparisons of level and power for simple goodness-of-fit statistics
under cluster sampling, 1987.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Dispersion:
    """The design effect of one aspect of one feature.

    Attributes:
        factor: Variance over that of independent rows, on average over the groups; at least 1.
        dof: Degrees of freedom behind it, per direction in which shares can move; infinite where rows are
            taken as independent.
        blocks: How many it was learnt from.
        rows: Of such a block, on average.
        growth: Power by which `factor - 1` grows with the rows of a window larger than a block: 1 where all
            rows of a window have something in common, 0 where only neighbours have.
        spread: By how much the most varying direction exceeds their mean (1: all alike): the degrees of
            freedom of a chi-square statistic are divided by it.
        top: The factor of the most varying share of values up to some limit.
        apart: Root mean square of the blocks' Wasserstein distances from the others, in standard deviations;
            0 where it is not known.
        apart_dof: Degrees of freedom behind `apart`.
        expected: Share of values that one block showed and no other; of the aspect "unseen" only.
    """

    factor: float
    dof: float
    blocks: int
    rows: float = 0.0
    growth: float = 0.0
    spread: float = 1.0
    top: float = 1.0
    apart: float = 0.0
    apart_dof: float = 1.0
    expected: float = 0.0

    @property
    def independent(self) -> bool:
        """Whether rows are taken as independent."""
        return math.isinf(self.dof)

    def at(self, rows: ArrayLike, *, top: bool = False) -> Floats:
        """Return the factor of a sample of so many rows that lie together."""
        base = self.top if top else self.factor
        larger = np.maximum(np.asarray(rows, dtype=np.float64) / max(self.rows, 1.0), 1.0)
        found: Floats = 1 + (base - 1) * larger**self.growth
        return found

    def between(self, n: ArrayLike, m: ArrayLike, *, top: bool = False) -> Floats:
        """Return the factor of a difference between a reference of n rows, many blocks, and a window of m."""
        n, m = np.asarray(n, dtype=np.float64), np.asarray(m, dtype=np.float64)
        base = self.top if top else self.factor
        found: Floats = (base / n + self.at(m, top=top) / m) / (1 / n + 1 / m)
        return found

    def chi_square(self, statistic: ArrayLike, freedom: ArrayLike, factor: ArrayLike) -> Floats:
        """Return the p-value of Pearson's statistic, given the factor of the two samples.

        Divided by the factor it is taken as F distributed, with as many degrees of freedom as directions
        would make up the whole variance if all varied like the most varying one, and with those of one
        direction's variance over the blocks. Rao & Scott's second order with Thomas & Rao's F correction
        holds at a level of 0.05; at 1e-4, that of one among a hundred tests, it rejects several times as
        often as it says, and this does not.
        """
        freedom = np.asarray(freedom, dtype=np.float64)
        if self.independent:
            return np.asarray(special.chdtrc(freedom, np.asarray(statistic)), dtype=np.float64)
        real = np.maximum(freedom / self.spread, 1.0)
        ratio = np.asarray(statistic) / (np.asarray(factor) * np.maximum(freedom, 1.0))
        return np.asarray(special.fdtrc(real, self.dof, ratio), dtype=np.float64)

    def normal(self, z: ArrayLike) -> Floats:
        """Return the one-sided chance of a deviation beyond z, counted in estimated standard deviations."""
        if self.independent:
            return np.asarray(special.ndtr(-np.asarray(z)), dtype=np.float64)
        return np.asarray(special.stdtr(self.dof, -np.asarray(z)), dtype=np.float64)

    def to_plain(self) -> dict[str, float]:
        """Return the dispersion as JSON values; no `dof` where it is infinite."""
        plain = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in plain.items() if math.isfinite(value)}

    @classmethod
    def from_plain(cls, raw: dict[str, Any]) -> Dispersion:  # Any: JSON values
        """Return the dispersion written by `to_plain`.

        Raises:
            ValueError: when it is something else.
        """
        values = {"dof": math.inf, **raw}
        if set(values) != {field.name for field in fields(cls)} or not all(
            isinstance(value, int | float) and value >= 0 for value in values.values()
        ):
            raise ValueError("not a dispersion")
        if values["factor"] < 1 or values["spread"] < 1 or values["top"] < 1 or values["dof"] <= 0:
            raise ValueError("a dispersion below that of independent rows")
        return cls(**values)


INDEPENDENT = Dispersion(1.0, math.inf, 0)
