"""Witness rules under dual numbers, autograd.functional, checkpoint and saved-tensor hooks."""

import pytest
import torch
from torch.autograd import forward_ad, functional, grad
from torch.utils.checkpoint import checkpoint, checkpoint_sequential
from torch_witnesses import (
    WITNESSES,
    close,
    every_witness,
    point,
    wave,
    wave_pull,
    weighted,
    weights,
)

import diptych


def dual_tangent(f, x, x_dot):
    """Returns the tangent of f(x + x_dot eps)."""
    with forward_ad.dual_level():
        out = f(forward_ad.make_dual(x, x_dot))
        return forward_ad.unpack_dual(out).tangent


@every_witness
def test_dual_numbers(witness):
    x, x_dot = point(), point(seed=1)
    got = dual_tangent(witness.rule, x, x_dot)
    close(got, witness.forward * dual_tangent(witness.plain, x, x_dot))


@every_witness
def test_dual_number_keeps_its_primal(witness):
    with forward_ad.dual_level():
        out = witness.rule(forward_ad.make_dual(point(), weights(point())))
        close(forward_ad.unpack_dual(out).primal, witness.plain(point()))
    assert forward_ad.unpack_dual  # the level is left: a later call has no tangent
    with forward_ad.dual_level():
        assert forward_ad.unpack_dual(witness.rule(point())).tangent is None


@every_witness
def test_dual_numbers_through_more_code(witness):
    x, x_dot = point(), point(seed=1)

    def around(f):
        return lambda x: torch.exp(f(2 * x) * 0.1)

    # The tangent is linear in that of the rule, whose primal is the plain one.
    got = dual_tangent(around(witness.rule), x, x_dot)
    close(got, witness.forward * dual_tangent(around(witness.plain), x, x_dot))


@every_witness
def test_forward_over_reverse(witness):
    def tangent_of_gradient(f):
        with forward_ad.dual_level():
            x = forward_ad.make_dual(point().requires_grad_(), point(seed=1))
            (x_bar,) = grad(weighted(f)(x), x, create_graph=True)
            return forward_ad.unpack_dual(x_bar).tangent.detach()

    close(tangent_of_gradient(witness.rule), witness.reverse * tangent_of_gradient(witness.plain))


@every_witness
def test_reverse_over_forward(witness):
    def gradient_of_tangent(f):
        x = point().requires_grad_()
        return grad(dual_tangent(weighted(f), x, point(seed=1)), x)

    (got,), (want,) = gradient_of_tangent(witness.rule), gradient_of_tangent(witness.plain)
    close(got, witness.forward * want)


@every_witness
def test_reverse_over_forward_in_the_tangent(witness):
    # The transpose of the push in its tangent is the pull.
    def pulled(f):
        x_dot = point(seed=1).requires_grad_()
        return grad(dual_tangent(weighted(f), point(), x_dot), x_dot)

    (got,), (want,) = pulled(witness.rule), pulled(witness.plain)
    close(got, witness.reverse * want)


@every_witness
def test_dual_numbers_around_vmap(witness):
    x, x_dot = point(5, 4), point(5, 4, seed=1)
    got = dual_tangent(torch.vmap(witness.rule), x, x_dot)
    close(got, witness.forward * dual_tangent(torch.vmap(witness.plain), x, x_dot))


# autograd.functional ------------------------------------------------------------------------------

REVERSE_FUNCTIONAL = {
    "vjp": lambda f, x: functional.vjp(f, x, weights(f(x)))[1],
    "jacobian": functional.jacobian,
    "jacobian vectorized": lambda f, x: functional.jacobian(f, x, vectorize=True),
    "jacobian create_graph": lambda f, x: functional.jacobian(f, x, create_graph=True).detach(),
    "hessian": lambda f, x: functional.hessian(weighted(f), x),
    "hessian vectorized": lambda f, x: functional.hessian(weighted(f), x, vectorize=True),
    "hessian forward over reverse": lambda f, x: functional.hessian(
        weighted(f), x, vectorize=True, outer_jacobian_strategy="forward-mode"
    ),
    "vhp": lambda f, x: functional.vhp(weighted(f), x, weights(x))[1],
    "hvp": lambda f, x: functional.hvp(weighted(f), x, weights(x))[1],
}
FORWARD_FUNCTIONAL = {
    # By two reverse passes: the transpose of the pull is the push.
    "jvp": lambda f, x: functional.jvp(f, x, weights(x))[1],
    "jacobian forward": lambda f, x: functional.jacobian(
        f, x, vectorize=True, strategy="forward-mode"
    ),
}


@every_witness
@pytest.mark.parametrize("name", list(REVERSE_FUNCTIONAL))
def test_functional_reverse(witness, name):
    transform = REVERSE_FUNCTIONAL[name]
    close(transform(witness.rule, point()), witness.reverse * transform(witness.plain, point()))


@every_witness
@pytest.mark.parametrize("name", list(FORWARD_FUNCTIONAL))
def test_functional_forward(witness, name):
    transform = FORWARD_FUNCTIONAL[name]
    close(transform(witness.rule, point()), witness.forward * transform(witness.plain, point()))


# checkpoint ---------------------------------------------------------------------------------------


def checkpointed_gradient(f, *, create_graph=False, **options):
    x = point().requires_grad_()
    out = checkpoint(lambda x: weighted(f)(1.5 * x), x, **options)
    if not create_graph:
        out.backward()
        return x.grad
    (first,) = grad(out, x, create_graph=True)
    return grad(first, x, weights(first))[0]


CHECKPOINTS = {
    "reentrant": {"use_reentrant": True},
    "non-reentrant": {"use_reentrant": False},
    "non-reentrant, to the end": {"use_reentrant": False, "early_stop": False},
    "non-reentrant, determinism checked": {"use_reentrant": False, "determinism_check": "default"},
}


@every_witness
@pytest.mark.parametrize("name", list(CHECKPOINTS))
def test_checkpoint(witness, name):
    options = CHECKPOINTS[name]
    got = checkpointed_gradient(witness.rule, **options)
    close(got, witness.reverse * checkpointed_gradient(witness.plain, **options))


@every_witness
def test_second_order_through_a_checkpoint(witness):
    options = {"use_reentrant": False, "create_graph": True}
    got = checkpointed_gradient(witness.rule, **options)
    close(got, witness.reverse * checkpointed_gradient(witness.plain, **options))


@every_witness
def test_nested_checkpoints(witness):
    def nested(f):
        return lambda x: checkpoint(f, x, use_reentrant=False)

    got = checkpointed_gradient(nested(witness.rule), use_reentrant=False)
    close(got, witness.reverse * checkpointed_gradient(witness.plain, use_reentrant=False))


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_checkpoint_sequential(use_reentrant):
    rule = WITNESSES["partials"].rule
    x = point().requires_grad_()
    out = checkpoint_sequential([rule, rule, rule], 2, x, use_reentrant=use_reentrant)
    (got,) = grad(out.sum(), x) if not use_reentrant else (_backward(out, x),)
    y, want = point(), torch.ones(4, dtype=torch.float64)
    for _ in range(3):
        y, want = torch.sin(y), 2 * torch.cos(y) * want
    close(got, want)


def _backward(out, x):
    out.sum().backward()
    return x.grad


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_checkpoint_recomputes_the_body_once(use_reentrant):
    calls = []

    @diptych.rule
    def counted(x):
        calls.append("body")
        return wave(x)

    @counted.vjp
    def counted_vjp(res, out_bar):
        calls.append("vjp")
        return 2 * wave_pull(res.x, out_bar)

    x = point().requires_grad_()
    checkpoint(weighted(counted), x, use_reentrant=use_reentrant).backward()
    # Non-reentrant checkpoint stops recomputing as soon as it has the tensors it needs.
    assert calls.count("vjp") == 1
    assert calls.count("body") == 2


# saved-tensor hooks -------------------------------------------------------------------------------


def hooked(f):
    """Returns the gradient with every saved tensor packed into NumPy, and how many were."""
    packed, unpacked = [], []

    def pack(tensor):
        packed.append(tensor.shape)
        return tensor.detach().numpy().copy()

    def unpack(array):
        unpacked.append(array.shape)
        return torch.from_numpy(array)

    x = point().requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        out = f(x)
    count = len(packed)
    (x_bar,) = grad(out, x, weights(out))
    return x_bar, count, len(unpacked)


@every_witness
def test_saved_tensors_pass_through_the_hooks(witness):
    x_bar, packed, unpacked = hooked(witness.rule)
    close(x_bar, witness.reverse * hooked(witness.plain)[0])
    assert packed > 0
    # Everything packed is unpacked once: nothing is saved in vain, nothing read twice.
    assert unpacked == packed


def test_a_hook_that_changes_what_is_saved_changes_the_gradient():
    # So the rule does read its residuals from what the hooks return, and from nowhere else.
    x = point().requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t.detach(), lambda t: t + 1.0):
        out = WITNESSES["vjp"].rule(x)
    (x_bar,) = grad(out, x, weights(out))
    close(x_bar, 2 * wave_pull(point() + 1.0, weights(out).detach()))


@every_witness
@pytest.mark.parametrize("order", [1, 2])
def test_hooks_around_the_backward_pass_too(witness, order):
    # As people offload: the context holds the whole step.
    def gradient(f):
        x = point().requires_grad_()
        with torch.autograd.graph.saved_tensors_hooks(lambda t: t.clone(), lambda t: t):
            (first,) = grad(weighted(f)(x), x, create_graph=order == 2)
            return first if order == 1 else grad(first, x, weights(first))[0]

    close(gradient(witness.rule), witness.reverse * gradient(witness.plain))


@every_witness
def test_offloading_to_the_cpu(witness):
    x = point().requires_grad_()
    with torch.autograd.graph.save_on_cpu():
        out = witness.rule(x)
    (got,) = grad(out, x, weights(out))
    y = point().requires_grad_()
    (want,) = grad(witness.plain(y), y, weights(out))
    close(got, witness.reverse * want)


@every_witness
def test_forbidden_hooks_leave_rules_alone(witness):
    with torch.autograd.graph.disable_saved_tensors_hooks("no hooks here"):
        x = point().requires_grad_()
        out = witness.rule(x)
        (got,) = grad(out, x, weights(out))
    y = point().requires_grad_()
    (want,) = grad(witness.plain(y), y, weights(out))
    close(got, witness.reverse * want)
