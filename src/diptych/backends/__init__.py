"""The frameworks: one module each behind one narrow protocol.

Nothing outside this folder imports torch or jax, and each module here is loaded only when an array
of its framework arrives, or was loaded by the user already.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from diptych.arguments import Spec
from diptych.errors import KindError, MissingFrameworkError, message

if TYPE_CHECKING:
    from diptych.call import Call
    from diptych.rule import Rule


class Meta(NamedTuple):
    """The shape and dtype of an array, in its framework's terms.

    Args:
        shape: the lengths of its axes.
        dtype: its dtype.
        device: where it is; JAX's type of it, which says how it is sharded.
        weak: whether it was a Python number, whose dtype nobody chose (JAX's weak types).
    """

    shape: tuple[int, ...]
    dtype: Any
    device: Any = None
    weak: bool = False


class Backend(Protocol):
    """What diptych asks of a framework."""

    name: str
    array_name: str

    def is_array(self, x: Any) -> bool:
        """Returns whether `x` is an array of this framework."""
        ...

    def is_differentiable(self, x: Any) -> bool:
        """Returns whether the dtype of `x` has derivatives: floating-point or complex."""
        ...

    def moves(self, x: Any) -> bool:
        """Returns whether an argument has a tangent under the framework's own transforms."""
        ...

    def meta(self, x: Any) -> Meta:
        """Returns the shape and dtype of an array, in the framework's terms."""
        ...

    def spec(self, x: Any) -> Spec:
        """Returns the shape of an array and its dtype as NumPy's."""
        ...

    def namespace(self) -> Any:
        """Returns the framework's array-API namespace."""
        ...

    # Arithmetic that rules and derivatives need beyond the array API.
    def zeros(self, meta: Meta) -> Any:
        """Returns zeros of this shape and dtype."""
        ...

    def from_number(self, x: Any, meta: Meta) -> Any:
        """Returns a number or NumPy array as an array of this dtype."""
        ...

    def conj(self, x: Any) -> Any:
        """Returns the complex conjugate; real arrays as they are."""
        ...

    def as_dtype(self, x: Any, meta: Meta) -> Any:
        """Returns `x` in this dtype, its real part where that is real."""
        ...

    def recast(self, x: Any, meta: Meta) -> Any:
        """Returns `x` in this dtype where the framework, not the author, chose another one."""
        ...

    def sum_to(self, x: Any, meta: Meta) -> Any:
        """Returns `x` summed to this shape: the adjoint of broadcasting from it."""
        ...

    def broadcast_to(self, x: Any, meta: Meta) -> Any:
        """Returns `x` broadcast to this shape."""
        ...

    def basis(self, meta: Meta) -> Any:
        """Returns the unit vectors of arrays of this shape, stacked along a first axis."""
        ...

    def map_rows(self, f: Callable[..., tuple], rows: Any) -> tuple:
        """Returns the results of `f` on each row, stacked: one array per output of `f`."""
        ...

    # What linear solves need: a truth value (one per example under vmap; `None` where traced), an
    # inverse that is not finite where there is none, an iteration that stops when it has converged.
    def peek(self, truth: Any) -> Any:
        """Returns a truth value as NumPy's, one per example under vmap; `None` where traced."""
        ...

    def inverse(self, matrix: Any) -> Any:
        """Returns the inverse of a square matrix, not finite (or an error) where there is none."""
        ...

    def krylov(
        self, method: str, apply: Callable, b: Any, aim: float, restart: int, limit: int
    ) -> Any:
        """Returns `x` with `apply(x) == b` up to the relative residual `aim`, by GMRES or CG."""
        ...

    # Rules under the framework's transforms.
    def apply(self, call: Call, leaves: Sequence[Any]) -> Any:
        """Returns the rule's output for the leaves of its arguments, under any transform."""
        ...

    def transpose(
        self,
        function: Callable,
        metas: Sequence[Meta],
        covectors: Sequence[Any],
        where: str,
        known: set[str],
    ) -> list[Any]:
        """Returns the adjoint of a linear function of `metas`, applied to `covectors`.

        Raises `LinearityError` if it is seen not to be linear; `where` is added to `known` once it
        was looked at.
        """
        ...

    # The framework's own transforms, in our convention for complex numbers.
    def jvp(self, f: Callable, primals: Sequence[Any], tangents: Sequence[Any]) -> tuple:
        """Returns the output of `f` and its tangent."""
        ...

    def vjp(self, f: Callable, primals: Sequence[Any], has_aux: bool) -> tuple:
        """Returns the output of `f`, its pullback, and `aux` if there is any."""
        ...

    def vmap(self, f: Callable, in_axes: Any, out_axes: Any) -> Callable:
        """Returns `f` mapped over the batch axes."""
        ...


_INSTALL = {
    "torch": 'pip install "diptych[torch]"',
    "jax": 'pip install "diptych[jax]"',
    "numpy": "pip install numpy",
}
_loaded: dict[str, Backend] = {}
_owners: dict[type, str | None] = {}


def load(name: str) -> Backend:
    """Returns the backend of this name.

    Raises:
        MissingFrameworkError: if its framework is not installed.
    """
    if name not in _loaded:
        try:
            module = importlib.import_module(f"diptych.backends.{name}")
        except ImportError as error:
            if error.name is not None and error.name.partition(".")[0] != name:
                raise
            raise MissingFrameworkError(
                message(
                    f"the framework {name!r} is needed",
                    expected=f"an installed {name}",
                    got=f"{error}",
                    mend=_INSTALL.get(name, f"pip install {name}"),
                )
            ) from error
        _loaded[name] = module.backend
    return _loaded[name]


def owner(kind: type) -> str | None:
    """Returns the name of the framework whose arrays are of this type, if any."""
    try:
        return _owners[kind]
    except KeyError:
        pass
    name = _find_owner(kind)
    if len(_owners) > 1000:  # types may be made at run time
        _owners.clear()
    _owners[kind] = name
    return name


def _find_owner(kind: type) -> str | None:
    torch, jax, numpy = (sys.modules.get(name) for name in ("torch", "jax", "numpy"))
    # A framework that is being imported has no such attribute yet.
    if torch is not None:
        own = (getattr(torch, name, ()) for name in ("Tensor", "SymInt", "SymFloat"))
        if issubclass(kind, tuple(own)):  # symbolic numbers: what torch.compile makes of numbers
            return "torch"
    if jax is not None and hasattr(jax, "core"):
        if issubclass(kind, (jax.Array, jax.core.Tracer)) or kind.__name__ == "ShapeDtypeStruct":
            return "jax"
    if numpy is not None and issubclass(kind, (numpy.ndarray, numpy.generic)):
        return "numpy"
    return None


def backend_of(leaves: Sequence[Any], where: str = "diptych") -> Backend:
    """Returns the backend of the arrays among these leaves; NumPy's where there are no others.

    Raises:
        KindError: if arrays of two frameworks are among them.
    """
    found = {owner(type(leaf)) for leaf in leaves}
    if "torch" in found and "jax" in found:
        raise KindError(
            message(
                f"{where}: arrays of two frameworks in one call",
                expected="arrays of one framework (NumPy arrays may stand beside them)",
                got="torch.Tensor and jax.Array",
                mend="convert one of them, for example with jnp.asarray(t.numpy())",
            )
        )
    if "torch" in found:
        return load("torch")
    return load("jax" if "jax" in found else "numpy")


# While torch.compile traces a call, what Dynamo sees must be small: the PyTorch backend, once it is
# loaded, puts its own functions in place of these two.


def compiling() -> bool:
    """Returns whether torch.compile or torch.export is tracing."""
    torch = sys.modules.get("torch")
    if torch is None or not hasattr(torch, "compiler") or not torch.compiler.is_compiling():
        return False
    # PyTorch was imported after the rule was made. Dynamo executes import statements as it traces.
    import diptych.backends.torch  # noqa: F401

    return True


def call_compiled(rule: Rule, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Calls a rule inside what torch.compile traces."""
    raise NotImplementedError


def announce() -> None:
    """Loads the PyTorch backend if the user has loaded PyTorch, before anything is compiled."""
    if "torch" not in _loaded and hasattr(sys.modules.get("torch"), "compiler"):
        load("torch")
