"""Backtest: the same history through the pure rules only, under several retraining policies."""

from __future__ import annotations

from prefect import flow

from tasks.backtest import run_backtest
from tasks.cli import run_flow
from tasks.clock import now_or
from tasks.core.replay.backtest_result import Backtest
from tasks.core.spec import ModelSpec
from tasks.fetch import fetch_window, time_range
from tasks.replay.show import show_backtest
from tasks.reports import publish_backtest
from tasks.settings import result_folder
from tasks.validate import validate


@flow(name="backtest", flow_run_name="{spec.name}: backtest", persist_result=False)
def backtest(spec: ModelSpec, first: str = "", policies: str = "", out: str = "") -> Backtest:
    """Compare what retraining policies would have held, and how many retrainings each would have spent.

    Args:
        spec: The model, as written under `definitions.models`.
        first: Length of the first stretch, which trains the first model; default: the training window.
        policies: Comma-separated, of never, every window, every K windows, on decay, loop; default: all.
        out: Folder of backtest.html and backtest.json; default: backtest/<model> in the state folder.
    """
    whole = time_range(spec)
    checked = validate(spec, fetch_window(spec, whole, now_or(None)), attempt="backtest")
    result = run_backtest(spec, checked.dataset, first=first, policies=policies)
    folder = result_folder(spec.name, "backtest", out)
    publish_backtest(result, folder)
    show_backtest(result, folder)
    return result


if __name__ == "__main__":
    raise SystemExit(run_flow(backtest, quiet=True))
