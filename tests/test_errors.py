"""The text of every error: what was expected, what came, which argument, and how to mend it."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest

import diptych
from diptych import errors
from frameworks import framework as framework_of


def product(vjp=None, jvp=None, partials=None):
    @diptych.rule
    def product(x, y):
        return x * y

    for statement, function in (("vjp", vjp), ("jvp", jvp), ("partials", partials)):
        if function is not None:
            getattr(product, statement)(function)
    return product


def pull(rule, framework, *shapes):
    args = [framework.array(np.ones(shape)) for shape in shapes]
    out, pullback = diptych.vjp(rule, *args)
    return pullback(framework.array(np.ones(tuple(out.shape))))


@pytest.fixture(params=["torch", "jax"])
def framework(request):
    return framework_of(request.param)


CASES = {
    "too many cotangents": (
        lambda res, bar: (bar, bar, bar),
        ((2,), (2,)),
        r"vjp of product: wrong number of results\n"
        r"  expected: 2 values, one for each of \(x, y\); got: 3\n  mend: return one for each",
    ),
    "one cotangent for two arguments": (
        lambda res, bar: bar,
        ((2,), (2,)),
        r"expected: 2 values, one for each of \(x, y\); got: (a Tensor|an ArrayImpl)\n",
    ),
    "unsummed broadcast": (
        lambda res, bar: (bar * res.y, bar * res.x),
        ((2,), (3, 2)),
        r"vjp of product: 'x': cotangent of a wrong shape\n  expected: shape \(2,\), .*float64; "
        r"got: shape \(3, 2\), .*float64\n  mend: the argument was broadcast: sum over axis 0\?",
    ),
    "transposed": (
        lambda res, bar: ((bar * res.y).T, None),
        ((2, 3), (2, 3)),
        r"the axes are in another order: transpose it\?",
    ),
    "wrong dtype": (
        lambda res, bar: (diptych.namespace(bar).astype(bar, float32_of(bar)), None),
        ((2,), (2,)),
        r"'x': cotangent of a wrong dtype\n  expected: .*float64, shape \(2,\); got: .*float32\n"
        r"  mend: compute the cotangent in float64, or cast it",
    ),
    "a string": (
        lambda res, bar: ("zero", None),
        ((2,), (2,)),
        r"'x': cotangent of a wrong kind\n  expected: a .* of shape \(2,\); got: builtins.str\n"
        r"  mend: compute it with `xp = diptych.namespace",
    ),
}


def float32_of(x):
    return diptych.namespace(x).float32


@pytest.mark.parametrize("case", CASES)
def test_what_a_vjp_returns(case, framework):
    vjp, shapes, text = CASES[case]
    with pytest.raises((errors.StructureError, errors.KindError), match=text):
        pull(product(vjp=vjp), framework, *shapes)


def test_all_errors_are_diptych_errors_and_python_s_own():
    assert issubclass(errors.StructureError, ValueError)
    assert issubclass(errors.KindError, TypeError)
    assert issubclass(errors.StaticArgumentError, TypeError)
    assert issubclass(errors.MissingDirectionError, NotImplementedError)
    assert issubclass(errors.MissingFrameworkError, ImportError)
    assert issubclass(errors.ClosureError, RuntimeError)
    assert issubclass(errors.SingularError, ArithmeticError)
    for name in ("KindError", "StructureError", "MissingDirectionError", "ClosureError"):
        assert issubclass(getattr(errors, name), errors.DiptychError)


def test_what_a_jvp_returns(framework):
    rule = product(jvp=lambda res, x_dot, y_dot: diptych.namespace(x_dot).sum(x_dot))
    x = framework.array(np.ones(2))
    with pytest.raises(
        errors.StructureError,
        match=r"jvp of product: output: tangent of a wrong shape\n  expected: shape \(2,\)",
    ):
        diptych.jvp(rule, (x, x), (x, x))


def test_wrong_structure(framework):
    @diptych.rule
    def total(params):
        return params["w"] * params["b"]

    @total.vjp
    def total_vjp(res, bar):
        return {"w": bar * res.params["b"], "c": bar}

    x = framework.array(np.ones(2))
    with pytest.raises(
        errors.StructureError,
        match=r"vjp of total: 'params'\n"
        r"  expected: the structure of 'params', \{'b': \*, 'w': \*\}; got: \{'c': \*, 'w': \*\}\n"
        r"  mend: return a cotangent for each leaf of 'params'",
    ):
        diptych.vjp(total, {"w": x, "b": x})[1](x)


def test_wrong_number_of_tangents(framework):
    x = framework.array(np.ones(2))
    rule = product(jvp=lambda res, a, b: a * res.y + res.x * b)
    with pytest.raises(errors.StructureError, match=r"jvp of product: wrong number of tangents"):
        diptych.jvp(rule, (x, x), (x,))
    with pytest.raises(errors.StructureError, match=r"tangent 1 does not fit its primal"):
        diptych.jvp(rule, (x, x), (x, framework.array(np.ones(3))))


def test_no_derivative(framework):
    with pytest.raises(
        errors.MissingDirectionError,
        match=r"product is differentiated\n  expected: .*; got: a rule without any derivative\n"
        r"  mend: state one of @product.vjp, @product.jvp, @product.partials",
    ):
        pull(product(), framework, (2,), (2,))


def test_undeclared_static_argument(framework):
    @diptych.rule
    def scaled(x, mode):
        return x

    with pytest.raises(
        errors.StaticArgumentError,
        match=r"scaled: argument 'mode' is no array\n  expected: .*; got: builtins.str\n"
        r'  mend: declare it: @diptych.rule\(static=\("mode",\)\)',
    ):
        scaled(framework.array(np.ones(2)), "fast")


def test_unknown_static_name():
    with pytest.raises(errors.StaticArgumentError, match=r"names of parameters, which are \['x'\]"):
        diptych.rule(static="n")(lambda x: x)


def test_arrays_of_two_frameworks():
    torch, jax = pytest.importorskip("torch"), pytest.importorskip("jax")
    with pytest.raises(
        errors.KindError,
        match=r"product: arrays of two frameworks in one call\n  expected: arrays of one framework",
    ):
        product()(torch.ones(2), jax.numpy.ones(2))


def test_a_framework_that_is_not_installed():
    program = """
        import sys
        sys.modules["jax"] = None
        from diptych import backends, errors
        try:
            backends.load("jax")
        except errors.MissingFrameworkError as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True
    )
    assert "the framework 'jax' is needed" in done.stdout
    assert 'mend: pip install "diptych[jax]"' in done.stdout


def host_rule(**options):
    @diptych.rule(host=True, **options)
    def sine(x):
        return np.sin(x)

    @sine.vjp
    def sine_vjp(res, bar):
        return bar * np.cos(res.x)

    return sine


def test_host_rule_differentiated_further_than_it_can_be(framework):
    rule = host_rule(out=lambda x: x)
    x = framework.array(np.ones(()))
    with pytest.raises(
        errors.MissingDirectionError,
        match=r"the vjp of host rule sine is differentiated further than it can be\n"
        r"  expected: .*; got: NumPy code\n"
        r"  mend: for higher orders let @sine.vjp be a rule itself",
    ):
        diptych.grad(diptych.grad(rule))(x)


def test_host_rule_without_out_under_jit():
    jax = pytest.importorskip("jax")
    with pytest.raises(
        errors.HostError,
        match=r"primal of host rule sine is traced .*\n  expected: `out`.*\n"
        r"  mend: add it, for example @diptych.rule\(host=True, out=lambda x: diptych.Spec",
    ):
        jax.jit(host_rule())(np.ones(2))


def test_exceptions_of_host_code_keep_their_traceback(framework):
    @diptych.rule(host=True)
    def fragile(x):
        raise FloatingPointError("the kernel did not converge")

    with pytest.raises(FloatingPointError, match="the kernel did not converge") as found:
        fragile(framework.array(np.ones(2)))
    assert any(entry.name == "fragile" for entry in found.traceback)


def test_closure_over_a_tensor_that_requires_grad():
    torch = pytest.importorskip("torch")
    weight = torch.ones(2, requires_grad=True)

    @diptych.rule
    def scaled(x):
        return x * weight

    @scaled.vjp
    def scaled_vjp(res, bar):
        return bar * weight

    for x in (torch.ones(2), torch.ones(2, requires_grad=True)):
        with pytest.raises(
            errors.ClosureError,
            match=r"scaled reads 'weight' from outside its arguments, "
            r"and its gradient would be lost\n.*\n  mend: pass it as an argument",
        ):
            scaled(x)
    with torch.no_grad():
        assert scaled(torch.ones(2)).tolist() == [1, 1]


def test_module_parameter_read_by_a_method():
    torch = pytest.importorskip("torch")

    class Layer(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(2))

        @diptych.rule
        def forward(self, x):
            return x * self.weight

        @forward.vjp
        def forward_vjp(res, bar):  # noqa: N805
            return bar * res.self.weight

    with pytest.raises(errors.ClosureError, match=r"reads 'self.weight' from outside"):
        Layer()(torch.ones(2, requires_grad=True))


def test_closure_over_a_traced_array():
    jax = pytest.importorskip("jax")

    def loss(weight):
        @diptych.rule
        def scaled(x):
            return x * weight

        @scaled.vjp
        def scaled_vjp(res, bar):
            return bar * weight

        return scaled(jax.numpy.ones(2)).sum()

    for transform in (jax.grad, jax.jit):
        with pytest.raises(
            errors.ClosureError, match=r"scaled reads 'weight', a traced array, from outside"
        ):
            transform(loss)(jax.numpy.ones(2))


def test_a_jvp_that_is_not_linear():
    jax = pytest.importorskip("jax")
    rule = product(jvp=lambda res, x_dot, y_dot: abs(x_dot) + y_dot)
    with pytest.raises(
        errors.LinearityError,
        match=r"jvp of product is not linear in its tangents\n"
        r"  expected: .*; got: the operation `abs`",
    ):
        jax.grad(lambda x: rule(x, x))(1.0)


def test_double_backward_through_compiled_code():
    torch = pytest.importorskip("torch")
    rule = product(vjp=lambda res, bar: (bar * res.y, bar * res.x))
    x = torch.ones(2, requires_grad=True)
    out = torch.compile(lambda x: rule(x, x), backend="aot_eager", fullgraph=True)(x)
    (first,) = torch.autograd.grad(out.sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="does not currently support double backward"):
        torch.autograd.grad(first.sum(), x)


def test_grad_of_something_that_is_no_scalar(framework):
    rule = product(vjp=lambda res, bar: (bar * res.y, bar * res.x))
    x = framework.array(np.ones(2))
    with pytest.raises(
        errors.StructureError,
        match=r"grad of product\n  expected: one real floating-point scalar as output; "
        r"got: .*float64\(2,\)\n  mend: sum the output",
    ):
        diptych.grad(rule)(x, x)
