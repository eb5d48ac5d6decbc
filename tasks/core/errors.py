"""Every error this project raises on purpose.

WorkflowError
├── SpecError            the model's YAML or settings are wrong
├── FetchError           the source could not be read
│   └── SourceUnavailable   ... for a reason that may pass: retried
├── ContractError        the data does not have the shape that was agreed
├── TrainingError        no model could be fitted or scored
├── DriftError           a reference or window cannot be profiled
├── RegistryError        a version could not be written, read or believed
│   └── RegistryUnavailable ... because registry, disk or network did not answer: retried, never a verdict
├── StoreError           the store of history does not answer
├── PromotionRefused     the gate or an approval said no; a normal outcome
│   └── NotServable         ... or the version does not load or answer in a clean process
└── LaunchError          a retraining could not be started
    └── Overtaken           ... to its end, because another run took it over; nothing is wrong
"""

from __future__ import annotations

MAX_MESSAGE = 500


class WorkflowError(Exception):
    """What was found, what was expected and what to do next, in one short message.

    All three arguments travel unchanged through pickling; the text is built when it is read.

    Example:
        >>> print(SpecError("metric 'rmse' for a classifier", "a classification scorer", "use roc_auc"))
        found metric 'rmse' for a classifier; expected a classification scorer; to do: use roc_auc
    """

    def __init__(self, found: str, expected: str = "", todo: str = "", *, model: str = "", window: str = ""):
        super().__init__(found, expected, todo, model, window)
        self.found = found
        self.expected = expected
        self.todo = todo
        self.model = model
        self.window = window

    def __reduce__(self) -> tuple[object, ...]:
        """Rebuild from the parts, so that the error survives a process hop."""
        return (_rebuild, (type(self), self.args))

    def __str__(self) -> str:
        where = " ".join(part for part in (self.model, self.window) if part)
        rest = f"; expected {self.expected}" if self.expected else ""
        rest += f"; to do: {self.todo}" if self.todo else ""
        head = (f"[{where}] " if where else "") + f"found {self.found}"
        # What was found is shortened first, so that a reader still learns what to do.
        text = _shortened(head, MAX_MESSAGE - min(len(rest), MAX_MESSAGE // 2)) + rest
        return _shortened(text, MAX_MESSAGE)


def _shortened(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _rebuild(kind: type[WorkflowError], args: tuple[str, str, str, str, str]) -> WorkflowError:
    found, expected, todo, model, window = args
    return kind(found, expected, todo, model=model, window=window)


class SpecError(WorkflowError):
    """The model's YAML or the settings of this place are wrong."""


class FetchError(WorkflowError):
    """The source could not be read, and trying again will not help."""


class SourceUnavailable(FetchError):
    """The source did not answer for a reason that may pass; the task retries."""


class ContractError(WorkflowError):
    """The data does not have the shape that was agreed."""


class TrainingError(WorkflowError):
    """No model could be fitted or scored on these rows."""


class DriftError(WorkflowError):
    """A reference or a window cannot be profiled."""


class RegistryError(WorkflowError):
    """A version could not be written, read or believed."""


class RegistryUnavailable(RegistryError):
    """Registry, disk or network did not answer; retried, and nothing is decided on it."""


class StoreError(WorkflowError):
    """The store of history does not answer or cannot be used."""


class PromotionRefused(WorkflowError):
    """The gate or an approval said no; a normal outcome, not a crash."""


class NotServable(PromotionRefused):
    """The version does not load, answer or answer in time in a clean process: it may not serve."""


class LaunchError(WorkflowError):
    """A retraining could not be started."""


class Overtaken(LaunchError):
    """Another run carries the attempt out by now: this one leaves nothing behind, and nothing is wrong."""
