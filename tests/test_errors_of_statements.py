"""What a statement gets wrong is said when it is stated, and what residuals are there."""

import numpy as np
import pytest

import diptych
from diptych.errors import KindError, StaticArgumentError, StructureError
from frameworks import DIFFERENTIATING

A, B = np.array([1.0, 2.0]), np.array([3.0, 4.0])


def total(x):
    return diptych.namespace(x).sum(x)


def new():
    @diptych.rule
    def product(x, y):
        return x * y

    return product


@pytest.mark.parametrize(
    ("part", "function", "expected"),
    [
        ("vjp", lambda bar: bar, r"\(res, out_bar\); got: one of \(bar\)"),
        ("vjp", lambda res, a, b: a, r"\(res, out_bar\); got: one of \(res, a, b\)"),
        ("jvp", lambda res, x_dot: x_dot, r"\(res, x_dot, y_dot\); got: one of \(res, x_dot\)"),
        ("partials", lambda res, bar: bar, r"\(res\); got: one of \(res, bar\)"),
        ("fwd", lambda x: (x, x), r"\(x, y\); got: one of \(x\)"),
    ],
)
def test_wrong_signature(part, function, expected):
    with pytest.raises(StructureError, match=rf"{part} of product\n  expected: a .* of {expected}"):
        getattr(new(), part)(function)


def test_forgotten_return():
    rule = new()
    with pytest.raises(StructureError, match=r"vjp of product\n  expected: .* that returns"):

        @rule.vjp
        def product_vjp(res, bar):
            bar * res.y, bar * res.x

    @rule.vjp
    def zero(res, bar):
        return None

    rule.vjp(lambda res, bar: None)


def test_array_instead_of_a_statement():
    with pytest.raises(KindError, match=r"got: numpy.ndarray\n  mend: .*diptych.jvp\(product"):
        new().jvp(A)


@pytest.mark.parametrize("part", ["vjp", "jvp", "partials"])
@pytest.mark.parametrize("given", [(A,), (A, B), (total, A)], ids=["one", "two", "function"])
def test_a_decorator_called_as_if_it_were_the_transform(part, given):
    transform = {"partials": "grad"}.get(part, part)
    with pytest.raises(
        KindError,
        match=rf"@product.{part} states the derivative of product\n  expected: a function; got: "
        rf".*numpy.ndarray\n  mend: to differentiate .* use diptych.{transform}\(product, ...\)",
    ):
        getattr(new(), part)(*given)


@pytest.mark.parametrize("part", ["vjp", "jvp", "partials"])
@pytest.mark.parametrize("parameters", ["fixed", "variadic"])
def test_no_parameter_for_the_residuals(part, parameters):
    rule = new() if parameters == "fixed" else diptych.rule(lambda *xs: xs[0])
    for function in (lambda: None, lambda **kwargs: None):
        with pytest.raises(StructureError, match=rf"{part} of .*\n  expected: .* of \(res"):
            getattr(rule, part)(function)
    if parameters == "variadic":
        rule.jvp(lambda res, x_dot, y_dot: x_dot)
        rule.jvp(lambda res, *dots: dots[0])
        rule.jvp(lambda *everything: everything[1])


def test_methods_state_with_or_without_a_tangent_of_self():
    class Plain:
        @diptych.rule
        def f(self, x):
            return x

        f.jvp(lambda res, x_dot: x_dot)
        f.jvp(lambda res, self_dot, x_dot: x_dot)


@DIFFERENTIATING
def test_residuals_that_are_not_there_are_named(fw):
    rule = new()
    rule.vjp(lambda res, bar: (bar * res.z, None))
    with pytest.raises(AttributeError, match=r"no 'z'.*: res\.x, res\.y, res\.out"):
        diptych.grad(lambda x: total(rule(x, fw.array(B))))(fw.array(A))


@DIFFERENTIATING
def test_parameters_with_an_underscore_in_front(fw):
    rule = diptych.rule(lambda _x, out: _x * out)
    rule.vjp(lambda res, bar: (2 * bar * res.out_, 2 * bar * res._x))
    found = diptych.grad(lambda x, y: total(rule(x, y)), (0, 1))(fw.array(A), fw.array(B))
    np.testing.assert_allclose(fw.numpy(found[0]), 2 * B)
    np.testing.assert_allclose(fw.numpy(found[1]), 2 * A)


@DIFFERENTIATING
def test_text_within_a_tree(fw):
    rule = diptych.rule(lambda p: p["w"])
    with pytest.raises(StaticArgumentError, match=r"take it out of 'p' and pass it"):
        rule({"w": fw.array(A), "how": "relu"})


@pytest.mark.filterwarnings("error")
@DIFFERENTIATING
def test_unusual_numpy_arrays(fw):
    rule = new()
    rule.vjp(lambda res, bar: (2 * bar * res.y, None))
    frozen = B.copy()
    frozen.flags.writeable = False
    for y in (B.astype(">f8"), frozen, B[::-1][::-1], np.broadcast_to(3.0, 2)):
        for _ in range(2):
            found = diptych.grad(lambda x, y=y: total(rule(x, y)))(fw.array(A))
            np.testing.assert_allclose(fw.numpy(found), 2 * y)
    for y in (np.array([None, 1]), np.array(["a", "b"]), np.array(["2020"], "M8[D]")):
        with pytest.raises(KindError, match=r"product: argument 'y'\n  expected: an array of num"):
            rule(fw.array(A), y)
