"""A registered version, and a local copy of one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from tasks.core.model.bundle import MODEL, REFERENCE, SPEC, ChampionRef, Manifest, Promise
from tasks.core.spec import ModelSpec


@dataclass(frozen=True)
class Version:
    """A registered version: `digest` is the sha256 of its manifest, `source` where its files lie."""

    name: str
    number: int
    run_id: str
    source: str
    digest: str


@dataclass(frozen=True)
class PartnerInfo:
    """The version that answers beside the champion, with a local copy that was checked as the champion's."""

    version: int
    path: str
    manifest: Manifest

    @property
    def model_path(self) -> str:
        """The model file, to be read with `tasks.store.models.load_model`."""
        return str(Path(self.path) / MODEL)

    @property
    def spec(self) -> ModelSpec:
        """The spec this version was trained under."""
        return spec_in(Path(self.path))

    @property
    def classes(self) -> tuple[Any, ...] | None:  # Any: labels may be text, whole numbers or booleans
        """The labels in the order of the probabilities, the champion's too; None for a regressor."""
        return self.manifest.classes


@dataclass(frozen=True)
class ChampionInfo:
    """The version that serves, with a local copy (folder `path`) whose every file matches its digest.

    `partner` has half the vote; None where the champion answers alone. `partner_trouble` says why it does
    although the ledger names a partner: that one cannot be had.
    """

    version: int
    path: str
    manifest: Manifest
    partner: PartnerInfo | None = None
    partner_trouble: str = ""

    @property
    def model_path(self) -> str:
        """The model file, to be read with `tasks.store.models.load_model`."""
        return str(Path(self.path) / MODEL)

    @property
    def reference_path(self) -> str:
        """The reference profile, as JSON."""
        return str(Path(self.path) / REFERENCE)

    @property
    def spec(self) -> ModelSpec:
        """The spec this version was trained under."""
        return spec_in(Path(self.path))

    @property
    def promise(self) -> Promise:
        """The score it was promoted on."""
        return self.manifest.promise

    @property
    def classes(self) -> tuple[Any, ...] | None:  # Any: labels may be text, whole numbers or booleans
        """The labels in the order of the probabilities; None for a regressor."""
        return self.manifest.classes

    @property
    def ref(self) -> ChampionRef:
        """What a comparison needs of it."""
        return ChampionRef(self.model_path, self.version, self.train_end)

    @property
    def train_end(self) -> datetime:
        """Every row the model was fitted on is older than this."""
        return self.manifest.cut


def spec_in(folder: Path) -> ModelSpec:
    """Return the spec that the bundle in this folder was trained under."""
    return ModelSpec.model_validate_json((folder / SPEC).read_text("utf-8"))
