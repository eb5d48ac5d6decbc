"""The parts of a model's spec, strict about every field."""

from __future__ import annotations

import re
from itertools import product
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from tasks.core.spec_estimator import check_estimator
from tasks.core.spec_problems import IMPORT_PATTERN
from tasks.core.window import DURATION_PATTERN, parse_duration


def _positive(duration: str) -> str:
    if not parse_duration(duration):
        raise ValueError("longer than nothing is needed")
    return duration


Duration = Annotated[str, Field(pattern=DURATION_PATTERN, examples=["12h", "7d"])]
Length = Annotated[Duration, AfterValidator(_positive)]
Column = Annotated[str, Field(min_length=1, max_length=128)]
Share = Annotated[float, Field(ge=0, le=1)]
ImportPath = Annotated[str, Field(pattern=IMPORT_PATTERN)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Scalar = str | int | Number | bool


def _unique(names: list[str]) -> list[str]:
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise ValueError(f"{doubled} named twice")
    return names


Columns = Annotated[list[Column], AfterValidator(_unique)]


class Part(BaseModel):
    """Base of every part of a spec: frozen, and a misspelt key is an error."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        populate_by_name=True,
        serialize_by_alias=True,
        hide_input_in_errors=True,  # a URL with a password must not stand in a traceback
    )


def at(position: int, description: str, **more: Any) -> dict[str, Any]:  # Any: pydantic's own keyword types
    """Return the arguments of a field: its place in a form and its help text."""
    return {"description": description, "json_schema_extra": {"position": position}, **more}


class Features(Part):
    """The columns a model may look at."""

    numeric: Columns = Field(default_factory=list, **at(0, "Number columns."))
    categorical: Columns = Field(default_factory=list, **at(1, "Category columns: strings, booleans, codes."))
    sensitive: Columns = Field(
        default_factory=list,
        **at(2, "Those of the features that are personal: stored only as keyed hash or bin."),
    )

    @property
    def all(self) -> list[str]:
        """Numeric then categorical features, in the order written."""
        return [*self.numeric, *self.categorical]

    @model_validator(mode="after")
    def _consistent(self) -> Features:
        if not self.all:
            raise ValueError("at least one numeric or categorical feature is needed")
        _unique(self.all)
        unknown = sorted(set(self.sensitive) - set(self.all))
        if unknown:
            raise ValueError(f"sensitive names {unknown}, which are not features")
        return self


def texts_of(values: list[Scalar] | None) -> list[str]:
    """Return those of the values that are text."""
    return [value for value in values or [] if isinstance(value, str)]


class ColumnRule(Part):
    """What a column's values must satisfy."""

    ge: Number | None = Field(None, **at(0, "At least this."))
    gt: Number | None = Field(None, **at(1, "More than this."))
    le: Number | None = Field(None, **at(2, "At most this."))
    lt: Number | None = Field(None, **at(3, "Less than this."))
    isin: list[Scalar] | None = Field(None, min_length=1, **at(4, "One of these values."))
    matches: str | None = Field(None, **at(5, "Text that matches this regular expression from start to end."))
    nullable: bool = Field(True, **at(6, "Whether a value may be missing."))
    dtype: Literal["number", "integer", "string", "boolean"] | None = Field(
        None, **at(7, "Type of the values; default: number for numeric features, none for categorical ones.")
    )

    @property
    def bounded(self) -> bool:
        """Whether any bound is set, so that the values must be numbers."""
        return any(bound is not None for bound in (self.ge, self.gt, self.le, self.lt))

    @model_validator(mode="after")
    def _satisfiable(self) -> ColumnRule:
        lows, highs = [(self.ge, False), (self.gt, True)], [(self.le, False), (self.lt, True)]
        for (low, above), (high, below) in product(lows, highs):
            if low is None or high is None:
                continue
            if low > high or (low == high and (above or below)):
                raise ValueError(f"no number satisfies both bounds, {low:g} and {high:g}")
        try:
            re.compile(self.matches or "")
        except re.error as err:
            raise ValueError(f"matches {self.matches!r} is no regular expression: {err}") from err
        if self.bounded and self.dtype not in (None, "number", "integer"):
            raise ValueError(f"bounds on {self.dtype} values, which are not numbers")
        if (self.bounded or self.dtype in ("number", "integer")) and self.matches is not None:
            raise ValueError("matches is for text, and these values are numbers")
        if (self.bounded or self.dtype in ("number", "integer")) and texts_of(self.isin):
            raise ValueError(f"isin names {texts_of(self.isin)}, and these values are numbers")
        return self


class Contract(Part):
    """The agreed shape of the model's input: column rules by name, beside the limits below."""

    model_config = ConfigDict(extra="allow", frozen=True)
    __pydantic_extra__: dict[str, ColumnRule]

    max_bad_share: Share = Field(0.01, **at(0, "Share of bad rows beyond which the data blocks retraining."))
    checks: list[str] = Field(
        default_factory=list, **at(1, "Cross-column checks by registered name or import string.")
    )

    @property
    def columns(self) -> dict[str, ColumnRule]:
        """The column rules, by column name."""
        return dict(self.__pydantic_extra__ or {})


class Estimator(Part):
    """The scikit-learn estimator and how it is fitted."""

    class_path: ImportPath = Field(
        "sklearn.ensemble.HistGradientBoostingClassifier",
        alias="class",
        **at(0, "Import path of the class."),
    )
    params: dict[str, Any] = Field(
        default_factory=dict,
        **at(1, "Arguments of the class; an estimator among them is {class: path, params: {...}}."),
    )
    mode: Literal["scratch", "partial_fit"] = Field(
        "scratch", **at(2, "Fit anew on the training window, or go on from the champion with the new rows.")
    )
    search: dict[str, list[Any]] = Field(
        default_factory=dict,
        **at(3, "Grid of parameters to try on time-ordered folds of the training rows."),
    )
    preprocess: ImportPath | None = Field(
        None,
        **at(
            4,
            "`package.module:function` returning an unfitted transformer to use before the estimator; in a "
            "module of your own (see EVERGREEN_CODE).",
        ),
    )
    seed: int = Field(0, ge=0, **at(5, "Seed of everything random in training and evaluation."))

    @model_validator(mode="after")
    def _storable(self) -> Estimator:
        check_estimator(self.class_path, self.params)
        return self


class WindowSpec(Part):
    """How much data each step looks at."""

    training: Length = Field("90d", **at(0, "Length of the training window, holdout included."))
    check: Length = Field("1d", **at(1, "Length of the window that a check looks at."))
    holdout: Length | None = Field(
        None, **at(2, "Newest part of the training window kept for comparison; default: its newest fifth.")
    )
    rows: Literal["fading", "sliding", "expanding", "since_break"] = Field(
        "fading",
        **at(
            3,
            "Which rows a model learns from: fading (up to four training windows, a row's weight halved with "
            "every half-life of age), sliding (the training window alone), expanding (all rows, up to "
            "max_rows), or since_break (rows since the last shown change, at most the training window).",
        ),
    )
    half_life: Length | None = Field(
        None,
        **at(
            4,
            "Age at which a row of `fading` counts half; default: 0.35 of the training window, which has the "
            "mean age and the effective rows of the sliding window.",
        ),
    )
    max_rows: int | None = Field(
        None, ge=100, **at(5, "Most rows to learn from, the newest first; default: no limit.")
    )

    @model_validator(mode="after")
    def _leaves_training_rows(self) -> WindowSpec:
        if self.holdout and parse_duration(self.holdout) >= parse_duration(self.training):
            raise ValueError(
                f"holdout {self.holdout} leaves nothing of the training window {self.training} to fit on"
            )
        return self


class Performance(Part):
    """The band in which realised performance must stay."""

    band: float = Field(
        0.02,
        ge=0,
        le=1,
        **at(0, "Tolerated loss against the champion's promise, as a share of the promise."),
    )
    min_rows: int = Field(50, ge=2, **at(1, "Fewest labelled predictions that a verdict may rest on."))
    confidence: float = Field(
        0.95,
        gt=0.5,
        lt=1,
        **at(2, "Confidence of the intervals of promise and realised score; the gate has its own."),
    )


class Drift(Part):
    """How input drift is judged."""

    detector: Literal["tabular", "alibi", "alibi_cvm", "alibi_classifier"] = Field(
        "tabular",
        **at(
            0,
            "Our own detector, or alibi-detect's: TabularDrift, Cramér-von Mises, or a classifier over whole "
            "rows (licence: see README).",
        ),
    )
    false_alarms: float = Field(
        0.01, gt=0, lt=0.5, **at(1, "Share of undrifted checks that may alarm, over all features together.")
    )
    windows: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] = Field(
        (2, 3), **at(2, "[M, N]: act when M of the last N windows are bad, and the newest is.")
    )
    min_rows: int = Field(50, ge=2, **at(3, "Fewest rows of a window that a verdict may rest on."))
    reference: Literal["auto", "champion", "calendar", "rolling"] = Field(
        "auto",
        **at(
            4,
            "What a window is compared with: the champion's rows, those of the same weekday or hour "
            "(auto: where its history shows such a pattern), or the windows just before.",
        ),
    )
    rolling: int = Field(14, ge=3, le=1000, **at(5, "Earlier windows that a rolling reference is made of."))
    multivariate: bool = Field(
        True, **at(6, "Also look for changes in how the columns hang together, by a domain classifier.")
    )
    sample: int = Field(
        20_000,
        ge=200,
        le=1_000_000,
        **at(7, "Most rows of a window that alibi-detect and the domain classifier look at."),
    )
    compare: bool = Field(
        False, **at(8, "Where alibi-detect is installed, show its p-values beside our own in every check.")
    )
    rows: Literal["source", "log"] = Field(
        "source", **at(9, "Which inputs a check looks at: the source's rows, or those that were served.")
    )

    @model_validator(mode="after")
    def _m_of_n(self) -> Drift:
        if self.windows[0] > self.windows[1]:
            raise ValueError(f"windows {list(self.windows)}: M must not exceed N")
        return self


class Retrain(Part):
    """When a retraining may start."""

    min_new_rows: int | None = Field(
        None,
        ge=0,
        **at(
            0,
            "Fewest labelled rows since the watermark; default: a twentieth of the training window's rows.",
        ),
    )
    cooldown: Duration = Field("12h", **at(1, "Least time between two retrainings."))
    budget_per_week: int = Field(3, ge=0, **at(2, "Most retrainings in any seven days."))
    max_age: Length | Literal["never"] | None = Field(
        None,
        **at(
            3,
            "Retrain when the champion's training is older than this, whatever the checks say; default: the "
            "training window; never: no limit.",
        ),
    )
    futile_limit: int = Field(
        2,
        ge=1,
        **at(4, "Retrainings without a promotion, for the same cause, after which a person is told."),
    )
    valid_for: Length = Field(
        "3d", **at(5, "How long a decision to train stands; one that is older starts nothing.")
    )
    min_new_labels: int | None = Field(
        None,
        ge=1,
        **at(6, "Retrain when so many labels have matured since the last training; default: never."),
    )
    price: float = Field(
        0.4,
        gt=0,
        le=100,
        **at(
            7,
            "Price of a retraining in check windows of a fresh model's loss: retrain when being out of date "
            "is estimated to have cost as much. With gate.value and costs.per_retraining the price is money.",
        ),
    )
    every: Length | None = Field(
        None, **at(8, "A plain calendar instead of the staleness estimate: retrain when so much time passed.")
    )
