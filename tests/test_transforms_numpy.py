"""NumPy: a plain call runs the body; a derivative is the rule's own, and there is no other."""

import subprocess
import sys

import numpy as np
import pytest

import diptych
from diptych.errors import MissingDirectionError, StructureError

A, B = np.array([0.5, 1.5, 2.5]), np.array([2.0, -1.0, 3.0])


def make(*parts):
    @diptych.rule
    def product(x, y):
        assert type(x) is np.ndarray
        assert diptych.namespace(x).__name__.endswith("numpy")
        return x * y

    if "vjp" in parts:
        product.vjp(lambda res, bar: (2 * bar * res.y, lambda: 2 * bar * res.x))
    if "jvp" in parts:
        product.jvp(lambda res, x_dot, y_dot: 3 * (x_dot * res.y + res.x * y_dot))
    if "partials" in parts:
        product.partials(lambda res: (5 * res.y, 5 * res.x))
    return product


@pytest.mark.parametrize("parts", [(), ("vjp",), ("jvp",), ("vjp", "jvp"), ("partials",)], ids=str)
def test_plain_call(parts):
    out = make(*parts)(A, B)
    assert type(out) is np.ndarray
    np.testing.assert_array_equal(out, A * B)


@pytest.mark.parametrize(
    ("parts", "scale"), [(("vjp",), 2), (("vjp", "jvp"), 2), (("partials",), 5)]
)
def test_vjp_is_the_rules_own(parts, scale):
    out, pullback = diptych.vjp(make(*parts), A, B)
    np.testing.assert_array_equal(out, A * B)
    for bar in (np.ones(3), A):
        bars = pullback(bar)
        assert all(type(b) is np.ndarray for b in bars)
        np.testing.assert_array_equal(bars[0], scale * bar * B)
        np.testing.assert_array_equal(bars[1], scale * bar * A)


@pytest.mark.parametrize(
    ("parts", "scale"), [(("jvp",), 3), (("vjp", "jvp"), 3), (("partials",), 5)]
)
def test_jvp_is_the_rules_own(parts, scale):
    out, dot = diptych.jvp(make(*parts), (A, B), (B, A))
    np.testing.assert_array_equal(out, A * B)
    np.testing.assert_allclose(dot, scale * (B * B + A * A))


def test_linear_rule_pushes_itself():
    @diptych.rule(linear=True)
    def summed(x, y):
        return x + 2 * y

    np.testing.assert_allclose(diptych.jvp(summed, (A, B), (B, A))[1], B + 2 * A)


def test_rule_with_fwd():
    @diptych.rule
    def sine(x):
        raise AssertionError("fwd gives the value")

    @sine.fwd
    def sine_fwd(x):
        return np.sin(x), {"cos": np.cos(x)}

    @sine.vjp
    def sine_vjp(res, out_bar):
        return 2 * res["cos"] * out_bar

    np.testing.assert_array_equal(sine(A), np.sin(A))
    out, pullback = diptych.vjp(sine, A)
    np.testing.assert_array_equal(out, np.sin(A))
    np.testing.assert_array_equal(pullback(B)[0], 2 * np.cos(A) * B)


@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_jacobian_and_gradient(mode):
    product = make("vjp", "jvp")
    scale = {"forward": 3, "reverse": 2}[mode]
    got = diptych.jacobian(product, (0, 1), mode=mode)(A, B)
    np.testing.assert_array_equal(got[0], scale * np.diag(B))
    np.testing.assert_array_equal(got[1], scale * np.diag(A))
    np.testing.assert_array_equal(diptych.jacobian(product, 1, mode=mode)(A, B), scale * np.diag(A))

    @diptych.rule
    def total(x, w):
        return np.sum(x * w)

    total.vjp(lambda res, bar: (2 * bar * res.w, None))
    np.testing.assert_array_equal(diptych.grad(total)(A, B), 2 * B)
    value, bar = diptych.value_and_grad(total)(A, w=B)
    np.testing.assert_allclose(value, np.sum(A * B))
    np.testing.assert_array_equal(bar, 2 * B)
    np.testing.assert_array_equal(diptych.grad(total, (0, 1))(A, B)[1], np.zeros(3))


@pytest.mark.parametrize(("part", "scale"), [("vjp", 2), ("jvp", 3)])
def test_auto_mode_takes_what_is_stated(part, scale):
    got = diptych.jacobian(make(part))(A, B)
    np.testing.assert_array_equal(got, scale * np.diag(B))


def test_complex_numbers():
    @diptych.rule
    def square(z):
        return z * z

    @square.partials
    def square_partials(res):
        return 2 * res.z

    z, c = A + 1j * B, B - 1j * A
    np.testing.assert_allclose(diptych.vjp(square, z)[1](c)[0], np.conj(2 * z) * c)
    np.testing.assert_allclose(diptych.jvp(square, (z,), (c,))[1], 2 * z * c)


def test_integers_and_trees():
    @diptych.rule
    def f(tree, n):
        return {"y": tree["a"] * n, "rank": np.argsort(tree["a"])}

    @f.vjp
    def f_vjp(res, out_bar):
        return {"a": 2 * out_bar["y"] * res.n, "b": None}, None

    out, pullback = diptych.vjp(f, {"a": A, "b": B}, np.array([1, 2, 3]))
    assert out["rank"].dtype.kind == "i"
    tree_bar, n_bar = pullback({"y": np.ones(3), "rank": np.zeros(3, np.int64)})
    np.testing.assert_array_equal(tree_bar["a"], [2, 4, 6])
    np.testing.assert_array_equal(tree_bar["b"], np.zeros(3))
    assert n_bar is None or not np.any(n_bar)


# Where there is no derivative the error says which, and what to do.


def assert_says(error, *words):
    text = str(error.value)
    assert isinstance(error.value, NotImplementedError)
    for word in ("expected", "got", "mend", *words):
        assert word in text, (word, text)


def test_derivative_of_what_is_no_rule():
    for call in (
        lambda: diptych.grad(lambda x: np.sum(x))(A),
        lambda: diptych.vjp(np.sin, A),
        lambda: diptych.jvp(np.sin, (A,), (B,)),
        lambda: diptych.jacobian(np.sin)(A),
    ):
        with pytest.raises(MissingDirectionError) as error:
            call()
        assert_says(error, "NumPy", "rule", "torch tensors or JAX arrays")


def test_direction_that_is_not_stated():
    with pytest.raises(MissingDirectionError) as error:
        diptych.jvp(make("vjp"), (A, B), (A, B))
    assert_says(error, "vjp of product", "NumPy cannot transpose")
    out, pullback = diptych.vjp(make("jvp"), A, B)
    np.testing.assert_array_equal(out, A * B)
    with pytest.raises(MissingDirectionError) as error:
        pullback(np.ones(3))
    assert_says(error, "jvp of product", "NumPy cannot transpose")
    with pytest.raises(MissingDirectionError) as error:
        diptych.vjp(make(), A, B)[1](np.ones(3))
    assert_says(error, "product", "@product.vjp")


def test_second_derivatives_and_batches():
    for call in (
        lambda: diptych.hessian(make("vjp", "jvp"))(A, B),
        lambda: diptych.vmap(make("vjp"))(A, B),
        lambda: diptych.hvp(make("vjp", "jvp"), (A, B), (A, B)),
    ):
        with pytest.raises((MissingDirectionError, StructureError)) as error:
            call()
        assert "mend" in str(error.value)


def test_neither_framework_is_loaded():
    program = """
import sys, numpy as np, diptych
@diptych.rule
def f(x):
    return diptych.namespace(x).sin(x)
@f.vjp
def f_vjp(res, out_bar):
    return 2 * np.cos(res.x) * out_bar
x = np.array([0.5, 1.5])
assert np.allclose(diptych.vjp(f, x)[1](x)[0], 2 * np.cos(x) * x)
assert np.allclose(diptych.jacobian(f, mode="reverse")(x), np.diag(2 * np.cos(x)))
print(sorted({"torch", "jax"} & sys.modules.keys()))
"""
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert run.stdout.strip() == "[]", run.stderr
