"""When a challenger becomes champion: the part of a spec that the gate reads."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tasks.core.spec_parts import Column, Columns, ImportPath, Length, Number, Part, Share, at

Outcome = Annotated[str, Field(pattern=r"^[^>]+>[^>]+$", examples=["1>1", "0>1"])]


class Anchor(Part):
    """A frozen set of trusted rows that no model learns from, beside the moving holdout."""

    rows: int = Field(
        0,
        ge=0,
        le=100_000,
        **at(
            0,
            "Most rows of it, taken from the first holdout; 0: no anchor (the default), else at least "
            "gate.min_rows.",
        ),
    )
    tolerance: Number | None = Field(
        None,
        ge=0,
        **at(
            1,
            "Loss on it that may not be shown, in the metric; of a regression's error (neg_*) a share of the "
            "best version's; default: gate.margin.",
        ),
    )


class Fairness(Part):
    """Gaps between groups that a challenger may not widen."""

    columns: Columns = Field(default_factory=list, **at(0, "Columns whose values are the groups."))
    measure: Literal["selection_rate", "true_positive_rate", "false_positive_rate", "error"] = Field(
        "true_positive_rate",
        **at(
            1,
            "What is compared between groups; a regression compares mean absolute errors, as a share of the "
            "largest.",
        ),
    )
    max_gap: Share = Field(0.1, **at(2, "Largest gap between two groups of at least gate.min_rows rows."))


class Value(Part):
    """What right and wrong predictions are worth, so that a decision also says money."""

    outcomes: dict[Outcome, Number] = Field(
        default_factory=dict, **at(0, 'Worth of one row by "label>prediction"; pairs not named are worth 0.')
    )
    function: ImportPath | None = Field(
        None,
        **at(
            1,
            "`package.module:function(rows, prediction, probabilities)` giving the worth of each row; "
            "instead of outcomes.",
        ),
    )
    currency: str = Field("", max_length=12, **at(2, "Unit to show, for example EUR."))
    decides: bool = Field(
        False, **at(3, "Whether a shown loss of worth speaks against a challenger; then see on_doubt.")
    )

    @model_validator(mode="after")
    def _one_way(self) -> Value:
        if self.outcomes and self.function:
            raise ValueError("value takes outcomes or a function, not both")
        return self


class Gate(Part):
    """When a challenger becomes champion."""

    margin: Number = Field(
        0.01,
        ge=0,
        **at(
            0,
            "How much worse may not be ruled out: in the metric, but of a regression's error (neg_*) as a "
            "share of the opponent's, so that 0.01 is 1 % of it.",
        ),
    )
    confidence: float = Field(0.95, gt=0.5, lt=1, **at(1, "Confidence of the interval that decides."))
    floor: Number | None = Field(
        None, **at(2, "Worst score a champion may have, whatever it is compared with.")
    )
    min_rows: int = Field(
        100, ge=2, **at(3, "Fewest unseen rows a comparison may rest on; weighted, effective ones.")
    )
    slices: Columns = Field(
        default_factory=list, **at(4, "Columns whose values are also compared one by one.")
    )
    promotion: Literal["auto", "manual", "dry_run"] = Field(
        "auto", **at(5, "Promote at once, wait for a person, or only say what would happen.")
    )
    approval: Length = Field(
        "3d", **at(6, "How long a challenger waits for a person; after that it counts as rejected.")
    )
    on_doubt: Literal["ask", "keep", "tell"] = Field(
        "tell",
        **at(
            7,
            "What to do with a challenger that is better on the newest rows while the anchor, a group, the "
            "labels or the disagreement speak against it: ask a person, keep the champion, or promote "
            "and tell.",
        ),
    )
    anchor: Anchor = Field(default_factory=Anchor, **at(8, "The frozen trusted rows."))
    max_disagreement: Share | None = Field(
        0.5, **at(9, "Share of rows on which challenger and champion may give different labels.")
    )
    max_label_shift: Share | None = Field(
        0.3,
        **at(
            10,
            "How far the labels of the compared rows may lie from those of the training rows: total "
            "variation of classes, Kolmogorov-Smirnov distance of numbers.",
        ),
    )
    fairness: Fairness = Field(default_factory=Fairness, **at(11, "Gaps between groups."))
    value: Value = Field(default_factory=Value, **at(12, "What outcomes are worth."))
    weight: Column | None = Field(None, **at(13, "Column with the weight of each row in the comparison."))
    max_latency_ms: float | None = Field(
        None, gt=0, **at(14, "Longest time one row may take to score, as P95, before a version may serve.")
    )
    probation: int = Field(
        3,
        ge=0,
        le=100,
        **at(
            15,
            "Check windows after a promotion in which a champion that breaks its promise goes back to the "
            "one before by itself; 0: never.",
        ),
    )

    rule: Literal["not_worse", "ahead", "better"] = Field(
        "not_worse",
        **at(
            16,
            "What a challenger must be: not_worse (not shown to be worse than the champion), ahead (the "
            "better score, shown or not), or better (shown to be better). See docs/gate.md.",
        ),
    )
    refit: bool = Field(
        True,
        **at(
            17,
            "After the gate, fit the same recipe on all rows, the compared ones too; that model serves.",
        ),
    )

    @model_validator(mode="after")
    def _enough_trusted_rows(self) -> Gate:
        if 0 < self.anchor.rows < self.min_rows:
            raise ValueError(
                f"anchor.rows ({self.anchor.rows}) must be 0 (no anchor) or at least min_rows "
                f"({self.min_rows}), or no anchor could ever be fixed"
            )
        return self
