"""Work is done once, and only if wanted: lazy cotangents, unused outputs, one forward pass."""

import pytest
import torch
from torch_witnesses import close, point

import diptych


def lazy_rule(calls):
    @diptych.rule
    def product(x, y, z):
        return x * y * z

    @product.vjp
    def product_vjp(res, out_bar):
        x, y, z = res.x, res.y, res.z

        def part(name, value):
            calls.append(name)
            return value * out_bar

        return lambda: part("x", y * z), lambda: part("y", x * z), lambda: part("z", x * y)

    return product


@pytest.mark.parametrize("wanted", ["x", "y", "z", "xy", "yz", "xyz"])
def test_lazy_cotangents_are_evaluated_only_if_wanted(wanted):
    calls = []
    args = [point(seed=i).requires_grad_(name in wanted) for i, name in enumerate("xyz")]
    out = lazy_rule(calls)(*args)
    assert calls == []
    out.sum().backward()
    assert "".join(calls) == wanted


@pytest.mark.parametrize("asked", ["x", "z", "xz"])
def test_lazy_cotangents_of_the_argnums_only(asked):
    calls = []
    rule = lazy_rule(calls)
    argnums = tuple("xyz".index(name) for name in asked)
    args = [point(seed=i) for i in range(3)]
    torch.func.grad(lambda *args: rule(*args).sum(), argnums=argnums)(*args)
    assert "".join(calls) == asked


def test_vjp_is_not_called_where_no_output_is_used():
    calls = []

    @diptych.rule
    def halves(x):
        return x[:2] * 2, x[2:] * 3

    @halves.vjp
    def halves_vjp(res, bars):
        calls.append([bar.shape for bar in bars])
        return torch.cat([bars[0] * 2, bars[1] * 3])

    x = point().requires_grad_()
    first, _ = halves(x)
    zero = (x * 0).sum()
    torch.autograd.grad(zero, x, retain_graph=True)
    assert calls == []
    (x_bar,) = torch.autograd.grad(first.sum(), x)
    # The cotangent that is not there arrives as zeros, of the right shape.
    assert calls == [[(2,), (2,)]]
    close(x_bar[:2], torch.full((2,), 2.0, dtype=torch.float64))
    assert torch.equal(x_bar[2:], torch.zeros(2, dtype=torch.float64))


def test_primal_and_fwd_run_once_per_call():
    calls = []

    @diptych.rule
    def once(x):
        calls.append("body")
        return torch.sin(x)

    @once.fwd
    def once_fwd(x):
        calls.append("fwd")
        return torch.sin(x), (x,)

    @once.vjp
    def once_vjp(res, out_bar):
        calls.append("vjp")
        return torch.cos(res[0]) * out_bar

    x = point().requires_grad_()
    out = once(x)
    assert calls in (["fwd"], ["body"])
    calls.clear()
    out.sum().backward()
    assert calls == ["vjp"]
    calls.clear()
    once(point())
    assert len(calls) == 1
