"""One retraining with all its state in a folder, to be run in processes that may die."""

from __future__ import annotations

import multiprocessing
import os
import signal
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import flows.retrain
from tasks.core.spec import ModelSpec
from tasks.settings import Settings
from tasks.store.models import skops_io
from tasks.store.registry import find_champion
from tests.loop.plainly import plainly
from tests.make import START

skops_io()  # once, in the process that the children are forked from
AS_OF = START + timedelta(days=30)


def clean_processes() -> Any:  # Any: the context of multiprocessing, whose stub has no preload
    """Return what starts processes that know nothing of this one, whose tests may have left threads."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.faults.retraining", "mlflow.sklearn"])
    return context


def in_child(work: Any, *args: Any) -> int:
    """Run in a process of its own, so that a kill is real; return its exit code (negative: the signal)."""
    child = clean_processes().Process(target=work, args=args)
    child.start()
    child.join(300)
    assert child.exitcode is not None
    return child.exitcode


def retrain_in(folder: Path, spec: ModelSpec, die_after: str | None) -> None:
    """Retrain with all state in `folder`; die by SIGKILL right after the named step."""
    with pytest.MonkeyPatch.context() as patch:
        plainly(patch)
        patch.setenv("EVERGREEN_STATE_DIR", str(folder / "state"))
        patch.setenv("EVERGREEN_THREADS", "1")
        patch.setenv("EVERGREEN_PROBE", "here")
        if die_after:
            step = getattr(flows.retrain, die_after)

            def dying(*args: Any, **kwargs: Any) -> Any:
                step(*args, **kwargs)
                os.kill(os.getpid(), signal.SIGKILL)

            patch.setattr(flows.retrain, die_after, dying)
        flows.retrain.retrain(spec, as_of=AS_OF, reason="test", decision_id="train-decay-0001")


def registered(folder: Path) -> None:
    """Let the registry be made by its first look-up."""
    assert find_champion("churn", settings=Settings(state_dir=folder / "state")) is None
