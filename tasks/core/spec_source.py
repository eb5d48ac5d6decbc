"""Where a model's rows come from, as its spec says it; no secret may stand there."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from tasks.core.placeholders import NO_LITERAL_PASSWORD, known_placeholders, without_secrets
from tasks.core.spec_parts import (
    Column,
    Duration,
    Part,
    Scalar,
    at,
    texts_of,
)


class Source(Part):
    """Where the rows come from, and what identifies and dates them."""

    url: str = Field(
        min_length=1,
        description="SQLAlchemy URL, or path, glob, s3:// or https:// of Parquet or CSV. No secret stands "
        "here: ${NAME} is filled from the environment where it is read, ${block:secret/name} and "
        "${block:aws-secret/name#field} from a Prefect block.",
        # The API refuses what does not fit before it stores it; pydantic's own engine cannot look ahead.
        json_schema_extra={"position": 0, "pattern": NO_LITERAL_PASSWORD},
    )
    table: str | None = Field(None, **at(1, "Table to read, for SQL sources."))
    query: str | None = Field(
        None, **at(2, "A SELECT to read instead of a table; may use the bound parameters below.")
    )
    parameters: dict[str, Scalar] = Field(
        default_factory=dict, **at(3, "Bound parameters of the query, by name; text may hold ${…} as above.")
    )
    key: Column = Field(**at(4, "Identity of a row: duplicates and corrections resolve on it."))
    timestamp: Column = Field(**at(5, "When the row's event happened."))
    updated: Column | None = Field(
        None,
        **at(6, "When the row was last written, where the source knows; corrections are ordered by it."),
    )
    group: Column | None = Field(
        None, **at(7, "Entity (a customer, say) that must not stand in both training and holdout rows.")
    )
    overlap: Duration = Field(
        "1d", **at(8, "How far behind the watermark a fetch looks again for late rows.")
    )
    timezone: str | None = Field(
        None,
        **at(9, "Zone of timestamps that carry none, e.g. UTC; without it such timestamps are refused."),
    )

    timestamp_unit: Literal["s", "ms", "us", "ns"] | None = Field(
        None, **at(10, "What times that are numbers count since 1970: s, ms, us or ns.")
    )

    @field_validator("url")
    @classmethod
    def _without_secrets(cls, url: str) -> str:
        return without_secrets(url)

    @field_validator("parameters")
    @classmethod
    def _known_parameters(cls, parameters: dict[str, Scalar]) -> dict[str, Scalar]:
        for text in texts_of(list(parameters.values())):
            known_placeholders(text)
        return parameters

    @model_validator(mode="after")
    def _table_or_query(self) -> Source:
        if self.table and self.query:
            raise ValueError("give table or query, not both")
        is_sql = "://" in self.url and not self.url.startswith(("s3://", "http://", "https://", "file://"))
        if is_sql and not (self.table or self.query):
            raise ValueError("a SQL source needs table or query")
        return self
