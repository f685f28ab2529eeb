"""Arguments as people pass them: position, keyword, default, variadic ones, methods, statics.

Every rule's VJP is twice the true one, so that a rule that was looked through is seen.
"""

import copy
import inspect
import re

import numpy as np
import pytest

import diptych
from diptych.errors import ClosureError, KindError, StaticArgumentError
from frameworks import DIFFERENTIATING, FRAMEWORKS, check, framework, same

X, Y = np.array([0.5, 1.5, 2.5]), np.array([2.0, -1.0, 3.0])


@diptych.rule
def product(x, y, scale=3.0):
    return x * y * scale


@product.vjp
def product_vjp(res, out_bar):
    xp = diptych.namespace(out_bar)
    bar = 2 * out_bar
    return (
        bar * res.y * res.scale,
        bar * res.x * res.scale,
        lambda: xp.sum(bar * res.x * res.y),
    )


CALLS = {
    "positions": lambda x, y: product(x, y, 3.0),
    "default": lambda x, y: product(x, y),
    "keyword": lambda x, y: product(x, y=y),
    "keywords": lambda x, y: product(scale=3.0, y=y, x=x),
    "unpacked": lambda x, y: product(*(x,), **{"y": y, "scale": 3}),
}


@FRAMEWORKS
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_positions_keywords_and_defaults(fw, call):
    check(fw, call, [X, Y], X * Y * 3, [6 * Y, 6 * X])


@FRAMEWORKS
def test_argument_with_a_default_may_be_an_array(fw):
    for call in (product, lambda x, y, s: product(x, scale=s, y=y)):
        check(fw, call, [X, Y, np.array(4.0)], X * Y * 4, [8 * Y, 8 * X, 2 * np.sum(X * Y)])


@FRAMEWORKS
def test_argument_twice(fw):
    check(fw, lambda x: product(x, x), [X], 3 * X * X, [12 * X])


@FRAMEWORKS
@pytest.mark.parametrize(
    ("args", "kwargs", "text"),
    [
        (1, {}, "missing a required argument: 'y'"),
        (4, {}, "too many positional arguments"),
        (2, {"x": 1.0}, "multiple values for argument 'x'"),
        (2, {"z": 1.0}, "unexpected keyword argument 'z'"),
    ],
)
def test_call_that_does_not_bind(fw, args, kwargs, text):
    with pytest.raises(TypeError, match=re.escape(text)) as raised:
        product(*[fw.array(X)] * args, **kwargs)
    assert "product(x, y, scale=3.0)" in str(raised.value)


# *args: each element is an argument.


@diptych.rule
def weighted_sum(*xs):
    return sum((i + 1) * x for i, x in enumerate(xs))


@weighted_sum.vjp
def weighted_sum_vjp(res, out_bar):
    assert isinstance(res.xs, tuple)
    return tuple(2 * (i + 1) * out_bar for i in range(len(res.xs)))


@FRAMEWORKS
@pytest.mark.parametrize("count", [1, 2, 5])
def test_variadic_arguments(fw, count):
    arrays = [X + i for i in range(count)]
    value = sum((i + 1) * x for i, x in enumerate(arrays))
    check(fw, weighted_sum, arrays, value, [2.0 * (i + 1) for i in range(count)])


@DIFFERENTIATING
def test_variadic_arguments_in_forward_mode(fw):
    @diptych.rule
    def squares(*xs):
        return sum(x * x for x in xs)

    @squares.jvp
    def squares_jvp(res, *dots):
        return sum(6 * x * dot for x, dot in zip(res.xs, dots, strict=True))

    xs = [fw.array(X), fw.array(Y)]
    same(fw, fw.push(squares, xs, xs), 6 * (X * X + Y * Y))
    check(fw, squares, [X, Y], X * X + Y * Y, [6 * X, 6 * Y])


# Keyword-only arguments and **kwargs.


@diptych.rule
def mixed(a, /, b, *cs, d, e=2.0, **fs):
    total = a * b + d * e
    for c in cs:
        total = total + c
    for name in sorted(fs):
        total = total + len(name) * fs[name]
    return total


@mixed.vjp
def mixed_vjp(res, out_bar):
    bar = 2 * out_bar
    cs = [bar for _ in res.cs]
    fs = {name: len(name) * bar for name in res.fs}
    return bar * res.b, bar * res.a, *cs, bar * res.e, None, fs


@FRAMEWORKS
def test_every_kind_of_parameter(fw):
    def call(a, b, c, d, u, vv):
        return mixed(a, b, c, vv=vv, d=d, u=u)

    arrays = [X, Y, X + 1, X + 2, X + 3, X + 4]
    value = X * Y + (X + 2) * 2 + (X + 1) + (X + 3) + 2 * (X + 4)
    check(fw, call, arrays, value, [2 * Y, 2 * X, 2, 4, 2, 4])


@FRAMEWORKS
def test_no_variadic_and_no_extra_keywords(fw):
    check(fw, lambda a, d: mixed(a, 5.0, d=d), [X, Y], 5 * X + 2 * Y, [10, 4])
    check(fw, lambda a, b: mixed(a, b=b, d=1.0, e=0), [X, Y], X * Y, [2 * Y, 2 * X])


@DIFFERENTIATING
def test_keyword_arguments_in_forward_mode(fw):
    @diptych.rule
    def f(x, *, w, **rest):
        return x * w + rest["u"]

    @f.jvp
    def f_jvp(res, x_dot, w_dot, rest_dot):
        return 3 * (x_dot * res.w + res.x * w_dot + rest_dot["u"])

    def call(x, w, u):
        return f(x, u=u, w=w)

    arrays = [fw.array(X), fw.array(Y), fw.array(X + Y)]
    same(fw, fw.push(call, arrays, arrays), 3 * (2 * X * Y + X + Y))
    check(fw, call, [X, Y, X], X * Y + X, [3 * Y, 3 * X, 3])


# Methods.


class Plain:
    def __init__(self, power):
        self.power = power

    @diptych.rule
    def raised(self, x, shift=0.0):
        return x**self.power + shift

    @raised.vjp
    def _raised_vjp(res, out_bar):  # noqa: N805
        n = res.self.power
        return 2 * n * res.x ** (n - 1) * out_bar, None

    @staticmethod
    @diptych.rule
    def tripled(x):
        return 3 * x

    doubled = staticmethod(diptych.rule(linear=True)(lambda x: 2 * x))


@FRAMEWORKS
def test_method_of_a_plain_class(fw):
    two, three = Plain(2), Plain(3)
    check(fw, two.raised, [X], X**2, [4 * X])
    check(fw, three.raised, [X], X**3, [6 * X**2])
    check(fw, lambda x: three.raised(shift=1.0, x=x), [X], X**3 + 1, [6 * X**2])
    same(fw, two.tripled(fw.array(X)), 3 * X)
    check(fw, two.doubled, [X], 2 * X, [2])


@FRAMEWORKS
def test_method_called_through_its_class(fw):
    check(fw, lambda x: Plain.raised(Plain(2), x), [X], X**2, [4 * X])


@FRAMEWORKS
def test_attribute_changed_between_calls(fw):
    thing = Plain(2)
    check(fw, thing.raised, [X], X**2, [4 * X])
    thing.power = 3
    check(fw, thing.raised, [X], X**3, [6 * X**2])


@FRAMEWORKS
def test_method_of_an_inheriting_class(fw):
    class Child(Plain):
        def raised(self, x):
            return super().raised(x) * 10

    check(fw, Child(2).raised, [X], 10 * X**2, [40 * X])


class Unhashable:
    """Compares by value and so has no hash; its method must work all the same."""

    def __init__(self, power):
        self.power = power

    def __eq__(self, other):
        return self.power == other.power

    __hash__ = None

    @diptych.rule
    def raised(self, x):
        return x**self.power

    @raised.vjp
    def _raised_vjp(res, out_bar):  # noqa: N805
        n = res.self.power
        return 2 * n * res.x ** (n - 1) * out_bar


@FRAMEWORKS
def test_method_of_an_unhashable_object(fw):
    check(fw, Unhashable(3).raised, [X], X**3, [6 * X**2])


def test_method_of_a_torch_module():
    torch = framework("torch").torch

    class Scale(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.from_numpy(Y))
            self.factor = 3.0

        def forward(self, x):
            return self.product(x, self.weight)

        @diptych.rule
        def product(self, x, w):
            return self.factor * x * w

        @product.vjp
        def _product_vjp(res, out_bar):  # noqa: N805
            bar = 2 * res.self.factor * out_bar
            return bar * res.w, bar * res.x

        @diptych.rule
        def reads_its_weight(self, x):
            return x * self.weight

        @reads_its_weight.vjp
        def _reads_vjp(res, out_bar):  # noqa: N805
            return out_bar * res.self.weight

    module = Scale()
    x = torch.from_numpy(X).requires_grad_()
    module(x).sum().backward()
    np.testing.assert_allclose(x.grad, 6 * Y)
    np.testing.assert_allclose(module.weight.grad, 6 * X)
    module.factor = 1.0
    np.testing.assert_allclose(module(x).detach(), X * Y)
    # The gradient of a parameter that is only read would be lost: it is named instead.
    with pytest.raises(ClosureError, match=r"weight[\s\S]*pass it as an argument"):
        module.reads_its_weight(x).sum().backward()


def test_bound_method_is_like_a_method():
    assert list(inspect.signature(product).parameters) == ["x", "y", "scale"]
    assert product.__name__ == "product"
    assert product.__doc__ is None
    assert product_vjp.__name__ == "product_vjp", "a decorator returns the function it was given"


# Static arguments of any kind.


@diptych.rule(static=("n", "how"))
def bent(x, n, how=None):
    return (how(x) if callable(how) else x) ** n


@bent.vjp
def bent_vjp(res, out_bar):
    # For the tests below `how` is the identity or adds a constant.
    inner = res.how(res.x) if callable(res.how) else res.x
    return 2 * res.n * inner ** (res.n - 1) * out_bar


class Shift:
    def __init__(self, by):
        self.by = by

    def __call__(self, x):
        return x + self.by


@FRAMEWORKS
@pytest.mark.parametrize(
    "how",
    [None, "label", Shift(1.0), lambda x: x + 1.0],
    ids=["none", "text", "object", "function"],
)
def test_static_arguments(fw, how):
    inner = X + 1 if callable(how) else X
    for n in (2, 3):
        check(fw, lambda x, n=n: bent(x, n, how), [X], inner**n, [2 * n * inner ** (n - 1)])
        check(fw, lambda x, n=n: bent(x, how=how, n=n), [X], inner**n, [2 * n * inner ** (n - 1)])


@FRAMEWORKS
def test_static_values_that_are_equal_but_not_alike(fw):
    @diptych.rule(static="n")
    def halves(x, n):
        return x * (n // 2 if isinstance(n, int) and not isinstance(n, bool) else n / 2)

    @halves.vjp
    def halves_vjp(res, out_bar):
        n = res.n
        return 2 * out_bar * (n // 2 if isinstance(n, int) and not isinstance(n, bool) else n / 2)

    for _ in range(3):  # a cache that takes 1, 1.0 and True for one another shows at the second
        check(fw, lambda x: halves(x, 1), [X], 0 * X, [0])
        check(fw, lambda x: halves(x, 1.0), [X], X / 2, [1])
        check(fw, lambda x: halves(x, True), [X], X / 2, [1])


@FRAMEWORKS
@pytest.mark.parametrize(
    "mode", [["add"], {"k": "add"}, np.array([1.0])], ids=["list", "dict", "np"]
)
def test_unhashable_static_argument_in_eager(fw, mode):
    mode = copy.copy(mode)  # it is changed below

    @diptych.rule(static="mode")
    def doubled(x, mode):
        return x * 2 if len(mode) == 1 else x * 3

    @doubled.vjp
    def doubled_vjp(res, out_bar):
        return 2 * (2 if len(res.mode) == 1 else 3) * out_bar

    for _ in range(3):
        check(fw, lambda x: doubled(x, mode), [X], 2 * X, [4])
    if isinstance(mode, list):
        check(fw, lambda x: doubled(x, ["a", "b"]), [X], 3 * X, [6])
        mode.append("more")  # the same object with another value
        check(fw, lambda x: doubled(x, mode), [X], 3 * X, [6])


def test_unhashable_static_argument_under_jit():
    jax = framework("jax").jax

    @diptych.rule(static=("mode", "n"))
    def doubled(x, n, mode):
        return x * 2

    @doubled.vjp
    def doubled_vjp(res, out_bar):
        return 4 * out_bar

    match = r"doubled: static argument 'mode'[\s\S]*hashable[\s\S]*list[\s\S]*tuple"
    for transform in (jax.jit, lambda f: jax.jit(jax.grad(lambda x: f(x).sum()))):
        with pytest.raises(StaticArgumentError, match=match):
            transform(lambda x: doubled(x, 1, ["add"]))(jax.numpy.asarray(X))
    got = jax.jit(lambda x: doubled(x, 1, ("add",)))(jax.numpy.asarray(X))
    np.testing.assert_allclose(got, 2 * X)


@FRAMEWORKS
@pytest.mark.parametrize("value", ["text", print, object()], ids=["str", "callable", "object"])
def test_undeclared_static_argument_is_named(fw, value):
    with pytest.raises(StaticArgumentError) as raised:
        product(fw.array(X), value)
    text = str(raised.value)
    assert "product: argument 'y' is no array" in text
    assert type(value).__name__ in text
    assert 'static=("y",)' in text


def test_static_that_names_no_parameter():
    with pytest.raises(StaticArgumentError, match=r"\['nope'\]"):
        diptych.rule(static="nope")(lambda x: x)


def test_arrays_of_two_frameworks():
    torch, jax = framework("torch").torch, framework("jax").jax
    with pytest.raises(KindError, match=r"product: arrays of two frameworks[\s\S]*torch[\s\S]*jax"):
        product(torch.from_numpy(X), jax.numpy.asarray(Y))
