"""Rules are pure: one that changes an argument in place is named, wherever it is differentiated."""

import pytest
import torch
from compiling import clean_dynamo, compiled
from torch.autograd import forward_ad
from torch.func import grad, jvp, vmap
from torch_witnesses import close, point

import diptych
from diptych.errors import PurityError

__all__ = ["clean_dynamo"]


def in_place(x):
    return x.add_(1).sin()


def impure(kind, body=in_place):
    """Returns a rule that adds to its argument in place: flat, with fwd, or of a pytree."""

    @diptych.rule
    def f(x):
        return body(x)

    @diptych.rule
    def of_tree(tree):
        return {"out": body(tree["x"])}

    if kind == "tree":
        of_tree.vjp(lambda res, bars: {"x": bars["out"] * res.tree["x"].cos()})
        return lambda x: of_tree({"x": x})["out"]
    if kind == "fwd":
        f.fwd(lambda x: (body(x), x))
        f.vjp(lambda res, out_bar: out_bar * res.cos())
    elif kind == "jvp":
        f.jvp(lambda res, x_dot: x_dot * res.x.cos())
    else:
        f.vjp(lambda res, out_bar: out_bar * res.x.cos())
    return f


def dual(f, x):
    with forward_ad.dual_level():
        return f(forward_ad.make_dual(x, torch.ones_like(x)))


WAYS = {
    "autograd": lambda f, x: f(x.requires_grad_()),
    "grad": lambda f, x: grad(lambda x: f(x).sum())(x),
    "jvp": lambda f, x: jvp(f, (x,), (x,)),
    "vmap of grad": lambda f, x: vmap(grad(lambda x: f(x).sum()))(x[None]),
    "dual numbers": dual,
}
outside = torch.zeros((), dtype=torch.float64)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["flat", "fwd", "jvp", "tree"])
def test_an_argument_changed_in_place(kind, way):
    name = r"tree\['x'\]" if kind == "tree" else "x"
    for body in (in_place, lambda x: in_place(x) + outside):
        with pytest.raises(
            PurityError,
            match=rf": argument '{name}' was changed in place\n  expected: a pure function.*\n"
            r"  mend: compute with a copy: x = x.clone\(\)",
        ):
            WAYS[way](impure(kind, body), point())


def test_compiled():
    f = impure("flat")
    with pytest.raises(Exception, match="argument 'x' was changed in place"):
        compiled(grad(lambda x: f(x).sum()))(point())


def test_copies_may_be_changed():
    f = impure("flat", lambda x: in_place(x.clone()))
    for way in ("autograd", "grad"):
        WAYS[way](f, point())
    close(grad(lambda x: f(x).sum())(point()), point().cos())


@pytest.mark.parametrize("kind", ["flat", "fwd", "tree"])
def test_beside_inference_tensors(kind):
    with torch.inference_mode():
        k = point()

    @diptych.rule
    def f(x, k):
        return x * k.sum()

    f.vjp(lambda res, out_bar: (out_bar * 3, None))
    x = point().requires_grad_()
    close(torch.autograd.grad(f(x, k).sum(), x)[0], torch.full_like(x, 3.0))
