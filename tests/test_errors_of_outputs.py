"""The text of errors about what a rule's functions return of a wrong kind or shape."""

import numpy as np
import pytest

import diptych
from diptych.errors import DiptychError, KindError
from frameworks import DIFFERENTIATING, framework, same

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


def product_of(partials):
    @diptych.rule
    def product(x, y):
        return x * y

    product.partials(partials)
    return product


PARTIALS = {
    "text": (lambda res: (res.y, "x"), r"'y': partial of a wrong kind\n  expected: a {a} of "
             r"shape \(2, 3\), or a number; got: builtins.str\n  mend: compute it with"),
    "another framework": (lambda res: (foreign_array(res.y), res.x), r"'x': partial of a wrong kind"
                          r"\n  expected: a {a} of shape \(2, 3\), or a number; got: "),
    "summed": (lambda res: (res.y[:, :2], res.x), r"'x': partial of a wrong shape\n  expected: the "
               r"output's shape \(2, 3\), or one that broadcasts to it; got: shape \(2, 2\)\n"
               r"  mend: return the elementwise derivative of the output, unsummed"),
    "too large": (lambda res: (res.y[None], res.x), r"'x': partial of a wrong shape\n.*got: shape "
                  r"\(1, 2, 3\)"),
    "lazy": (lambda res: (res.y, lambda: res.y[:, :1, None]), r"'y': partial of a wrong shape"),
}  # fmt: skip


def foreign_array(x):
    kind = framework("jax" if type(x).__module__.startswith("torch") else "torch")
    return kind.array(np.ones((2, 3)))


@DIFFERENTIATING
@pytest.mark.parametrize("case", PARTIALS)
def test_partials_of_a_wrong_kind_or_shape(fw, case):
    partials, expected = PARTIALS[case]
    product = product_of(partials)
    x, y = fw.array(X), fw.array(np.ones((2, 3)))
    expected = r"partials of product: " + expected.replace("{a}", NAMES[fw.name])
    for _ in range(2):
        with pytest.raises(DiptychError, match=expected):
            fw.pull(product, [x, y])
        with pytest.raises(DiptychError, match=expected):
            fw.push(product, [x, y], [x, y])


@DIFFERENTIATING
def test_partials_that_broadcast(fw):
    product = product_of(lambda res: (3.0, 2 * res.x))
    x, y = fw.array(X), fw.array(np.ones((2, 3)))
    pulled = fw.pull(product, [x, y])
    same(fw, pulled[0], np.full(3, 6.0))
    same(fw, pulled[1], np.stack([2 * X] * 2))
    same(fw, fw.push(product, [x, y], [x, y]), np.stack([5 * X] * 2))
