"""Witness rules under eager autograd: grad and backward, orders 1 to 3, batches."""

import pytest
import torch
from torch.autograd import grad
from torch.autograd.gradcheck import GradcheckError
from torch_witnesses import (
    WITNESSES,
    close,
    every_witness,
    point,
    weighted,
    weights,
)

import diptych


def leaf(*shape: int, seed: int = 0) -> torch.Tensor:
    """Returns a fixed leaf tensor that requires a gradient."""
    return point(*shape, seed=seed).requires_grad_()


def order_1(f, x):
    out = f(x)
    return grad(out, x, weights(out))


def backward(f, x):
    out = f(x)
    out.backward(weights(out))
    return x.grad


def backward_named_inputs(f, x):
    out = f(x)
    out.backward(weights(out), inputs=[x])
    return x.grad


def order_2(f, x):
    (first,) = grad(weighted(f)(x), x, create_graph=True)
    return grad(first, x, weights(first))


def order_2_backward(f, x):
    (first,) = grad(weighted(f)(x), x, create_graph=True)
    (weights(first) * first).sum().backward()
    return x.grad


def order_3(f, x):
    (first,) = grad(weighted(f)(x), x, create_graph=True)
    (second,) = grad(first, x, weights(first), create_graph=True)
    return grad(second, x, weights(second))


def batched_cotangents(f, x):
    out = f(x)
    return grad(out, x, torch.diag(weights(out)), is_grads_batched=True)


def batched_order_2(f, x):
    (first,) = grad(weighted(f)(x), x, create_graph=True)
    return grad(first, x, torch.eye(4, dtype=torch.float64), is_grads_batched=True)


def double_backward(f, x):
    # J v by two reverse passes: the transpose of the pull in its cotangent is the push.
    out = f(x)
    out_bar = torch.zeros_like(out, requires_grad=True)
    (x_bar,) = grad(out, x, out_bar, create_graph=True)
    return grad(x_bar, out_bar, weights(x_bar))


def double_backward_then_residual(f, x):
    # d/dx (J(x) v), the inner J v by two reverse passes: the push differentiated in its residuals.
    out = f(x)
    out_bar = torch.zeros_like(out, requires_grad=True)
    (x_bar,) = grad(out, x, out_bar, create_graph=True)
    (out_dot,) = grad(x_bar, out_bar, weights(x_bar), create_graph=True)
    return grad(out_dot, x, weights(out_dot))


def triple_backward(f, x):
    # Transposed twice over, the push is the pull again.
    out = f(x)
    out_bar = torch.zeros_like(out, requires_grad=True)
    (x_bar,) = grad(out, x, out_bar, create_graph=True)
    x_dot = torch.zeros_like(x, requires_grad=True)
    (out_dot,) = grad(x_bar, out_bar, x_dot, create_graph=True)
    return grad(out_dot, x_dot, weights(out_dot))


REVERSE = (
    order_1,
    backward,
    backward_named_inputs,
    order_2,
    order_2_backward,
    order_3,
    batched_cotangents,
    batched_order_2,
    triple_backward,
)
FORWARD = (double_backward, double_backward_then_residual)


@every_witness
@pytest.mark.parametrize("cell", REVERSE, ids=lambda cell: cell.__name__)
def test_reverse_uses_the_pull(witness, cell):
    close(cell(witness.rule, leaf()), _scaled(witness.reverse, cell(witness.plain, leaf())))


@every_witness
@pytest.mark.parametrize("cell", FORWARD, ids=lambda cell: cell.__name__)
def test_double_backward_uses_the_push(witness, cell):
    close(cell(witness.rule, leaf()), _scaled(witness.forward, cell(witness.plain, leaf())))


def _scaled(scale, want):
    return torch.utils._pytree.tree_map(lambda leaf: scale * leaf, want)


@every_witness
def test_value_is_the_body_s(witness):
    x = point()
    want = witness.plain(x)
    close(witness.rule(x), want)
    close(witness.rule(x.clone().requires_grad_()).detach(), want)
    with torch.no_grad():
        assert witness.rule(leaf()).grad_fn is None
    with torch.inference_mode():
        close(witness.rule(x), want)


@every_witness
def test_retained_graph_can_be_walked_twice(witness):
    x = leaf()
    out = witness.rule(x)
    out.backward(weights(out), retain_graph=True)
    out.backward(weights(out))
    (want,) = order_1(witness.plain, leaf())
    close(x.grad, 2 * witness.reverse * want)


@every_witness
def test_freed_graph_says_so(witness):
    x = leaf()
    out = witness.rule(x)
    out.backward(weights(out))
    with pytest.raises(RuntimeError, match="second time"):
        out.backward(weights(out))


@every_witness
def test_input_that_is_not_a_leaf(witness):
    x = leaf()
    (got,) = grad(weighted(witness.rule)(3 * x), x)
    (want,) = grad(weighted(witness.plain)(3 * x), x)
    close(got, witness.reverse * want)


@every_witness
def test_gradcheck_rejects_the_witness(witness):
    # The witness would be no witness if finite differences agreed with it.
    with pytest.raises(GradcheckError):
        torch.autograd.gradcheck(witness.rule, leaf())


@every_witness
def test_anomaly_mode(witness):
    with torch.autograd.set_detect_anomaly(True):
        x = leaf()
        (got,) = order_1(witness.rule, x)
    (want,) = order_1(witness.plain, leaf())
    close(got, witness.reverse * want)


@every_witness
def test_hooks_on_the_output_and_the_input_run(witness):
    x = leaf()
    seen = []
    x.register_hook(lambda x_bar: seen.append("x") or 10 * x_bar)
    out = witness.rule(x)
    out.register_hook(lambda out_bar: seen.append("out") or 7 * out_bar)
    (got,) = grad(out, x, weights(out))
    (want,) = order_1(witness.plain, leaf())
    close(got, 70 * witness.reverse * want)
    assert seen == ["out", "x"]


@pytest.mark.parametrize("name", ["vjp", "jvp", "both", "partials"])
def test_inplace_change_of_a_saved_input_is_noticed(name):
    witness = WITNESSES[name]
    x = leaf()
    base = x * 1.0
    out = witness.rule(base)
    base.mul_(2.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        grad(out, x, weights(out))


@pytest.mark.parametrize("name", ["vjp", "jvp", "both"])
def test_two_calls_in_one_graph_add_up(name):
    witness = WITNESSES[name]
    x = leaf()
    loss = weighted(witness.rule)(x) + weighted(witness.rule)(x * x)
    (got,) = grad(loss, x)
    y = leaf()
    (want,) = grad(weighted(witness.plain)(y) + weighted(witness.plain)(y * y), y)
    close(got, witness.reverse * want)


def test_detached_output_cuts_the_graph():
    x = leaf()
    assert not WITNESSES["both"].rule(x).detach().requires_grad
    assert not WITNESSES["both"].rule(x.detach()).requires_grad


def test_directions_that_read_other_residuals():
    @diptych.rule(static="n")
    def power(x, n):
        return diptych.namespace(x).exp(n * x)

    @power.jvp
    def power_jvp(res, x_dot):
        return res.n * diptych.namespace(res.x).exp(res.n * res.x) * x_dot

    @power.vjp
    def power_vjp(res, out_bar):
        return 2.0 * res.out * out_bar  # neither res.n nor res.x, which the JVP reads

    x = leaf()
    (first,) = grad((power(x, 2.0) ** 2).sum(), x, create_graph=True)
    (second,) = grad(first.sum(), x, create_graph=True)
    (third,) = grad(second.sum(), x)
    close(second, 16 * torch.exp(4 * x))
    close(third, 64 * torch.exp(4 * x))
