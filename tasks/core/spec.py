"""What a user says about one model: the `ModelSpec` of DESIGN.md, strict about every field."""

from __future__ import annotations

import re
from itertools import product
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from tasks.core.errors import SpecError
from tasks.core.evaluation.metrics import check_metric
from tasks.core.spec_problems import IMPORT_PATTERN, NAME_PATTERN, did_you_mean, problems_of
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


def _at(position: int, description: str, **more: Any) -> dict[str, Any]:  # Any: pydantic's own keyword types
    return {"description": description, "json_schema_extra": {"position": position}, **more}


class Source(Part):
    """Where the rows come from, and what identifies and dates them."""

    url: str = Field(
        min_length=1,
        **_at(
            0,
            "SQLAlchemy URL, or path, glob, s3:// or https:// of Parquet or CSV. "
            "${NAME} is filled from the environment where it is read, so no secret stands here.",
        ),
    )
    table: str | None = Field(None, **_at(1, "Table to read, for SQL sources."))
    query: str | None = Field(
        None, **_at(2, "A SELECT to read instead of a table; may use the bound parameters below.")
    )
    parameters: dict[str, Scalar] = Field(
        default_factory=dict, **_at(3, "Bound parameters of the query, by name.")
    )
    key: Column = Field(**_at(4, "Identity of a row: duplicates and corrections resolve on it."))
    timestamp: Column = Field(**_at(5, "When the row's event happened."))
    updated: Column | None = Field(
        None,
        **_at(6, "When the row was last written, where the source knows; corrections are ordered by it."),
    )
    group: Column | None = Field(
        None, **_at(7, "Entity (a customer, say) that must not stand in both training and holdout rows.")
    )
    overlap: Duration = Field(
        "1d", **_at(8, "How far behind the watermark a fetch looks again for late rows.")
    )
    timezone: str | None = Field(
        None,
        **_at(9, "Zone of timestamps that carry none, e.g. UTC; without it such timestamps are refused."),
    )

    @model_validator(mode="after")
    def _table_or_query(self) -> Source:
        if self.table and self.query:
            raise ValueError("give table or query, not both")
        is_sql = "://" in self.url and not self.url.startswith(("s3://", "http://", "https://", "file://"))
        if is_sql and not (self.table or self.query):
            raise ValueError("a SQL source needs table or query")
        return self


class Label(Part):
    """What is predicted, and how long until it is known."""

    column: Column = Field(**_at(0, "Column to predict."))
    maturity: Duration = Field("0d", **_at(1, "How long after the event its label counts as known."))
    positive: Scalar | None = Field(
        None, **_at(2, "The positive class of a binary label; default: the larger one.")
    )


class Features(Part):
    """The columns a model may look at."""

    numeric: Columns = Field(default_factory=list, **_at(0, "Number columns."))
    categorical: Columns = Field(
        default_factory=list, **_at(1, "Category columns: strings, booleans, codes.")
    )
    sensitive: Columns = Field(
        default_factory=list,
        **_at(2, "Those of the features that are personal: stored only as keyed hash or bin."),
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


def _texts(values: list[Scalar] | None) -> list[str]:
    return [value for value in values or [] if isinstance(value, str)]


class ColumnRule(Part):
    """What a column's values must satisfy."""

    ge: Number | None = Field(None, **_at(0, "At least this."))
    gt: Number | None = Field(None, **_at(1, "More than this."))
    le: Number | None = Field(None, **_at(2, "At most this."))
    lt: Number | None = Field(None, **_at(3, "Less than this."))
    isin: list[Scalar] | None = Field(None, min_length=1, **_at(4, "One of these values."))
    matches: str | None = Field(
        None, **_at(5, "Text that matches this regular expression from start to end.")
    )
    nullable: bool = Field(True, **_at(6, "Whether a value may be missing."))
    dtype: Literal["number", "integer", "string", "boolean"] | None = Field(
        None, **_at(7, "Type of the values; default: number for numeric features, none for categorical ones.")
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
        if (self.bounded or self.dtype in ("number", "integer")) and _texts(self.isin):
            raise ValueError(f"isin names {_texts(self.isin)}, and these values are numbers")
        return self


class Contract(Part):
    """The agreed shape of the model's input: column rules by name, beside the limits below."""

    model_config = ConfigDict(extra="allow", frozen=True)
    __pydantic_extra__: dict[str, ColumnRule]

    max_bad_share: Share = Field(0.01, **_at(0, "Share of bad rows beyond which the data blocks retraining."))
    checks: list[str] = Field(
        default_factory=list, **_at(1, "Cross-column checks by registered name or import string.")
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
        **_at(0, "Import path of the class."),
    )
    params: dict[str, Any] = Field(default_factory=dict, **_at(1, "Arguments of the class."))
    mode: Literal["scratch", "partial_fit"] = Field(
        "scratch", **_at(2, "Fit anew on the training window, or go on from the champion with the new rows.")
    )
    search: dict[str, list[Any]] = Field(
        default_factory=dict,
        **_at(3, "Grid of parameters to try on time-ordered folds of the training rows."),
    )
    preprocess: ImportPath | None = Field(
        None,
        **_at(4, "`package.module:function` returning an unfitted transformer to use before the estimator."),
    )
    seed: int = Field(0, ge=0, **_at(5, "Seed of everything random in training and evaluation."))


class WindowSpec(Part):
    """How much data each step looks at."""

    training: Length = Field("90d", **_at(0, "Length of the training window, holdout included."))
    check: Length = Field("1d", **_at(1, "Length of the window that a check looks at."))
    holdout: Length | None = Field(
        None, **_at(2, "Newest part of the training window kept for comparison; default: its newest fifth.")
    )

    @model_validator(mode="after")
    def _leaves_training_rows(self) -> WindowSpec:
        if self.holdout and parse_duration(self.holdout) >= parse_duration(self.training):
            raise ValueError(
                f"holdout {self.holdout} leaves nothing of the training window {self.training} to fit on"
            )
        return self


class Gate(Part):
    """When a challenger becomes champion."""

    margin: Number = Field(0.01, ge=0, **_at(0, "How much worse, in the metric, may not be ruled out."))
    confidence: float = Field(0.95, gt=0.5, lt=1, **_at(1, "Confidence of the interval that decides."))
    floor: Number | None = Field(
        None, **_at(2, "Worst score a champion may have, whatever it is compared with.")
    )
    min_rows: int = Field(100, ge=2, **_at(3, "Fewest unseen rows a comparison may rest on."))
    slices: Columns = Field(
        default_factory=list, **_at(4, "Columns whose values are also compared one by one.")
    )
    promotion: Literal["auto", "manual", "dry_run"] = Field(
        "auto", **_at(5, "Promote at once, wait for a person, or only say what would happen.")
    )


class Performance(Part):
    """The band in which realised performance must stay."""

    band: float = Field(
        0.02,
        ge=0,
        le=1,
        **_at(0, "Tolerated loss against the champion's promise, as a share of the promise."),
    )
    min_rows: int = Field(50, ge=2, **_at(1, "Fewest labelled predictions that a verdict may rest on."))


class Drift(Part):
    """How input drift is judged."""

    detector: Literal["tabular", "alibi"] = Field(
        "tabular", **_at(0, "Our own detector, or alibi-detect's TabularDrift (licence: see README).")
    )
    false_alarms: float = Field(
        0.01, gt=0, lt=0.5, **_at(1, "Share of undrifted checks that may alarm, over all features together.")
    )
    windows: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] = Field(
        (2, 3), **_at(2, "[M, N]: act when M of the last N windows are bad, and the newest is.")
    )
    min_rows: int = Field(50, ge=2, **_at(3, "Fewest rows of a window that a verdict may rest on."))

    @model_validator(mode="after")
    def _m_of_n(self) -> Drift:
        if self.windows[0] > self.windows[1]:
            raise ValueError(f"windows {list(self.windows)}: M must not exceed N")
        return self


class Retrain(Part):
    """When a retraining may start."""

    min_new_rows: int = Field(1000, ge=0, **_at(0, "Fewest labelled rows since the watermark."))
    cooldown: Duration = Field("12h", **_at(1, "Least time between two retrainings."))
    budget_per_week: int = Field(3, ge=0, **_at(2, "Most retrainings in any seven days."))
    max_age: Length | None = Field(
        None, **_at(3, "Retrain when the champion's training is older than this, whatever the checks say.")
    )
    futile_limit: int = Field(
        2,
        ge=1,
        **_at(4, "Retrainings without a promotion, for the same cause, after which a person is told."),
    )


class Alerts(Part):
    """Who is told, by tier: names of Prefect notification blocks as `type/name`."""

    critical: list[str] = Field(default_factory=list, **_at(0, "Told when the service or its data is down."))
    warning: list[str] = Field(default_factory=list, **_at(1, "Told when performance suffers."))
    info: list[str] = Field(default_factory=list, **_at(2, "Told what happened; never pages."))


class ModelSpec(Part):
    """Everything Evergreen needs to know about one model."""

    name: str = Field(pattern=NAME_PATTERN, **_at(0, "Name of the registered model."))
    task: Literal["classification", "regression"] = Field(
        "classification", **_at(1, "Binary, multiclass and string labels are classification.")
    )
    source: Source = Field(**_at(2, "Where rows come from."))
    label: Label = Field(**_at(3, "What is predicted."))
    features: Features = Field(**_at(4, "What the model may look at."))
    contract: Contract = Field(default_factory=Contract, **_at(5, "The agreed shape of the input."))
    estimator: Estimator = Field(default_factory=Estimator, **_at(6, "The scikit-learn estimator."))
    window: WindowSpec = Field(default_factory=WindowSpec, **_at(7, "How much data each step looks at."))
    metric: str = Field("roc_auc", **_at(8, "Any scikit-learn scorer; its direction is known by its name."))
    gate: Gate = Field(default_factory=Gate, **_at(9, "When a challenger becomes champion."))
    performance: Performance = Field(default_factory=Performance, **_at(10, "The promised band."))
    drift: Drift = Field(default_factory=Drift, **_at(11, "How input drift is judged."))
    retrain: Retrain = Field(default_factory=Retrain, **_at(12, "When a retraining may start."))
    alerts: Alerts = Field(default_factory=Alerts, **_at(13, "Who is told."))

    @property
    def columns(self) -> list[str]:
        """Every column a fetch must bring, without repeats."""
        named = [self.source.key, self.source.timestamp, self.source.updated, self.source.group]
        named += [self.label.column, *self.features.all, *self.gate.slices]
        return list(dict.fromkeys(name for name in named if name))

    @model_validator(mode="after")
    def _whole(self) -> ModelSpec:
        if self.label.column in self.features.all:
            raise ValueError(
                f"label {self.label.column!r} stands among the features: the model would see the answer"
            )
        if self.source.key in self.features.all:
            raise ValueError(f"key {self.source.key!r} stands among the features: it identifies rows")
        marks = [self.source.key, self.source.timestamp, self.label.column]
        if len(set(marks)) < len(marks) or self.source.timestamp in self.features.all:
            raise ValueError(f"key, timestamp and label must be three columns, none a feature; found {marks}")
        _check_rules(self)
        check_metric(self.metric, self.task)
        if self.task == "regression" and self.estimator.class_path == Estimator().class_path:
            raise ValueError("task regression with a classifier: name a regressor under estimator.class")
        return self


def _check_rules(spec: ModelSpec) -> None:
    """Refuse rules on columns nobody reads, and rules that a column's role rules out."""
    rules = spec.contract.columns
    unknown = sorted(set(rules) - set(spec.columns))
    if unknown:
        raise ValueError(
            f"contract names {unknown}, which are neither features, label, key nor timestamp"
            + did_you_mean(unknown[0], spec.columns)
        )
    source = spec.source
    numbers = {*spec.features.numeric, *([spec.label.column] if spec.task == "regression" else [])}
    for name, rule in rules.items():
        if name in numbers and (rule.dtype == "string" or rule.matches is not None or _texts(rule.isin)):
            raise ValueError(f"contract.{name} asks for text, and the column holds numbers")
        given = rule.model_dump(exclude_defaults=True).keys()
        if name in (source.timestamp, source.updated) and given - {"nullable"}:
            raise ValueError(f"contract.{name} holds times: only nullable applies, not {sorted(given)}")
        if name == source.key and given - {"nullable", "matches", "isin"}:
            raise ValueError(f"contract.{name} is the key: only matches applies, not {sorted(given)}")


def parse_spec(raw: object, *, where: str = "model") -> ModelSpec:
    """Return the spec written in `raw`, a mapping as YAML gives it.

    Raises:
        SpecError: naming every wrong field, what was given and what is allowed.
    """
    try:
        return ModelSpec.model_validate(raw)
    except ValidationError as err:
        problems = problems_of(err, ModelSpec, ColumnRule)
        more = f" (+{len(problems) - 6} more)" if len(problems) > 6 else ""
        raise SpecError(
            f"{where}: " + "; ".join(problems[:6]) + more, "a valid model block", "correct these fields"
        ) from err
