"""What the demo measures: functions with closed forms, and calls compared with them.

Every function of the demo works elementwise, so that whatever a transform returns is known: its
value, or its first, second or third derivative at each entry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.special

Function = Callable[[Any], Any]

ECCENTRICITY = 0.6
BESSEL_ORDER = 1.5
TOLERANCE = 1e-9


@dataclass(frozen=True)
class Case:
    """A function under measurement.

    Attributes:
        name: the column's heading.
        says: one line about its rule.
        at: where it is measured.
        closed: the value and the first three derivatives, in NumPy.
    """

    name: str
    says: str
    at: tuple[float, ...]
    closed: tuple[Function, Function, Function, Function]

    def x(self) -> np.ndarray:
        return np.array(self.at)

    def want(self, order: int) -> np.ndarray:
        return self.closed[order](self.x())


def sigmoid(x: np.ndarray) -> np.ndarray:
    return scipy.special.expit(x)


def solve_kepler(m: np.ndarray) -> np.ndarray:
    """Solves `E - e sin(E) = M` for the eccentric anomaly E by Newton's method, in NumPy."""
    anomaly = m + ECCENTRICITY * np.sin(m)
    for _ in range(8):
        slope = 1 - ECCENTRICITY * np.cos(anomaly)
        anomaly = anomaly - (anomaly - ECCENTRICITY * np.sin(anomaly) - m) / slope
    return anomaly


def _kepler_terms(m: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    anomaly = solve_kepler(m)
    sine, cosine = ECCENTRICITY * np.sin(anomaly), ECCENTRICITY * np.cos(anomaly)
    return sine, cosine, 1 / (1 - cosine)


def _kepler_2(m: np.ndarray) -> np.ndarray:
    sine, _, p = _kepler_terms(m)
    return -sine * p**3


def _kepler_3(m: np.ndarray) -> np.ndarray:
    sine, cosine, p = _kepler_terms(m)
    return -cosine * p**4 + 3 * sine**2 * p**5


def _bessel(order: int) -> Function:
    return lambda x: scipy.special.jvp(BESSEL_ORDER, x, order)


CASES = (
    Case(
        "sin",
        "a rule on its VJP: its own second derivative; states 3 cos x, -5 sin x, to be told apart",
        (0.3, 0.7, 1.1, 1.4),
        (
            np.sin,
            lambda x: 3 * np.cos(x),
            lambda x: -5 * np.sin(x),
            lambda x: -5 * np.cos(x),
        ),
    ),
    Case(
        "log1pexp",
        "log(1 + exp(x)), also at x = 800, where the body's own derivative is NaN",
        (-2.0, 0.5, 1.5, 800.0),
        (
            lambda x: np.logaddexp(x, 0),
            sigmoid,
            lambda x: sigmoid(x) * sigmoid(-x),
            lambda x: sigmoid(x) * sigmoid(-x) * (sigmoid(-x) - sigmoid(x)),
        ),
    ),
    Case(
        "sinh",
        "keeps an intermediate, exp(x), in fwd; states 3 cosh x, to be told apart",
        (-0.4, 0.3, 0.8, 1.2),
        (
            np.sinh,
            lambda x: 3 * np.cosh(x),
            lambda x: 3 * np.sinh(x),
            lambda x: 3 * np.cosh(x),
        ),
    ),
    Case(
        "bessel",
        f"scipy.special.jv of order {BESSEL_ORDER}: a host rule, neither framework can trace it",
        (0.9, 1.7, 2.8, 4.1),
        (_bessel(0), _bessel(1), _bessel(2), _bessel(3)),
    ),
    Case(
        "kepler",
        "E with E - e sin(E) = M: implicit, solved on the host, in NumPy",
        (0.4, 1.3, 2.2, 2.9),
        (
            solve_kepler,
            lambda m: _kepler_terms(m)[2],
            _kepler_2,
            _kepler_3,
        ),
    ),
)


@dataclass(frozen=True)
class Probe:
    """One call: what it does to a function at a point, and which derivative must come out.

    Attributes:
        label: the call, in the words of its framework.
        order: which derivative is expected.
        run: from the function and the point to an array, in any framework.
        form: from the expected derivative at each entry to the expected array.
        control: the same without any derivative. Where that raises for the bare body too, the
            framework has no such call for this kind of function, rule or no rule.
    """

    label: str
    order: int
    run: Callable[[Function, Any], Any]
    form: Function = lambda want: want
    control: Callable[[Function, Any], Any] | None = None


@dataclass(frozen=True)
class Row:
    """A group of transforms: one row of the table.

    Attributes:
        name: the row's heading.
        probes: its calls.
        compiler: compiles them, all together where that works; `None`: they run eagerly.
        trial: traces a call without compiling it, to tell beforehand which ones raise.
        only: the cases it is measured for; `None`: all.
    """

    name: str
    probes: tuple[Probe, ...]
    compiler: Callable[[Function], Function] | None = None
    trial: Callable[[Function, Any], Any] | None = None
    only: tuple[str, ...] | None = None


@dataclass
class Cell:
    """What came of a row's calls for one function."""

    right: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    raised: list[str] = field(default_factory=list)
    impossible: list[str] = field(default_factory=list)
    measured: bool = True

    @property
    def verdict(self) -> str:
        """Returns the worst of them: a silent wrong number is worse than an error."""
        if not self.measured:
            return "-"
        if self.wrong:
            return "WRONG"
        if self.raised:
            return "raises"
        return "right" if self.right else "none"


def measure(
    row: Row, case: Case, function: Function, bare: Function, point: Any, hopeful: bool = True
) -> Cell:
    """Returns what came of each call of a row.

    Args:
        row: the calls.
        case: the closed form.
        function: what is under measurement.
        bare: the same function without any rule, for the controls.
        point: `case.x()` as an array of the framework.
        hopeful: whether to compile all calls together at first, before knowing that all work.
    """
    cell = Cell()
    if row.only is not None and case.name not in row.only:
        cell.measured = False
        return cell
    for probe, got in _results(row, function, point, hopeful):
        if isinstance(got, Exception):
            kind = cell.raised
            if probe.control is not None and _raises(probe.control, bare, point):
                kind = cell.impossible
            kind.append(f"{probe.label}: {type(got).__name__}: {first_line(got)}")
            continue
        want = np.asarray(probe.form(case.want(probe.order)))
        if got.shape == want.shape and np.allclose(got, want, rtol=TOLERANCE, atol=TOLERANCE):
            cell.right.append(probe.label)
        else:
            found = f"got {brief(got)}, the closed form is {brief(want)}"
            cell.wrong.append(f"{probe.label}: {found}")
            break  # nothing worse can come
    return cell


def _results(
    row: Row, function: Function, point: Any, hopeful: bool
) -> Iterator[tuple[Probe, Any]]:
    """Yields each call of a row with what it gives, or with the exception that it raised."""
    waiting = list(row.probes)

    def bound(probe: Probe) -> Function:
        return lambda x: probe.run(function, x)

    def together() -> tuple[Any, ...] | None:
        try:
            calls = [bound(probe) for probe in waiting]
            found = row.compiler(lambda x: tuple(call(x) for call in calls))(point)
            return tuple(to_numpy(value) for value in found)
        except Exception:
            return None

    values = together() if row.compiler is not None and hopeful else None
    if values is None and row.trial is not None:
        for probe in row.probes:
            try:
                row.trial(bound(probe), point)
            except Exception as error:
                yield probe, error
                waiting.remove(probe)
        values = together()
    if values is not None:
        yield from zip(waiting, values, strict=True)
        return
    for probe in waiting:
        call = bound(probe) if row.compiler is None else row.compiler(bound(probe))
        try:
            result = to_numpy(call(point))
        except Exception as error:
            result = error
        yield probe, result


def _raises(control: Callable[[Function, Any], Any], bare: Function, point: Any) -> bool:
    try:
        control(bare, point)
    except Exception:
        return True
    return False


def to_numpy(array: Any) -> np.ndarray:
    """Returns an array of either framework as NumPy's."""
    return np.asarray(array.detach() if hasattr(array, "detach") else array)


def first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:160] if lines else ""


def brief(array: np.ndarray) -> str:
    if array.size == 0:
        return f"an empty array of shape {array.shape}"
    head = ", ".join(f"{v:.6g}" for v in array.ravel()[:4])
    return f"[{head}{', ...' if array.size > 4 else ''}]"


def compose(operators: Iterable[Callable[[Function], Function]], function: Function) -> Function:
    """Returns the function under these operators, the last of them innermost."""
    for operator in reversed(tuple(operators)):
        function = operator(function)
    return function


def nestings(
    operators: dict[str, Callable[[Function], Function]], *names: str
) -> tuple[Probe, ...]:
    """Returns a probe for each nesting, written `outer(inner)`, of operators that differentiate."""
    probes = []
    for name in names:
        parts = name.replace(")", "").split("(")
        chain = tuple(operators[part] for part in parts)
        probes.append(Probe(name, len(parts), lambda f, x, chain=chain: compose(chain, f)(x)))
    return tuple(probes)
