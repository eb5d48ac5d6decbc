"""New trusted rows in place of the old ones: a person's act, on record."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.states import State

from tasks.anchor import fix_anchor
from tasks.core.errors import PromotionRefused
from tasks.core.model.bundle import MODEL, ChampionRef
from tasks.core.policy.approval import check_signed
from tasks.core.results import AnchorRef
from tasks.core.spec import ModelSpec
from tasks.core.window import utc
from tasks.run_state import completed
from tasks.settings import Settings
from tasks.store import registry
from tasks.store.models import load_model, own_types
from tasks.store.unseen import as_trained
from tasks.store.version import Version


@task(retries=1, retry_delay_seconds=2, timeout_seconds=600, cache_policy=NO_CACHE)
def renew_anchor(
    spec: ModelSpec,
    version: int | None,
    *,
    actor: str,
    reason: str,
    as_of: datetime,
    settings: Settings | None = None,
) -> AnchorRef:
    """Return the anchor fixed anew from rows that this version has not learnt from, by default the champion.

    For when the world has really changed, or the features have: the former rows stay on record. The version
    may be any registered one, also one that waits or was refused. Rows that the champion has learnt from
    since are left out.

    Raises:
        SpecError: when actor or reason is empty, or the spec wants no anchor.
        PromotionRefused: when there is no version to take them from, or its unseen rows make no anchor.
        RegistryError: when the version or its rows cannot be had whole, or nothing answers.
    """
    check_signed(actor, reason, model=spec.name)
    place = settings or Settings()
    serving = registry.find_champion(spec.name, settings=place)
    found = registry.find_version(spec.name, version, settings=place) if version else serving
    if found is None or spec.gate.anchor.rows == 0:
        what = "no champion" if found is None else "gate.anchor.rows: 0"
        raise PromotionRefused(what, "a version whose unseen rows can be frozen", model=spec.name)
    also = own_types(spec)
    with registry.downloaded(found, settings=place) as (folder, manifest):
        load_model(folder / MODEL, sha256=manifest.files[MODEL], also=also)
        scratch = place.work_dir(f"anchor-{spec.name}-{found.number}")
        try:
            trained = as_trained(spec, manifest, folder, scratch, place)
        except KeyError as err:  # renamed since
            raise PromotionRefused(
                f"rows of version {found.number} without column {err}",
                "rows with the time and the label that the spec names",
                "name a version trained by this spec (--version N)",
                model=spec.name,
            ) from err
        made: AnchorRef | None = fix_anchor.fn(
            spec,
            trained,
            version=found.number,
            actor=actor,
            reason=reason,
            as_of=as_of,
            champion=_other(serving, found, place),
            renew=True,
            settings=place,
        )
    if made is None or made.fixed_by_version != found.number:
        raise PromotionRefused("another renewal at the same moment", "one at a time", "look", model=spec.name)
    return made


def _other(serving: Version | None, found: Version, place: Settings) -> ChampionRef | None:
    """Return up to when the champion has learnt; None where the version is the champion, or there is none."""
    if serving is None or serving.number == found.number:
        return None
    with registry.downloaded(serving, settings=place) as (_, manifest):
        return ChampionRef("", serving.number, utc(manifest.cut))


def renewed(spec: ModelSpec, anchor: AnchorRef) -> State[Any]:
    """Return a completed state that says which rows are trusted from now on."""
    message = f"{spec.name}: {anchor.rows} rows that version {anchor.fixed_by_version} has not learnt from"
    return completed("Anchor renewed", message, anchor)
