"""Backtests made up for tests: scores of which the truth is known."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import numpy as np

from tasks.core.replay.backtest_result import Backtest, PolicyResult

START = datetime(2025, 1, 6, tzinfo=UTC)
# Mean score and retrainings: on a line from never to every window, 0.02 above it, and below it.
LEVELS: Mapping[str, tuple[float, int]] = {
    "never": (0.70, 0),
    "every 4 windows": (0.74, 20),
    "every window": (0.80, 80),
    "on decay": (0.71, 30),
    "loop": (0.75, 15),
    "loop without second opinion": (0.73, 15),
}


def made_backtest(
    levels: Mapping[str, tuple[float, int]] = LEVELS,
    *,
    windows: int = 84,
    noise: float = 0.01,
    seed: int = 0,
    metric: str = "accuracy",
) -> Backtest:
    """Return policies of exactly these mean scores; each window has common luck and luck of the policy."""
    rng = np.random.default_rng(seed)
    common = rng.normal(0, 3 * noise, windows)
    policies = []
    for name, (level, retrainings) in levels.items():
        luck = common + rng.normal(0, noise, windows)
        scores = tuple((level + luck - luck.mean()).tolist())
        step = max(1, windows // (retrainings + 1))
        versions = tuple(min(1 + place // step, retrainings + 1) for place in range(windows))
        is_loop = name.startswith("loop")
        policies.append(
            PolicyResult(
                name,
                level,
                retrainings,
                0.5 * (retrainings + 1),
                scores,
                promotions=retrainings,
                fits=retrainings + 1,
                versions=versions,
                partners=tuple(1 if is_loop and place % 20 == 19 else None for place in range(windows)),
                debts=tuple(0.1 * (place % step) for place in range(windows)) if is_loop else (),
            )
        )
    curve = tuple((age, 1 + 0.02 * age, 40 - age) for age in range(12))
    starts = tuple(START + timedelta(days=7 * place) for place in range(windows))
    return Backtest("churn", metric, windows, tuple(policies), curve, starts)
