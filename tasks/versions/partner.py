"""The one way a second version comes to answer beside the champion, or leaves: checked first, done once.

The only thing written is one row of the ledger, so a process that dies leaves all of it or nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.core.errors import PromotionRefused, RegistryError
from tasks.core.model.bundle import GOLDEN
from tasks.core.model.golden import has_probabilities
from tasks.core.model.second_opinion import Answering, why_no_mean
from tasks.core.policy.partners import MOVES, PARTNERED, pair_after, pair_text, why_not_partner
from tasks.core.spec import ModelSpec
from tasks.log import task_logger
from tasks.settings import Settings
from tasks.store import catalog, leases, ledger, lifecycle, moves, registry
from tasks.store.agreed import as_it_served, copy_as_served, serving_pair_now
from tasks.store.engine import open_store
from tasks.store.ledger import LedgerRow
from tasks.store.locks import model_lock
from tasks.store.models import own_types
from tasks.store.version import spec_in
from tasks.versions.move import again_unless_refused
from tasks.versions.probe import probe


def set_partner(
    spec: ModelSpec,
    partner: int | None,
    *,
    champion: int,
    actor: str,
    reason: str,
    decision_id: str,
    as_of: datetime,
    note: Mapping[str, Any] | None = None,  # Any: JSON
    settings: Settings | None = None,
) -> LedgerRow:
    """Return the ledger's row after which this version answers beside the champion, or none does.

    The partner is downloaded, checked, loaded and re-scored first, as a version that shall serve. The same
    decision counts at most once. Where the partner stands there already nothing is done, and the row that put
    it there is returned.

    Args:
        spec: the model.
        partner: a former champion that shall have half the vote; None: the champion alone.
        champion: the version that served when it was decided.
        actor: who decided: the rule's name, or a person.
        reason: why; kept in the ledger.
        decision_id: identity of the decision; one outcome per id.
        as_of: when it counts as done.
        note: what the ledger keeps besides, of the decision.
        settings: this place.

    Raises:
        PromotionRefused: when another version serves than `champion`, or this partner may not stand beside
            it: it never served, was rolled back from or rejected, or their answers have no mean.
        RegistryError: when the partner cannot be believed (`NotServable`: it does not load or answer as it
            did), the decision ended otherwise before, or registry or ledger do not answer.
    """
    place, name = settings or Settings(), spec.name
    with model_lock(moves.lease_of(name), place):
        moves.finish_pending(name, settings=place)
        engine = open_store(place)
        standing = _standing(ledger.history(engine, name), partner, champion, decision_id, model=name)
        if standing is not None:
            if standing.decision_id == decision_id:  # its run may have died before it gave the lease back
                with leases.held(engine, moves.lease_of(name)):
                    return standing
            return standing
        _refuse_another_champion(name, champion, place)
        evidence = {**(note or {}), **(_tried(spec, partner, champion, place) if partner is not None else {})}
        with leases.held(engine, moves.lease_of(name)) as fence:
            _refuse_another_champion(name, champion, place)
            row = ledger.record(
                engine,
                model=name,
                decision_id=decision_id,
                action="partnered",
                from_version=champion,
                to_version=champion,
                partner=partner,
                actor=actor,
                reason=moves.short(reason),
                evidence=evidence,
                at=as_of,
                fence=fence,
                lock=lifecycle.lock_of(name),
            )
    task_logger(__name__).info(
        "%s: %s answers from here on, by %s", name, pair_text(champion, partner), actor
    )
    return row


set_second_opinion = task(
    name="set_second_opinion",
    retries=2,
    retry_delay_seconds=2,
    retry_condition_fn=again_unless_refused,
    timeout_seconds=600,
    cache_policy=NO_CACHE,
)(set_partner)
"""`set_partner` as a step of a flow."""


def try_partner(
    spec: ModelSpec, partner: int, *, champion: int, settings: Settings
) -> dict[str, Any]:  # Any: JSON
    """Return what the ledger would keep of this partner, after the checks of `set_partner`; nothing is moved.

    Raises:
        PromotionRefused, RegistryError: see `set_partner`.
    """
    return _tried(spec, partner, champion, settings)


def _standing(
    rows: list[LedgerRow], partner: int | None, champion: int, decision_id: str, *, model: str
) -> LedgerRow | None:
    """Return the row that made what is asked for so, if one did."""
    done = next((row for row in rows if row.decision_id == decision_id), None)
    if done is not None:
        if (done.action, done.to_version, done.partner) == (PARTNERED, champion, partner):
            return done
        raise RegistryError(
            f"decision {decision_id} already in the ledger as {done.action} "
            f"{pair_text(done.to_version, done.partner)}",
            "one outcome per decision",
            "use a new decision id for a new outcome",
            model=model,
        )
    pair = pair_after(rows)
    if (pair.champion, pair.partner) != (champion, partner):
        return None
    return next(row for row in reversed(rows) if row.action in MOVES)


def _refuse_another_champion(name: str, champion: int, place: Settings) -> None:
    told, serving = serving_pair_now(open_store(place), name), registry.find_champion(name, settings=place)
    number = serving.number if serving else None
    if told.champion == number == champion:
        return
    raise PromotionRefused(
        f"version {number or 'none'} serving, version {told.champion or 'none'} in the ledger",
        f"version {champion}, which the decision was about",
        "decide again about the version that serves now",
        model=name,
    )


def _tried(spec: ModelSpec, partner: int, champion: int, place: Settings) -> dict[str, Any]:  # Any: JSON
    """Return what the ledger keeps of a partner that may stand beside the champion and answers as it did."""
    name, engine = spec.name, open_store(place)
    fault = why_not_partner(ledger.history(engine, name), partner) if partner != champion else "the champion"
    if fault:
        raise _refused(name, fault, "a former champion that nobody rolled back from or rejected")
    version = as_it_served(name, partner, place)
    if not catalog.is_held(engine, version):
        raise RegistryError(
            f"version {partner} with files of digest {version.digest[:12]}…, which the store does not hold",
            "files that this project registered",
            "find out who wrote them to MLflow; choose another partner",
            model=name,
        )
    seen = probe(version, place, own_types(spec), limit_ms=spec.gate.max_latency_ms)
    fault = why_no_mean(_answering(spec, champion, place), _answering(spec, partner, place))
    if fault:
        raise _refused(
            name, f"version {partner} with {fault}", "answers that have a mean with the champion's"
        )
    return {"partner": seen}


def _answering(spec: ModelSpec, number: int, place: Settings) -> Answering:
    copy = copy_as_served(spec.name, number, place, own_types(spec))
    folder = Path(copy.path)
    features = spec_in(folder).features
    golden = pd.read_parquet(folder / GOLDEN)
    return Answering(
        frozenset(features.numeric), frozenset(features.categorical), copy.classes, has_probabilities(golden)
    )


def _refused(model: str, found: str, expected: str) -> PromotionRefused:
    return PromotionRefused(found, expected, "choose another partner, or none", model=model)
