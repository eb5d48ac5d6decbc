"""Backtest: the same history through the pure rules only, under several retraining policies."""

from __future__ import annotations

from typing import Literal

from prefect import flow

from tasks.backtest import run_backtest
from tasks.cli import run_flow
from tasks.clock import now_or
from tasks.core.replay.advice import advise
from tasks.core.replay.backtest_result import Backtest
from tasks.core.spec import ModelSpec
from tasks.fetch import fetch_window, time_range
from tasks.replay.show import show_backtest
from tasks.reports import publish_backtest
from tasks.settings import result_folder
from tasks.validate import validate


@flow(name="backtest", flow_run_name="{spec.name}: backtest", persist_result=False)
def backtest(
    spec: ModelSpec,
    first: str = "",
    policies: str = "",
    out: str = "",
    asks: Literal["nobody", "everybody"] = "nobody",
    label_delay: str = "",
) -> Backtest:
    """Compare what retraining policies would have held, and advise which to follow with which settings.

    Fits are kept for a week in the state folder: a backtest that was stopped goes on where it was.

    Args:
        spec: The model, as written under `definitions.models`.
        first: Length of the first stretch, which trains the first model; default: the training window.
        policies: Comma-separated, of never, every window, every K windows, on decay, loop and its variants
            (loop without second opinion, fading, staleness, refit, gate); default: all.
        out: Folder of backtest.html and backtest.json; default: backtest/<model> in the state folder.
        asks: Who answers where the gate asks a person: nobody (the champion stays) or everybody (with yes).
        label_delay: How long after the event its label is known, for example 14d; default: label.maturity.
    """
    whole = time_range(spec)
    checked = validate(spec, fetch_window(spec, whole, now_or(None)), attempt="backtest")
    result = run_backtest(
        spec, checked.dataset, first=first, policies=policies, asks=asks, label_delay=label_delay
    )
    advice, folder = advise(result, spec), result_folder(spec.name, "backtest", out)
    publish_backtest(result, advice, folder)
    show_backtest(result, advice, folder)
    return result


if __name__ == "__main__":
    raise SystemExit(run_flow(backtest, quiet=True))
