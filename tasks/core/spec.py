"""What a user says about one model: the `ModelSpec` of DESIGN.md."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PrivateAttr, ValidationError, model_validator

from tasks.core.errors import SpecError
from tasks.core.evaluation.metrics import check_metric
from tasks.core.spec_alerts import Alerts
from tasks.core.spec_gate import Gate
from tasks.core.spec_label import Label
from tasks.core.spec_parts import (
    ColumnRule,
    Contract,
    Drift,
    Estimator,
    Features,
    Part,
    Performance,
    Retrain,
    WindowSpec,
    at,
    texts_of,
)
from tasks.core.spec_problems import NAME_PATTERN, did_you_mean, problems_of
from tasks.core.spec_serving import Costs, Scoring, Serving, Slo
from tasks.core.spec_source import NO_KEY, Source


class ModelSpec(Part):
    """Everything Evergreen needs to know about one model."""

    name: str = Field(pattern=NAME_PATTERN, **at(0, "Name of the registered model."))
    task: Literal["classification", "regression"] = Field(
        "classification", **at(1, "Binary, multiclass and string labels are classification.")
    )
    source: Source = Field(**at(2, "Where rows come from."))
    label: Label = Field(**at(3, "What is predicted."))
    features: Features = Field(**at(4, "What the model may look at."))
    contract: Contract = Field(default_factory=Contract, **at(5, "The agreed shape of the input."))
    estimator: Estimator = Field(default_factory=Estimator, **at(6, "The scikit-learn estimator."))
    window: WindowSpec = Field(default_factory=WindowSpec, **at(7, "How much data each step looks at."))
    metric: str = Field("roc_auc", **at(8, "Any scikit-learn scorer; its direction is known by its name."))
    gate: Gate = Field(default_factory=Gate, **at(9, "When a challenger becomes champion."))
    performance: Performance = Field(default_factory=Performance, **at(10, "The promised band."))
    drift: Drift = Field(default_factory=Drift, **at(11, "How input drift is judged."))
    retrain: Retrain = Field(default_factory=Retrain, **at(12, "When a retraining may start."))
    alerts: Alerts = Field(default_factory=Alerts, **at(13, "Who is told."))
    serving: Serving = Field(default_factory=Serving, **at(14, "How the app serves it."))
    slo: Slo = Field(default_factory=Slo, **at(15, "The level of service."))
    scoring: Scoring = Field(default_factory=Scoring, **at(16, "What batch scoring writes."))
    costs: Costs = Field(default_factory=Costs, **at(17, "What running it costs."))

    _beside: Features | None = PrivateAttr(None)

    @property
    def beside(self) -> Features | None:
        """Features of a champion trained under another block, which a fetch brings too; mostly None."""
        return self._beside

    def reading(self, beside: Features | None) -> ModelSpec:
        """Return this block, which reads those columns besides its own."""
        made = self.model_copy()
        made._beside = beside
        return made

    @property
    def key_parts(self) -> tuple[str, ...]:
        """Columns that the key is made of, where it is none of the source's own; mostly none."""
        identity = self.source.identity
        if not isinstance(identity, str):
            return tuple(identity) if len(identity) > 1 else ()
        if identity != NO_KEY:
            return ()
        named = [self.source.timestamp, self.source.group, *self.features.all]
        return tuple(dict.fromkeys(name for name in named if name))

    @property
    def columns(self) -> list[str]:
        """Every column a fetch must bring, without repeats."""
        named = [
            self.source.key,
            *self.key_parts,
            self.source.timestamp,
            self.source.updated,
            self.source.group,
        ]
        gate = self.gate
        named += [self.label.column, *self.features.all, *gate.slices, *gate.fairness.columns, gate.weight]
        named += self._beside.all if self._beside else []
        return list(dict.fromkeys(name for name in named if name))

    @model_validator(mode="after")
    def _whole(self) -> ModelSpec:
        if self.label.column in self.features.all:
            raise ValueError(
                f"label {self.label.column!r} stands among the features: the model would see the answer"
            )
        if self.source.key in self.features.all:
            raise ValueError(f"key {self.source.key!r} stands among the features: it identifies rows")
        if self.label.column in self.key_parts:
            raise ValueError(
                f"label {self.label.column!r} stands in the key: a corrected label is no other row"
            )
        _check_label_key(self)
        marks = [self.source.key, self.source.timestamp, self.label.column]
        if len(set(marks)) < len(marks) or self.source.timestamp in self.features.all:
            raise ValueError(f"key, timestamp and label must be three columns, none a feature; found {marks}")
        _check_rules(self)
        check_metric(self.metric, self.task)
        if self.task == "regression" and self.gate.value.outcomes:
            raise ValueError(
                "gate.value.outcomes names labels, and a regression has none: use gate.value.function"
            )
        into = self.scoring.into or ""
        if into.startswith("table:") and not self.source.url.startswith(("sqlite", "postgres")):
            raise ValueError(
                f"scoring.into {into!r} needs a source on SQLite or Postgres; name a folder instead"
            )
        if self.task == "regression" and self.estimator.class_path == Estimator().class_path:
            raise ValueError("task regression with a classifier: name a regressor under estimator.class")
        return self


def _check_label_key(spec: ModelSpec) -> None:
    """Refuse labels of a second place that could never meet their rows."""
    where = spec.label.source
    if where is None or where.by != "key":
        return
    if spec.source.identity == NO_KEY:
        raise ValueError(
            "label.source goes by the key, and source.key is `row`: rows without a key of their own can only "
            "be found by prediction_id"
        )
    counts = [1 if isinstance(one, str) else len(one) for one in (spec.source.identity, where.identity)]
    if counts[0] != counts[1]:
        raise ValueError(f"label.source.key names {counts[1]} columns, and source.key {counts[0]}")


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
        if name in numbers and (rule.dtype == "string" or rule.matches is not None or texts_of(rule.isin)):
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
