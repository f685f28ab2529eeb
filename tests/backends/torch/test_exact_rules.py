"""Rules that state the true derivative: equal to autograd of the plain body, alone and composed."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.func import grad, hessian, jacfwd, jacrev
from torch_witnesses import WITNESSES, chirp, close, point, wave, wave_pull, wave_push, weights

import diptych


@diptych.rule
def by_vjp(x):
    return wave(x)


@by_vjp.vjp
def by_vjp_vjp(res, out_bar):
    return wave_pull(res.x, out_bar)


@diptych.rule
def by_jvp(x):
    return wave(x)


@by_jvp.jvp
def by_jvp_jvp(res, x_dot):
    return wave_push(res.x, x_dot)


@diptych.rule
def by_both(x):
    return wave(x)


@by_both.vjp
def by_both_vjp(res, out_bar):
    return wave_pull(res.x, out_bar)


@by_both.jvp
def by_both_jvp(res, x_dot):
    return wave_push(res.x, x_dot)


@diptych.rule
def by_kept(x):
    return chirp(x)


@by_kept.fwd
def by_kept_fwd(x):
    middle = torch.exp(0.5 * x)
    return wave(middle), (middle,)


@by_kept.vjp
def by_kept_vjp(res, out_bar):
    return 0.5 * res[0] * wave_pull(res[0], out_bar)


@diptych.rule
def by_kept_jvp(x):
    return chirp(x)


@by_kept_jvp.fwd
def by_kept_jvp_fwd(x):
    middle = torch.exp(0.5 * x)
    return wave(middle), [middle, {"slope": torch.cos(middle)}]


@by_kept_jvp.jvp
def by_kept_jvp_jvp(res, x_dot):
    middle, slope = res[0], res[1]["slope"]
    return torch.cumsum(slope * 0.5 * middle * x_dot, -1)[..., 1:]


@diptych.rule
def by_output(x):
    return torch.tanh(x)


@by_output.vjp
def by_output_vjp(res, out_bar):
    return (1 - res.out**2) * out_bar


@diptych.rule
def by_output_of_fwd(x):
    return torch.tanh(x)


@by_output_of_fwd.fwd
def by_output_of_fwd_fwd(x):
    out = torch.tanh(x)
    return out, {"out": out, "slope": 1 - out**2}


@by_output_of_fwd.jvp
def by_output_of_fwd_jvp(res, x_dot):
    return (res["slope"] + 0 * res["out"]) * x_dot


@diptych.rule
def by_partials(x):
    return torch.sin(x)


@by_partials.partials
def by_partials_partials(res):
    return torch.cos(res.x)


RULES = {
    "vjp": (by_vjp, wave),
    "jvp": (by_jvp, wave),
    "both": (by_both, wave),
    "kept": (by_kept, chirp),
    "kept jvp": (by_kept_jvp, chirp),
    "output": (by_output, torch.tanh),
    "output of fwd": (by_output_of_fwd, torch.tanh),
    "partials": (by_partials, torch.sin),
}

every_rule = pytest.mark.parametrize(("rule", "plain"), list(RULES.values()), ids=list(RULES))


@every_rule
def test_gradcheck(rule, plain):
    assert gradcheck(
        rule,
        point().requires_grad_(),
        check_forward_ad=True,
        check_batched_grad=True,
        check_batched_forward_grad=True,
    )


@every_rule
def test_gradgradcheck(rule, plain):
    assert gradgradcheck(
        rule,
        point().requires_grad_(),
        check_fwd_over_rev=True,
        check_rev_over_rev=True,
        check_batched_grad=True,
        gen_non_contig_grad_outputs=True,
    )


@every_rule
def test_gradgradcheck_of_the_gradient(rule, plain):
    # Order three.
    def first(x):
        out = rule(x)
        return torch.autograd.grad(out, x, weights(out) + 0 * out, create_graph=True)

    assert gradgradcheck(first, point().requires_grad_(), check_fwd_over_rev=True)


NESTINGS = {
    "jacrev": jacrev,
    "jacfwd": jacfwd,
    "jacrev of jacrev": lambda f: jacrev(jacrev(f)),
    "jacfwd of jacrev": lambda f: jacfwd(jacrev(f)),
    "jacrev of jacfwd": lambda f: jacrev(jacfwd(f)),
    "jacfwd of jacfwd": lambda f: jacfwd(jacfwd(f)),
    "jacfwd of jacfwd of jacfwd": lambda f: jacfwd(jacfwd(jacfwd(f))),
    "jacrev of jacrev of jacrev": lambda f: jacrev(jacrev(jacrev(f))),
    "jacrev of jacfwd of jacrev": lambda f: jacrev(jacfwd(jacrev(f))),
    "hessian of a square": lambda f: hessian(lambda x: (f(x) ** 2).sum()),
    "grad of exp": lambda f: grad(lambda x: torch.exp(f(x)).sum()),
}


def composed(f):
    """Returns f of f of more, whose every derivative mixes values and derivatives of f."""

    def inner(x):
        first = f(x * x)
        padded = torch.nn.functional.pad(first, (4 - first.shape[-1], 0))
        return f(padded * x + 0.3) * torch.exp(0.1 * first)

    return inner


@every_rule
@pytest.mark.parametrize("name", list(NESTINGS))
def test_composed(rule, plain, name):
    nesting = NESTINGS[name]
    close(nesting(composed(rule))(point()), nesting(composed(plain))(point()))


@every_rule
@pytest.mark.parametrize("name", ["jacrev", "jacfwd of jacrev", "jacrev of jacfwd", "grad of exp"])
def test_composed_under_vmap(rule, plain, name):
    nesting, batch = NESTINGS[name], point(2, 4)
    close(torch.vmap(nesting(composed(rule)))(batch), torch.vmap(nesting(composed(plain)))(batch))


def stand_in(plain, scale):
    """Returns plain code with `plain`'s value and `scale` times its derivatives."""
    return lambda x: scale * plain(x) - (scale - 1) * plain(x).detach()


@pytest.mark.parametrize("kind", ["vjp", "jvp", "partials", "kept"])
@pytest.mark.parametrize("name", list(NESTINGS))
def test_composed_witnesses(kind, name):
    # One statement is both directions here, so that plain code can stand in for it.
    witness, nesting = WITNESSES[kind], NESTINGS[name]
    assert witness.reverse == witness.forward
    want = nesting(composed(stand_in(witness.plain, witness.reverse)))(point())
    close(nesting(composed(witness.rule))(point()), want)


@pytest.mark.parametrize("kind", ["vjp", "jvp", "partials", "kept"])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_composed_witnesses_under_autograd(kind, order):
    witness = WITNESSES[kind]

    def derivative(f):
        x = point().requires_grad_()
        out = composed(f)(x)
        for _ in range(order):
            (out,) = torch.autograd.grad(out, x, weights(out), create_graph=True)
        return out.detach()

    close(derivative(witness.rule), derivative(stand_in(witness.plain, witness.reverse)))
