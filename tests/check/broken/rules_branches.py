"""Rules that are off by little, and only in a branch that the example does not take."""

from corpus import broken, positive

import diptych

_NEARLY = {"neighbours": True, "compile": False}
_WHERE = ("where", "other constants")


def _series(coefficients, x):
    total = 0 * x
    for c in reversed(coefficients):
        total = total * x + c
    return total


@broken("vjp", _WHERE, positive(4), "sinc: the second term of the series has 1/31", **_NEARLY)
@diptych.rule
def rule_sinc_series(x):
    xp = diptych.namespace(x)
    near = xp.abs(x) < 1e-3
    safe = xp.where(near, xp.ones_like(x), x)
    return xp.where(near, 1 - x * x / 6 + x**4 / 120, xp.sin(safe) / safe)


@rule_sinc_series.vjp
def _(res, bar):
    xp = diptych.namespace(bar)
    near = xp.abs(res.x) < 0.1
    x = xp.where(near, xp.ones_like(res.x), res.x)
    series = _series([0, -1 / 3, 0, 1 / 31, 0, -1 / 840], res.x)
    return bar * xp.where(near, series, (x * xp.cos(x) - xp.sin(x)) / (x * x))


@broken("vjp", _WHERE, positive(4), "expm1(x)/x: two terms below 1e-2", **_NEARLY)
@diptych.rule
def rule_exprel_short(x):
    xp = diptych.namespace(x)
    safe = xp.where(x == 0, xp.ones_like(x), x)
    return xp.where(x == 0, xp.ones_like(x), xp.expm1(safe) / safe)


@rule_exprel_short.vjp
def _(res, bar):
    xp = diptych.namespace(bar)
    near = xp.abs(res.x) < 1e-2
    x = xp.where(near, xp.ones_like(res.x), res.x)
    formula = (x * xp.exp(x) - xp.expm1(x)) / (x * x)
    return bar * xp.where(near, _series([1 / 2, 1 / 3], res.x), formula)


@broken("vjp", _WHERE, positive(4), "log(sinh(x)): its slope is one from 5 on", **_NEARLY)
@diptych.rule
def rule_log_sinh_far(x):
    xp = diptych.namespace(x)
    return x + xp.log(-xp.expm1(-2 * x) / 2)


@rule_log_sinh_far.vjp
def _(res, bar):
    xp = diptych.namespace(bar)
    far = res.x > 5
    x = xp.where(far, xp.ones_like(res.x), res.x)
    return bar * xp.where(far, xp.ones_like(x), 1 / xp.tanh(x))
