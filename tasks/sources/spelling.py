"""One spelling and one type per column, decided from all its parts: features, keys and labels alike."""

from __future__ import annotations

from typing import Literal, cast

import pyarrow as pa
import pyarrow.compute as pc

from tasks.core.data.spelling import MISSING, NUMBER, TRUTHS, number_text
from tasks.core.spec import ModelSpec
from tasks.sources.shape import common_type

Role = Literal["key", "category", "label", "text label", "number"]
Pieces = list[pa.ChunkedArray]

_PROBE = 1000
_EXACT = 2**53
_MISSING = pa.array(MISSING)
_WHOLE = r"^-?(?:0|[1-9][0-9]*)(?:\.0*)?$"
_ZERO_FIRST = r"^-?0[0-9]+$"
_UUID = r"^[{]?[0-9a-fA-F]{8}-?(?:[0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}[}]?$"
_UUID_PARTS = r"^[{]?(.{8})-?(.{4})-?(.{4})-?(.{4})-?(.{12})[}]?$"
_FOLDS = (
    (r"^(-?)\.([0-9]+)$", r"\10.\2"),  # Arrow knows groups of one digit: this is group 1, then 0.
    (r"^(-?(?:0|[1-9][0-9]*))\.0*$", r"\1"),
    (r"^(-?(?:0|[1-9][0-9]*)\.[0-9]*[1-9])0+$", r"\1"),
    (r"^-0$", "0"),
)
_TRUTHS = pa.array(sorted(TRUTHS))
_BITS = pa.array(["0", "1"])


def roles_of(spec: ModelSpec) -> dict[str, Role]:
    """Return what each column is for; one that the contract declares text has none and stays as written."""
    features = spec.features
    roles: dict[str, Role] = dict.fromkeys(features.numeric, "number")
    others = spec.beside
    if others is not None:
        roles |= dict.fromkeys(others.numeric, "number") | dict.fromkeys(others.categorical, "category")
    for name in (*features.categorical, *spec.gate.slices, spec.source.group):
        if name:
            roles.setdefault(name, "category")
    if spec.task == "regression":
        roles[spec.label.column] = "number"
    else:
        roles[spec.label.column] = "text label" if isinstance(spec.label.positive, str) else "label"
    roles[spec.source.key] = "key"
    if not isinstance(spec.source.identity, str):
        roles = dict.fromkeys(spec.key_parts, cast(Role, "key")) | roles
    for name, rule in spec.contract.columns.items():
        if rule.dtype == "string":
            roles.pop(name, None)
    return roles


def unite(pieces: Pieces, role: Role | None, *, positive: object = None) -> tuple[Pieces, bool]:
    """Return the parts of a column in one type and one spelling, and whether their types can be one.

    Where they cannot, all come as text, for whoever reports it. Truth values of a `text label` are spelled
    as the `positive` class is.
    """
    united, fits = _unite(pieces, role)
    if role == "text label" and fits:
        united = _as_type([_as_whole(piece) for piece in united], pa.string())
        if str(positive).lower() in TRUTHS and all(_only(piece, _TRUTHS) for piece in united):
            spell = next(
                (s for s in (pc.utf8_upper, pc.utf8_title) if s(str(positive)).as_py() == positive), None
            )
            united = [spell(piece) for piece in united] if spell else united
    return united, fits


def _unite(pieces: Pieces, role: Role | None) -> tuple[Pieces, bool]:
    kinds = {piece.type for piece in pieces if not pa.types.is_null(piece.type)}
    families = {_family(kind) for kind in kinds}
    if role is None or not families or not families <= {"number", "truth", "text"}:
        clash = role is not None and len(families) > 1
        return _as_type(pieces, common_type(kinds)), not clash
    if role == "number":
        return _numbers(pieces, families)
    if families == {"truth"}:
        return (_as_type(pieces, pa.string()) if role == "key" else _as_type(pieces, pa.bool_())), True
    if "text" not in families:
        return _values(pieces, families, role)
    return _texts(pieces, families, role)


def key_texts(keys: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Return keys as the texts they are compared by, whatever type they came in."""
    texts = pc.utf8_rtrim(keys.cast(pa.string()), characters=" ")
    return pc.replace_substring_regex(texts, r"^(-?[0-9]+)\.0*$", r"\1")


def folded(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return texts that are numbers in the spelling of `number_text`; any other stays."""
    if _any(pc.match_substring_regex(texts, r"[eE]")):
        encoded = texts.combine_chunks().dictionary_encode()
        known = [
            None if text is None else number_text(text) or text for text in encoded.dictionary.to_pylist()
        ]
        return pa.chunked_array([pa.array(known, pa.string()).take(encoded.indices)])
    if not _any(pc.match_substring_regex(texts, r"\.|^-0")):
        return texts
    for pattern, spelling in _FOLDS:
        texts = pc.replace_substring_regex(texts, pattern, spelling)
    return texts


def _numbers(pieces: Pieces, families: set[str]) -> tuple[Pieces, bool]:
    """Numbers as float64 or int64; with texts among them all are text, truth words as 1 and 0."""
    if "text" not in families:
        pieces = _bits(pieces, pa.int64()) if len(families) > 1 else pieces
        kinds = {piece.type for piece in pieces if not pa.types.is_null(piece.type)}
        exotic = any(pa.types.is_decimal(kind) or kind == pa.uint64() for kind in kinds)
        return _as_type(pieces, pa.float64() if exotic else common_type(kinds)), True
    texts = [piece for piece in pieces if pa.types.is_string(piece.type)]
    pieces = _as_type(_bits(pieces, pa.string()), pa.string())
    if any(_some(piece, _TRUTHS) for piece in texts) and all(_all_truths(piece) for piece in texts):
        return [_as_bits(piece) for piece in pieces], True
    readable = families == {"text"} or any(
        _any(pc.match_substring_regex(pc.utf8_trim_whitespace(piece), NUMBER)) for piece in texts
    )
    return pieces, readable


def _values(pieces: Pieces, families: set[str], role: Role) -> tuple[Pieces, bool]:
    """Numbers, and truth values beside 0 and 1, as keys, categories or labels: exact, none rounded."""
    if "truth" in families:
        if not all(_is_bits(piece) for piece in pieces if not pa.types.is_boolean(piece.type)):
            return _as_type(pieces, pa.string()), False
        pieces = _bits(pieces, pa.int64())
    kinds = {piece.type for piece in pieces if not pa.types.is_null(piece.type)}
    floating = [piece for piece in pieces if pa.types.is_floating(piece.type)]
    if not floating:
        fit = all(_fits(piece) for piece in pieces)
        return _as_type(pieces, pa.int64() if fit else pa.string()), True
    if len(kinds) == 1 and role != "key":
        return pieces, True
    if all(_is_whole(piece) for piece in floating):
        whole = _as_type(
            [_as_whole(piece) for piece in pieces], pa.int64() if _all_fit(pieces) else pa.string()
        )
        return whole, True
    if role == "key" and len(kinds) > 1:
        return _as_type(pieces, pa.string()), False  # a rounded number beside exact ones is nobody's
    return _as_type(pieces, pa.float64()), True


def _texts(pieces: Pieces, families: set[str], role: Role) -> tuple[Pieces, bool]:
    """Texts, alone or beside numbers and truth values."""
    pieces = [_trimmed(piece) for piece in pieces]
    texts = [piece for piece in pieces if pa.types.is_string(piece.type)]
    others = families - {"text"}
    if all(_all_truths(piece) for piece in texts) and (
        "truth" in others or any(_some(piece, _TRUTHS) for piece in texts)
    ):
        return _truths(pieces, others, role)
    if "truth" in others:
        return _as_type(pieces, pa.string()), False
    whole = [piece for piece in pieces if pa.types.is_floating(piece.type)]
    if role == "key" and not all(_is_whole(piece) for piece in whole):
        return _as_type(pieces, pa.string()), False
    wanted = _WHOLE if role == "key" else NUMBER
    if all(_all_match(piece, wanted) for piece in texts):
        spelled = [folded(piece) for piece in _as_type([_as_whole(piece) for piece in pieces], pa.string())]
        return (_as_labels(spelled) if role == "label" else spelled), True
    if role in ("key", "category") and not others and all(_all_match(piece, _UUID) for piece in texts):
        return [_uuids(piece) for piece in pieces], True
    doubtful = others and any(_any(pc.match_substring_regex(piece, _ZERO_FIRST)) for piece in texts)
    pieces = _as_type([_as_whole(piece) for piece in pieces], pa.string())
    return pieces, not doubtful  # 007 in one part and 7 in another: nobody knows whether they are one


def _truths(pieces: Pieces, others: set[str], role: Role) -> tuple[Pieces, bool]:
    numbers = [piece for piece in pieces if _family(piece.type) == "number"]
    if not all(_is_bits(piece) for piece in numbers):
        return _as_type(pieces, pa.string()), False
    texts = [piece for piece in pieces if pa.types.is_string(piece.type)]
    as_bits = "number" in others or not all(_only(piece, _TRUTHS) for piece in texts)
    if as_bits:
        spelled = [_as_bits(piece) for piece in _as_type(_bits(pieces, pa.string()), pa.string())]
        return (_as_type(spelled, pa.int64()) if role == "label" else spelled), True
    lower = [piece.cast(pa.string()) for piece in pieces]
    lower = [pc.utf8_lower(piece) for piece in lower]
    return (_as_type(lower, pa.bool_()) if role == "label" else lower), True


def _as_labels(pieces: Pieces) -> Pieces:
    """Number texts as the numbers that classes are kept as."""
    pieces = [pc.if_else(pc.is_in(piece, _MISSING), pa.scalar(None, pa.string()), piece) for piece in pieces]
    try:
        return _as_type(pieces, pa.int64())
    except pa.ArrowInvalid:
        return _as_type(pieces, pa.float64())


def _family(kind: pa.DataType) -> str:
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "number"
    if pa.types.is_boolean(kind):
        return "truth"
    return "text" if pa.types.is_string(kind) else "time" if pa.types.is_temporal(kind) else "other"


def _as_type(pieces: Pieces, kind: pa.DataType) -> Pieces:
    return [piece if piece.type == kind else _cast(piece, kind) for piece in pieces]


def _cast(piece: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    try:
        return piece.cast(kind, safe=False) if not pa.types.is_string(piece.type) else piece.cast(kind)
    except pa.ArrowNotImplementedError:  # a list or a struct as text: what it holds is nobody's business
        return pa.chunked_array([pa.array([None if v is None else str(v) for v in piece.to_pylist()], kind)])


def _bits(pieces: Pieces, kind: pa.DataType) -> Pieces:
    """Return truth values as 1 and 0 of this type; everything else as it is."""
    return [
        piece.cast(pa.int64()).cast(kind) if pa.types.is_boolean(piece.type) else piece for piece in pieces
    ]


def _as_bits(piece: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return texts with truth words as 1 and 0."""
    lower = pc.utf8_lower(pc.utf8_trim_whitespace(piece))
    spelled = pc.if_else(pc.equal(lower, "true"), "1", pc.if_else(pc.equal(lower, "false"), "0", lower))
    return folded(spelled)


def _is_bits(piece: pa.ChunkedArray) -> bool:
    if pa.types.is_null(piece.type) or pa.types.is_string(piece.type):
        return True
    return set(pc.unique(piece.cast(pa.float64(), safe=False)).to_pylist()) <= {0.0, 1.0, None}


def _all_truths(piece: pa.ChunkedArray) -> bool:
    """Whether every text is a truth word, 0 or 1."""
    if not _only(piece.slice(0, _PROBE), _TRUTHS, _BITS):
        return False
    return _only(piece, _TRUTHS, _BITS)


def _only(piece: pa.ChunkedArray, *sets: pa.Array) -> bool:
    known = pa.concat_arrays([*sets, _MISSING]).to_pylist()
    texts = pc.unique(pc.utf8_lower(pc.utf8_trim_whitespace(piece))).to_pylist()
    return all(text is None or text in known or number_text(text) in known for text in texts)


def _some(piece: pa.ChunkedArray, words: pa.Array) -> bool:
    return _any(pc.is_in(pc.utf8_lower(pc.utf8_trim_whitespace(piece)), words))


def _all_match(piece: pa.ChunkedArray, pattern: str) -> bool:
    for part in (piece.slice(0, _PROBE), piece):
        fits = pc.or_(pc.match_substring_regex(part, pattern), pc.is_in(part, _MISSING))
        if not pc.all(pc.fill_null(fits, True)).as_py():
            return False
    return _any(pc.match_substring_regex(piece, pattern)) or piece.null_count == len(piece)


def _any(flags: pa.ChunkedArray) -> bool:
    return bool(pc.any(flags).as_py())


def _trimmed(piece: pa.ChunkedArray) -> pa.ChunkedArray:
    if not pa.types.is_string(piece.type) or not _any(pc.ends_with(piece, " ")):
        return piece
    return pc.utf8_rtrim(piece, characters=" ")


def _uuids(piece: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.utf8_lower(
        pc.replace_substring_regex(_cast(piece, pa.string()), _UUID_PARTS, r"\1-\2-\3-\4-\5")
    )


def _is_whole(piece: pa.ChunkedArray) -> bool:
    """Whether every float is a whole number that a float holds exactly."""
    values = pc.drop_null(pc.if_else(pc.is_nan(piece), pa.scalar(None, piece.type), piece))
    if not len(values):
        return True
    exact = pc.and_(pc.equal(pc.floor(values), values), pc.less(pc.abs(values), float(_EXACT)))
    return bool(pc.all(exact).as_py())


def _as_whole(piece: pa.ChunkedArray) -> pa.ChunkedArray:
    if not pa.types.is_floating(piece.type) or not _is_whole(piece):
        return piece
    return pc.if_else(pc.is_nan(piece), pa.scalar(None, piece.type), piece).cast(pa.int64())


def _fits(piece: pa.ChunkedArray) -> bool:
    """Whether every number lies within int64."""
    if piece.type != pa.uint64() and not pa.types.is_decimal(piece.type):
        return True
    return all(
        value is None or -(2**63) <= int(value) < 2**63 for value in pc.min_max(piece).as_py().values()
    )


def _all_fit(pieces: Pieces) -> bool:
    return all(_fits(piece) for piece in pieces)
