"""What the server itself watches: runs that fall silent, checks that did not happen, runs that died."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

from prefect.client.schemas.objects import StateType
from prefect.events.actions import ActionTypes, ChangeFlowRunState, DoNothing, SendNotification
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.server.schemas.schedules import CronSchedule, IntervalSchedule, RRuleSchedule

from deployments.checks import OURS
from deployments.declared import Deployment
from tasks.core.spec import ModelSpec
from tasks.messages.channels import BLOCKS

SILENT = timedelta(seconds=90)
"""How long a run may be silent: three heartbeats of 30 s (our choice: one may be lost, and one come late)."""
SLACK = timedelta(minutes=30)
"""Least time a scheduled run is given beyond its schedule, before it counts as overdue."""

_FROM = datetime(2026, 1, 5, tzinfo=UTC)  # a Monday; any moment would do, the same one keeps the answer equal
_LEAST = timedelta(days=14)  # two weekends
_TIMES = 13  # of the rarest schedule: each month once
_PAGE = 1000  # the most dates Prefect gives at once
_MOST = 25_000  # dates of one schedule, two weeks of every minute: a bound to the work
_RUNS = "prefect.flow-run.*"


@dataclass(frozen=True)
class Wanted:
    """The automations these deployments need, by name, and what a reader should know about them."""

    automations: Mapping[str, AutomationCore]
    notes: Sequence[str]


def wanted_automations(deployments: Iterable[Deployment], blocks: Mapping[str, str]) -> Wanted:
    """Return the automations that watch over these deployments.

    Args:
        deployments: as declared; each with a schedule is expected to complete a run in time.
        blocks: ids of the notification blocks on the server, by `type-slug/name`.
    """
    deployments = list(deployments)
    automations = [silent_runs()] if deployments else []
    notes = []
    for spec in {one.spec.name: one.spec for one in deployments}.values():
        tell, missing = _channels(spec, blocks)
        notes += missing
        automations.append(_died(spec, tell))
        for one in deployments:
            if one.spec.name != spec.name or one.written.get("paused"):
                continue  # a deployment declared as paused is expected to do nothing
            if gap := longest_gap(one.written.get("schedules") or ()):
                automations.append(_overdue(one, gap, tell))
    return Wanted({automation.name: automation for automation in automations}, notes)


def silent_runs(within: timedelta = SILENT) -> AutomationCore:
    """Return the automation that ends a run whose process is gone without a word.

    Any sign of life counts, because our flows end in states of their own names (`Promoted`, `Drift`). A run
    that is Crashed gives its concurrency slot back, and the next one is not held up by the dead.
    """
    life = "prefect.flow-run.heartbeat"
    return AutomationCore(
        name=f"{OURS}: silent runs are crashed",
        description=f"A run without a heartbeat for {_told(within)} has lost its process.",
        trigger=EventTrigger(
            match={"prefect.resource.id": _RUNS},
            match_related=_tagged(OURS)[0],
            after={life, "prefect.flow-run.Running", "prefect.flow-run.Cancelling"},
            expect={_RUNS},
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=within,
        ),
        actions=[
            ChangeFlowRunState(
                name="Crashed",
                state=StateType.CRASHED,
                message=f"No heartbeat for {_told(within)}: the process or its machine is gone.",
            )
        ],
    )


def overdue(one: Deployment, within: timedelta, actions: Sequence[ActionTypes]) -> AutomationCore:
    """Return the automation that acts when no run of this deployment has completed for so long.

    It counts from the newest completed run, from its own creation before there is one, and repeats as long
    as nothing completes. A run that failed or was cancelled is none.
    """
    return AutomationCore(
        name=f"{OURS}: {one.name}: {one.flow} is overdue",
        description=f"No run of {one.full_name} completed for {_told(within)}.",
        trigger=EventTrigger(
            # By the type of the state: completed runs of ours have names of their own.
            match={"prefect.resource.id": _RUNS, "prefect.state-type": "COMPLETED"},
            match_related=_tagged(OURS, f"model:{one.name}", f"flow:{one.flow}"),
            after={_RUNS},
            expect={_RUNS},
            posture=Posture.Proactive,
            threshold=1,
            within=within,
        ),
        actions=list(actions),
    )


def longest_gap(schedules: Collection[Mapping[str, Any]]) -> timedelta | None:
    """Return the longest time between two scheduled runs, or None without a schedule that is on.

    Every schedule is followed to the same day, at least two weeks on and until the rarest has come 13 times:
    one that is followed less far than another would seem to stop, and one followed for less than a week has
    no weekend.

    Example:
        >>> str(longest_gap([{"cron": "0 3 * * 1-5", "timezone": "UTC"}]))
        '3 days, 0:00:00'
    """
    on = [_schedule(schedule) for schedule in schedules if schedule.get("active") is not False]
    first = [asyncio.run(schedule.get_dates(_TIMES, _FROM)) for schedule in on]
    until = max([_FROM + _LEAST, *(dates[-1] for dates in first if dates)])
    followed = [_dates(schedule, until) for schedule in on]
    # Where one is too many dates to follow all the way, all are followed as far as that one.
    cut = min([until, *(dates[-1] for dates in followed if len(dates) >= _MOST)])
    times = {date for dates in followed for date in dates if date <= cut}
    gaps = [after - before for before, after in pairwise(sorted(times))]
    return max(gaps) if gaps else None


def channel_slug(channel: str) -> str:
    """Return a channel as the server knows its block.

    Example:
        >>> channel_slug("slack/ml")
        'slack-webhook/ml'
    """
    kind, _, name = channel.partition("/")
    return f"{BLOCKS.get(kind, kind)}/{name}"


def _overdue(one: Deployment, gap: timedelta, tell: Sequence[str]) -> AutomationCore:
    within = gap + max(gap / 4, SLACK)
    body = (
        f"No run of {one.full_name} completed for {_told(within)}; it is scheduled every {_told(gap)} at the "
        "latest. A check that did not run finds nothing. Look whether a worker polls the pool "
        f"{one.pool}, then at the newest run of the deployment."
    )
    return overdue(one, within, _told_to(tell, f"[critical] {one.name}: {one.flow} is overdue", body))


def _died(spec: ModelSpec, tell: Sequence[str]) -> AutomationCore:
    body = (
        f"A run of {spec.name} crashed: its process is gone. What it had recorded is kept and its "
        "decision is launched again. Look at the worker's log and the machine's memory."
    )
    return AutomationCore(
        name=f"{OURS}: {spec.name}: a run died",
        description="Told once an hour and flow, however many runs die.",
        trigger=EventTrigger(
            match={"prefect.resource.id": _RUNS, "prefect.state-type": "CRASHED"},
            match_related=_tagged(OURS, f"model:{spec.name}"),
            expect={_RUNS},
            for_each={"related:flow:prefect.resource.id"},
            posture=Posture.Reactive,
            threshold=1,
            within=timedelta(hours=1),
        ),
        actions=_told_to(tell, f"[critical] {spec.name}: a run died", body),
    )


def _told_to(blocks: Sequence[str], subject: str, body: str) -> list[ActionTypes]:
    sent: list[ActionTypes] = [
        SendNotification(block_document_id=block, subject=subject, body=body) for block in blocks
    ]
    return sent or [DoNothing()]  # it still shows in the events of the server


def _channels(spec: ModelSpec, blocks: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Return the ids of the blocks to tell, and what to say about the others."""
    named = dict.fromkeys([*spec.alerts.critical, *spec.alerts.warning])
    known = {name: blocks.get(channel_slug(name)) for name in named}
    notes = [
        f"{spec.name}: no block {name} that the server itself can send through; see deployments/blocks.py"
        for name, block in known.items()
        if not block
    ]
    tell = [block for block in known.values() if block]
    if not tell:
        notes.append(
            f"{spec.name}: no block of its alerts exists, so nobody is told of overdue checks and dead runs"
        )
    return tell, notes


def _tagged(*tags: str) -> list[Any]:  # Any: Prefect's own type of a match
    return [{"prefect.resource.role": "tag", "prefect.resource.id": f"prefect.tag.{tag}"} for tag in tags]


def _dates(schedule: CronSchedule | IntervalSchedule | RRuleSchedule, until: datetime) -> list[datetime]:
    """Return the dates of a schedule up to that day; Prefect gives them by the thousand."""
    found: list[datetime] = []
    while len(found) < _MOST:
        start = found[-1] + timedelta(microseconds=1) if found else _FROM
        page = asyncio.run(schedule.get_dates(_PAGE, start, until))
        found += page
        if len(page) < _PAGE:
            break
    return found


def _schedule(schedule: Mapping[str, Any]) -> CronSchedule | IntervalSchedule | RRuleSchedule:
    given = {
        key: value
        for key, value in schedule.items()
        if key not in ("slug", "active", "parameters", "replaces")
    }
    if "cron" in given:
        return CronSchedule.model_validate(given)
    if "rrule" in given:
        return RRuleSchedule.model_validate(given)
    # Prefect's own default is now, and with it the answer would change from one minute to the next.
    return IntervalSchedule.model_validate({"anchor_date": _FROM, **given})


def _told(length: timedelta) -> str:
    """Return a length of time in words.

    Example:
        >>> _told(timedelta(minutes=90)), _told(timedelta(days=7)), _told(timedelta(seconds=90))
        ('1.5 h', '7 days', '90 s')
    """
    seconds = length.total_seconds()
    if seconds < 300:
        return f"{seconds:g} s"
    if seconds < 2 * 86_400:
        return f"{seconds / 3600:.3g} h"
    return f"{seconds / 86_400:.3g} days"
