"""The stage of a replay: its own state, its windows, an upstream that publishes as time goes by."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal

from tasks.core.errors import SpecError
from tasks.core.replay.simulate import Arrival, DemoYear, Phase, demo_year
from tasks.core.spec import ModelSpec
from tasks.core.window import Window, parse_duration
from tasks.settings import Settings

Simulation = Literal["none", "year"]
_MARK = "replay.stage"


@dataclass
class Stage:
    """Where a replay happens: the windows to serve, when the first model is trained, where state lies."""

    folder: Path
    begin: datetime
    windows: list[Window]
    year: DemoYear | None = None
    inbox: Path | None = None
    _waiting: list[Arrival] = field(default_factory=list)

    def publish(self, until: datetime) -> int:
        """Let upstream write every file that is due by `until`; return how many were written."""
        due = [arrival for arrival in self._waiting if arrival.at <= until]
        self._waiting = [arrival for arrival in self._waiting if arrival.at > until]
        for arrival in due:
            inbox = self.inbox or self.folder
            if arrival.replaces:
                (inbox / arrival.replaces).unlink(missing_ok=True)
            part = inbox / f".{arrival.name}.part"
            arrival.frame.to_parquet(part, index=False)
            part.replace(inbox / arrival.name)
        return len(due)

    def planted(self, window: Window) -> list[Phase]:
        """Return what the simulation planted in this window; nothing for real data."""
        if self.year is None:
            return []
        return self.year.planted(self.year.windows.index(window))


def history_stage(
    spec: ModelSpec, whole: Window, folder: Path, *, first: str | None, windows: int | None
) -> Stage:
    """Return the stage for a labelled history that is all there: windows after a first stretch to train on.

    Args:
        spec: the model.
        whole: from the first to just after the last row.
        folder: state folder of the replay.
        first: length of that first stretch; default: the training window.
        windows: most windows to serve; default: all that fit.

    Raises:
        SpecError: when the history is too short for one window.
    """
    begin = whole.start + parse_duration(first or spec.window.training)
    check = parse_duration(spec.window.check)
    if begin + check > whole.end:
        raise SpecError(
            f"a history of {whole.length.days} days",
            f"more than the first {first or spec.window.training} and one window of {spec.window.check}",
            "replay a longer history or shorten window.training or --first",
            model=spec.name,
        )
    spans = list(Window(begin, whole.end).split(check))
    return Stage(folder, begin, spans[:windows])


def simulated_stage(spec: ModelSpec, folder: Path, *, seed: int, windows: int | None) -> Stage:
    """Return the stage of the simulated year, whose upstream writes into the folder of `source.url`.

    Files that an earlier simulation left there are removed.

    Raises:
        SpecError: when `source.url` is no local glob to write into.
    """
    target = Path(spec.source.url)
    if "://" in spec.source.url or "*" not in target.name or target.suffix != ".parquet":
        raise SpecError(
            f"source.url {spec.source.url!r} for a simulation",
            "a local glob such as .evergreen/demo/inbox/*.parquet",
            "use the model block 'demo'",
            model=spec.name,
        )
    inbox = target.parent
    inbox.mkdir(parents=True, exist_ok=True)
    year = demo_year(seed)
    for arrival in year.arrivals:
        (inbox / arrival.name).unlink(missing_ok=True)
    spans = list(year.windows[year.history :])
    stage = Stage(folder, spans[0].start, spans[:windows], year, inbox, list(year.arrivals))
    stage.publish(stage.begin)
    return stage


@contextmanager
def state_below(folder: Path) -> Iterator[Settings]:
    """Let every task of this process keep its state in a fresh folder, and put the old place back at the end.

    What an earlier replay left there is kept beside it as `<folder>.previous`; any other content is refused.

    Raises:
        SpecError: when the folder holds something else.
    """
    if folder.exists() and any(folder.iterdir()):
        if not (folder / _MARK).exists():
            raise SpecError(
                f"{folder.name} holds files that no replay made",
                "an empty folder or a replay's",
                "use another --out",
            )
        previous = folder.with_name(f"{folder.name}.previous")
        shutil.rmtree(previous, ignore_errors=True)
        folder.rename(previous)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _MARK).write_text("state of a replay; the next one here puts it aside as .previous\n")
    ours = {"EVERGREEN_STATE_DIR": str(folder.resolve()), "EVERGREEN_LAUNCH": "inline"}
    # A clean process for every version would double the length of a replay.
    ours["EVERGREEN_PROBE"] = os.environ.get("EVERGREEN_PROBE", "here")
    cleared = (
        "EVERGREEN_STORE",
        "EVERGREEN_MLFLOW",
        "EVERGREEN_ARTIFACTS",
        "EVERGREEN_DEPLOYER",
        "EVERGREEN_DEPLOYER_KEY",
    )
    before = {name: os.environ.get(name) for name in (*ours, *cleared)}
    os.environ.update(ours)
    for name in cleared:
        os.environ.pop(name, None)
    try:
        yield Settings()
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
