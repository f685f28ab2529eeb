"""The rules of the examples and of other tests, with the arguments on which they are mutated."""

import sys
from pathlib import Path

import numpy as np
from mutants import Case

ROOT = Path(__file__).parent.parent.parent
for folder in (ROOT / "examples", ROOT / "tests" / "backends" / "torch"):
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
sys.path.append(str(ROOT / "tests" / "backends" / "jax"))


def _point():
    return 0.2 + np.random.default_rng(0).random(4)


def _plane():
    return np.random.default_rng(1).normal(size=(3, 4)) + 0.1


def _sorting():
    x = _plane()
    ind = np.argsort(x, axis=1)
    return x, ind, np.argsort(ind, axis=1), 1


def demo_cases():
    """Returns the demo's rules; two of them are wrong by a factor on purpose."""
    import demo_rules as demo
    import diptych

    def three_sines(x):
        return 3 * diptych.namespace(x).sin(x)

    def three_sinhs(x):
        return 3 * diptych.namespace(x).sinh(x)

    point = lambda: (_point(),)  # noqa: E731
    return [
        Case("demo.sin", demo.sin, point, reference=three_sines),
        Case("demo.log1pexp", demo.log1pexp, point),
        Case("demo.sinh", demo.sinh, point, reference=three_sinhs),
    ]


def function_db_cases():
    """Returns PyTorch's own autograd.Functions as rules; those with both directions."""
    import function_db_rules as db

    one, two = (lambda: (_plane(),)), (lambda: (_plane(), _plane()[:1] + 2))
    both = lambda: (_plane(), _plane() + 2)  # noqa: E731
    cases = [
        Case("db.numpy_cube", db.numpy_cube, one),
        Case("db.cube", db.cube, one),
        Case("db.numpy_mul", db.numpy_mul, two),
        Case("db.mul", db.mul, two),
        Case("db.numpy_exp", db.numpy_exp, one),
        Case("db.numpy_take", db.numpy_take, _sorting),
        Case("db.numpy_sort", db.numpy_sort, lambda: (_plane(), 1)),
        Case("db.take", db.take, _sorting),
        Case("db.sort", db.sort, lambda: (_plane(), 1)),
        Case("db.select", db.select, lambda: (_plane(), 1)),
        Case("db.select_by_default", db.select_by_default, lambda: (_plane(), (1,))),
        Case("db.scale_grad", db.scale_grad, one, reference=lambda x: x * db.SCALE),
        Case("db.zero_gradients", db.zero_gradients, both, reference=lambda x, y: (x * 0, y * 0)),
    ]
    return [Case(c.name, c.rule, c.args, ("torch",), c.reference) for c in cases]


def witness_cases(framework):
    """Returns the witnesses of a framework; their factors must be set to one first."""
    module = __import__(f"{framework}_witnesses")
    return [
        Case(f"witness.{name}", w.rule, lambda: (_point(),), (framework,))
        for name, w in module.WITNESSES.items()
        if name != "numbers"
    ], module


# Those that JAX, too, is asked about in the tests; `benchmarks/mutation.py` asks about all.
ALSO_JAX = ("fourier", "largest", "logistic", "running_sum", "sort")
