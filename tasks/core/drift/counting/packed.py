"""Whole-number tables as short JSON values, read back without trusting them."""

from __future__ import annotations

import base64
import math
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_NUMBERS = 2**24  # of one table or of all tables of a history: 128 MB of int64


def pack(table: NDArray[np.integer[Any]]) -> dict[str, Any]:  # Any: JSON values
    """Return the table as JSON values: its shape, its type, and base64 of its compressed bytes.

    The bytes lie by significance, the lowest of every number first: small numbers then leave long runs of
    zeros, which halves the text.
    """
    kind = table.dtype.newbyteorder("<")
    planes = np.ascontiguousarray(table, dtype=kind).reshape(-1).view(np.uint8)
    planes = planes.reshape(-1, kind.itemsize).T
    text = base64.b64encode(zlib.compress(planes.tobytes(), 9)).decode("ascii")
    return {"shape": list(table.shape), "type": kind.str, "data": text}


def unpack(raw: dict[str, Any], kind: str) -> NDArray[Any]:  # Any: JSON values in, int16 or int64 out
    """Return the table that `pack` wrote.

    Never more than the shape's own bytes are decompressed, and no shape beyond `MOST_NUMBERS` is.

    Raises:
        ValueError: when the text is anything else than a table of this type.
    """
    numbers = size_of(raw)
    if raw["type"] != kind or not isinstance(raw["data"], str):
        raise ValueError(f"a table of {raw['type']!r}")
    dtype = np.dtype(kind)
    size = numbers * dtype.itemsize
    try:
        inflate = zlib.decompressobj()
        data = inflate.decompress(base64.b64decode(raw["data"], validate=True), size + 1)
    except zlib.error as err:
        raise ValueError("a table that cannot be decompressed") from err
    if len(data) != size or not inflate.eof or inflate.unused_data:
        raise ValueError("a table of another size than it says")
    planes = np.frombuffer(data, dtype=np.uint8).reshape(dtype.itemsize, numbers)
    flat = np.ascontiguousarray(planes.T).reshape(-1).view(dtype)
    return flat.astype(dtype.newbyteorder("=")).reshape(raw["shape"])


def size_of(raw: dict[str, Any]) -> int:  # Any: JSON values
    """Return how many numbers a packed table says it holds.

    Raises:
        ValueError: when the shape is no shape of two dimensions, or a huge one.
    """
    shape = raw["shape"]
    if not isinstance(shape, list) or len(shape) != 2 or any(type(n) is not int or n < 0 for n in shape):
        raise ValueError("a table without a shape")
    numbers = math.prod(shape)
    if numbers > MOST_NUMBERS:
        raise ValueError("a table too large to be one of ours")
    return numbers
