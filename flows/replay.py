"""Replay: a labelled history, or a simulated year, played through the real flows as if it were live."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from prefect import flow

from flows.detect_drift import detect_drift
from flows.monitor import monitor
from flows.retrain import retrain
from flows.score import score
from tasks.board import write_board
from tasks.cli import run_flow
from tasks.core.replay.summary import Summary
from tasks.core.spec import ModelSpec
from tasks.core.spec_alerts import Alerts
from tasks.core.window import Window
from tasks.fetch import fetch_labels, time_range
from tasks.register import champion
from tasks.replay.show import Stageplay
from tasks.replay.stage import history_stage, simulated_stage, state_below
from tasks.replay.story import Story
from tasks.reports import publish_replay
from tasks.settings import result_folder


@flow(name="replay", flow_run_name="{spec.name}: replay", persist_result=False)
def replay(
    spec: ModelSpec,
    simulate: Literal["none", "year"] = "none",
    first: str = "",
    windows: int = 0,
    seed: int = 7,
    out: str = "",
) -> Summary:
    """Play a labelled history through the real flows: serve, log, label later, check, decide, retrain.

    Args:
        spec: The model, as written under `definitions.models`.
        simulate: `year` lets a simulated upstream write its files while the replay goes on.
        first: Length of the first stretch, which trains the first model; default: the training window.
        windows: Most windows to serve; 0 means all.
        seed: Seed of the simulation.
        out: Folder of the replay's state, summary and report; default: replay/<model> in the state folder.
    """
    # Nobody is to be woken by what happened long ago.
    spec = spec.model_copy(update={"alerts": Alerts()})
    folder = result_folder(spec.name, "replay", out)
    whole = None if simulate == "year" else time_range(spec)
    with state_below(folder):
        if whole is None:
            stage = simulated_stage(spec, folder, seed=seed, windows=windows or None)
        else:
            stage = history_stage(spec, whole, folder, first=first or None, windows=windows or None)
        retrain(spec, as_of=stage.begin, reason="first")
        incumbent = champion(spec.name, required=True)
        story = Story(spec, stage, incumbent.model_path)
        with Stageplay(spec, stage) as show:
            for window in stage.windows:
                stage.publish(window.end)
                incumbent = champion(spec.name, required=True)
                served = score(spec, as_of=window.end)
                watched = monitor(spec, as_of=window.end)
                drifted = detect_drift(spec, as_of=window.end)
                result = story.add(window, served, incumbent, (watched, drifted))
                show.tell(result, watched)
        stage.publish(_after(stage.windows))
        whole = Window(stage.begin, stage.windows[-1].end)
        summary = story.settle(fetch_labels(spec, whole, _after(stage.windows)))
        publish_replay(summary, folder)
        write_board(spec, as_of=_after(stage.windows))
        show.end(summary, folder)
    return summary


def _after(windows: list[Window]) -> datetime:
    return windows[-1].end + 4 * windows[-1].length


if __name__ == "__main__":
    raise SystemExit(run_flow(replay, quiet=True))
