"""What host code may do with its arrays, and what errors show a line to paste."""

import re

import numpy as np
import pytest

import diptych
from diptych.errors import HostError, StructureError
from frameworks import DIFFERENTIATING

A = np.array([1.0, 2.0])


def total(x):
    return diptych.namespace(x).sum(x)


def like(x):
    return diptych.Spec(x.shape, x.dtype)


def compiled(fw, f):
    if fw.name == "jax":
        return __import__("jax").jit(f)
    return __import__("torch").compile(f, backend="aot_eager", fullgraph=True)


def same(fw, found, expected):
    np.testing.assert_allclose(fw.numpy(found), expected)


@diptych.rule(host=True, out=like)
def in_place(x):
    out = x**2
    x *= 0
    return out


@in_place.vjp
def in_place_vjp(res, bar):
    bar *= 4 * res.x
    res.x[:] = 0
    return bar


@DIFFERENTIATING
def test_host_code_may_write_to_what_it_gets(fw):
    x = fw.array(A)
    slope = diptych.grad(lambda x: total(in_place(x)))
    for transform in (lambda f: f, lambda f: compiled(fw, f), diptych.vmap):
        same(fw, transform(in_place)(x), A**2)
        same(fw, x, A)
    for transform in (lambda f: f, lambda f: compiled(fw, f)):
        same(fw, transform(slope)(x), 4 * A)
        same(fw, x, A)
    both = diptych.vmap(lambda a, b: in_place(a) + b, (None, 0))
    same(fw, both(x, fw.array(np.zeros(2))), [A**2, A**2])


@DIFFERENTIATING
def test_host_code_gets_contiguous_arrays(fw):
    seen = []

    @diptych.rule(host=True, out=like)
    def f(x):
        seen.append((x.flags.c_contiguous, x.flags.writeable))
        return x

    f(fw.array(np.ones((4, 3))).T)
    f(fw.array(np.ones(8))[::2])
    assert seen == [(True, True)] * 2


@DIFFERENTIATING
def test_host_code_may_return_a_workspace_or_its_input(fw):
    workspace = np.zeros(64)

    @diptych.rule(host=True, out=like)
    def f(x):
        np.multiply(x, x, out=workspace)
        return workspace

    x = fw.array(np.arange(64.0))
    for transform in (lambda f: f, lambda f: compiled(fw, f)):
        first = transform(f)(x)
        transform(f)(x + 1)
        same(fw, first, np.arange(64.0) ** 2)
    identity = diptych.rule(lambda x: x, host=True)
    assert identity(x) is not x


@DIFFERENTIATING
def test_vectorized_code_that_drops_the_batch(fw):
    @diptych.rule(host=True, out=lambda x: diptych.Spec((), x.dtype), vectorized=True)
    def f(x):
        return np.sum(x)

    with pytest.raises(
        StructureError,
        match=r"primal of vectorized host rule f under vmap\n  expected: shape \(3,\): the batch "
        r"\(3,\) in front; got: shape \(\)\n  mend: keep the leading axes",
    ):
        diptych.vmap(f)(fw.array(np.ones((3, 2))))


def test_the_line_that_declares_out_runs():
    jax = pytest.importorskip("jax")

    def body(n, params, k=2.0):
        return params["x"] * k * n

    rule = diptych.rule(body, static="n", host=True, vectorized=True)
    params = {"x": jax.numpy.asarray(A)}
    with pytest.raises(HostError, match=r"add it, for example @diptych.rule") as raised:
        jax.jit(lambda p: rule(3, p))(params)
    line = re.search(r"for example @(diptych\.rule\(.*\))", str(raised.value)).group(1)
    assert "static=('n',), host=True, vectorized=True, out=lambda n, params, k=2.0:" in line
    again = eval(line, {"diptych": diptych})(body)
    np.testing.assert_allclose(jax.jit(lambda p: again(3, p))(params), 6 * A)


@DIFFERENTIATING
def test_the_line_of_a_solver_and_of_fwd(fw):
    root = diptych.implicit(lambda y, x: y * y - x, host=True)(lambda x: np.sqrt(x))
    with pytest.raises(Exception, match=r"@diptych.implicit\(residual, host=True, out=lambda x: "):
        compiled(fw, root)(fw.array(A))
    rule = diptych.rule(lambda x: x * x, host=True, out=like)
    rule.fwd(lambda x: (x * x, x))
    rule.vjp(lambda res, bar: 2 * res * bar)
    rule._statement.name = "square"
    text = r"@square.fwd\(out=lambda x: \(diptych.Spec\(x.shape, x.dtype\), \(diptych.Spec\("
    with pytest.raises(Exception, match=text):
        compiled(fw, diptych.grad(lambda x: total(rule(x))))(fw.array(A))


@DIFFERENTIATING
def test_solver_that_returns_a_number(fw):
    root = diptych.implicit(lambda y, x: y * y - x, host=True)(lambda x: float(x) ** 0.5)
    same(fw, diptych.grad(root)(fw.array(np.array(4.0))), 0.25)
    np.testing.assert_allclose(root(4.0), 2.0)
    np.testing.assert_allclose(root(np.array(4.0)), 2.0)
