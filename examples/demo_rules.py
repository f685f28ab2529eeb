"""The demo's rules: each is written once, and runs on arrays of PyTorch, of JAX and of NumPy."""

from __future__ import annotations

import scipy.special

import diptych
from demo_table import BESSEL_ORDER, ECCENTRICITY, solve_kepler

# sin, with a second derivative of its own. Both are wrong on purpose (by 3 and by 5), so that it is
# seen whether a transform took what is stated here or went round it.


@diptych.rule
def sin(x):
    xp = diptych.namespace(x)
    return xp.sin(x)


@diptych.rule
def sin_slope(x, t):
    xp = diptych.namespace(x)
    return 3 * xp.cos(x) * t


@sin_slope.vjp
def sin_slope_vjp(res, out_bar):
    xp = diptych.namespace(res.x)
    return -5 * xp.sin(res.x) * res.t * out_bar, 3 * xp.cos(res.x) * out_bar


@sin.vjp
def sin_vjp(res, out_bar):
    return sin_slope(res.x, out_bar)


@sin.jvp
def sin_jvp(res, x_dot):
    return sin_slope(res.x, x_dot)


# log(1 + exp(x)). The body is right everywhere; its automatic derivative is NaN where exp is inf.


@diptych.rule
def log1pexp(x):
    xp = diptych.namespace(x)
    return xp.where(x > 30, x, xp.log1p(xp.exp(x)))


@log1pexp.partials
def log1pexp_partials(res):
    xp = diptych.namespace(res.x)
    return xp.exp(-log1pexp(-res.x))  # the logistic function, through the rule itself


# sinh, which keeps the exponential that its value is made of: neither an input nor an output.


@diptych.rule
def sinh(x):
    return sinh_fwd(x)[0]


@sinh.fwd
def sinh_fwd(x):
    xp = diptych.namespace(x)
    e = xp.exp(x)
    return (e - 1 / e) / 2, e


@sinh.vjp
def sinh_vjp(res, out_bar):
    e = res
    return out_bar * 3 * (e + 1 / e) / 2


# The n-th derivative of a Bessel function, computed by SciPy: a host rule. Its slope is a rule as
# well, made of the next derivative: so there is one of every order.


@diptych.rule(static="n", host=True, out=lambda x, n: x, vectorized=True)
def bessel(x, n=0):
    return scipy.special.jvp(BESSEL_ORDER, x, n)


@diptych.rule
def bessel_slope(res, t):
    return bessel(res.x, res.n + 1) * t


@bessel_slope.jvp
def bessel_slope_jvp(res, res_dot, t_dot):
    x, n = res.res.x, res.res.n
    return bessel(x, n + 1) * t_dot + bessel(x, n + 2) * res.t * res_dot.x


# Elementwise: the Jacobian is diagonal, so that J* is J.
bessel.jvp(bessel_slope)
bessel.vjp(bessel_slope)

# Kepler's equation: the eccentric anomaly E at the mean anomaly M. The solver is NumPy code; the
# derivatives come from the residual.


def kepler_residual(anomaly, mean):
    xp = diptych.namespace(anomaly)
    return anomaly - ECCENTRICITY * xp.sin(anomaly) - mean


@diptych.implicit(kepler_residual, host=True, out=lambda mean: mean, vectorized=True)
def kepler(mean):
    return solve_kepler(mean)


RULES = {
    "sin": sin,
    "log1pexp": log1pexp,
    "sinh": sinh,
    "bessel": bessel,
    "kepler": kepler,
}
