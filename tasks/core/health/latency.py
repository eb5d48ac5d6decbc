"""How long answers took: percentiles of what was measured, exact or from counts per bucket."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

PERCENTILES = (50, 95, 99)
WIDTH = 2**0.25 * 1.001
"""Upper edge over lower edge of a bucket of our app, and what its text is rounded by (serving/traffic.py)."""


@dataclass(frozen=True)
class Latency:
    """How long the answers of one version took, in milliseconds; None where it was not measured.

    `requests` is what the numbers rest on, `slow` how many took longer than the limit (0 without one),
    `exact` whether each request was looked at, not a count per bucket.
    """

    requests: int
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    slow: int = 0
    exact: bool = True


NOT_MEASURED = Latency(0, None, None, None)


def from_buckets(buckets: Mapping[str, int], limit_ms: float | None = None) -> Latency:
    """Return the latency that requests per bucket tell, by the bucket's upper edge in ms as text.

    A percentile is the upper edge of its bucket, so never too small, and at most a bucket too large; of the
    open bucket no more is known than that it lies beyond all others, which is what is returned. Only buckets
    that lie wholly beyond the limit, if they are no wider than those of our app, count as slow.

    Example:
        >>> from_buckets({"10": 95, "20": 5}).p99_ms
        20.0
    """
    edges = merged([buckets])
    total = sum(edges.values())
    if not total:
        return NOT_MEASURED
    p50, p95, p99 = (_quantile(edges, total * percent) for percent in PERCENTILES)
    beyond = math.inf if limit_ms is None else limit_ms * WIDTH
    return Latency(total, p50, p95, p99, sum(n for edge, n in edges.items() if edge >= beyond), exact=False)


def merged(parts: Iterable[Mapping[str, int]]) -> dict[float, int]:
    """Return the sum of counts per bucket, by upper edge, lowest first; what is no edge is left out."""
    found: dict[float, int] = {}
    for part in parts:
        for text, requests in part.items():
            edge = _edge(text)
            if edge is not None and requests > 0:
                found[edge] = found.get(edge, 0) + int(requests)
    return dict(sorted(found.items()))


def interpolated(ranks: Mapping[int, float], count: int) -> list[float | None]:
    """Return the percentiles of `count` sorted values, of which those at the needed ranks (from 1) are given.

    Linear between neighbours, as numpy.percentile by default; see `ranks_needed`.

    Example:
        >>> interpolated({1: 10.0, 2: 20.0}, 2)
        [15.0, 19.5, 19.9]
    """
    if not count:
        return [None] * len(PERCENTILES)
    found: list[float | None] = []
    for percent in PERCENTILES:
        place, rest = divmod(percent * (count - 1), 100)
        low = ranks[place + 1]
        high = ranks[min(place + 2, count)]
        found.append(low + (high - low) * rest / 100)
    return found


def ranks_needed(count: int) -> Sequence[int]:
    """Return the ranks, from 1, of the sorted values that `interpolated` wants."""
    places = {percent * (count - 1) // 100 + 1 for percent in PERCENTILES}
    return sorted({min(rank, count) for place in places for rank in (place, place + 1)})


def _edge(text: str) -> float | None:
    try:
        edge = float(text)
    except ValueError:
        return math.inf if "inf" in text.lower() else None
    return None if math.isnan(edge) else edge


def _quantile(edges: Mapping[float, int], hundredths: int) -> float:
    """Return the lowest edge below which so many hundredths of a request lie, or the highest finite one."""
    below, highest = 0, 0.0
    for edge, requests in edges.items():
        highest = edge if math.isfinite(edge) else highest
        below += requests
        if 100 * below >= hundredths:
            break
    return highest
