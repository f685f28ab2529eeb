"""Sound diptych rules, checked on every framework."""

import numpy as np
from corpus import complexes, normal, normals, positive, sound

import diptych


@sound(normals((3, 4), (4,)), "a broadcast argument, by partials: sums and conjugates are done")
@diptych.rule
def rule_partials(x, y):
    xp = diptych.namespace(x, y)
    return xp.sin(x) * y


@rule_partials.partials
def _(res):
    xp = diptych.namespace(res.x)
    return res.y * xp.cos(res.x), xp.sin(res.x)


@sound(complexes((4,)), "linear over the reals, not over the complex numbers")
@diptych.rule(linear=True)
def rule_conjugate(z):
    xp = diptych.namespace(z)
    return 2 * xp.conj(z)


@sound(positive(4), "SciPy on the host: lgamma and digamma")
@diptych.rule(host=True, out=lambda x: x)
def rule_gammaln(x):
    from scipy import special

    return np.asarray(special.gammaln(x), x.dtype)


@rule_gammaln.vjp
def _(res, bar):
    from scipy import special

    return np.asarray(bar * special.digamma(res.x), bar.dtype)


@sound(positive(3), "an implicit rule")
@diptych.implicit(lambda y, x: y * y - x)
def rule_root(x):
    xp = diptych.namespace(x)
    return xp.sqrt(x)


@sound(normal(4), "a straight-through estimator, declared at the rule")
@diptych.rule(intentional="straight-through estimator")
def rule_round(x):
    xp = diptych.namespace(x)
    return xp.round(x)


@rule_round.vjp
def _(res, bar):
    return bar


@sound(normals((3, 3), (3, 3)), "a matrix product from its VJP alone")
@diptych.rule
def rule_matmul(a, b):
    return a @ b


@rule_matmul.vjp
def _(res, bar):
    return bar @ res.b.mT, res.a.mT @ bar


@sound(lambda rng: (rng.uniform(0.5, 2, 4), 3), "a static exponent")
@diptych.rule(static=("n",))
def rule_power(x, n):
    return x**n


@rule_power.vjp
def _(res, bar):
    return bar * res.n * res.x ** (res.n - 1)


@sound(normal(5), "two outputs in a dict")
@diptych.rule
def rule_pair(x):
    xp = diptych.namespace(x)
    return {"sin": xp.sin(x), "cos": xp.cos(x)}


@rule_pair.vjp
def _(res, bar):
    return bar["sin"] * res.out["cos"] - bar["cos"] * res.out["sin"]
