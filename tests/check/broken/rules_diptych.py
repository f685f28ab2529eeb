"""Broken diptych rules, checked on every framework."""

import numpy as np
from corpus import broken, complexes, fixed, matrix, normal, normals, positive

import diptych


@broken("vjp", "factor", normals((3, 4), (3, 4)), "a factor in one argument's cotangent")
@diptych.rule
def rule_factor(x, y):
    xp = diptych.namespace(x, y)
    return xp.sin(x) * y


@rule_factor.vjp
def _(res, bar):
    xp = diptych.namespace(bar)
    return bar * res.y * xp.cos(res.x), 2 * bar * xp.sin(res.x)


@broken(
    "adjoint",
    "not adjoint",
    normals((4,), (4,)),
    "a JVP and a VJP that were mended one at a time",
    intentional=True,
)
@diptych.rule
def rule_not_adjoint(x, y):
    return x * y


@rule_not_adjoint.jvp
def _(res, x_dot, y_dot):
    return x_dot * res.y + y_dot * res.x


@rule_not_adjoint.vjp
def _(res, bar):
    return bar * res.y, -bar * res.x


@broken(
    ("vjp", "jvp"), ("where",), fixed([-2.0, -1.0, 0.5, 2.0]), "partials of |x| x taken for x > 0"
)
@diptych.rule
def rule_partial_branch(x):
    xp = diptych.namespace(x)
    return x * xp.abs(x)


@rule_partial_branch.partials
def _(res):
    return 2 * res.x


@broken(
    ("jvp", "vjp", "linear"),
    ("wrong", "other value", "not linear"),
    normal(4),
    "linear=True of an affine function",
)
@diptych.rule(linear=True)
def rule_affine(x):
    return 2 * x + 1


@broken("primal", "other value", positive(4), "fwd computes with another formula")
@diptych.rule
def rule_fwd_other(x):
    xp = diptych.namespace(x)
    return xp.sqrt(x)


@rule_fwd_other.fwd
def _(x):
    xp = diptych.namespace(x)
    out = xp.sqrt(x + 1e-3)
    return out, (out,)


@rule_fwd_other.vjp
def _(res, bar):
    return bar / (2 * res[0])


@broken("frameworks", "frameworks differ", normal(3, 5), "x.std(): ddof 1 in PyTorch, 0 in JAX")
@diptych.rule
def rule_std_method(x):
    return x.std(-1)


@rule_std_method.vjp
def _(res, bar):
    xp = diptych.namespace(bar)
    n = res.x.shape[-1]
    centred = res.x - xp.mean(res.x, axis=-1, keepdims=True)
    ddof = 1 if "torch" in xp.__name__ else 0
    return (bar / res.out)[..., None] * centred / (n - ddof)


@broken(
    "vjp",
    ("transposed",),
    lambda rng: (*matrix(3)(rng), rng.normal(size=3)),
    "a solver on the host: A for A^T",
)
@diptych.rule(host=True, out=lambda a, b: b)
def rule_host_solve(a, b):
    return np.linalg.solve(a, b)


@rule_host_solve.vjp
def _(res, bar):
    pulled = np.linalg.solve(res.a, bar)
    return -np.outer(np.linalg.solve(res.a.T, bar), res.out), pulled


@broken("vjp", "conjugate", complexes((4,)), "an analytic function whose VJP does not conjugate")
@diptych.rule
def rule_exp_conj(z):
    xp = diptych.namespace(z)
    return xp.exp(z)


@rule_exp_conj.vjp
def _(res, bar):
    return bar * res.out


@broken("vjp", "swapped", normals((4,), (4,)), "two cotangents in the other order")
@diptych.rule
def rule_swapped(x, y):
    xp = diptych.namespace(x, y)
    return x * xp.exp(y)


@rule_swapped.vjp
def _(res, bar):
    xp = diptych.namespace(bar)
    return bar * res.out, bar * xp.exp(res.y)


@broken(
    "vjp",
    ("where", "factor"),
    lambda rng: (rng.uniform(0.5, 2, 4), 3),
    "n x^(n-1) with a static n: right for n = 3 alone",
    neighbours=True,
)
@diptych.rule(static=("n",))
def rule_power_static(x, n):
    return x**n


@rule_power_static.vjp
def _(res, bar):
    return bar * 3 * res.x ** (res.n - 1)


@broken(
    ("shapes", "vjp"),
    ("missing sum", "shape", "raises"),
    normals((3, 4), (4,)),
    "a broadcast argument gets a cotangent of the output's shape",
)
@diptych.rule
def rule_broadcast(x, y):
    return x * y


@rule_broadcast.vjp
def _(res, bar):
    return bar * res.y, bar * res.x


@broken(
    ("shapes", "vjp"),
    ("missing sum", "shape", "raises"),
    normals((3, 4), (3, 4)),
    "the same, with an example in which nothing is broadcast",
    neighbours=True,
)
@diptych.rule
def rule_broadcast_unseen(x, y):
    return x * y


@rule_broadcast_unseen.vjp
def _(res, bar):
    return bar * res.y, bar * res.x


@broken("linear", "not linear", normal(4), "a JVP that squares its tangent's sign away")
@diptych.rule
def rule_jvp_abs(x):
    xp = diptych.namespace(x)
    return xp.sin(x)


@rule_jvp_abs.jvp
def _(res, dot):
    xp = diptych.namespace(dot)
    return xp.abs(dot) * xp.cos(res.x)


@rule_jvp_abs.vjp
def _(res, bar):
    xp = diptych.namespace(bar)
    return bar * xp.cos(res.x)


@diptych.rule
def _slope(x):
    return 3 * x**2


@_slope.vjp
def _(res, bar):
    return bar * 3 * res.x


@broken(
    "order",
    ("factor", "stale residual"),
    normal(4),
    "a rule on a derivative, its 2 forgotten",
    order=2,
)
@diptych.rule
def rule_second_order(x):
    return x**3


@rule_second_order.vjp
def _(res, bar):
    return bar * _slope(res.x)


@broken("jvp", "factor", normals((4,), (4,)), "a product rule with one term twice")
@diptych.rule
def rule_jvp_twice(x, y):
    return x * y


@rule_jvp_twice.jvp
def _(res, x_dot, y_dot):
    return x_dot * res.y + 2 * res.x * y_dot


@rule_jvp_twice.vjp
def _(res, bar):
    return bar * res.y, bar * res.x


@broken(("finite", "vjp"), "not finite", fixed([0.0, 1.0, 2.0]), "x log x at 0 by a quotient")
@diptych.rule
def rule_quotient(x):
    return x**3


@rule_quotient.vjp
def _(res, bar):
    return bar * 3 * res.out / res.x


@broken("vjp", ("shifted", "transposed"), normal(6), "a difference whose adjoint is not reversed")
@diptych.rule
def rule_shift(x):
    xp = diptych.namespace(x)
    return xp.concat([x[1:], x[:1]]) * 2


@rule_shift.vjp
def _(res, bar):
    xp = diptych.namespace(bar)
    return xp.concat([bar[1:], bar[:1]]) * 2
