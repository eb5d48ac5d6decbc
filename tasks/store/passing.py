"""Which faults of registry, store, source and disk may pass by themselves: no verdict is built on one."""

from __future__ import annotations

from tasks.core.errors import RegistryUnavailable, SourceUnavailable, StoreError, WorkflowError

_NOT_THERE = frozenset({"RESOURCE_DOES_NOT_EXIST", "NoSuchKey", "404"})
_NO_FILE = (FileNotFoundError, IsADirectoryError, NotADirectoryError)
# Whose errors mean that something else did not do its part, whatever they are called.
_ELSEWHERE = frozenset(
    {"boto3", "botocore", "http", "httpcore", "httpx", "mlflow", "psycopg", "requests", "s3transfer"}
    | {"sqlalchemy", "sqlite3", "urllib3"}
)


def may_pass(err: BaseException) -> bool:
    """Tell whether trying again may end otherwise: something did not answer, or the machine had no room.

    A file that is not there, one with other bytes, and code that fails on rows are no such fault.

    Example:
        >>> may_pass(TimeoutError()), may_pass(FileNotFoundError()), may_pass(ValueError())
        (True, False, False)
    """
    if isinstance(err, WorkflowError):
        return isinstance(err, RegistryUnavailable | SourceUnavailable | StoreError)
    if isinstance(err, _NO_FILE) or codes_of(err) & _NOT_THERE:
        return False
    if isinstance(err, OSError):
        # pyarrow calls both damaged pages and what S3 says plain OSErrors without a number.
        return type(err) is not OSError or err.errno is not None or "AWS Error" in str(err)
    return isinstance(err, MemoryError) or type(err).__module__.partition(".")[0] in _ELSEWHERE


def answering_not(what: str, err: BaseException, model: str = "") -> WorkflowError:
    """Return the error of something that did not answer, of which a step may be tried again."""
    if isinstance(err, WorkflowError):
        return err
    return RegistryUnavailable(
        f"{what} out of reach ({type(err).__name__})",
        "a place that answers",
        "check the network, the disk and the memory, then run again; nothing was decided",
        model=model,
    )


def is_not_there(err: BaseException) -> bool:
    """Tell whether MLflow or S3 says that what was asked for does not exist."""
    return bool(codes_of(err) & _NOT_THERE)


def codes_of(err: BaseException) -> set[str]:
    """Return what MLflow and boto say of the kind of a fault."""
    response = getattr(err, "response", None)
    inner = response.get("Error", {}) if isinstance(response, dict) else {}
    return {str(getattr(err, "error_code", "")), str(inner.get("Code", ""))}
