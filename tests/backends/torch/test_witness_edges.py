"""Witness rules at the edges: outputs that are inputs, views, repeated arguments, odd layouts."""

import numpy as np
import pytest
import torch
from compiling import clean_dynamo, compiled
from torch.autograd import forward_ad
from torch.func import grad, hessian, jacfwd, jacrev, jvp, vjp
from torch_witnesses import WITNESSES, close, point, weighted, weights

import diptych

__all__ = ["clean_dynamo"]

ONES = torch.ones(4, dtype=torch.float64)


def gradient(f, *args):
    """Returns the VJP of f at ones by plain autograd."""
    args = [arg.detach().clone().requires_grad_() for arg in args]
    out = f(*args)
    return torch.autograd.grad(out, args, torch.ones_like(out))


def dual_tangent(f, x, x_dot):
    with forward_ad.dual_level():
        return forward_ad.unpack_dual(f(forward_ad.make_dual(x, x_dot))).tangent


# the output is the input --------------------------------------------------------------------------


@diptych.rule
def same(x):
    return x


@same.vjp
def same_vjp(res, out_bar):
    return 2 * out_bar


@same.jvp
def same_jvp(res, x_dot):
    return 3 * x_dot


@diptych.rule
def turned(x):
    return x.T


@turned.vjp
def turned_vjp(res, out_bar):
    return 2 * out_bar.T


@turned.jvp
def turned_jvp(res, x_dot):
    return 3 * x_dot.T


@diptych.rule
def passed(x, y):
    return y, torch.sin(x)


@passed.vjp
def passed_vjp(res, bars):
    return 2 * torch.cos(res.x) * bars[1], 5 * bars[0]


@passed.jvp
def passed_jvp(res, x_dot, y_dot):
    return 7 * y_dot, 3 * torch.cos(res.x) * x_dot


@pytest.mark.parametrize("rule", [same, turned], ids=["the input", "a view of it"])
def test_output_that_is_the_input(rule):
    x = point(4, 4)
    plain = (lambda x: x) if rule is same else (lambda x: x.T)
    ones = torch.ones_like(x)
    assert torch.equal(rule(x), plain(x))
    close(gradient(rule, x)[0], 2 * ones)
    close(vjp(rule, x)[1](ones)[0], 2 * ones)
    close(jvp(rule, (x,), (x,))[1], 3 * plain(x))
    close(dual_tangent(rule, x, x.clone()), 3 * plain(x))
    close(torch.vmap(rule)(torch.stack([x, x])), torch.stack([plain(x)] * 2))
    close(
        torch.vmap(grad(lambda x: rule(x).sum()))(torch.stack([x, x])), torch.stack([2 * ones] * 2)
    )
    close(jacrev(rule)(x), 2 * jacrev(plain)(x))
    close(jacfwd(rule)(x), 3 * jacfwd(plain)(x))
    square = lambda f: lambda x: (f(x) ** 2).sum()  # noqa: E731
    # d/dx of pull(2 x): the inner function's own tangent is its push, three times.
    close(hessian(square(rule))(x), 2 * 3 * hessian(square(plain))(x))
    close(compiled(grad(lambda x: rule(x).sum()))(x), 2 * ones)
    (got,) = gradient(compiled(lambda x: rule(x) * 1.0), x)
    close(got, 2 * ones)


def test_output_that_is_the_input_is_another_tensor():
    x = point().requires_grad_()
    out = same(x)
    assert out is not x
    assert out.grad_fn is not None
    (x_bar,) = torch.autograd.grad(out.sum() + x.sum(), x)
    close(x_bar, 3 * ONES)


def test_one_of_the_outputs_is_an_input():
    x, y = point(), point(seed=1)
    total = lambda x, y: sum(out.sum() for out in passed(x, y))  # noqa: E731
    want = (2 * torch.cos(x), 5 * ONES)
    close(gradient(total, x, y), want)
    close(grad(total, argnums=(0, 1))(x, y), want)
    close(compiled(grad(total, argnums=(0, 1)))(x, y), want)
    close(jvp(passed, (x, y), (ONES, ONES))[1], (7 * ONES, 3 * torch.cos(x)))


@pytest.mark.parametrize("kept", ["x", "out"])
def test_an_output_that_is_an_input_and_kept(kept):
    @diptych.rule
    def weighed(x):
        return x, torch.sin(x)

    if kept == "x":

        @weighed.vjp
        def weighed_vjp(res, bars):
            return 2 * res.x * bars[0] + 2 * torch.cos(res.x) * bars[1]
    else:

        @weighed.vjp
        def weighed_vjp(res, bars):
            return 2 * res.out[0] * bars[0] + 2 * torch.cos(res.out[0]) * bars[1]

    x = point()
    total = lambda x: sum(out.sum() for out in weighed(x))  # noqa: E731
    want = 2 * x + 2 * torch.cos(x)
    close(gradient(total, x)[0], want)
    close(grad(total)(x), want)
    close(jacrev(total)(x), want)
    close(jacfwd(total)(x), want)
    close(torch.vmap(grad(total))(torch.stack([x, x])), torch.stack([want, want]))
    close(hessian(total)(x), torch.diag(2 - 2 * torch.sin(x)))
    close(compiled(grad(total))(x), want)


def test_the_same_array_returned_twice():
    @diptych.rule
    def doubled(x):
        out = torch.sin(x)
        return out, out

    @doubled.vjp
    def doubled_vjp(res, bars):
        return 2 * torch.cos(res.x) * (bars[0] + 10 * bars[1])

    x = point()
    first = lambda x: doubled(x)[0]  # noqa: E731
    second = lambda x: doubled(x)[1]  # noqa: E731
    for transform in (lambda f: gradient(f, x)[0], lambda f: grad(lambda x: f(x).sum())(x)):
        close(transform(first), 2 * torch.cos(x))
        close(transform(second), 20 * torch.cos(x))


# arguments ----------------------------------------------------------------------------------------


@diptych.rule
def product(x, y):
    return torch.sin(x) * y


@product.vjp
def product_vjp(res, out_bar):
    return 2 * torch.cos(res.x) * res.y * out_bar, 2 * torch.sin(res.x) * out_bar


@product.jvp
def product_jvp(res, x_dot, y_dot):
    return 3 * (torch.cos(res.x) * res.y * x_dot + torch.sin(res.x) * y_dot)


def test_the_same_array_given_twice():
    twice = lambda x: product(x, x)  # noqa: E731
    plain = lambda x: torch.sin(x) * x  # noqa: E731
    x = point()
    close(gradient(twice, x)[0], 2 * gradient(plain, x)[0])
    close(jacrev(twice)(x), 2 * jacrev(plain)(x))
    close(jacfwd(twice)(x), 3 * jacfwd(plain)(x))
    close(compiled(jacrev(twice))(x), 2 * jacrev(plain)(x))
    (got,) = gradient(compiled(twice), x)
    close(got, 2 * gradient(plain, x)[0])


LAYOUTS = {
    "transposed": lambda x: x.T,
    "strided": lambda x: x[::2],
    "expanded": lambda x: x[:1].expand(3, 4),
    "overlapping": lambda x: x.as_strided((3, 2), (1, 1)),
    "sliced": lambda x: x[:, 1:3],
}


@pytest.mark.parametrize("name", list(LAYOUTS))
@pytest.mark.parametrize("kind", ["partials", "jvp"])
def test_layouts(name, kind):
    layout, rule = LAYOUTS[name], WITNESSES["partials"].rule
    if kind == "jvp":

        @diptych.rule
        def rule(x):
            return torch.sin(x)

        @rule.jvp
        def rule_jvp(res, x_dot):
            return 2 * torch.cos(res.x) * x_dot

    f = lambda x: rule(layout(x))  # noqa: E731
    plain = lambda x: torch.sin(layout(x))  # noqa: E731
    x = point(4, 4)
    close(rule(layout(x)), torch.sin(layout(x)))
    close(gradient(f, x)[0], 2 * gradient(plain, x)[0])
    close(grad(weighted(f))(x), 2 * grad(weighted(plain))(x))
    close(
        dual_tangent(rule, layout(x).contiguous(), layout(x)), 2 * torch.cos(layout(x)) * layout(x)
    )
    # The cotangent may have any layout, too.
    at = layout(x).detach().requires_grad_()
    out = rule(at)
    bar = torch.ones((), dtype=torch.float64).expand(out.shape)
    close(torch.autograd.grad(out, at, bar)[0], 2 * torch.cos(at).detach())


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (1,)], ids=str)
def test_sizes(shape):
    rule = WITNESSES["partials"].rule
    x = point(4)[0].expand(shape).clone()
    want = 2 * torch.cos(x)
    (got,) = gradient(rule, x)
    torch.testing.assert_close(got, want, rtol=1e-12, atol=0)
    torch.testing.assert_close(grad(lambda x: rule(x).sum())(x), want, rtol=1e-12, atol=0)
    torch.testing.assert_close(jvp(rule, (x,), (torch.ones_like(x),))[1], want, rtol=1e-12, atol=0)
    torch.testing.assert_close(jacrev(rule)(x).shape, (*shape, *shape))
    torch.testing.assert_close(gradient(compiled(rule), x)[0], want, rtol=1e-12, atol=0)
    assert got.shape == shape


def test_python_numbers_and_numpy_arrays_beside_tensors():
    x, y = point(), np.linspace(1.0, 2.0, 4)
    want = 2 * torch.cos(x) * torch.from_numpy(y)
    for other in (y, torch.from_numpy(y)):
        close(gradient(lambda x, other=other: product(x, other), x)[0], want)
        close(grad(lambda x, other=other: product(x, other).sum())(x), want)


@diptych.rule
def power(x, n):
    return x**n


@power.vjp
def power_vjp(res, out_bar):
    return 2 * res.n * res.x ** (res.n - 1) * out_bar, None


@pytest.mark.parametrize("n", [3, 2.5], ids=str)
def test_python_number_as_argument(n):
    x = point()
    close(gradient(lambda x: power(x, n), x)[0], 2 * n * x ** (n - 1))
    close(grad(lambda x: power(x, n).sum())(x), 2 * n * x ** (n - 1))
    close(torch.vmap(lambda x: power(x, n))(x), x**n)
    close(compiled(grad(lambda x: power(x, n).sum()))(x), 2 * n * x ** (n - 1))


@pytest.mark.parametrize(
    "dtype",
    [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64],
    ids=str,
)
def test_dtypes_are_kept(dtype):
    rule = WITNESSES["partials"].rule
    x = point().to(dtype)
    want = 2 * torch.cos(x).conj().resolve_conj()
    (got,) = gradient(rule, x)
    assert got.dtype == dtype
    torch.testing.assert_close(got, want)
    out_dot = jvp(rule, (x,), (torch.ones_like(x),))[1]
    assert out_dot.dtype == dtype
    torch.testing.assert_close(out_dot, 2 * torch.cos(x))


# broadcasting -------------------------------------------------------------------------------------


@diptych.rule
def spread(x, y, z):
    return torch.sin(x) * y + z


@spread.partials
def spread_partials(res):
    return 2 * torch.cos(res.x) * res.y, 2 * torch.sin(res.x), 2 * torch.ones_like(res.z)


@pytest.mark.parametrize(
    "shapes", [((4,), (3, 4), ()), ((3, 1), (1, 4), (2, 1, 1)), ((), (4,), (3, 4))], ids=str
)
def test_partials_are_summed_over_what_was_broadcast(shapes):
    args = tuple(point(*(shape or (1,)), seed=i).reshape(shape) for i, shape in enumerate(shapes))
    plain = lambda x, y, z: torch.sin(x) * y + z  # noqa: E731

    def loss(f):
        def inner(*args):
            out = f(*args)
            return (weights(out) * out).sum()

        return inner

    for transform in (
        lambda f: gradient(loss(f), *args),
        lambda f: grad(loss(f), argnums=(0, 1, 2))(*args),
        lambda f: jvp(f, args, args)[1],
        lambda f: jacfwd(grad(loss(f)))(*args),
        lambda f: jacrev(grad(loss(f)))(*args),
        lambda f: torch.vmap(grad(loss(f), argnums=(0, 1, 2)))(
            *[torch.stack([a, a]) for a in args]
        ),
    ):
        want = torch.utils._pytree.tree_map(lambda leaf: 2 * leaf, transform(plain))
        close(transform(spread), want)


def test_broadcast_between_a_batched_and_an_unbatched_argument():
    x, y = point(3, 4), point(4, seed=1)
    mapped = torch.vmap(lambda x, z: spread(x, y, z), in_dims=(0, None))
    plain = torch.sin(x) * y + y
    close(mapped(x, y), plain)
    (got,) = gradient(lambda z: mapped(x, z), y)
    close(got, torch.full((4,), 6.0, dtype=torch.float64))
