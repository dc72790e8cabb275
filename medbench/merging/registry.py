"""The registry of merge methods: a small function each, its paper, and settings typed by the function's signature.

Three kinds, by what they look at. A *coefficient* method only chooses the numbers in Equation (1), from the weights and
the updates' inner products, so it keeps the exact sum and both output formats. A *factor* method turns low-rank updates
into another low-rank update without forming a full matrix. A *dense* method works on the full matrices and can only be
stored as a checkpoint.
"""

from __future__ import annotations

import importlib
import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from medbench.errors import MedbenchError, unknown

Kind = Literal["coefficients", "factors", "dense"]


@dataclass(frozen=True)
class Check:
    """A condition on a setting, and what was expected where it fails."""

    holds: Callable[[Any], bool]
    expected: str


def one_of(*names: str) -> Check:
    """The setting is one of these names."""
    return Check(lambda value: value in names, f"expected one of {', '.join(names)}")


Density = Annotated[float, Check(lambda value: 0 < value <= 1, "expected a share above 0 and at most 1")]
Share = Annotated[float, Check(lambda value: 0 <= value < 1, "expected a share of at least 0 and below 1")]
Rank = Annotated[int, Check(lambda value: value > 0, "expected a rank above 0")]


@dataclass(frozen=True)
class Input:
    """One setting of a method; a default of None means that it has to be given."""

    type: type
    default: Any
    checks: tuple[Check, ...] = ()

    def problem(self, value: object) -> str:
        """What is wrong with a value, or an empty string."""
        return next((check.expected for check in self.checks if not check.holds(value)), "")


@dataclass(frozen=True)
class Method:
    """A registered merge method.

    Attributes:
        name, kind: see the module's docstring for the kinds.
        function: what computes it; its keyword-only parameters are the settings.
        paper: where the formula comes from.
        inputs: the settings by name.
        normalise: whether its weights are scaled to a sum of 1.
        weighted: False where the method finds its own coefficients, so that weights other than 1 are refused.
        formula: the paper's formula on whole matrices, which the tests hold against `function`:
            ``formula({adapter: dW [out, in]}, {adapter: weight}, **settings) -> dW``, in float64. The methods that came
            first have theirs in tests/merging/test_methods.py.
        examples: the settings with which they are compared.
    """

    name: str
    kind: Kind
    function: Callable[..., Any]
    paper: str
    inputs: dict[str, Input]
    normalise: bool = False
    weighted: bool = True
    formula: Callable[..., Any] | None = None
    examples: tuple[Mapping[str, Any], ...] = ({},)

    @property
    def needs_weights(self) -> bool:
        """Whether every adapter has to be given a weight; else it is 1 where none is given."""
        return self.weighted and not self.normalise

    def settings(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The method's inputs with defaults filled in.

        Raises:
            MedbenchError: an input it does not declare, one that is missing, of another type or out of range.
        """
        for name in given:
            if name not in self.inputs:
                if not self.inputs:
                    raise MedbenchError(f"merge method {self.name} takes no settings, and {name!r} was given.")
                raise unknown(f"setting of merge method {self.name}", name, self.inputs)
        resolved = {}
        for name, declared in self.inputs.items():
            value = given.get(name, declared.default)
            if value is None:
                raise MedbenchError(f"merge method {self.name} needs {name} ({declared.type.__name__}).")
            try:
                value = declared.type(value)
            except (TypeError, ValueError):
                problem = f"expected {declared.type.__name__}"
            else:
                problem = declared.problem(value)
            if problem:
                raise MedbenchError(f"merge method {self.name}: {name} is {value!r}; {problem}.")
            resolved[name] = value
        return resolved


METHODS: dict[str, Method] = {}


def register(
    name: str,
    kind: Kind,
    paper: str,
    *,
    normalise: bool = False,
    weighted: bool = True,
    formula: Callable[..., Any] | None = None,
    examples: tuple[Mapping[str, Any], ...] = ({},),
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a merge method under `name`; its settings are read off the function's keyword-only parameters."""

    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        hints = typing.get_type_hints(function, include_extras=True)
        inputs = {}
        for parameter in inspect.signature(function).parameters.values():
            if parameter.kind is parameter.KEYWORD_ONLY:
                hint = hints[parameter.name]
                default = None if parameter.default is parameter.empty else parameter.default
                inputs[parameter.name] = Input(
                    getattr(hint, "__origin__", hint), default, getattr(hint, "__metadata__", ())
                )
        METHODS[name] = Method(name, kind, function, paper, inputs, normalise, weighted, formula, examples)
        return function

    return add


def method(name: str) -> Method:
    """The registered method, or the error that names the nearest ones.

    The modules are loaded in turn until one registers it: those on factors import torch, which takes seconds.
    """
    for module in ("coefficients", "dense", "factored"):
        if name in METHODS:
            break
        importlib.import_module(f"medbench.merging.{module}")
    if name not in METHODS:
        raise unknown("merge method", name, METHODS)
    return METHODS[name]
