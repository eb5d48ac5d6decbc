"""Where a model's rows come from, as its spec says it; no secret may stand there."""

from __future__ import annotations

import codecs
from typing import Literal

from pydantic import Field, field_validator, model_validator

from tasks.core.placeholders import (
    NO_LITERAL_PASSWORD,
    known_placeholders,
    literal_in_text,
    literal_parameter,
    refuse_secret,
    without_secrets,
)
from tasks.core.spec_parts import (
    Column,
    Columns,
    Duration,
    Part,
    Scalar,
    at,
)

NO_KEY = "row"


def key_name(identity: str | list[str]) -> str:
    """Return the name of the one column that stands for these.

    Example:
        >>> key_name("id"), key_name(["store", "day"])
        ('id', 'store+day')
    """
    return identity if isinstance(identity, str) else "+".join(identity)


class Csv(Part):
    """How CSV files are written; what is not given here is guessed from each file."""

    separator: str | None = Field(
        None, min_length=1, max_length=1, **at(0, "Between cells: , ; | or a tabulator (\\t).")
    )
    decimal: Literal[".", ","] | None = Field(None, **at(1, "Decimal sign of numbers."))
    thousands: Literal[".", ",", " ", "'", "_", ""] | None = Field(
        None, **at(2, 'Between groups of three digits; "" for nothing.')
    )
    encoding: str | None = Field(None, **at(3, "Encoding, e.g. utf-8, cp1252 or utf-16."))
    quote: str | None = Field(None, min_length=1, max_length=1, **at(4, "Around cells that need it."))
    timestamp_format: str | None = Field(
        None, **at(5, "strptime format of times that are not ISO 8601, e.g. %d.%m.%Y %H:%M.")
    )
    missing: tuple[str, ...] | None = Field(
        None, **at(6, "Texts that stand for no value in any column, besides the empty one.")
    )
    newlines_in_values: bool = Field(True, **at(7, "Whether a quoted cell may hold line breaks."))
    skip_rows: int | None = Field(None, ge=0, **at(8, "Lines before the header."))

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, encoding: str | None) -> str | None:
        if encoding is not None:
            try:
                codecs.lookup(encoding)
            except LookupError:
                raise ValueError(f"no encoding {encoding!r}; e.g. utf-8, cp1252, utf-16") from None
        return encoding

    @model_validator(mode="after")
    def _signs_differ(self) -> Csv:
        if self.decimal and self.decimal == self.thousands:
            raise ValueError(f"decimal and thousands are both {self.decimal!r}")
        return self


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
    identity: Column | Columns = Field(
        alias="key",
        **at(
            4,
            "Identity of a row: duplicates and corrections resolve on it. A column, a list of columns that "
            "identify it together, or `row` where nothing does: then rows that are alike in time, group and "
            "features are one row, and a corrected feature makes another row.",
        ),
    )
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

    csv: Csv = Field(default_factory=Csv, **at(11, "How CSV files are written, where a guess would not do."))

    @property
    def key(self) -> str:
        """Name of the column that identifies a row, made of several where `identity` names more."""
        return key_name(self.identity)

    @field_validator("url")
    @classmethod
    def _without_secrets(cls, url: str) -> str:
        return without_secrets(url)

    @field_validator("identity")
    @classmethod
    def _names_a_column(cls, identity: str | list[str]) -> str | list[str]:
        if not identity:
            raise ValueError("at least one column, or `row` for a digest of the row")
        return identity[0] if isinstance(identity, list) and len(identity) == 1 else identity

    @field_validator("parameters")
    @classmethod
    def _known_parameters(cls, parameters: dict[str, Scalar]) -> dict[str, Scalar]:
        for name, value in parameters.items():
            if isinstance(value, str):
                known_placeholders(value)
                refuse_secret(literal_parameter(name, value))
        return parameters

    @field_validator("query")
    @classmethod
    def _query_without_secrets(cls, query: str | None) -> str | None:
        refuse_secret(literal_in_text(query or ""), "bind it as a parameter whose value is ${NAME}")
        return query

    @model_validator(mode="after")
    def _table_or_query(self) -> Source:
        if self.table and self.query:
            raise ValueError("give table or query, not both")
        is_sql = "://" in self.url and not self.url.startswith(("s3://", "http://", "https://", "file://"))
        if is_sql and not (self.table or self.query):
            raise ValueError("a SQL source needs table or query")
        return self
