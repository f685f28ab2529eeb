"""The text of errors about what a rule's functions return of a wrong kind or shape."""

import numpy as np
import pytest

import diptych
from diptych.errors import KindError
from frameworks import DIFFERENTIATING, framework

NAMES = {"torch": "torch.Tensor", "jax": "jax.Array"}
X = np.array([0.5, 1.5, 2.5])


def foreign(fw):
    """Returns how to leave a framework."""
    if fw.name == "torch":
        return lambda x: x.detach().numpy() * 2.0
    torch = pytest.importorskip("torch")
    return lambda x: torch.ones(3, dtype=torch.float64) * 2.0


def stated(body, fwd=False, res=True):
    @diptych.rule
    def f(x):
        return body(x)

    if fwd:
        f.fwd(lambda x: (body(x), (x,) if res else body))
    f.vjp(lambda res, out_bar: out_bar * 2)
    return f


OUTPUTS = {
    "alone": lambda leave: lambda x: leave(x),
    "in a pair": lambda leave: lambda x: (x * 2, leave(x)),
    "in a dictionary": lambda leave: lambda x: {"a": leave(x)},
}


@DIFFERENTIATING
@pytest.mark.parametrize("way", ["pull", "push"])
@pytest.mark.parametrize("fwd", [False, True])
@pytest.mark.parametrize("output", OUTPUTS)
def test_an_array_of_another_framework_as_output(fw, output, fwd, way):
    f = stated(OUTPUTS[output](foreign(fw)), fwd)
    call = lambda x: [x for x in diptych.arguments.flatten(f(x))[0] if fw.owns(x)][0]  # noqa: E731, RUF015
    x = fw.array(X)
    came = "numpy.ndarray" if fw.name == "torch" else "torch.Tensor"
    with pytest.raises(
        KindError,
        match=rf"f: output of a wrong kind\n  expected: a {NAMES[fw.name]}, as its arguments are; "
        rf"got: {came}\n  mend: compute it with `xp = diptych.namespace\(...\)`",
    ):
        fw.pull(call, [x]) if way == "pull" else fw.push(call, [x], [x])


@pytest.mark.parametrize("fwd", [False, True])
def test_a_number_as_the_only_output(fwd):
    fw = framework("torch")
    f = stated(lambda x: x.sum().item(), fwd)
    with pytest.raises(KindError, match=r"f: output of a wrong kind\n.*got: builtins.float"):
        f(fw.array(X).requires_grad_())
    pair = stated(lambda x: (x * 2, 2.0, "text", np.arange(3)), fwd)(fw.array(X).requires_grad_())
    assert pair[1:3] == (2.0, "text")


def test_a_solver_that_returns_numpy():
    fw = framework("torch")

    @diptych.implicit(lambda y, x: y**3 - x)
    def root(x):
        return np.cbrt(x.detach().numpy())

    with pytest.raises(KindError, match="root: output of a wrong kind"):
        root(fw.array(X).requires_grad_())
