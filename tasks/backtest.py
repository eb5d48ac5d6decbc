"""The backtest of a history on disk, with a bar that says how far it is."""

from __future__ import annotations

from typing import Literal

import pandas as pd
from prefect import task
from prefect.cache_policies import NO_CACHE
from rich.console import Console
from rich.progress import Progress
from threadpoolctl import threadpool_limits

from tasks.core.dataset import Dataset
from tasks.core.replay.backtest import POLICIES, run_policies
from tasks.core.replay.backtest_result import Backtest
from tasks.core.spec import ModelSpec
from tasks.core.window import parse_duration
from tasks.log import task_logger
from tasks.settings import Settings


@task(retries=0, timeout_seconds=12 * 3600, cache_policy=NO_CACHE)
def run_backtest(
    spec: ModelSpec,
    dataset: Dataset,
    *,
    first: str = "",
    policies: str = "",
    asks: Literal["nobody", "everybody"] = "nobody",
    label_delay: str = "",
    settings: Settings | None = None,
) -> Backtest:
    """Return what each policy held on this history, and what it cost.

    Fits are kept in a scratch folder of the state, so that a backtest that was stopped goes on from there.

    Args:
        spec: the model.
        dataset: labelled rows, one per key.
        first: length of the first stretch; default: the training window.
        policies: comma-separated names; default: all of `tasks.core.replay.backtest.POLICIES`.
        asks: who answers where the gate asks a person: nobody, or everybody with yes.
        label_delay: how long after the event its label is known; default: the spec's `label.maturity`.
        settings: this place; its `threads` bound a fit.

    Raises:
        SpecError: for an unknown policy, no duration, or a history too short to serve one window.
    """
    place = settings or Settings()
    names = tuple(name.strip() for name in policies.split(",") if name.strip()) or POLICIES
    console = Console(stderr=True)
    with (
        threadpool_limits(place.threads),
        Progress(console=console, transient=True, disable=not console.is_terminal) as bar,
    ):
        bars = {name: bar.add_task(name, total=None) for name in names}
        result = run_policies(
            pd.read_parquet(dataset.path),
            _delayed(spec, label_delay),
            first=parse_duration(first) if first else None,
            policies=names,
            threads=place.threads,
            asks=asks,
            cache=place.work_dir(f"backtest-{spec.name}"),
            progress=lambda name, done, count: bar.update(bars[name], completed=done, total=count),
        )
    for policy in result.policies:
        task_logger(__name__).info(
            "%s: %s held %s with %d retrainings",
            spec.name,
            policy.name,
            policy.mean_score,
            policy.retrainings,
        )
    return result


def _delayed(spec: ModelSpec, label_delay: str) -> ModelSpec:
    """Return the spec with its labels known so long after the event; as it is when nothing is given."""
    if not label_delay:
        return spec
    parse_duration(label_delay)
    return spec.model_copy(update={"label": spec.label.model_copy(update={"maturity": label_delay})})
