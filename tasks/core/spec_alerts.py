"""Who is told of what, when, and how patiently: the `alerts` part of a model's spec."""

from __future__ import annotations

import re
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, field_validator, model_validator

from tasks.core.spec_parts import Length, Part, at

_CLOCK = re.compile(r"^([01]\d|2[0-3]):[0-5]\d$")
Count = Annotated[int, Field(ge=1, le=1000)]


class Quiet(Part):
    """Hours of the day in which warnings wait for the morning; what is critical never waits."""

    start: str = Field(**at(0, "When they begin, as HH:MM."), examples=["22:00"])
    end: str = Field(**at(1, "When they end, as HH:MM; earlier than the start: on the next day."))
    timezone: str = Field("UTC", **at(2, "Name of the time zone, for example Europe/Berlin."))

    @field_validator("start", "end")
    @classmethod
    def _clock(cls, text: str) -> str:
        if not _CLOCK.match(text):
            raise ValueError("a time of day as HH:MM is needed, in quotes")
        return text

    @field_validator("timezone")
    @classmethod
    def _zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError) as err:
            raise ValueError("the name of a time zone is needed, for example Europe/Berlin") from err
        return name

    @model_validator(mode="after")
    def _some_hours(self) -> Quiet:
        if self.start == self.end:
            raise ValueError(f"quiet from {self.start} to {self.end} is never or always: leave it out")
        return self


class Alerts(Part):
    """Who is told, by tier: names of Prefect notification blocks as `type/name`; and when."""

    critical: list[str] = Field(default_factory=list, **at(0, "Told when the service or its data is down."))
    warning: list[str] = Field(default_factory=list, **at(1, "Told when performance suffers."))
    info: list[str] = Field(default_factory=list, **at(2, "Told what happened; never pages."))
    open_after: tuple[Count, Count] = Field(
        (1, 1), **at(3, "[k, n]: an incident opens when k of the last n looks were bad, and the newest was.")
    )
    close_after: Count = Field(1, **at(4, "Looks in a row that must be clean before an incident is over."))
    escalate_after: Length | None = Field(
        None, **at(5, "A warning that lasts longer than this is told again, as critical.")
    )
    quiet: Quiet | None = Field(None, **at(6, "Hours in which warnings wait."))

    @model_validator(mode="after")
    def _k_of_n(self) -> Alerts:
        if self.open_after[0] > self.open_after[1]:
            raise ValueError(f"open_after {list(self.open_after)}: k must not exceed n")
        return self
