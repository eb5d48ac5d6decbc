"""Whether a version may serve: its files as registered, loaded, its golden rows answered as before."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tasks.core.model.bundle import plain
from tasks.core.policy.served import SERVING
from tasks.settings import Settings
from tasks.store import ledger, registry
from tasks.store.engine import open_store
from tasks.store.models import own_types
from tasks.store.version import Version, spec_in


def probe(version: Version, place: Settings, also: Iterable[str] = ()) -> dict[str, Any]:  # Any: JSON
    """Return what the ledger keeps of a version that was downloaded, verified, loaded and re-scored.

    A version that served before under this very digest may hold the classes that its own spec names: that
    spec is ours then.

    Raises:
        RegistryError: when a file is missing or damaged, holds a type that is not allowed, or the model
            answers its golden rows otherwise than when it was evaluated.
    """
    vouched = served_digest(version.name, version.number, place) == version.digest
    with registry.downloaded(version, settings=place) as (folder, manifest):
        ours = own_types(spec_in(folder)) if vouched else ()
        registry.load_checked(folder, manifest, also={*also, *ours})
        return {
            "digest": version.digest,
            "run_id": version.run_id,
            "snapshot": manifest.snapshot.get("sha256"),
            "commit": manifest.code.get("commit"),
            "dirty": manifest.code.get("dirty"),
            "train_window": str(manifest.train_window),
            "promise": plain(manifest.promise),
            "gate": dict(manifest.gate),
        }


def served_digest(name: str, number: int, place: Settings) -> str | None:
    """Return the digest under which this version served last; None when it never served."""
    rows = ledger.history(open_store(place), name)
    served = [row for row in rows if row.action in SERVING and row.to_version == number]
    return (str(served[-1].evidence.get("digest") or "") or None) if served else None
