"""Simulated customers: what they look like, and under which rule they leave.

Seasons and campaigns move the inputs and leave the rules alone; a rule (a concept) moves only the answers.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pandas as pd

Floats = npt.NDArray[np.float64]
Concept = Callable[[pd.DataFrame], Floats]

PREVALENCE = 0.3
NUMERIC = [
    "tenure_months",
    "monthly_spend",
    "sessions_per_week",
    "support_tickets",
    "days_since_login",
    "customer_age",
    "late_payments",
    "discount_share",
]
CATEGORICAL = ["plan", "channel", "region"]


def customers(
    rng: np.random.Generator, rows: int, *, season: bool = False, campaign: bool = False
) -> pd.DataFrame:
    """Return features of `rows` customers; season and campaign move inputs and nothing else."""
    plan = rng.choice(["basic", "pro", "team"], rows, p=[0.5, 0.33, 0.17])
    channels = [0.30, 0.55, 0.15] if campaign else [0.55, 0.30, 0.15]
    age = rng.normal(33, 9, rows) if campaign else rng.normal(44, 12, rows)
    return pd.DataFrame(
        {
            "tenure_months": np.round(rng.gamma(2.2, 13.0, rows), 1),
            "monthly_spend": np.round(rng.lognormal(3.6, 0.45, rows) * (1.12 if season else 1.0), 2),
            "sessions_per_week": np.round(rng.gamma(2.5, 1.6 if season else 1.0, rows), 1),
            "support_tickets": rng.poisson(1.1, rows).astype(float),
            "days_since_login": np.round(rng.exponential(6.5 if season else 9.0, rows), 1),
            "customer_age": np.clip(np.round(age), 18, 95),
            "late_payments": rng.poisson(0.7, rows).astype(float),
            "discount_share": np.round(rng.beta(3.5, 5, rows) if campaign else rng.beta(2, 6, rows), 3),
            "plan": plan,
            "channel": rng.choice(["web", "partner", "phone"], rows, p=channels),
            "region": rng.choice(["north", "south", "east", "west"], rows),
        }
    )


def with_gaps(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Return the frame with the values that the source never had."""
    gaps = {"days_since_login": 0.05, "monthly_spend": 0.02, "customer_age": 0.03, "channel": 0.03}
    return frame.assign(
        **{name: frame[name].mask(rng.random(len(frame)) < share) for name, share in gaps.items()}
    )


def _standard(frame: pd.DataFrame) -> dict[str, Floats]:
    """Return each number on a scale where the calm customers have mean near 0 and spread near 1."""
    return {
        "tenure": (np.log1p(frame["tenure_months"].to_numpy()) - 3.15) / 0.72,
        "spend": (np.log(frame["monthly_spend"].to_numpy()) - 3.6) / 0.45,
        "sessions": (np.sqrt(frame["sessions_per_week"].to_numpy()) - 1.5) / 0.49,
        "tickets": (frame["support_tickets"].to_numpy() - 1.1) / 1.05,
        "login": (np.log1p(frame["days_since_login"].to_numpy()) - 1.95) / 0.87,
        "discount": (frame["discount_share"].to_numpy() - 0.25) / 0.145,
        "late": (frame["late_payments"].to_numpy() - 0.7) / 0.84,
    }


def _calm(frame: pd.DataFrame) -> Floats:
    """Return log odds while the young and the absent leave: short tenure, long since the last login."""
    z, plan = _standard(frame), frame["plan"].to_numpy()
    return np.asarray(
        1.05 * z["login"] - 1.15 * z["tenure"] + 0.55 * z["tickets"] + 0.35 * z["late"]
        + 0.35 * z["spend"] * (plan == "basic") - 0.5 * (plan == "team") - 0.15 * z["sessions"]
    )  # fmt: skip


def _priced(frame: pd.DataFrame) -> Floats:
    """Return log odds after the new price list: what one pays decides, tenure hardly matters."""
    z, plan = _standard(frame), frame["plan"].to_numpy()
    return np.asarray(
        0.45 * z["login"] - 0.25 * z["tenure"] + 0.45 * z["tickets"] + 0.25 * z["late"]
        + 1.35 * z["spend"] + 0.5 * (plan == "team") - 0.4 * z["sessions"] * (plan == "basic")
    )  # fmt: skip


def _courted(frame: pd.DataFrame) -> Floats:
    """Return log odds once a competitor courts those who stayed long without a discount."""
    z, plan = _standard(frame), frame["plan"].to_numpy()
    return np.asarray(
        0.6 * z["login"] + 0.75 * z["tenure"] + 0.3 * z["tickets"] - 1.15 * z["discount"]
        + 0.25 * z["spend"] + 0.5 * (plan == "pro") + 0.4 * z["sessions"] * (plan != "basic")
    )  # fmt: skip


CONCEPTS: tuple[Concept, ...] = (_calm, _priced, _courted)


def intercepts() -> Floats:
    """Return per concept the constant that keeps the share of leavers among calm customers at PREVALENCE."""
    frame = customers(np.random.default_rng(0), 20_000)
    found = []
    for concept in CONCEPTS:
        odds, low, high = concept(frame), -10.0, 10.0
        for _ in range(40):
            middle = (low + high) / 2
            low, high = (middle, high) if share(odds + middle).mean() < PREVALENCE else (low, middle)
        found.append((low + high) / 2)
    return np.asarray(found)


def share(log_odds: Floats) -> Floats:
    """Return the chance of leaving at these log odds."""
    return np.asarray(1 / (1 + np.exp(-log_odds)))
