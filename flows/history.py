"""History: questions about versions, answered from the store in a moment; a plain command, no flow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import tasks.aws  # noqa: F401 -- rows of a version may lie on S3: loads the block of EVERGREEN_AWS
from tasks.history.command import Tools, run
from tasks.specfile import model_blocks

if TYPE_CHECKING:
    from tasks.core.results import Trained


def history(argv: Sequence[str] | None = None) -> int:
    """Answer one question about the past of a model; return the exit code."""
    return run(argv, Tools(train=train_again, refit=refit_again, blocks=model_blocks))


def train_again(*args: Any, **kwargs: Any) -> Trained:  # Any: what `train_challenger` takes
    """Return a model trained as a retraining does, outside of any run."""
    from tasks.train import train_challenger  # it needs Prefect, which takes longer to load than any answer

    return train_challenger.fn(*args, **kwargs)


def refit_again(*args: Any, **kwargs: Any) -> Trained:  # Any: what `fit_again` takes
    """Return that model fitted once more on all rows, as a retraining does after the gate."""
    from tasks.refit import fit_again

    return fit_again(*args, **kwargs)


if __name__ == "__main__":
    raise SystemExit(history())
