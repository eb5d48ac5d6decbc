"""A replay on the terminal: one line per window as it goes, a bar below, a table at the end."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.box import SIMPLE
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tasks.core.replay.advice import Advice
from tasks.core.replay.advice_text import advice_details, advice_sentence, amount, signed
from tasks.core.replay.backtest_result import Backtest
from tasks.core.replay.summary import Summary, WindowResult, shown
from tasks.core.spec import ModelSpec
from tasks.replay.stage import Stage

_COLOURS = {"ok": "green", "warn": "yellow", "drift": "red", "undecided": "dim"}
_ENDS = {"promoted": "bold green", "kept": "yellow", "blocked": "bold magenta", "skipped": "dim"}


class Stageplay:
    """Prints what happens; where the output is no terminal, plain lines without a bar."""

    def __init__(self, spec: ModelSpec, stage: Stage, console: Console | None = None):
        self._console = console or _wide_console()
        self._spec = spec
        self._count = len(stage.windows)
        self._bar = Progress(
            TextColumn("replay of {task.fields[model]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("replay", total=self._count, model=spec.name)

    def __enter__(self) -> Self:
        self._console.print(
            "Each line: the window, what was served, the realised score of the labels known by then, the "
            "checks, the decision. The table at the end scores every window on all of its labels."
        )
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def tell(self, result: WindowResult, watched: Any) -> None:  # Any: monitor's CheckResult
        """Print the window's line; its score is the realised one of the newest labels known by now."""
        self._bar.advance(self._task)
        done = len(str(self._count))
        number = int(self._bar.tasks[0].completed)
        realised = shown(watched.value)
        end = f" → [{_ENDS.get(result.outcome, 'white')}]{result.outcome}[/]" if result.outcome else ""
        why = f" {result.cause}" if result.decision != "SKIP" or result.cause != "none" else ""
        planted = f"  [dim]planted: {result.planted}[/]" if result.planted else ""
        self._console.print(
            f"{number:>{done}}/{self._count}  {result.start:%Y-%m-%d}  {result.rows:>6} rows  "
            f"v{result.version:<3} {self._spec.metric} {realised:<7} "
            f"performance {_coloured(result.performance)} drift {_coloured(result.drift)} "
            f"{result.decision}{why}{end}{planted}"
        )

    def end(self, summary: Summary, folder: Path) -> None:
        """Print the table of windows, the totals, and where the report is."""
        table = Table(title=f"{summary.model}: {summary.metric} held, window by window", box=SIMPLE)
        for name in ("window", "rows", "served by", "loop", "never", "verdict", "decision"):
            right = name in {"rows", "loop", "never"}
            table.add_column(name, justify="right" if right else "left", no_wrap=True)
        for item in summary.windows:
            cause = f" {item.cause}" if item.cause not in {"", "none"} else ""
            end = f" → {item.outcome}" if item.outcome else ""
            table.add_row(
                f"{item.start:%Y-%m-%d}",
                str(item.rows),
                f"v{item.version}",
                shown(item.score),
                shown(item.never_score),
                _coloured(item.verdict),
                f"{item.decision}{cause}{end}",
            )
        self._console.print(table)
        for sentence in summary.sentences():
            self._console.print(sentence)
        self._console.print(f"report: {folder / 'report.html'}\nsummary: {folder / 'summary.json'}")


def show_backtest(result: Backtest, advice: Advice, folder: Path) -> None:
    """Print what each policy held and cost, what is advised, and where the charts are."""
    title = f"{result.model}: mean {result.metric} over the same {result.windows} windows"
    table = Table(title=title, box=SIMPLE)
    columns = ("policy", "score", "from calendars", "retrainings", "promotions", "fits", "seconds", "best")
    for name in columns:
        table.add_column(name, justify="left" if name == "policy" else "right", no_wrap=True)
    for policy, held in zip(result.policies, advice.policies, strict=True):
        scale = abs(policy.mean_score or 0.0)
        table.add_row(
            f"[bold]{policy.name}[/]" if policy.name == advice.advised else policy.name,
            amount(policy.mean_score, scale),
            signed(held.above.value, scale),
            str(policy.retrainings),
            str(policy.promotions),
            str(policy.fits),
            f"{policy.fit_seconds:.1f}",
            "–" if held.best_share is None else f"{held.best_share:.0%}",
        )
    console = _wide_console()
    console.print(table)
    console.print(advice_sentence(advice))
    for sentence in advice_details(advice):
        console.print(f"[dim]{sentence}[/]")
    if advice.settings:
        console.print(f"\n{advice.yaml()}", markup=False)
    console.print(f"charts: {folder / 'backtest.html'}\nfigures: {folder / 'backtest.json'}")


def _wide_console() -> Console:
    console = Console(highlight=False, soft_wrap=True)
    return console if console.is_terminal else Console(highlight=False, soft_wrap=True, width=110)


def _coloured(outcome: str) -> str:
    return f"[{_COLOURS.get(outcome, 'white')}]{outcome:<9}[/]"
