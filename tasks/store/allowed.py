"""What a stored model file may be made of: the list of types, and the audit against it.

The audit reads the file's own description (`schema.json`) as plain JSON and imports nothing it names but
modules of scikit-learn. Each node there pairs a loader with a type; only the pairs below pass. It is stricter
than skops alone, which accepts any trusted name under any loader, and picks a bit generator by a name it does
not check.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from inspect import isabstract
from types import FunctionType
from typing import Any


def _words(*lines: str) -> list[str]:
    return " ".join(lines).split()


_NO_ESTIMATORS = frozenset({"tests", "externals", "setup", "conftest", "experimental", "estimator_checks"})
_BIT_GENERATORS = ('"PCG64"', '"PCG64DXSM"', '"MT19937"', '"Philox"', '"SFC64"')  # as JSON text
_CHECK_ARRAY = "sklearn.utils.validation.check_array"
_UFUNC_MODULES = ("numpy", "numpy.core._multiarray_umath", "numpy._core._multiarray_umath")
_UFUNCS = _words(
    "absolute arcsinh cbrt cos exp expm1 log log10 log1p log2 negative reciprocal sign sin sinh sqrt square",
    "tanh",
)
# Pure functions of columns, by which SelectKBest and its like choose; mutual information comes as a partial.
_SCORES = frozenset(
    _words(
        "sklearn.feature_selection._mutual_info.mutual_info_classif",
        "sklearn.feature_selection._mutual_info.mutual_info_regression",
        "sklearn.feature_selection._univariate_selection.chi2",
        "sklearn.feature_selection._univariate_selection.f_classif",
        "sklearn.feature_selection._univariate_selection.f_regression",
        "sklearn.feature_selection._univariate_selection.r_regression",
    )
)
_ASARRAY = "scipy._lib.array_api_compat.numpy._aliases.asarray"  # a fitted BSpline holds it
_KERNELS = _words(
    "CompoundKernel ConstantKernel DotProduct ExpSineSquared Exponentiation Matern Product RBF",
    "RationalQuadratic Sum WhiteKernel",
)
_ABSTRACT = _words("number integer floating signedinteger unsignedinteger object_ generic")
_SCALARS = _words(
    "bool bool_ bytes_ complex128 complex64 datetime64 float16 float32 float64 int16 int32 int64 int8 intc",
    "longdouble longlong str_ timedelta64 uint16 uint32 uint64 uint8 uintc ulonglong",
)
_INTERNALS = frozenset(
    {
        "sklearn._loss.link.HalfLogitLink",
        "sklearn._loss.link.IdentityLink",
        "sklearn._loss.link.Interval",
        "sklearn._loss.link.LogLink",
        "sklearn._loss.link.LogitLink",
        "sklearn._loss.link.MultinomialLogit",
        "sklearn._loss.loss.AbsoluteError",
        "sklearn._loss.loss.ExponentialLoss",
        "sklearn._loss.loss.HalfBinomialLoss",
        "sklearn._loss.loss.HalfGammaLoss",
        "sklearn._loss.loss.HalfMultinomialLoss",
        "sklearn._loss.loss.HalfPoissonLoss",
        "sklearn._loss.loss.HalfSquaredError",
        "sklearn._loss.loss.HalfTweedieLoss",
        "sklearn._loss.loss.HalfTweedieLossIdentity",
        "sklearn._loss.loss.HuberLoss",
        "sklearn._loss.loss.PinballLoss",
        "scipy.interpolate._bsplines.BSpline",
        "sklearn.calibration._CalibratedClassifier",
        "sklearn.calibration._SigmoidCalibration",
        "sklearn.compose._column_transformer.make_column_selector",
        "sklearn.ensemble._hist_gradient_boosting.binning._BinMapper",
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
        "sklearn.gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace",
        *(f"sklearn.gaussian_process.kernels.{name}" for name in _KERNELS),
        "sklearn.metrics._dist_metrics.EuclideanDistance",
        "sklearn.metrics._dist_metrics.EuclideanDistance64",
        "sklearn.metrics._dist_metrics.ManhattanDistance64",
        "sklearn.metrics._dist_metrics.MinkowskiDistance64",
        "sklearn.neighbors._ball_tree.BallTree",
        "sklearn.neighbors._kd_tree.KDTree",
        "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
        "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
    }
)
_LOSSES = frozenset(
    [
        f"sklearn._loss._loss.Cy{name}"
        for name in _words(
            "AbsoluteError ExponentialLoss HalfBinomialLoss HalfGammaLoss HalfMultinomialLoss",
            "HalfPoissonLoss HalfSquaredError HalfTweedieLoss HalfTweedieLossIdentity HuberLoss PinballLoss",
        )
    ]
    + [
        f"sklearn.linear_model._sgd_fast.{name}"
        for name in _words("EpsilonInsensitive Hinge ModifiedHuber SquaredEpsilonInsensitive SquaredHinge")
    ]
)


@dataclass(frozen=True)
class Audit:
    """What a model's description names: `refused` in words, `names` as the list that skops asks for."""

    refused: tuple[str, ...]
    names: tuple[str, ...]


def audit(schema: object, also: Iterable[str] = ()) -> Audit:
    """Return what the description of a model names; nothing refused means that it may be loaded.

    Args:
        schema: the parsed `schema.json`.
        also: exact names of further estimator classes that the caller vouches for, and of functions, which
            end in `()`.
    """
    allowed = allowed_by_loader(tuple(also))
    refused: set[str] = set()
    names: set[str] = set()
    first_of_id: dict[object, tuple[object, ...]] = {}
    for node in _nodes(schema):
        loader, name = node["__loader__"], _full_name(node)
        names.add(name)
        is_known = name in allowed.get(loader, frozenset())
        if not is_known and not (loader == "ObjectNode" and is_sklearn_estimator(name)):
            refused.add(f"{name} ({loader})")
        # skops puts the first node with an id in place of every later one: equal ids must be equal things.
        identity = (loader, name, node.get("content") if loader == "JsonNode" else None)
        if node.get("__id__") and first_of_id.setdefault(node["__id__"], identity) != identity:
            refused.add(f"{name} standing in for another object")
        refused.update(_refused_inside(loader, node, allowed["FunctionNode"]))
    return Audit(tuple(sorted(refused)), tuple(sorted(names)))


@lru_cache(maxsize=16)
def allowed_by_loader(also: tuple[str, ...] = ()) -> Mapping[str, frozenset[str]]:
    """Return the names that each skops loader may build, beside the estimators of scikit-learn."""
    functions = frozenset(name.removesuffix("()") for name in also if name.endswith("()"))
    scalars = frozenset(f"numpy.{name}" for name in _SCALARS)
    return {
        "ObjectNode": _own_estimators() | _INTERNALS | (frozenset(also) - functions),
        "TreeNode": frozenset({"sklearn.tree._tree.Tree"}),
        "LossNode": _LOSSES,
        "JsonNode": frozenset({"builtins.str"}),
        "DictNode": frozenset({"builtins.dict", "collections.OrderedDict", "sklearn.utils._bunch.Bunch"}),
        "ListNode": frozenset({"builtins.list"}),
        "TupleNode": frozenset({"builtins.tuple"}),
        "SetNode": frozenset({"builtins.set"}),
        "SliceNode": frozenset({"builtins.slice"}),
        "NdArrayNode": scalars | {"numpy.ndarray"},
        "DTypeNode": frozenset({"numpy.dtype"}),
        "TypeNode": scalars
        | {f"numpy.{name}" for name in _ABSTRACT}
        | {f"builtins.{name}" for name in ("str", "int", "float", "bool", "object")},
        "RandomStateNode": frozenset({"numpy.random.mtrand.RandomState"}),
        "RandomGeneratorNode": frozenset({"numpy.random._generator.Generator"}),
        # Native categoricals of HistGradientBoosting hold partial(check_array, …); see _refused_inside.
        "PartialNode": frozenset({"functools.partial"}),
        "FunctionNode": frozenset(
            {
                _CHECK_ARRAY,
                _ASARRAY,
                *_SCORES,
                *functions,
                *(f"{module}.{name}" for module in _UFUNC_MODULES for name in _UFUNCS),
            }
        ),
    }


def _nodes(schema: object) -> Iterator[dict[str, Any]]:  # Any: JSON of unknown shape
    """Yield every mapping that skops could take for a node: whatever carries a loader."""
    todo = [schema]
    while todo:
        item = todo.pop()
        if isinstance(item, dict):
            if isinstance(item.get("__loader__"), str):
                yield item
            todo.extend(item.values())
        elif isinstance(item, list):
            todo.extend(item)


def _refused_inside(
    loader: str,
    node: dict[str, Any],  # Any: JSON of unknown shape
    functions: frozenset[str],
) -> Iterator[str]:
    content = node.get("content")
    inner = content if isinstance(content, dict) else {}
    if loader == "PartialNode":
        function = inner.get("func")
        if not isinstance(function, dict) or _full_name(function) not in functions:
            yield f"functools.partial of {_full_name(function)}"
    if loader == "DictNode" and "bit_generator" in inner:
        name = inner["bit_generator"]
        if not isinstance(name, dict) or name.get("content") not in _BIT_GENERATORS:
            yield "an unknown bit generator"
    if loader == "RandomGeneratorNode" and not _is_named(inner.get("bit_generator")):
        yield "a random generator without its name"


def _is_named(state: object) -> bool:
    """Tell whether the state of a bit generator is a plain mapping that names it, checked as any other is."""
    if not isinstance(state, dict) or state.get("__loader__") != "DictNode":
        return False
    content = state.get("content")
    return isinstance(content, dict) and "bit_generator" in content


def _full_name(node: object) -> str:
    return f"{node.get('__module__')}.{node.get('__class__')}" if isinstance(node, dict) else "?"


@lru_cache(maxsize=1024)
def is_sklearn_estimator(name: str) -> bool:
    """Return whether this is the full name of a concrete estimator that scikit-learn makes public.

    Only modules of scikit-learn are imported to find out, and only the named ones: its own list of all
    estimators imports every module there is, which costs a process seconds.
    """
    from sklearn.base import BaseEstimator

    module, _, kind = name.rpartition(".")
    parts = module.split(".")
    is_plain = parts[0] == "sklearn" and all(part.isidentifier() for part in (*parts, kind))
    if not is_plain or kind.startswith("_") or _NO_ESTIMATORS & {*parts}:
        return False
    public = parts[: next((place for place, part in enumerate(parts) if part.startswith("_")), len(parts))]
    try:
        found = getattr(import_module(module), kind, None)
        is_public = getattr(import_module(".".join(public)), kind, None) is found
    except ImportError:
        return False
    is_estimator = isinstance(found, type) and issubclass(found, BaseEstimator) and found is not BaseEstimator
    return is_estimator and is_public and found.__module__ == module and not isabstract(found)


@lru_cache(maxsize=1)
def _own_estimators() -> frozenset[str]:
    """Name the estimators that our own pipeline module defines, and nothing else it holds."""
    from tasks.core.model import pipeline

    return estimators_in(pipeline)


def estimators_in(module: object) -> frozenset[str]:
    """Return the full names of the scikit-learn estimators defined in this module itself."""
    from sklearn.base import BaseEstimator

    home = getattr(module, "__name__", "")
    found = (item for item in vars(module).values() if isinstance(item, type))
    return frozenset(
        f"{home}.{cls.__name__}" for cls in found if issubclass(cls, BaseEstimator) and cls.__module__ == home
    )


def functions_in(module: object) -> frozenset[str]:
    """Return the full names of the plain functions defined in this module itself, each ending in `()`."""
    home = getattr(module, "__name__", "")
    found = (item for item in vars(module).values() if isinstance(item, FunctionType))
    return frozenset(f"{home}.{one.__qualname__}()" for one in found if one.__module__ == home)
