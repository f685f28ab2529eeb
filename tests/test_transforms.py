"""diptych's transforms, the same test on both frameworks, against closed forms.

The rule's VJP is twice and its JVP three times the true derivative, so that it is seen which of
them a transform used; functions without a rule stand beside it.
"""

import re
from typing import Any, NamedTuple

import numpy as np
import pytest

import diptych
from diptych.errors import KindError, MissingDirectionError, StructureError
from frameworks import DIFFERENTIATING, FRAMEWORKS, framework, same

A, B = np.array([0.5, 1.5, 2.5]), np.array([2.0, -1.0, 3.0])


@diptych.rule
def sine(x):
    return diptych.namespace(x).sin(x)


@sine.vjp
def sine_vjp(res, out_bar):
    return 2 * diptych.namespace(res.x).cos(res.x) * out_bar


@sine.jvp
def sine_jvp(res, x_dot):
    return 3 * diptych.namespace(res.x).cos(res.x) * x_dot


def plain_sine(x):
    return diptych.namespace(x).sin(x)


every_sine = pytest.mark.parametrize(
    ("f", "reverse", "forward"), [(sine, 2, 3), (plain_sine, 1, 1)], ids=["rule", "plain"]
)


def total(x):
    return diptych.namespace(x).sum(x)


# jvp and vjp.


@DIFFERENTIATING
@every_sine
def test_jvp(fw, f, reverse, forward):
    out, dot = diptych.jvp(f, (fw.array(A),), (fw.array(B),))
    same(fw, out, np.sin(A))
    same(fw, dot, forward * np.cos(A) * B)
    out, dot = diptych.jvp(f, [fw.array(A)], [fw.array(B)])
    same(fw, dot, forward * np.cos(A) * B)


@DIFFERENTIATING
@every_sine
def test_vjp(fw, f, reverse, forward):
    out, pullback = diptych.vjp(f, fw.array(A))
    same(fw, out, np.sin(A))
    for bar in (B, A, B):  # as often as one likes
        bars = pullback(fw.array(bar))
        assert type(bars) is tuple
        assert len(bars) == 1
        same(fw, bars[0], reverse * np.cos(A) * bar)


class Pair(NamedTuple):
    u: Any
    v: Any


def on_trees(tree, z):
    return {"p": tree["a"] * tree["b"].u, "q": [z * tree["b"].v, None]}


def trees(fw):
    return {"a": fw.array(A), "b": Pair(fw.array(B), fw.array(2 * A))}, fw.array(3.0)


@DIFFERENTIATING
def test_jvp_of_trees(fw):
    primals = trees(fw)
    out, dot = diptych.jvp(on_trees, primals, primals)
    same(fw, out["p"], A * B)
    same(fw, dot["p"], 2 * A * B)
    same(fw, dot["q"][0], 12 * A)
    assert dot["q"][1] is None


@DIFFERENTIATING
def test_vjp_of_trees(fw):
    out, pullback = diptych.vjp(on_trees, *trees(fw))
    tree_bar, z_bar = pullback({"p": fw.array(A), "q": [fw.array(B), None]})
    assert type(tree_bar["b"]) is Pair
    same(fw, out["q"][0], 6 * A)
    same(fw, tree_bar["a"], A * B)
    same(fw, tree_bar["b"].u, A * A)
    same(fw, tree_bar["b"].v, 3 * B)
    same(fw, z_bar, np.sum(2 * A * B))


@DIFFERENTIATING
def test_vjp_with_aux(fw):
    def f(x, y):
        return x * y, {"note": "kept", "x": x}

    out, pullback, aux = diptych.vjp(f, fw.array(A), fw.array(B), has_aux=True)
    same(fw, out, A * B)
    assert aux["note"] == "kept"
    same(fw, aux["x"], A)
    same(fw, pullback(fw.array(A))[1], A * A)


# grad and value_and_grad.


def energy(x, y, z=2.0):
    return total(x * x * y) * z


def energy_bars(z=2.0):
    return {0: 2 * A * B * z, 1: A * A * z}


@DIFFERENTIATING
@pytest.mark.parametrize("argnums", [0, 1, -2, -1])
def test_grad_of_one_argument(fw, argnums):
    got = diptych.grad(energy, argnums)(fw.array(A), fw.array(B))
    same(fw, got, energy_bars()[argnums % 2])


@DIFFERENTIATING
@pytest.mark.parametrize("argnums", [(0,), (1, 0), (0, 1), [0, 1]], ids=str)
def test_grad_of_several_arguments(fw, argnums):
    got = diptych.grad(energy, argnums)(fw.array(A), fw.array(B))
    assert type(got) is tuple
    for bar, n in zip(got, argnums, strict=True):
        same(fw, bar, energy_bars()[n])


@DIFFERENTIATING
def test_grad_passes_keywords_and_other_arguments(fw):
    same(fw, diptych.grad(energy)(fw.array(A), fw.array(B), z=5.0), energy_bars(5.0)[0])
    same(fw, diptych.grad(energy, 1)(fw.array(A), fw.array(B), 5.0), energy_bars(5.0)[1])

    def with_text(x, how):
        return total(x) * len(how)

    same(fw, diptych.grad(with_text)(fw.array(A), "four"), np.full(3, 4.0))


@DIFFERENTIATING
@every_sine
def test_value_and_grad(fw, f, reverse, forward):
    value, bar = diptych.value_and_grad(lambda x: total(f(x)))(fw.array(A))
    same(fw, value, np.sum(np.sin(A)))
    same(fw, bar, reverse * np.cos(A))


@DIFFERENTIATING
def test_has_aux(fw):
    def f(x, y):
        return total(x * y), ("aux", x + y)

    bar, aux = diptych.grad(f, has_aux=True)(fw.array(A), fw.array(B))
    same(fw, bar, B)
    assert aux[0] == "aux"
    same(fw, aux[1], A + B)
    (value, aux), bars = diptych.value_and_grad(f, (0, 1), has_aux=True)(fw.array(A), fw.array(B))
    same(fw, value, np.sum(A * B))
    same(fw, aux[1], A + B)
    same(fw, bars[1], A)


@DIFFERENTIATING
def test_grad_of_a_tree(fw):
    def f(tree, z):
        out = on_trees(tree, z)
        return total(out["p"]) + total(out["q"][0])

    bar = diptych.grad(f)(*trees(fw))
    assert type(bar["b"]) is Pair
    same(fw, bar["a"], B)
    same(fw, bar["b"].u, A)
    same(fw, bar["b"].v, np.full(3, 3.0))


@DIFFERENTIATING
def test_argument_that_is_not_used(fw):
    bars = diptych.grad(lambda x, y: total(x), (0, 1))(fw.array(A), fw.array(B))
    same(fw, bars[0], np.ones(3))
    same(fw, bars[1], np.zeros(3))


@DIFFERENTIATING
def test_grad_of_grad(fw):
    def slope(x):
        return total(diptych.grad(lambda x: total(sine(x)))(x))

    same(fw, diptych.grad(slope)(fw.array(A)), -2 * np.sin(A))

    def slope_of_slope(x):
        return total(diptych.grad(slope)(x))

    same(fw, diptych.grad(slope_of_slope)(fw.array(A)), -2 * np.cos(A))


@DIFFERENTIATING
def test_jvp_of_grad_and_grad_of_jvp(fw):
    def bars(x):
        return diptych.grad(lambda x: total(sine(x)))(x)

    _, dot = diptych.jvp(bars, (fw.array(A),), (fw.array(B),))
    same(fw, dot, -2 * np.sin(A) * B)
    direction = fw.array(B)
    got = diptych.grad(lambda x: total(diptych.jvp(sine, (x,), (direction,))[1]))(fw.array(A))
    same(fw, got, -3 * np.sin(A) * B)


# Complex numbers: one convention on both frameworks.

Z, C = A + 1j * B, B - 0.5j * A


def conj(x):
    return diptych.namespace(x).conj(x)


@diptych.rule
def square(z):
    return z * z


@square.vjp
def square_vjp(res, out_bar):
    return 2 * conj(2 * res.z) * out_bar


@square.jvp
def square_jvp(res, z_dot):
    return 3 * 2 * res.z * z_dot


@DIFFERENTIATING
@pytest.mark.parametrize(
    ("f", "reverse", "forward"), [(square, 2, 3), (lambda z: z * z, 1, 1)], ids=["rule", "plain"]
)
def test_complex_vjp_is_the_adjoint(fw, f, reverse, forward):
    out, pullback = diptych.vjp(f, fw.array(Z))
    same(fw, out, Z * Z)
    same(fw, pullback(fw.array(C))[0], reverse * np.conj(2 * Z) * C)
    same(fw, diptych.jvp(f, (fw.array(Z),), (fw.array(C),))[1], forward * 2 * Z * C)


@DIFFERENTIATING
def test_complex_gradient_is_steepest_ascent(fw):
    # |z|^2 grows fastest along z; its gradient is 2 z, not the conjugate.
    def norm(z):
        xp = diptych.namespace(z)
        return xp.sum(xp.real(z * conj(z)))

    same(fw, diptych.grad(norm)(fw.array(Z)), 2 * Z)
    value, bar = diptych.value_and_grad(lambda z: norm(square(z)))(fw.array(Z))
    same(fw, value, np.sum(np.abs(Z) ** 4))
    same(fw, bar, 2 * 2 * np.conj(2 * Z) * Z * Z)
    # Its Hessian along a direction is 2 of it.
    _, product = diptych.hvp(norm, (fw.array(Z),), (fw.array(C),))
    same(fw, product, 2 * C)


@DIFFERENTIATING
def test_gradient_of_real_and_complex_arguments(fw):
    def f(x, z):
        xp = diptych.namespace(z)
        return xp.sum(xp.real(x * z * (1 + 2j)))

    x_bar, z_bar = diptych.grad(f, (0, 1))(fw.array(A), fw.array(Z))
    same(fw, x_bar, np.real(Z * (1 + 2j)))
    same(fw, z_bar, A * (1 - 2j))


# Mistakes.


@DIFFERENTIATING
@pytest.mark.parametrize(
    ("f", "got"),
    [
        (lambda x: x, r"float64\(3,\)"),
        (lambda x: total(x) + 0j, r"complex128\(\)"),
        (lambda x: (total(x), total(x)), r"float64\(\), (torch\.)?float64\(\)"),
    ],
    ids=["vector", "complex", "pair"],
)
def test_gradient_of_what_is_no_real_scalar(fw, f, got):
    with pytest.raises(StructureError, match=r"grad of <lambda>[\s\S]*real[\s\S]*scalar") as raised:
        diptych.grad(f)(fw.array(A))
    assert re.search(got, str(raised.value))
    assert "diptych.jacobian" in str(raised.value)


@DIFFERENTIATING
def test_vectors_that_do_not_fit(fw):
    with pytest.raises(StructureError, match=r"jvp of sine: tangent 0[\s\S]*\(3,\)[\s\S]*\(2,\)"):
        diptych.jvp(sine, (fw.array(A),), (fw.array(A[:2]),))
    with pytest.raises(StructureError, match="jvp of sine: wrong number of tangents"):
        diptych.jvp(sine, (fw.array(A),), ())
    _, pullback = diptych.vjp(sine, fw.array(A))
    with pytest.raises(StructureError, match=r"pullback of sine: cotangent 0[\s\S]*\(3,\)"):
        pullback(fw.array(A[:2]))


@DIFFERENTIATING
@pytest.mark.parametrize("argnums", [2, -3, (0, 5)], ids=str)
def test_argnums_out_of_range(fw, argnums):
    with pytest.raises(StructureError, match=re.escape(f"argnums={argnums} of energy")):
        diptych.grad(energy, argnums)(fw.array(A), fw.array(B))


def test_two_frameworks_in_one_call():
    with pytest.raises(KindError, match=r"arrays of two frameworks"):
        diptych.grad(energy, (0, 1))(framework("torch").array(A), framework("jax").array(B))


@FRAMEWORKS
def test_names_are_kept(fw):
    for transform in (diptych.grad, diptych.value_and_grad, diptych.jacobian, diptych.hessian):
        assert transform(energy).__name__ == "energy"


def test_direction_that_nobody_stated():
    @diptych.rule
    def stateless(x):
        return x * x

    for name in ("torch", "jax"):
        fw = framework(name)
        for call in (
            lambda fw=fw: diptych.grad(lambda x: total(stateless(x)))(fw.array(A)),
            lambda fw=fw: diptych.jvp(stateless, (fw.array(A),), (fw.array(B),)),
        ):
            with pytest.raises(MissingDirectionError, match=r"stateless[\s\S]*@stateless\.vjp"):
                call()
