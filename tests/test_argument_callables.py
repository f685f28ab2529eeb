"""What may be made a rule, and what may state one: methods, objects, partials, built-ins."""

import copy
import functools
import inspect
import pickle
import subprocess
import sys

import numpy as np
import pytest

import diptych
from diptych.errors import HostError, KindError
from frameworks import DIFFERENTIATING, FRAMEWORKS, framework

A, B = np.array([1.0, 2.0]), np.array([3.0, 4.0])


def total(x):
    return diptych.namespace(x).sum(x)


def same(fw, found, expected):
    np.testing.assert_allclose(fw.numpy(found), expected)


class Statements:
    """Bound methods that state derivatives; the second parameter of their code is `res`."""

    factor = 2.0

    def plain(self, res, bar):
        return 2 * bar * res.y, None

    def reading(self, res, bar):
        return self.factor * bar * res.y, None

    def pushed(self, res, x_dot, y_dot):
        return 3 * x_dot * res.y


@DIFFERENTIATING
def test_bound_methods_state_derivatives(fw):
    x, y = fw.array(A), fw.array(B)
    for method in (Statements().plain, Statements().reading):
        rule = diptych.rule(lambda x, y: x * y)
        rule.vjp(method)
        same(fw, diptych.grad(lambda a, r=rule: total(r(a, y)))(x), 2 * B)
    rule = diptych.rule(lambda x, y: x * y)
    rule.jvp(Statements().pushed)
    same(fw, diptych.jvp(rule, (x, y), (x, y))[1], 3 * A * B)


class Scaled:
    """An object that can be called, and whose method can."""

    def __init__(self, factor):
        self.factor = factor

    def __call__(self, x):
        return x * self.factor

    def method(self, x):
        return x * self.factor


@FRAMEWORKS
@pytest.mark.parametrize("kind", ["object", "method", "partial"])
def test_what_a_callable_reads_is_read_at_every_call(fw, kind):
    scaled = Scaled(2.0)
    partial = functools.partial(lambda held, x: x * held.factor, scaled)
    body = {"object": scaled, "method": scaled.method, "partial": partial}[kind]
    rule = diptych.rule(body)
    x = fw.array(A)
    for _ in range(3):
        same(fw, rule(x), 2 * A)
    scaled.factor = 5.0
    same(fw, rule(x), 5 * A)
    assert repr(rule).startswith("<diptych.rule ")
    assert copy.deepcopy(rule) is rule


@FRAMEWORKS
def test_ufuncs(fw):
    add = diptych.rule(np.add, host=True)
    assert str(inspect.signature(add)) == "(x1, x2)"
    same(fw, add(fw.array(A), fw.array(B)), A + B)
    assert str(inspect.signature(diptych.rule(np.sin))) == "(x)"


class Held:
    factor = 3.0

    @diptych.rule
    def scaled(self, x):
        """Returns x times the factor."""
        return x * self.factor

    @scaled.vjp
    def scaled_vjp(res, bar):  # noqa: N805
        return 2 * bar * res.self.factor


def test_a_method_looks_like_one():
    held = Held()
    assert held.scaled.__name__ == "scaled"
    assert held.scaled.__doc__ == "Returns x times the factor."
    assert held.scaled.__self__ is held
    assert held.scaled == held.scaled  # jax.jit finds it again
    assert str(inspect.signature(held.scaled)) == "(x)"
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(held.scaled))(A), 3 * A)


def test_methods_that_dynamo_is_the_first_to_see():
    torch = pytest.importorskip("torch")

    def new(base):
        class Fresh(base):
            factor = 3.0

            @diptych.rule
            def scaled(self, x):
                return x * self.factor

            @scaled.vjp
            def scaled_vjp(res, bar):  # noqa: N805
                return 2 * bar * res.self.factor

            def forward(self, x):
                return self.scaled(x)

        return Fresh()

    def check(f):
        x = framework("torch").array(A)
        compiled = torch.compile(f, backend="aot_eager", fullgraph=True)
        np.testing.assert_allclose(compiled(x), 3 * A)
        slope = torch.func.grad(lambda x: f(x).sum())
        compiled = torch.compile(slope, backend="aot_eager", fullgraph=True)
        np.testing.assert_allclose(compiled(x), [6, 6])

    for base in (object, torch.nn.Module):
        check(new(base).forward)
        check(new(base).scaled)
        held = new(base)
        check(lambda x, held=held: held.scaled(x))
    held = new(object)
    check(lambda x: type(held).scaled(held, x))


class BrokenHash:
    def __hash__(self):
        raise ValueError("no hash")


class BrokenEquality:
    __hash__ = object.__hash__

    def __eq__(self, other):
        raise LookupError("not to be compared")


@DIFFERENTIATING
def test_static_values_with_a_broken_hash_or_equality(fw):
    rule = diptych.rule(lambda x, held: x * 1.0, static="held")
    rule.vjp(lambda res, bar: 2 * bar)
    for held in (BrokenHash(), BrokenEquality()):
        for _ in range(3):
            same(fw, diptych.grad(lambda a, h=held: total(rule(a, h)))(fw.array(A)), [2, 2])


def test_what_cannot_be_a_rule():
    for wrong, mend in (
        (3, r"write @diptych.rule above a function, or @diptych.rule\(static="),
        ("n", r"@diptych.rule\(static="),
        (staticmethod(lambda x: x), r"write @staticmethod above @diptych.rule"),
        (classmethod(lambda cls, x: x), r"write @classmethod above @diptych.rule"),
        (max, r"in a function of your own: def f\(x\): return"),
    ):
        with pytest.raises(KindError, match=mend):
            diptych.rule(wrong)
    with pytest.raises(HostError, match=r"expected: host=True beside out=[\s\S]*got: host=False"):
        diptych.rule(out=lambda x: x)


def test_a_rule_that_is_older_than_the_import_of_torch():
    pytest.importorskip("torch")
    program = """
import diptych
@diptych.rule
def f(x):
    return x * 1.0
@f.vjp
def f_vjp(res, bar):
    return 2 * bar
import torch
slope = torch.func.grad(lambda x: f(x).sum())
print(torch.compile(slope, backend="aot_eager", fullgraph=True)(torch.ones(2)).tolist())
"""
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert run.stdout.strip() == "[2.0, 2.0]", run.stderr
