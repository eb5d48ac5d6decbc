"""A logger that works inside a Prefect run and outside of one."""

from __future__ import annotations

import logging
from typing import Any

from prefect.exceptions import MissingContextError
from prefect.logging import get_run_logger


def task_logger(name: str) -> logging.Logger | logging.LoggerAdapter[Any]:  # Any: the adapter's own parameter
    """Return the logger of the current run, or a plain one where there is no run."""
    try:
        return get_run_logger()
    except MissingContextError:
        return logging.getLogger(name)
