"""Rules with a series or an asymptotic form in a branch, right to rounding."""

from corpus import positive, sound

import diptych

_NEARLY = {"neighbours": True, "compile": False}


def _series(coefficients, x):
    total = 0 * x
    for c in reversed(coefficients):
        total = total * x + c
    return total


@sound(positive(4), "sinc: a series below 0.1", **_NEARLY)
@diptych.rule
def rule_sinc_sound(x):
    xp = diptych.namespace(x)
    near = xp.abs(x) < 1e-3
    safe = xp.where(near, xp.ones_like(x), x)
    return xp.where(near, 1 - x * x / 6 + x**4 / 120, xp.sin(safe) / safe)


@rule_sinc_sound.vjp
def _(res, bar):
    xp = diptych.namespace(bar)
    near = xp.abs(res.x) < 0.1
    x = xp.where(near, xp.ones_like(res.x), res.x)
    series = _series([0, -1 / 3, 0, 1 / 30, 0, -1 / 840, 0, 1 / 45360], res.x)
    return bar * xp.where(near, series, (x * xp.cos(x) - xp.sin(x)) / (x * x))


@sound(positive(4), "(1 - cos x)/x^2: the body loses digits where the rule does not", **_NEARLY)
@diptych.rule
def rule_cosine_sound(x):
    xp = diptych.namespace(x)
    safe = xp.where(x == 0, xp.ones_like(x), x)
    return xp.where(x == 0, 0.5 * xp.ones_like(x), 2 * (xp.sin(safe / 2) / safe) ** 2)


@rule_cosine_sound.vjp
def _(res, bar):
    xp = diptych.namespace(bar)
    near = xp.abs(res.x) < 0.1
    x = xp.where(near, xp.ones_like(res.x), res.x)
    series = _series([0, -1 / 12, 0, 1 / 180, 0, -1 / 6720, 0, 1 / 453600], res.x)
    formula = xp.sin(x) / x**2 - 4 * xp.sin(x / 2) ** 2 / x**3
    return bar * xp.where(near, series, formula)


@sound(positive(4), "log(sinh(x)): its slope is one from 20 on", **_NEARLY)
@diptych.rule
def rule_log_sinh_sound(x):
    xp = diptych.namespace(x)
    return x + xp.log(-xp.expm1(-2 * x) / 2)


@rule_log_sinh_sound.vjp
def _(res, bar):
    xp = diptych.namespace(bar)
    far = res.x > 20
    x = xp.where(far, xp.ones_like(res.x), res.x)
    return bar * xp.where(far, xp.ones_like(x), 1 / xp.tanh(x))
