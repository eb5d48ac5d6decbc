"""An app whose versions stand there at once: fitted here, with no registry behind them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from fastapi import FastAPI

from serving.app import create_app
from serving.holder import Served
from serving.request import RowChecker
from serving.scoring import scorer_for
from tasks.core.model.bundle import Manifest, Promise
from tasks.core.spec import ModelSpec
from tasks.settings import Settings
from tests.versions import CUT, LATER, WINDOW


def a_served(
    spec: ModelSpec, model: Any, golden: pd.DataFrame, *, version: int = 1, **over: Any
) -> Served:  # Any: a fitted pipeline; fields of Served
    """Return a fitted model as the app holds a version."""
    manifest = Manifest(
        model=spec.name, attempt=f"a{version}", created=LATER, files={}, train_window=WINDOW, cut=CUT,
        promise=Promise(spec.metric, 0.8, None, None, 60),
        classes=tuple(model.classes_.tolist()) if hasattr(model, "classes_") else None,
    )  # fmt: skip
    known: dict[str, Any] = {
        "name": spec.name, "version": version, "digest": f"{version:064d}", "model": model, "spec": spec,
        "manifest": manifest, "checker": RowChecker(spec), "scorer": scorer_for(model, spec, golden),
        "golden": golden,
    }  # fmt: skip
    return Served(**{**known, **over})


def an_app(place: Settings, served: Mapping[str, Served]) -> FastAPI:
    """Return an app that answers with these versions; its looks at the registry find nothing."""
    app = create_app(list(served), place, poll_seconds=3600)
    for name, one in served.items():
        app.state.service.holders[name].current = one
    return app
