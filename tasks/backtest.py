"""The backtest of a history on disk, with a bar that says how far it is."""

from __future__ import annotations

import hmac
import os
import pickle
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Literal

import pandas as pd
import sklearn
from prefect import task
from prefect.cache_policies import NO_CACHE
from rich.console import Console
from rich.progress import Progress
from threadpoolctl import threadpool_limits

from tasks.core.dataset import Dataset
from tasks.core.replay.backtest import POLICIES, run_policies
from tasks.core.replay.backtest_result import Backtest
from tasks.core.replay.history import Fitted
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
    if label_delay:
        parse_duration(label_delay)
    fits = FitFolder(place.work_dir(f"backtest-{spec.name}"), place.masking_key())
    names = tuple(name.strip() for name in policies.split(",") if name.strip()) or POLICIES
    console = Console(stderr=True)
    with (
        threadpool_limits(place.threads),
        Progress(console=console, transient=True, disable=not console.is_terminal) as bar,
    ):
        bars = {name: bar.add_task(name, total=None) for name in names}
        result = run_policies(
            pd.read_parquet(dataset.path),
            spec,
            first=parse_duration(first) if first else None,
            policies=names,
            threads=place.threads,
            asks=asks,
            label_delay=label_delay or None,
            fits=fits,
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


class FitFolder(MutableMapping[str, Fitted]):
    """Fits by digest, in memory and in a folder, so that a backtest that was stopped need not repeat them.

    A file begins with the HMAC-SHA256 of what follows, under the key of this place: one that is cut off, was
    made with another key or by another version of scikit-learn counts as not there, and is never unpickled.
    """

    def __init__(self, folder: Path, key: bytes):
        self._folder = folder
        self._key = key + sklearn.__version__.encode()
        self._fits: dict[str, Fitted] = {}

    def __getitem__(self, digest: str) -> Fitted:
        if digest not in self._fits:
            try:
                content = self._path(digest).read_bytes()
            except FileNotFoundError:
                raise KeyError(digest) from None
            signature, body = content[:32], content[32:]
            if not hmac.compare_digest(signature, self._sign(digest, body)):
                raise KeyError(digest)
            self._fits[digest] = pickle.loads(body)  # noqa: S301 - signed by this place
        return self._fits[digest]

    def __setitem__(self, digest: str, fitted: Fitted) -> None:
        self._fits[digest] = fitted
        body = pickle.dumps(fitted, protocol=pickle.HIGHEST_PROTOCOL)
        part = self._path(f"{digest}.{os.getpid()}.part")
        part.write_bytes(self._sign(digest, body) + body)
        part.replace(self._path(digest))

    def __delitem__(self, digest: str) -> None:
        self._fits.pop(digest, None)
        self._path(digest).unlink()

    def __iter__(self) -> Iterator[str]:
        return (path.name for path in self._folder.iterdir() if path.suffix != ".part")

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _path(self, name: str) -> Path:
        return self._folder / name

    def _sign(self, digest: str, body: bytes) -> bytes:
        return hmac.digest(self._key, digest.encode() + body, "sha256")
