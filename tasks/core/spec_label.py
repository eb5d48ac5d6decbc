"""What is predicted, when it is known, and where from."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from tasks.core.placeholders import NO_LITERAL_PASSWORD, without_secrets
from tasks.core.spec_parts import Column, Columns, Duration, Part, Scalar, at
from tasks.core.spec_source import key_name


class LabelSource(Part):
    """Where labels come from, when it is not where the rows come from."""

    url: str = Field(
        min_length=1,
        description="A SQLAlchemy URL; or path, glob, s3://, https:// of Parquet or CSV; no secret in clear.",
        json_schema_extra={"position": 0, "pattern": NO_LITERAL_PASSWORD},
    )
    table: str | None = Field(None, **at(1, "Table, for a database."))
    identity: Column | Columns = Field(
        alias="key",
        **at(
            2,
            "Column with the key of the row, or the id of the prediction (`by`); a list where source.key "
            "is, in its order and written alike.",
        ),
    )
    column: Column = Field(**at(3, "Column with the label."))
    timestamp: Column | None = Field(None, **at(4, "Column that tells when the label became known."))
    by: Literal["key", "prediction_id"] = Field("key", **at(5, "What the key column holds."))

    @property
    def key(self) -> str:
        """Name of the column that identifies the row, made from several where `identity` names more."""
        return key_name(self.identity)

    @field_validator("url")
    @classmethod
    def _without_secrets(cls, url: str) -> str:
        return without_secrets(url)


class Label(Part):
    """What is predicted, and how long until it is known."""

    column: Column = Field(**at(0, "Column to predict."))
    maturity: Duration = Field("0d", **at(1, "How long after the event its label counts as known."))
    positive: Scalar | None = Field(
        None, **at(2, "The positive class of a binary label; default: the larger one.")
    )
    source: LabelSource | None = Field(
        None, **at(3, "Where labels come from; default: from the source of the rows.")
    )
    max_block: Duration | None = Field(
        None,
        **at(
            4,
            "How long rows whose labels are suspected to be wrong stay out of training, from when those of "
            "the first such window were mature; default: the N check windows of drift.windows.",
        ),
    )
