"""torch.testing's autograd.Functions as rules, with that module's own samples, in every check."""

import pytest
import torch
from compiling import clean_dynamo, compiled
from function_db_rules import (
    SCALE,
    cube,
    mul,
    numpy_cube,
    numpy_cube_once,
    numpy_exp,
    numpy_mul,
    numpy_sort,
    numpy_take,
    scale_grad,
    select,
    select_by_default,
    sort,
    take,
    zero_gradients,
)
from torch.autograd import gradcheck, gradgradcheck
from torch.autograd.gradcheck import GradcheckError
from torch.testing._internal import autograd_function_db as db

import diptych

__all__ = ["clean_dynamo"]

# What each Function of the database became, and which of its outputs are differentiable.
RULES = {
    "NumpyCubeAutogradFunction": numpy_cube,
    "NumpyExpMarkDirtyAutogradFunction": numpy_exp,
    "NumpyMulAutogradFunction": numpy_mul,
    "NumpyCubeNotComposableAutogradFunction": numpy_cube_once,
    "NumpySortAutogradFunction": numpy_sort,
    "NumpyTakeAutogradFunction": numpy_take,
    "SelectAutogradFunction": select,
    "CubeGenVmapAutogradFunction": cube,
    "MulGenVmapAutogradFunction": mul,
    "SortGenVmapAutogradFunction": sort,
    "SelectGenVmapAutogradFunction": select,
    "ScaleGradGenVmapAutogradFunction": scale_grad,
    "ZeroGradientsGenVmapAutogradFunction": zero_gradients,
    "ForwardHasDefaultArgsAutogradFunction": select_by_default,
}
OPS = {op.name: op for op in db.autograd_function_db}
TAKE = "TakeGenVmap"
FORWARD_ONLY_ONCE = "NumpyCubeNotComposableAutogradFunction"
NOT_THE_DERIVATIVE = {"ScaleGradGenVmapAutogradFunction", "ZeroGradientsGenVmapAutogradFunction"}
TRUE_RULES = [
    name for name in [*RULES, TAKE] if name not in {*NOT_THE_DERIVATIVE, FORWARD_ONLY_ONCE}
]


def rule_of(name):
    return take if name == TAKE else RULES[name]


def sample(name, dtype=torch.float64, requires_grad=True):
    """Returns the database's own sample as `(differentiable arguments, the others)`."""
    torch.manual_seed(0)
    op = OPS["NumpyTakeAutogradFunction" if name == TAKE else name]
    (found,) = op.sample_inputs("cpu", dtype, requires_grad=requires_grad)
    args = (found.input, *found.args)
    count = sum(isinstance(arg, torch.Tensor) and arg.dtype == dtype for arg in args)
    return args[:count], args[count:]


def differentiable(name, rest):
    """Returns the rule as a function of its differentiable arguments, to differentiable outputs."""
    rule = rule_of(name)

    def f(*args):
        out = rule(*args, *rest)
        if not isinstance(out, tuple):
            return out
        kept = tuple(leaf for leaf in out if leaf.is_floating_point())
        return kept[0] if len(kept) == 1 else kept

    return f


def original(name, rest):
    """Returns the hand-written Function itself, the same way."""
    op = db.TakeGenVmap.apply if name == TAKE else OPS[name].op

    def f(*args):
        out = op(*args, *rest)
        if not isinstance(out, tuple):
            return out
        kept = tuple(leaf for leaf in out if leaf.is_floating_point())
        return kept[0] if len(kept) == 1 else kept

    return f


def test_every_function_of_the_database_is_here():
    assert {op.name for op in db.autograd_function_db} == set(RULES)


@pytest.mark.parametrize("name", TRUE_RULES)
def test_gradcheck(name):
    args, rest = sample(name)
    assert gradcheck(
        differentiable(name, rest),
        args,
        check_forward_ad=True,
        check_backward_ad=True,
        check_batched_grad=True,
        check_batched_forward_grad=True,
        check_undefined_grad=True,
        check_grad_dtypes=True,
    )


@pytest.mark.parametrize("name", TRUE_RULES)
@pytest.mark.parametrize("non_contiguous", [False, True], ids=["contiguous", "non-contiguous"])
def test_gradgradcheck(name, non_contiguous):
    args, rest = sample(name)
    assert gradgradcheck(
        differentiable(name, rest),
        args,
        gen_non_contig_grad_outputs=non_contiguous,
        check_fwd_over_rev=True,
        check_rev_over_rev=True,
        check_batched_grad=True,
        check_undefined_grad=True,
        check_grad_dtypes=True,
    )


def tangent(f, args, directions):
    with torch.autograd.forward_ad.dual_level():
        duals = [
            torch.autograd.forward_ad.make_dual(a, d) for a, d in zip(args, directions, strict=True)
        ]
        out = f(*duals)
        out = out if isinstance(out, tuple) else (out,)
        return sum(torch.autograd.forward_ad.unpack_dual(leaf).tangent.sum() for leaf in out)


@pytest.mark.parametrize("name", TRUE_RULES)
def test_reverse_over_forward(name):
    # gradgradcheck has forward over reverse and reverse over reverse; this is the third nesting.
    args, rest = sample(name)
    f = differentiable(name, rest)
    directions = [torch.rand_like(a) for a in args]
    assert gradcheck(lambda *args: tangent(f, args, directions), args)


@pytest.mark.parametrize(
    ("name", "second"),
    [
        ("NumpyCubeAutogradFunction", lambda x: 6 * x),
        ("NumpyExpMarkDirtyAutogradFunction", torch.exp),
        ("CubeGenVmapAutogradFunction", lambda x: 6 * x),
    ],
)
def test_forward_over_forward(name, second):
    # The fourth: gradcheck has no dual numbers of dual numbers, torch.func does.
    (x,), rest = sample(name, requires_grad=False)

    def first(x):
        out = differentiable(name, rest)(x)
        return out[0] if isinstance(out, tuple) else out

    def push(f):
        return lambda x: torch.func.jvp(f, (x,), (torch.ones_like(x),))[1]

    torch.testing.assert_close(push(push(first))(x), second(x))


def test_numpy_code_is_differentiable_once():
    args, rest = sample(FORWARD_ONLY_ONCE)
    f = differentiable(FORWARD_ONLY_ONCE, rest)
    assert gradcheck(f, args, check_batched_grad=True, check_undefined_grad=True)
    (first,) = torch.autograd.grad(f(*args).sum(), args, create_graph=True)
    with pytest.raises(diptych.errors.MissingDirectionError, match="numpy_cube_once"):
        torch.autograd.grad(first.sum(), args)


def test_numpy_code_with_a_vjp_alone_has_no_jvp():
    (x,), _ = sample(FORWARD_ONLY_ONCE)
    with pytest.raises(diptych.errors.MissingDirectionError, match="numpy_cube_once"):
        torch.func.jvp(numpy_cube_once, (x.detach(),), (torch.ones_like(x),))


@pytest.mark.parametrize("name", sorted(NOT_THE_DERIVATIVE))
def test_gradcheck_sees_the_rule_and_not_the_function(name):
    args, rest = sample(name)
    with pytest.raises(GradcheckError):
        gradcheck(differentiable(name, rest), args)


def test_scaled_gradients():
    (x,), _ = sample("ScaleGradGenVmapAutogradFunction")
    out = scale_grad(x)
    torch.testing.assert_close(out, x, rtol=0, atol=0)
    assert out is not x
    (x_bar,) = torch.autograd.grad(out, x, torch.ones_like(out))
    torch.testing.assert_close(x_bar, torch.full_like(x, SCALE))
    pushed = torch.func.jvp(scale_grad, (x.detach(),), (torch.ones_like(x),))[1]
    torch.testing.assert_close(pushed, torch.full_like(x, SCALE))


def test_zero_gradients():
    (x, y), _ = sample("ZeroGradientsGenVmapAutogradFunction")
    outs = zero_gradients(x, y)
    bars = torch.autograd.grad(sum(out.sum() for out in outs), (x, y), materialize_grads=True)
    assert all(torch.equal(bar, torch.zeros_like(bar)) for bar in bars)
    (jac_x, jac_y) = torch.func.jacfwd(zero_gradients, argnums=(0, 1))(x.detach(), y.detach())
    for jac in (*jac_x, *jac_y):
        assert torch.equal(jac, torch.zeros_like(jac))


def test_too_large_a_gradient_is_refused():
    # The database's Function returns one "intentionally too large", which PyTorch sums away.
    @diptych.rule
    def too_large(x):
        return x.clone()

    @too_large.vjp
    def too_large_vjp(res, out_bar):
        return torch.zeros(3, 4, *out_bar.shape, dtype=out_bar.dtype)

    x = torch.ones(2, dtype=torch.float64, requires_grad=True)
    with pytest.raises(diptych.errors.StructureError, match=r"too_large.*'x'") as caught:
        too_large(x).sum().backward()
    assert "(3, 4, 2)" in str(caught.value)
    assert "(2,)" in str(caught.value)


# Against the hand-written Functions, whose value they share for every dtype of the database.


SORTS = {"NumpySortAutogradFunction", "SortGenVmapAutogradFunction"}


@pytest.mark.parametrize("name", sorted(RULES.keys() - SORTS - {FORWARD_ONLY_ONCE}))
def test_value_for_every_dtype(name):
    op, rule = OPS[name], RULES[name]
    # NumPy's exponential in place has floating-point results only.
    dtypes = [d for d in op.dtypes if "Exp" not in name or d.is_floating_point]
    assert len(dtypes) >= 3
    for dtype in dtypes:
        args, rest = sample(name, dtype, requires_grad=False)
        got, want = rule(*args, *rest), op.op(*args, *rest)
        torch.testing.assert_close(got, want)


@pytest.mark.parametrize("name", sorted(SORTS))
def test_sorted_values_for_every_dtype(name):
    # The database's NumpySort returns its input unsorted, and ties have more than one order.
    for dtype in OPS[name].dtypes:
        (x,), (dim,) = sample(name, dtype, requires_grad=False)
        values, ind, ind_inv = RULES[name](x, dim)
        torch.testing.assert_close(values, torch.sort(x, dim=dim).values)
        torch.testing.assert_close(torch.take_along_dim(x, ind, dim), values)
        torch.testing.assert_close(torch.take_along_dim(values, ind_inv, dim), x)


# The database's derivatives of these two are wrong on purpose.
WRONG = {"CubeGenVmapAutogradFunction", "ZeroGradientsGenVmapAutogradFunction"}


@pytest.mark.parametrize("name", sorted({*TRUE_RULES, *NOT_THE_DERIVATIVE} - WRONG))
def test_gradient_is_that_of_the_function(name):
    args, rest = sample(name)
    got_out, want_out = differentiable(name, rest)(*args), original(name, rest)(*args)
    first = lambda out: out[0] if isinstance(out, tuple) else out  # noqa: E731
    bar = torch.rand_like(first(want_out))
    got = torch.autograd.grad(first(got_out), args, bar)
    want = torch.autograd.grad(first(want_out), args, bar)
    torch.testing.assert_close(got, want)


ALL = [*TRUE_RULES, *sorted(NOT_THE_DERIVATIVE)]


@pytest.mark.parametrize("name", [*ALL, FORWARD_ONLY_ONCE])
@pytest.mark.parametrize("in_dim", [0, 1, -1])
def test_vmap(name, in_dim):
    args, rest = sample(name, requires_grad=False)
    f = differentiable(name, rest)
    rows = [tuple(a + 0.1 * i for a in args) for i in range(3)]
    batch = tuple(torch.stack(column, in_dim) for column in zip(*rows, strict=True))
    got = torch.vmap(f, in_dims=in_dim)(*batch)
    outs = [f(*row) for row in rows]
    if isinstance(outs[0], tuple):
        want = tuple(torch.stack(column) for column in zip(*outs, strict=True))
    else:
        want = torch.stack(outs)
    torch.testing.assert_close(got, want)


def total(f):
    def scalar(*args):
        out = f(*args)
        return sum((leaf * leaf).sum() for leaf in (out if isinstance(out, tuple) else (out,)))

    return scalar


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("order", [1, 2])
def test_vmap_of_gradients(name, order):
    args, rest = sample(name, requires_grad=False)
    g = torch.func.grad(total(differentiable(name, rest)))
    if order == 2:
        g = torch.func.grad(total(g))
    rows = [tuple(a + 0.1 * i for a in args) for i in range(3)]
    batch = tuple(torch.stack(column) for column in zip(*rows, strict=True))
    torch.testing.assert_close(torch.vmap(g)(*batch), torch.stack([g(*row) for row in rows]))


@pytest.mark.parametrize("name", ALL)
def test_vmap_of_jvp(name):
    args, rest = sample(name, requires_grad=False)
    f = differentiable(name, rest)
    push = lambda *args: torch.func.jvp(f, args, args)[1]  # noqa: E731
    rows = [tuple(a + 0.1 * i for a in args) for i in range(3)]
    batch = tuple(torch.stack(column) for column in zip(*rows, strict=True))
    got, outs = torch.vmap(push)(*batch), [push(*row) for row in rows]
    if isinstance(outs[0], tuple):
        outs = [torch.stack(column) for column in zip(*outs, strict=True)]
        torch.testing.assert_close(list(got), outs)
    else:
        torch.testing.assert_close(got, torch.stack(outs))


@pytest.mark.parametrize("name", [*ALL, FORWARD_ONLY_ONCE])
def test_compiled(name):
    args, rest = sample(name)
    f = differentiable(name, rest)
    loss = compiled(total(f))(*args)
    torch.testing.assert_close(loss, total(f)(*args))
    got = torch.autograd.grad(loss, args, materialize_grads=True)
    want = torch.autograd.grad(total(f)(*args), args, materialize_grads=True)
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("transform", ["grad", "jvp", "vmap of grad", "grad of grad"])
def test_compiled_with_torch_func(name, transform):
    args, rest = sample(name, requires_grad=False)
    f = total(differentiable(name, rest))
    transformed = {
        "grad": lambda: torch.func.grad(f),
        "jvp": lambda: lambda *args: torch.func.jvp(f, args, args)[1],
        "vmap of grad": lambda: torch.vmap(torch.func.grad(f)),
        "grad of grad": lambda: torch.func.grad(total(torch.func.grad(f))),
    }[transform]()
    if transform == "vmap of grad":
        args = tuple(torch.stack([a, 2 * a]) for a in args)
    torch.testing.assert_close(compiled(transformed)(*args), transformed(*args))
