"""Autocast: a rule's derivative runs as its value did, and has its arguments' dtypes."""

import pytest
import torch
from compiling import clean_dynamo, compiled
from torch.func import grad, jacfwd, jvp
from torch.utils.checkpoint import checkpoint

import diptych
from diptych.errors import StructureError

__all__ = ["clean_dynamo"]


def low():
    return torch.autocast("cpu", torch.bfloat16)


def states(kind):
    """Returns a matrix product whose VJP is twice and whose JVP is three times the true one."""

    @diptych.rule
    def product(x, w):
        return x @ w

    if kind == "fwd":

        @product.fwd
        def product_fwd(x, w):
            return x @ w, {"x": x * 1.0, "w": w}

    get = (lambda res, name: res[name]) if kind == "fwd" else getattr

    if kind != "jvp":

        @product.vjp
        def product_vjp(res, out_bar):
            return 2 * out_bar @ get(res, "w").mT, 2 * get(res, "x").mT @ out_bar

    if kind != "vjp":

        @product.jvp
        def product_jvp(res, x_dot, w_dot):
            return 3 * (x_dot @ get(res, "w") + get(res, "x") @ w_dot)

    return product


SCALES = {"vjp": (2, 2), "jvp": (3, 3), "both": (2, 3), "fwd": (2, 3)}
every_kind = pytest.mark.parametrize("kind", SCALES)


@pytest.fixture
def matrices():
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randint(-3, 4, (4, 4), generator=generator).float() for _ in range(2))


def in_low(f):
    def wrapped(*args):
        with low():
            return f(*args).float().sum()

    return wrapped


@every_kind
@pytest.mark.parametrize("backward", ["outside", "inside"])
def test_backward(matrices, kind, backward):
    x, w = (m.requires_grad_() for m in matrices)
    product, scale = states(kind), SCALES[kind][0]
    with low():
        out = product(torch.nn.functional.linear(x, torch.eye(4)), w)
        assert out.dtype == torch.bfloat16
        if backward == "inside":
            out.float().sum().backward()
    if backward == "outside":
        out.float().sum().backward()
    # Small whole numbers: exact in bfloat16.
    torch.testing.assert_close(x.grad, scale * torch.ones(4, 4) @ w.detach().T)
    torch.testing.assert_close(w.grad, scale * x.detach().T @ torch.ones(4, 4))


@every_kind
def test_torch_func_and_compile(matrices, kind):
    product, (reverse, forward) = states(kind), SCALES[kind]
    x, w = matrices
    f = in_low(lambda x: product(x, w))
    want = torch.ones(4, 4) @ w.T
    torch.testing.assert_close(grad(f)(x), reverse * want)
    torch.testing.assert_close(jacfwd(f)(x), forward * want)
    torch.testing.assert_close(jvp(f, (x,), (x,))[1], forward * (want * x).sum())
    torch.testing.assert_close(torch.vmap(grad(f))(x[None]), reverse * want[None])
    torch.testing.assert_close(compiled(grad(f))(x), reverse * want)
    x.requires_grad_()
    (got,) = torch.autograd.grad(compiled(f)(x), x)
    torch.testing.assert_close(got, reverse * want)


@every_kind
def test_second_order(matrices, kind):
    product = states(kind)
    x, w = (m.requires_grad_() for m in matrices)
    with low():
        out = product(x, w)
    (x_bar,) = torch.autograd.grad(out, x, torch.ones_like(out), create_graph=True)
    (w_bar,) = torch.autograd.grad(x_bar.sum(), w)
    torch.testing.assert_close(w_bar, SCALES[kind][0] * torch.full((4, 4), 4.0))


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_checkpoint(matrices, use_reentrant):
    product = states("vjp")
    x, w = (m.requires_grad_() for m in matrices)
    with low():
        out = checkpoint(product, x, w, use_reentrant=use_reentrant)
    out.float().sum().backward()
    torch.testing.assert_close(x.grad, 2 * torch.ones(4, 4) @ w.detach().T)


def test_autocast_around_the_backward_pass_alone_changes_nothing():
    product = states("vjp")
    x = (torch.eye(2) * 1.001).requires_grad_()  # 1.001 is no bfloat16
    out = product(x, torch.eye(2) * 1.001)
    with low():
        out.sum().backward()
    torch.testing.assert_close(x.grad, torch.full((2, 2), 2.002), rtol=1e-6, atol=0)


def test_without_autocast_a_wrong_dtype_is_still_an_error():
    @diptych.rule
    def f(x):
        return x * 1.0

    f.vjp(lambda res, out_bar: out_bar.bfloat16())
    with pytest.raises(StructureError, match="cotangent of a wrong dtype"):
        f(torch.ones(2, requires_grad=True)).sum().backward()
