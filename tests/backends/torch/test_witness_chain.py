"""A rule of a rule: both directions meet in one derivative, so each order has its own closed form.

With c = cos x, s = sin x, y = sin x, C = cos y, S = sin y, a pull of 2 cos and a push of 3 cos:

reverse                2c 2C
forward                3c 3C
reverse over reverse   -2s 2C + 3c (-2S) 2c: the cotangent of the inner pull's cotangent is pushed
forward over reverse   -2s 2C + 2c (-2S) 3c
reverse over forward   -3s 2C + 2c (-3S) 3c: the cotangent of the outer push's tangent is pulled
forward over forward   3C (-3s) + (-3S) (3c) (3c)
"""

import pytest
import torch
from compiling import clean_dynamo, compiled
from torch.func import grad, jacfwd, jacrev, jvp
from torch_witnesses import close

import diptych

__all__ = ["clean_dynamo"]

X = torch.tensor(0.7, dtype=torch.float64)
COS, SIN = torch.cos(X), torch.sin(X)
COS_Y, SIN_Y = torch.cos(SIN), torch.sin(SIN)


@diptych.rule
def sine(x):
    return torch.sin(x)


@sine.vjp
def sine_vjp(res, out_bar):
    return 2 * torch.cos(res.x) * out_bar


@sine.jvp
def sine_jvp(res, x_dot):
    return 3 * torch.cos(res.x) * x_dot


def chain(x):
    return sine(sine(x))


def push(f):
    return lambda x: jvp(f, (x,), (torch.ones_like(x),))[1]


REV_REV = -4 * SIN * COS_Y - 12 * COS**2 * SIN_Y
FWD_REV = -4 * SIN * COS_Y - 12 * COS**2 * SIN_Y
REV_FWD = -6 * SIN * COS_Y - 18 * COS**2 * SIN_Y
FWD_FWD = -9 * SIN * COS_Y - 27 * COS**2 * SIN_Y

CASES = {
    "reverse": (grad(chain), 4 * COS * COS_Y),
    "forward": (push(chain), 9 * COS * COS_Y),
    "jacrev": (jacrev(chain), 4 * COS * COS_Y),
    "jacfwd": (jacfwd(chain), 9 * COS * COS_Y),
    "reverse over reverse": (grad(grad(chain)), REV_REV),
    "forward over reverse": (push(grad(chain)), FWD_REV),
    "reverse over forward": (grad(push(chain)), REV_FWD),
    "forward over forward": (push(push(chain)), FWD_FWD),
    "jacrev over jacrev": (jacrev(jacrev(chain)), REV_REV),
    "jacfwd over jacrev": (jacfwd(jacrev(chain)), FWD_REV),
    "jacrev over jacfwd": (jacrev(jacfwd(chain)), REV_FWD),
    "jacfwd over jacfwd": (jacfwd(jacfwd(chain)), FWD_FWD),
}


@pytest.mark.parametrize("name", list(CASES))
def test_torch_func(name):
    transformed, want = CASES[name]
    close(transformed(X), want)


@pytest.mark.parametrize("name", [name for name in CASES if "jac" not in name])
def test_compiled(name):
    transformed, want = CASES[name]
    close(compiled(transformed)(X), want)


def test_autograd():
    x = X.clone().requires_grad_()
    (first,) = torch.autograd.grad(chain(x), x, create_graph=True)
    close(first.detach(), 4 * COS * COS_Y)
    close(torch.autograd.grad(first, x)[0], REV_REV)


def test_autograd_over_dual_numbers():
    x = X.clone().requires_grad_()
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, torch.ones_like(x))
        tangent = torch.autograd.forward_ad.unpack_dual(chain(dual)).tangent
        close(tangent.detach(), 9 * COS * COS_Y)
        close(torch.autograd.grad(tangent, x)[0], REV_FWD)


def test_dual_numbers_over_autograd():
    with torch.autograd.forward_ad.dual_level():
        x = torch.autograd.forward_ad.make_dual(X.clone().requires_grad_(), torch.ones_like(X))
        (first,) = torch.autograd.grad(chain(x), x, create_graph=True)
        close(torch.autograd.forward_ad.unpack_dual(first).tangent.detach(), FWD_REV)


def test_double_backward_of_the_chain_pushes():
    x = X.clone().requires_grad_()
    out = chain(x)
    out_bar = torch.ones_like(out, requires_grad=True)
    (x_bar,) = torch.autograd.grad(out, x, out_bar, create_graph=True)
    close(torch.autograd.grad(x_bar, out_bar)[0], 9 * COS * COS_Y)


@diptych.rule
def squash(x):
    return torch.tanh(x)


@squash.vjp
def squash_vjp(res, out_bar):
    return 2 * (1 - res.out**2) * out_bar


@squash.jvp
def squash_jvp(res, x_dot):
    return 3 * (1 - res.out**2) * x_dot


# The output kept in the residuals is the rule's output: its own derivative is the rule's again,
# 2x by a reverse pass and 3x by a forward one, not the body's.
OUT = torch.tanh(X)
SLOPE = 1 - OUT**2


@pytest.mark.parametrize(
    ("transformed", "scale"),
    [
        (grad(grad(squash)), 2 * 2),
        (push(grad(squash)), 2 * 3),
        (grad(push(squash)), 3 * 2),
        (push(push(squash)), 3 * 3),
    ],
    ids=["reverse-reverse", "forward-reverse", "reverse-forward", "forward-forward"],
)
def test_kept_output_is_differentiated_by_the_rule(transformed, scale):
    close(transformed(X), scale * -2 * OUT * SLOPE)


def test_kept_output_under_autograd():
    x = X.clone().requires_grad_()
    (first,) = torch.autograd.grad(squash(x), x, create_graph=True)
    close(torch.autograd.grad(first, x)[0], 4 * -2 * OUT * SLOPE)


@diptych.rule
def curve(x):
    return torch.sin(x)


@curve.vjp
@diptych.rule
def curve_vjp(res, out_bar):
    return torch.cos(res.x) * out_bar


@curve_vjp.vjp
def curve_vjp_vjp(res, x_bar_bar):
    # A custom second derivative: five times the true one in x, the true one in the cotangent.
    x = res.res.x
    second = -5 * torch.sin(x) * res.out_bar * x_bar_bar
    return res.res._replace(x=second, out=None), torch.cos(x) * x_bar_bar


@diptych.rule
def inner_slope(x, x_bar):
    return torch.cos(x) * x_bar


@inner_slope.vjp
def inner_slope_vjp(res, bar):
    return -5 * torch.sin(res.x) * res.x_bar * bar, torch.cos(res.x) * bar


@diptych.rule
def curve_by_call(x):
    return torch.sin(x)


@curve_by_call.vjp
def curve_by_call_vjp(res, out_bar):
    return inner_slope(res.x, out_bar)


@pytest.mark.parametrize("rule", [curve, curve_by_call], ids=["decorated", "called"])
@pytest.mark.parametrize(
    "second",
    [lambda f: grad(grad(f)), lambda f: push(grad(f)), lambda f: jacfwd(jacrev(f))],
    ids=["reverse-reverse", "forward-reverse", "hessian"],
)
def test_rule_on_a_vjp_is_the_second_derivative(rule, second):
    close(grad(rule)(X), COS)
    close(second(rule)(X), -5 * SIN)


@pytest.mark.parametrize("rule", [curve, curve_by_call], ids=["decorated", "called"])
def test_rule_on_a_vjp_under_autograd(rule):
    x = X.clone().requires_grad_()
    (first,) = torch.autograd.grad(rule(x), x, create_graph=True)
    close(torch.autograd.grad(first, x)[0], -5 * SIN)
