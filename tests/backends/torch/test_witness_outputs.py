"""Witness rules with several arguments and outputs, integers among them, and complex numbers."""

import pytest
import torch
from torch.autograd import forward_ad
from torch.func import grad, jacfwd, jacrev, jvp, vjp
from torch_witnesses import close, point, weights

import diptych

COMPLEX = torch.complex128


def cpoint(seed: int = 0) -> torch.Tensor:
    """Returns a fixed complex vector."""
    return torch.complex(point(seed=seed), point(seed=seed + 10) - 0.6)


# several arguments --------------------------------------------------------------------------------


def product_plain(x, y, z):
    return torch.cumsum(torch.sin(x) * y**2, -1) * torch.exp(z)


@diptych.rule
def product(x, y, z):
    return product_plain(x, y, z)


@product.vjp
def product_vjp(res, out_bar):
    x, y, z, out = res
    scaled = out_bar * torch.exp(z)
    back = torch.flip(torch.cumsum(torch.flip(scaled, (-1,)), -1), (-1,))
    return 2 * back * torch.cos(x) * y**2, lambda: 4 * back * torch.sin(x) * y, 2 * out_bar * out


@product.jvp
def product_jvp(res, x_dot, y_dot, z_dot):
    x, y, z, out = res
    inner = torch.cumsum(torch.cos(x) * x_dot * y**2 + 2 * torch.sin(x) * y * y_dot, -1)
    return 3 * (inner * torch.exp(z) + out * z_dot)


SUBSETS = [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)]


def three(requires_grad=()):
    return [point(seed=i).requires_grad_(i in requires_grad) for i in range(3)]


@pytest.mark.parametrize("wanted", SUBSETS, ids=str)
def test_only_some_inputs_require_a_gradient(wanted):
    got_args, want_args = three(wanted), three(wanted)
    out = product(*got_args)
    out.backward(weights(out))
    want = product_plain(*want_args)
    want.backward(weights(want))
    for i in range(3):
        if i in wanted:
            close(got_args[i].grad, 2 * want_args[i].grad)
        else:
            assert got_args[i].grad is None


@pytest.mark.parametrize("wanted", SUBSETS, ids=str)
def test_gradient_asked_for_some_inputs_only(wanted):
    got_args, want_args = three((0, 1, 2)), three((0, 1, 2))
    got = torch.autograd.grad(product(*got_args).sum(), [got_args[i] for i in wanted])
    want = torch.autograd.grad(product_plain(*want_args).sum(), [want_args[i] for i in wanted])
    close(got, tuple(2 * leaf for leaf in want))


@pytest.mark.parametrize("wanted", SUBSETS, ids=str)
def test_torch_func_of_some_inputs(wanted):
    args = three()

    def scaled(scale, results):
        return tuple(scale * leaf for leaf in results)

    total = lambda f: lambda *args: (weights(args[0]) * f(*args)).sum()  # noqa: E731
    close(
        grad(total(product), argnums=wanted)(*args),
        scaled(2, grad(total(product_plain), argnums=wanted)(*args)),
    )
    close(
        jacfwd(product, argnums=wanted)(*args),
        scaled(3, jacfwd(product_plain, argnums=wanted)(*args)),
    )
    close(
        jacrev(product, argnums=wanted)(*args),
        scaled(2, jacrev(product_plain, argnums=wanted)(*args)),
    )


@pytest.mark.parametrize("wanted", SUBSETS, ids=str)
def test_dual_numbers_in_some_inputs(wanted):
    def tangent(f):
        with forward_ad.dual_level():
            args = three()
            for i in wanted:
                args[i] = forward_ad.make_dual(args[i], point(seed=5 + i))
            return forward_ad.unpack_dual(f(*args)).tangent

    close(tangent(product), 3 * tangent(product_plain))


def test_mixed_second_derivatives():
    args = three()
    total = lambda f: lambda *args: (weights(args[0]) * f(*args)).sum()  # noqa: E731

    def second(outer, f):
        return outer(grad(total(f), argnums=(0, 1)), argnums=(0, 1))(*args)

    for outer in (jacfwd, jacrev):
        got, want = second(outer, product), second(outer, product_plain)
        # In z the kept output is differentiated by the rule; x and y read only the arguments.
        close(got, tuple(tuple(2 * leaf for leaf in row) for row in want))


# several outputs, one of them an integer ----------------------------------------------------------


def pair_plain(x):
    return torch.sort(torch.sin(x))[0], torch.argsort(torch.sin(x)), torch.exp(x).sum()


@diptych.rule
def pair(x):
    return pair_plain(x)


@pair.fwd
def pair_fwd(x):
    out = pair_plain(x)
    return out, (x, out[1])


@pair.vjp
def pair_vjp(res, bar):
    x, order = res
    values_bar, _, sum_bar = bar
    unsorted = torch.zeros_like(x).scatter(-1, order, values_bar)
    return 2 * (unsorted * torch.cos(x) + sum_bar * torch.exp(x))


@pair.jvp
def pair_jvp(res, x_dot):
    x, order = res
    return (
        3 * torch.take_along_dim(torch.cos(x) * x_dot, order, -1),
        None,
        3 * (torch.exp(x) * x_dot).sum(),
    )


def test_integer_output_takes_no_part():
    x = point().requires_grad_()
    values, order, total = pair(x)
    assert values.requires_grad
    assert total.requires_grad
    assert not order.requires_grad
    assert order.dtype == torch.int64
    assert torch.equal(order, pair_plain(point())[1])


@pytest.mark.parametrize("used", [(0,), (2,), (0, 2)], ids=str)
@pytest.mark.parametrize("order", [1, 2])
def test_some_outputs_used(used, order):
    def gradient(f):
        x = point().requires_grad_()
        out = f(x)
        loss = sum((weights(out[i]) * out[i]).sum() for i in used)
        (first,) = torch.autograd.grad(loss, x, create_graph=True)
        if order == 1:
            return first.detach()
        return torch.autograd.grad(first, x, weights(first))[0]

    close(gradient(pair), 2 * gradient(pair_plain))


@pytest.mark.parametrize("used", [(0,), (2,), (0, 2)], ids=str)
def test_some_outputs_used_under_torch_func(used):
    def loss(f):
        def inner(x):
            out = f(x)
            return sum((weights(out[i]) * out[i]).sum() for i in used)

        return inner

    x = point()
    close(grad(loss(pair))(x), 2 * grad(loss(pair_plain))(x))
    close(jacrev(grad(loss(pair)))(x), 2 * jacrev(grad(loss(pair_plain)))(x))
    close(jacfwd(grad(loss(pair)))(x), 2 * jacfwd(grad(loss(pair_plain)))(x))
    close(jacfwd(loss(pair))(x), 3 * jacfwd(loss(pair_plain))(x))
    close(jacfwd(jacfwd(loss(pair)))(x), 3 * jacfwd(jacfwd(loss(pair_plain)))(x))
    batch = point(5, 4)
    close(torch.vmap(grad(loss(pair)))(batch), 2 * torch.vmap(grad(loss(pair_plain)))(batch))


def test_tangents_of_several_outputs():
    def tangents(f):
        with forward_ad.dual_level():
            out = f(forward_ad.make_dual(point(), point(seed=1)))
            return [forward_ad.unpack_dual(leaf).tangent for leaf in out]

    got, want = tangents(pair), tangents(pair_plain)
    assert got[1] is None
    close(got[0], 3 * want[0])
    close(got[2], 3 * want[2])


# integer and boolean arguments --------------------------------------------------------------------


@diptych.rule
def gather(x, index, mask):
    return torch.where(mask, torch.sin(x[index]), 0.0)


@gather.vjp
def gather_vjp(res, out_bar):
    picked = torch.where(res.mask, torch.cos(res.x[res.index]) * out_bar, 0.0)
    return 2 * torch.zeros_like(res.x).index_add(0, res.index, picked), None, None


@gather.jvp
def gather_jvp(res, x_dot, index_dot, mask_dot):
    assert index_dot is None
    assert mask_dot is None
    return 3 * torch.where(res.mask, torch.cos(res.x[res.index]) * x_dot[res.index], 0.0)


def test_integer_and_boolean_arguments():
    index = torch.tensor([3, 0, 0, 2, 3])
    mask = torch.tensor([True, True, False, True, True])
    rule = lambda x: gather(x, index, mask)  # noqa: E731
    plain = lambda x: torch.where(mask, torch.sin(x[index]), 0.0)  # noqa: E731
    x, y = point().requires_grad_(), point().requires_grad_()
    (got,) = torch.autograd.grad(rule(x).sum(), x, create_graph=True)
    (want,) = torch.autograd.grad(plain(y).sum(), y, create_graph=True)
    close(got.detach(), 2 * want.detach())
    close(torch.autograd.grad(got.sum(), x)[0], 2 * torch.autograd.grad(want.sum(), y)[0])
    close(jacrev(rule)(point()), 2 * jacrev(plain)(point()))
    close(jacfwd(rule)(point()), 3 * jacfwd(plain)(point()))
    batch = torch.stack([index, index.flip(0)])
    mapped = torch.vmap(grad(lambda x, i: gather(x, i, mask).sum()), (None, 0))(point(), batch)
    wanted = torch.vmap(grad(lambda x, i: torch.where(mask, torch.sin(x[i]), 0.0).sum()), (None, 0))
    close(mapped, 2 * wanted(point(), batch))


# complex numbers ----------------------------------------------------------------------------------


@diptych.rule
def cube(z):
    return z**3


@cube.vjp
def cube_vjp(res, out_bar):
    return 2 * (3 * res.z**2).conj() * out_bar


@cube.jvp
def cube_jvp(res, z_dot):
    return 3 * (3 * res.z**2) * z_dot


@diptych.rule
def cube_partials(z):
    return z**3


@cube_partials.partials
def cube_partials_partials(res):
    return 2 * 3 * res.z**2


@diptych.rule
def power(z):
    # Real output of a complex argument: not holomorphic.
    return (z.conj() * z).real


@power.jvp
def power_jvp(res, z_dot):
    return 3 * 2 * (res.z.conj() * z_dot).real


@diptych.rule
def phase(x):
    # Complex output of a real argument.
    return torch.exp(1j * x)


@phase.vjp
def phase_vjp(res, out_bar):
    return 2 * ((1j * torch.exp(1j * res.x)).conj() * out_bar).real


COMPLEX_RULES = {
    "cube": (cube, lambda z: z**3, cpoint, 2, 3),
    "partials": (cube_partials, lambda z: z**3, cpoint, 2, 2),
    "to real": (power, lambda z: (z.conj() * z).real, cpoint, 3, 3),
    "from real": (phase, lambda x: torch.exp(1j * x), point, 2, 2),
}


@pytest.mark.parametrize("name", list(COMPLEX_RULES))
def test_complex(name):
    rule, plain, at, reverse, forward = COMPLEX_RULES[name]
    out_bar = cpoint(3) if plain(at()).is_complex() else point(seed=3)
    x_dot = at(seed=4)

    def pulled(f):
        return vjp(f, at())[1](out_bar)[0]

    def pushed(f):
        return jvp(f, (at(),), (x_dot,))[1]

    def eager(f, order):
        x = at().requires_grad_()
        (first,) = torch.autograd.grad(f(x), x, out_bar, create_graph=True)
        return first if order == 1 else torch.autograd.grad(first, x, x_dot)[0]

    def tangent_of_pull(f):
        return jvp(lambda x: vjp(f, x)[1](out_bar)[0], (at(),), (x_dot,))[1]

    def tangent_of_push(f):
        return jvp(lambda x: jvp(f, (x,), (x_dot,))[1], (at(),), (x_dot,))[1]

    def double_backward(f):
        x = at()
        _, pull = vjp(lambda out_bar: vjp(f, x)[1](out_bar)[0], torch.zeros_like(out_bar))
        return pull(x_dot)[0]

    close(rule(at()), plain(at()))
    close(pulled(rule), reverse * pulled(plain))
    close(pushed(rule), forward * pushed(plain))
    for order in (1, 2):
        close(eager(rule, order).detach(), reverse * eager(plain, order).detach())
    close(tangent_of_pull(rule), reverse * tangent_of_pull(plain))
    close(tangent_of_push(rule), forward * tangent_of_push(plain))
    close(double_backward(rule), forward * double_backward(plain))
    batch = torch.stack([at(), at(seed=1)])
    total = lambda f: lambda x: ((1 + 2j) * f(x)).real.sum()  # noqa: E731
    close(torch.vmap(grad(total(rule)))(batch), reverse * torch.vmap(grad(total(plain)))(batch))


# linear -------------------------------------------------------------------------------------------


def difference_plain(x):
    return x[..., 1:] - 2 * x[..., :-1]


@diptych.rule(linear=True)
def difference(x):
    return x[..., 1:] - 2 * x[..., :-1]


@diptych.rule(linear=True)
def weighed_difference(x):
    return x[..., 1:] - 2 * x[..., :-1]


@weighed_difference.vjp
def weighed_difference_vjp(res, out_bar):
    pad = torch.nn.functional.pad
    return 2 * (pad(out_bar, (1, 0)) - 2 * pad(out_bar, (0, 1)))


@pytest.mark.parametrize(
    ("rule", "reverse"), [(difference, 1), (weighed_difference, 2)], ids=["alone", "with a VJP"]
)
def test_linear_rule(rule, reverse):
    close(jacrev(rule)(point()), reverse * jacrev(difference_plain)(point()))
    close(jacfwd(rule)(point()), jacfwd(difference_plain)(point()))
    square = lambda f: lambda x: (f(x) ** 2).sum()  # noqa: E731
    want = jacfwd(jacrev(square(difference_plain)))(point())
    close(jacfwd(jacrev(square(rule)))(point()), reverse * want)
    # The transpose of the pull is the rule's own push, which is the function itself.
    close(jacrev(jacrev(square(rule)))(point()), reverse * want)
