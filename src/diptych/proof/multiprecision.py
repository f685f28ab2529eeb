"""The reference `mpmath`: derivatives to all digits, of bodies written in array-API calls.

A body runs on NumPy arrays of mpmath numbers, at sixty digits: `diptych.namespace` of them is
NumPy's, and each of its functions hands them to mpmath's. A difference with a step of 1e-20 is
then right to forty digits, whatever cancels in floating point.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

try:
    import mpmath
except ImportError as error:
    from diptych.errors import MissingFrameworkError, message

    raise MissingFrameworkError(
        message(
            "reference='mpmath'",
            expected="an installed mpmath",
            got=f"{error}",
            mend='pip install "diptych[mpmath]"',
        )
    ) from error

from diptych.arguments import flatten
from diptych.proof.differences import AXES, ByDifferences, Measured, by_entries
from diptych.proof.references import believed
from diptych.proof.subject import Subject

DIGITS = 60
STEP = 20
LARGEST = 5_000

# What NumPy or SciPy calls otherwise than mpmath.
_NAMES = {
    "arcsin": "asin", "arccos": "acos", "arctan": "atan", "arcsinh": "asinh", "arccosh": "acosh",
    "arctanh": "atanh", "arctan2": "atan2", "gammaln": "loggamma", "psi": "digamma",
    "expi": "ei", "ndtr": "ncdf", "jv": "besselj", "iv": "besseli", "kv": "besselk",
    "rint": "nint",
}  # fmt: skip
_SAME = frozenset(
    "exp log log1p expm1 log10 sin cos tan sinh cosh tanh sqrt cbrt hypot floor ceil sign isnan "
    "isinf isfinite erf erfc gamma digamma ellipk ellipe beta".split()
)


def _divide(a: Any, b: Any) -> Any:
    try:
        return a / b
    except ZeroDivisionError:
        return mpmath.nan if a == 0 or mpmath.isnan(a) else mpmath.sign(a) * mpmath.inf


def _power(a: Any, b: Any) -> Any:
    try:
        return a**b
    except ZeroDivisionError:
        return mpmath.inf


_OWN: dict[str, Callable[..., Any]] = {
    "divide": _divide,
    "true_divide": _divide,
    "power": _power,
    "float_power": _power,
    "reciprocal": lambda a: _divide(mpmath.mpf(1), a),
    "exp2": lambda a: mpmath.power(2, a),
    "log2": lambda a: mpmath.log(a, 2),
    "trunc": lambda a: mpmath.floor(a) if a >= 0 else mpmath.ceil(a),
    "logaddexp": lambda a, b: max(a, b) + mpmath.log1p(mpmath.exp(-abs(a - b))),
    "expit": lambda a: 1 / (1 + mpmath.exp(-a)),
    "logit": lambda a: mpmath.log(a) - mpmath.log1p(-a),
    "xlogy": lambda a, b: mpmath.mpf(0) if a == 0 else a * mpmath.log(b),
    "signbit": lambda a: a < 0,
    "copysign": lambda a, b: abs(a) if b >= 0 else -abs(a),
}
_TRUTHS = frozenset({"isnan", "isinf", "isfinite", "signbit"})


def _function(name: str) -> Callable[..., Any] | None:
    """Returns what mpmath has for a ufunc; real where its arguments are."""
    chosen = _OWN.get(name)
    if chosen is None and (name in _SAME or name in _NAMES):
        chosen = getattr(mpmath, _NAMES.get(name, name))
    if chosen is None:
        return None

    def of_numbers(*args: Any) -> Any:
        numbers = [mpmath.mpmathify(_python(a)) for a in args]
        found = chosen(*numbers)
        real = not any(isinstance(a, mpmath.mpc) for a in numbers)
        # The logarithm of -1 is no number to a real function.
        return mpmath.nan if real and isinstance(found, mpmath.mpc) else found

    return of_numbers


def _python(x: Any) -> Any:
    return x.item() if isinstance(x, (np.generic, np.ndarray)) else x


class MpArray(np.ndarray):
    """A NumPy array of mpmath numbers; NumPy's functions of it are mpmath's."""

    def __array_ufunc__(
        self, ufunc: np.ufunc, method: str, *inputs: Any, out: Any = None, **kwargs: Any
    ) -> Any:
        """Calls mpmath's function of that name, or NumPy's own where it is arithmetic."""
        arrays = [x.view(np.ndarray) if isinstance(x, MpArray) else x for x in inputs]
        function = _function(ufunc.__name__)
        if function is None or method != "__call__":
            found = getattr(ufunc, method)(*arrays, **kwargs)
        else:
            found = np.frompyfunc(function, ufunc.nin, 1)(*arrays)
            if ufunc.__name__ in _TRUTHS:
                found = np.asarray(found, bool)
        if out is None:
            return _wrapped(found)
        out[0][...] = found
        return out[0]

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        """Calls any other function of NumPy, and keeps what comes of it in this class."""
        return _wrapped(super().__array_function__(func, types, args, kwargs))

    def __getitem__(self, key: Any) -> Any:
        """Returns entries as arrays too, so that functions of them are mpmath's."""
        return _wrapped(super().__getitem__(key))

    def astype(self, dtype: Any, *args: Any, **kwargs: Any) -> Any:
        """Returns the array itself: floating-point types have fewer digits."""
        kept = np.dtype(dtype).kind in "fcO"
        return self.copy() if kept else super().astype(dtype, *args, **kwargs)

    @property
    def real(self) -> Any:  # type: ignore[override]  # NumPy's is for numbers of its own
        """The real part of each entry."""
        return _wrapped(np.frompyfunc(mpmath.re, 1, 1)(self.view(np.ndarray)))

    @property
    def imag(self) -> Any:  # type: ignore[override]
        """The imaginary part of each entry."""
        return _wrapped(np.frompyfunc(mpmath.im, 1, 1)(self.view(np.ndarray)))


def _wrapped(x: Any) -> Any:
    """Returns arrays and numbers of mpmath as `MpArray`, and all else as it is."""
    if isinstance(x, (mpmath.mpf, mpmath.mpc)):
        made = np.empty((), object)
        made[()] = x
        return made.view(MpArray)
    if isinstance(x, MpArray) and x.dtype != object:
        return x.view(np.ndarray)
    if isinstance(x, np.ndarray):
        return x.view(MpArray) if x.dtype == object else x
    if isinstance(x, (tuple, list)) and type(x) in (tuple, list):
        return type(x)(_wrapped(item) for item in x)
    return x


def to_mpmath(x: np.ndarray) -> Any:
    """Returns an array of floats or complex numbers as one of mpmath numbers, exactly."""
    made = np.empty(x.shape, object)
    for index in np.ndindex(x.shape):
        made[index] = mpmath.mpmathify(x[index].item())
    return made.view(MpArray)


def to_numpy(x: Any) -> np.ndarray:
    """Returns an array of mpmath numbers, rounded to NumPy's."""
    plain = np.asarray(x, object)
    kind = complex if any(isinstance(v, mpmath.mpc) for v in plain.flat) else float
    return np.array([kind(v) for v in plain.flat], kind).reshape(plain.shape)


class ByMpmath:
    """Differences of the body in mpmath's numbers: right in every digit of a float.

    Args:
        subject: the point.
        body: the function, in array-API calls.

    Raises:
        ValueError: if mpmath cannot run the body, or something in it rounds to floats.
    """

    name = "mpmath"

    def __init__(self, subject: Subject, body: Callable[..., Any]):
        self.subject = subject
        self.body = body
        self.kinks = 0
        moving = zip(subject.values, subject.moving, strict=True)
        self.size = sum(x.size * (2 if x.dtype.kind == "c" else 1) for x, m in moving if m)
        if self.size > LARGEST:
            raise ValueError(f"reference='mpmath' takes {LARGEST} numbers at most, not {self.size}")
        try:
            self.push(subject.dots(np.random.default_rng(0)))
        except ValueError:
            raise
        except Exception as error:
            raise ValueError(
                f"reference='mpmath': {subject.target.name} cannot be computed by mpmath: "
                f"{type(error).__name__}: {error}. It must be written in array-API calls, with "
                "xp = diptych.namespace(x), and without linear algebra"
            ) from error
        if not believed(self, ByDifferences(subject, body)):
            raise ValueError(
                f"reference='mpmath': in mpmath's numbers {subject.target.name} has another "
                "derivative than in floats; something in it rounds to floats"
            )

    @property
    def full(self) -> bool:
        """Whether there are so few inputs that each is varied by itself."""
        return self.size <= AXES

    def pull(self, bars: Sequence[Any]) -> Measured:
        """Returns the cotangents, entry by entry; unknown at a kink."""
        return by_entries(self.subject, bars, self._column)

    def _column(self, i: int, index: tuple[int, ...], dots: Sequence[Any]) -> tuple[Measured, bool]:
        before = self.kinks
        return self.push(dots), self.kinks > before

    def push(self, dots: Sequence[Any]) -> Measured:
        """Returns the tangents of the outputs; half the jump is the error where there is a kink."""
        with mpmath.workdps(DIGITS):
            wide = mpmath.mpf(10) ** -STEP
            narrow = wide / 1024
            middle = self._at(dots, mpmath.mpf(0))
            sides = [(h, self._at(dots, h), self._at(dots, -h)) for h in (wide, narrow)]
            values: list[Any] = []
            errors: list[Any] = []
            for k, here in enumerate(middle):
                if here is None:
                    values.append(None)
                    errors.append(None)
                    continue
                slope = to_numpy((sides[0][1][k] - sides[0][2][k]) / (2 * wide))
                bend, closer = (
                    np.abs(to_numpy((up[k] - 2 * here + down[k]) / h)) for h, up, down in sides
                )
                # What bends smoothly bends less in a shorter step.
                # A formula that cancels rounds in mpmath's numbers, too: that is no kink.
                size = np.maximum(1e-30 * np.abs(to_numpy(here)), 1e-12 * np.abs(slope))
                kink = (closer > 0.1 * bend) & (bend > size)
                self.kinks += int(np.sum(kink))
                values.append(slope)
                errors.append(np.where(kink, bend, 1e-15 * np.abs(slope) + closer))
            return Measured(values, errors)

    def _at(self, dots: Sequence[Any], step: Any) -> list[Any]:
        """Returns the outputs at a step along tangents, `None` for those without a derivative."""
        subject = self.subject
        moved: list[Any] = []
        for x, d, moves in zip(subject.values, dots, subject.moving, strict=True):
            if not moves:
                moved.append(x)
                continue
            exact = to_mpmath(x)
            moved.append(exact if d is None else exact + step * to_mpmath(d))
        outs = flatten(self.body(*subject.example.arguments(moved)))[0]
        if len(outs) != len(subject.free):
            raise ValueError(f"reference='mpmath': {len(outs)} outputs, not {len(subject.free)}")
        found = []
        for out, free, known in zip(outs, subject.free, subject.outputs, strict=True):
            if free and np.asarray(out).dtype.kind in "fc":
                raise ValueError(
                    f"reference='mpmath': {subject.target.name} rounds to floats: cast no array "
                    "to another dtype than that of an argument"
                )
            found.append(_wrapped(np.asarray(out, object).reshape(known.shape)) if free else None)
        return found
