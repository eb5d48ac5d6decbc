"""How a model is served, held to its level of service, scored in batches and paid for."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from tasks.core.placeholders import literal_secret, refuse_secret
from tasks.core.spec_parts import Length, Number, Part, Share, at

_TABLE = re.compile(r"^table:[A-Za-z_][A-Za-z0-9_]{0,62}$")


class Serving(Part):
    """How the serving app treats this model."""

    shadow: bool = Field(
        False, **at(0, "Let a version that waits for a person answer live rows too, unseen by the caller.")
    )
    canary: Share = Field(
        0.0, **at(1, "Share of live rows that a version that waits for a person really answers; 0: none.")
    )
    canary_min_rows: int = Field(
        200, ge=20, **at(2, "Labelled rows of the canary before its metric may send it back.")
    )
    canary_max_errors: int = Field(
        3, ge=1, **at(3, "Failures of the canary in ten minutes that send it back at once.")
    )
    keep: Length | None = Field(
        None, **at(4, "How long predictions stay in the database; older ones move to Parquet files.")
    )
    keep_files: Length | None = Field(None, **at(5, "How long those files stay; default: for ever."))

    second_opinion: Literal["auto", "off"] = Field(
        "auto",
        **at(
            6,
            "Let an earlier champion that does shown better on the newest labels answer with half the vote "
            "beside the newest; off: the newest alone. Without probabilities a classifier has no partner.",
        ),
    )
    champions: int | None = Field(
        None,
        ge=1,
        **at(7, "Newest champions that are compared on every labelled window; default: all that served."),
    )

    @model_validator(mode="after")
    def _below_all(self) -> Serving:
        if self.canary > 0.5:
            raise ValueError(f"canary {self.canary:g}: at most half; more is a promotion")
        return self


class Slo(Part):
    """The level of service that is promised to those who call the app; `performance.band` is the score's."""

    availability: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.995, **at(0, "Share of well-formed requests that must be answered (5xx are failures, 4xx are not).")
    )
    p99_ms: Annotated[float, Field(gt=0)] | None = Field(
        None, **at(1, "99 % of answers must take no longer than this; default: not held to one.")
    )
    budget: Share = Field(
        0.1, **at(2, "Share of windows of the last 30 days that may miss the score's band: the error budget.")
    )
    period: Length = Field("30d", **at(3, "Time over which budgets are counted."))
    min_requests: int = Field(100, ge=1, **at(4, "Fewest requests of a window that a verdict may rest on."))
    data_age: Length | None = Field(
        None, **at(5, "Oldest that the newest row of the source may be; default: three check windows.")
    )


class Scoring(Part):
    """What the `score` flow writes besides the prediction log."""

    into: str | None = Field(
        None,
        max_length=500,
        **at(
            0,
            "Folder or s3:// prefix of Parquet files, one per window; or `table:NAME` in the source.",
        ),
    )

    @field_validator("into")
    @classmethod
    def _place(cls, into: str | None) -> str | None:
        if into is not None and into.startswith("table:") and not _TABLE.match(into):
            raise ValueError("scoring.into names no table: table:name, of letters, digits and _")
        refuse_secret(
            literal_secret(into or ""), "name a folder or bucket; credentials come from EVERGREEN_AWS"
        )
        return into

    batch_rows: int = Field(50_000, ge=100, le=5_000_000, **at(1, "Rows that are in memory at once."))


class Costs(Part):
    """What running this model costs; with `gate.value` it gives the return."""

    currency: str = Field("EUR", min_length=1, max_length=8, **at(0, "Unit of every amount."))
    per_hour: Annotated[Number, Field(ge=0)] = Field(0.0, **at(1, "Price of an hour of a flow's run."))
    per_retraining: Annotated[Number, Field(ge=0)] = Field(
        0.0, **at(2, "Price of a retraining beside its hours.")
    )
    per_month: Annotated[Number, Field(ge=0)] = Field(0.0, **at(3, "Standing costs a month."))
