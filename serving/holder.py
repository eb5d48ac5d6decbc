"""The version that answers: taken whole from the registry, swapped in one step, never replaced by a worse."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving.request import RowChecker
from tasks.core.errors import WorkflowError
from tasks.core.model.bundle import Manifest
from tasks.core.spec import ModelSpec
from tasks.settings import Settings
from tasks.store import registry
from tasks.store.agreed import agreed_champion, serving_now
from tasks.store.engine import open_store
from tasks.store.models import own_types
from tasks.store.version import spec_in

_LOOK_AT_REGISTRY_SECONDS = 30.0
"""The ledger is asked on every look, the registry too at least this often: our choice, it costs 30 ms."""


@dataclass(frozen=True)
class Served:
    """One version, loaded: everything an answer needs, so that a swap is one assignment."""

    name: str
    version: int
    digest: str
    model: Any  # Any: a fitted scikit-learn pipeline
    spec: ModelSpec
    manifest: Manifest
    checker: RowChecker

    @property
    def classes(self) -> tuple[Any, ...] | None:  # Any: labels may be text, whole numbers or booleans
        """The labels in the order of the probabilities; None for a regressor."""
        return self.manifest.classes


class Holder:
    """Holds the champion of one model; `current` may be read from any thread at any time.

    Whatever goes wrong in `refresh`, the version that answered before goes on answering, and `trouble` says
    what is wrong.
    """

    def __init__(self, name: str, settings: Settings):
        self.name = name
        self.current: Served | None = None
        self.trouble = "not looked yet"
        self.swaps = 0
        self._settings = settings
        self._looked = -_LOOK_AT_REGISTRY_SECONDS
        self._lock = threading.Lock()

    def refresh(self) -> bool:
        """Return whether another version answers now; safe to call from several threads."""
        with self._lock:
            try:
                return self._refresh()
            except WorkflowError as err:
                self.trouble = str(err)
            except Exception as err:  # a look must never end the app: the last good one serves on
                self.trouble = f"looking up the champion: {type(err).__name__}"
            return False

    def _refresh(self) -> bool:
        held, now = self.current, time.monotonic()
        is_due = now - self._looked >= _LOOK_AT_REGISTRY_SECONDS or bool(self.trouble)
        if held and not is_due and self._says_ledger() == held.version:
            return False
        found = agreed_champion(self.name, self._settings)
        self._looked = now
        if found is None:
            self.trouble = "no champion yet: run the retrain flow"
            return False
        if held and (held.version, held.digest) == (found.number, found.digest):
            self.trouble = ""
            return False
        # The ledger names this digest, so the bundle's spec is ours, and so are the classes it names.
        copy = registry.local_copy(found, settings=self._settings, vouched=found.digest)
        spec = spec_in(Path(copy.path))
        model = registry.load_checked(Path(copy.path), copy.manifest, also=own_types(spec))
        self.current = Served(
            self.name, found.number, found.digest, model, spec, copy.manifest, RowChecker(spec)
        )
        self.trouble, self.swaps = "", self.swaps + 1
        return True

    def _says_ledger(self) -> int | None:
        return serving_now(open_store(self._settings), self.name)
