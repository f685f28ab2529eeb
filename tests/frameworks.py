"""The frameworks behind one face, so that one test runs on NumPy, PyTorch and JAX.

`FRAMEWORKS` parametrises a test over all three, `DIFFERENTIATING` over the two with derivatives of
their own; a framework that is not installed is skipped.
"""

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest


class Framework:
    """NumPy; the others derive from it.

    Attributes:
        name: The framework's name.
        differentiates: Whether any function can be differentiated in it.
    """

    name = "numpy"
    differentiates = False

    def array(self, x: Any, dtype: str | None = None) -> Any:
        """Returns an array of the framework: float64 by default where `x` holds floats."""
        return np.array(x, dtype)

    def owns(self, x: Any) -> bool:
        """Returns whether `x` is an array of the framework."""
        return isinstance(x, (np.ndarray, np.generic))

    def numpy(self, x: Any) -> np.ndarray:
        """Returns a NumPy array of the same dtype; of float32 for bfloat16."""
        return np.asarray(x)

    def dtype(self, x: Any) -> str:
        """Returns the dtype's name."""
        return str(x.dtype)

    def pull(self, f: Callable, xs: Sequence[Any], bar: Any = None) -> list[Any]:
        """Returns one cotangent for each of `xs`, by the framework's own reverse mode."""
        raise NotImplementedError

    def push(self, f: Callable, xs: Sequence[Any], dots: Sequence[Any]) -> Any:
        """Returns the output's tangent, by the framework's own forward mode."""
        raise NotImplementedError


class Torch(Framework):
    name = "torch"
    differentiates = True

    def __init__(self):
        self.torch = importlib.import_module("torch")

    def array(self, x, dtype=None):
        made = self.torch.from_numpy(np.array(x))
        return made if dtype is None else made.to(getattr(self.torch, dtype))

    def owns(self, x):
        return isinstance(x, self.torch.Tensor)

    def numpy(self, x):
        x = x.detach()
        return (x.float() if x.dtype == self.torch.bfloat16 else x).numpy()

    def dtype(self, x):
        return str(x.dtype).removeprefix("torch.")

    def pull(self, f, xs, bar=None):
        xs = [x.detach().requires_grad_() for x in xs]
        out = f(*xs)
        bar = self.torch.ones_like(out) if bar is None else bar
        return list(self.torch.autograd.grad(out, xs, bar, allow_unused=True))

    def push(self, f, xs, dots):
        return self.torch.func.jvp(f, tuple(xs), tuple(dots))[1]


class Jax(Framework):
    name = "jax"
    differentiates = True

    def __init__(self):
        self.jax = importlib.import_module("jax")
        assert self.jax.config.jax_enable_x64

    def array(self, x, dtype=None):
        return self.jax.numpy.asarray(np.array(x), dtype)

    def owns(self, x):
        return isinstance(x, self.jax.Array)

    def numpy(self, x):
        x = np.asarray(x)
        return x.astype(np.float32) if x.dtype.name == "bfloat16" else x

    def pull(self, f, xs, bar=None):
        out, pullback = self.jax.vjp(f, *xs)
        conj = self.jax.numpy.conj  # ours is the conjugate of JAX's cotangent
        bar = self.jax.numpy.ones_like(out) if bar is None else bar
        return [conj(x) for x in pullback(conj(bar).astype(out.dtype))]

    def push(self, f, xs, dots):
        return self.jax.jvp(f, tuple(xs), tuple(dots))[1]


_MAKERS = {"numpy": Framework, "torch": Torch, "jax": Jax}
_made: dict[str, Framework] = {}


def framework(name: str) -> Framework:
    """Returns the framework of this name, or skips the test where it is not installed."""
    pytest.importorskip(name)
    if name not in _made:
        _made[name] = _MAKERS[name]()
    return _made[name]


class _Lazy:
    """A framework found when the test runs: collecting must not import it."""

    def __init__(self, name: str):
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(framework(self._name), attribute)


def _parametrised(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("fw", [_Lazy(name) for name in names], ids=names)


FRAMEWORKS = _parametrised("numpy", "torch", "jax")
DIFFERENTIATING = _parametrised("torch", "jax")


def same(fw: Framework, got: Any, want: Any, rtol: float = 1e-12) -> None:
    """Asserts that `got` is the framework's own array and equals `want` in value and shape."""
    assert fw.owns(got), f"{type(got)} is no array of {fw.name}"
    np.testing.assert_allclose(fw.numpy(got), np.asarray(want), rtol=rtol, atol=1e-14)
    assert fw.numpy(got).shape == np.shape(want)


def check(fw: Framework, call: Callable, arrays: Sequence[Any], value: Any, bars: Any) -> None:
    """Asserts the value of `call(*arrays)` and, where there are derivatives, what ones pull back.

    Args:
        fw: the framework.
        call: a function of its arrays.
        arrays: what they are made of.
        value: the value expected.
        bars: for each array the cotangent expected, for the cotangent 1 of every output element.
    """
    xs = [fw.array(x) for x in arrays]
    same(fw, call(*xs), value)
    if fw.differentiates:
        found = fw.pull(call, xs)
        assert len(found) == len(bars)
        for got, want in zip(found, bars, strict=True):
            same(fw, got, np.broadcast_to(want, np.shape(fw.numpy(got))))
