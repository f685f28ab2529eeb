"""Typical rules, written once and right in both frameworks: what the mutants are made from.

Where a rule states both directions, each has its own mutants.
"""

import numpy as np
from mutants import Case
from mutated_complex import complex_product, fourier, rotation, squared_modulus
from mutated_matrices import (
    cosine_similarity,
    cross,
    inverse,
    logdet,
    matmul,
    norm,
    outer,
    quadratic_form,
    solve,
    squared_distances,
    trace_of_product,
    triple,
)

import diptych


def _along(x, axis=-1):
    """Returns the sum along one axis, which stays."""
    xp = diptych.namespace(x)
    return xp.sum(x, axis=axis, keepdims=True)


# Of one row at a time -----------------------------------------------------------------------------


@diptych.rule
def softmax(x):
    xp = diptych.namespace(x)
    e = xp.exp(x - xp.max(x, axis=-1, keepdims=True))
    return e / _along(e)


@softmax.vjp
def softmax_vjp(res, bar):
    return res.out * (bar - _along(bar * res.out))


@softmax.jvp
def softmax_jvp(res, x_dot):
    return res.out * x_dot - res.out * _along(res.out * x_dot)


@diptych.rule
def logsumexp(x):
    xp = diptych.namespace(x)
    top = xp.max(x, axis=-1, keepdims=True)
    return (xp.log(_along(xp.exp(x - top))) + top)[..., 0]


@logsumexp.vjp
def logsumexp_vjp(res, bar):
    xp = diptych.namespace(bar)
    return bar[..., None] * xp.exp(res.x - res.out[..., None])


@diptych.rule
def layer_norm(x, scale, shift):
    xp = diptych.namespace(x)
    middle = x - xp.mean(x, axis=-1, keepdims=True)
    return middle / xp.sqrt(xp.mean(middle**2, axis=-1, keepdims=True) + 1e-5) * scale + shift


@layer_norm.fwd
def layer_norm_fwd(x, scale, shift):
    xp = diptych.namespace(x)
    middle = x - xp.mean(x, axis=-1, keepdims=True)
    inverse = 1 / xp.sqrt(xp.mean(middle**2, axis=-1, keepdims=True) + 1e-5)
    unit = middle * inverse
    return unit * scale + shift, (unit, inverse, scale)


@layer_norm.vjp
def layer_norm_vjp(res, bar):
    unit, inverse, scale = res
    xp = diptych.namespace(bar)
    g = bar * scale
    slope = xp.mean(g * unit, axis=-1, keepdims=True)
    x_bar = inverse * (g - xp.mean(g, axis=-1, keepdims=True) - unit * slope)
    return x_bar, xp.sum(bar * unit, axis=0), xp.sum(bar, axis=0)


@diptych.rule
def rms_norm(x, scale):
    xp = diptych.namespace(x)
    return x / xp.sqrt(xp.mean(x**2, axis=-1, keepdims=True) + 1e-6) * scale


@rms_norm.vjp
def rms_norm_vjp(res, bar):
    xp = diptych.namespace(bar)
    inverse = 1 / xp.sqrt(xp.mean(res.x**2, axis=-1, keepdims=True) + 1e-6)
    g = bar * res.scale
    inside = xp.mean(g * res.x, axis=-1, keepdims=True)
    return inverse * g - inverse**3 * res.x * inside, xp.sum(bar * res.x * inverse, axis=0)


@diptych.rule
def kl_divergence(p, q):
    xp = diptych.namespace(p, q)
    return xp.sum(p * xp.log(p / q), axis=-1)


@kl_divergence.vjp
def kl_divergence_vjp(res, bar):
    xp = diptych.namespace(bar)
    g = bar[..., None]
    return g * (xp.log(res.p / res.q) + 1), -g * res.p / res.q


# Along an axis ------------------------------------------------------------------------------------


@diptych.rule
def convolution(x, k):
    xp = diptych.namespace(x, k)
    n = x.shape[0] - 2
    return xp.stack([x[i] * k[0] + x[i + 1] * k[1] + x[i + 2] * k[2] for i in range(n)])


@convolution.vjp
def convolution_vjp(res, bar):
    xp = diptych.namespace(bar)
    n = bar.shape[0]
    zeros = xp.zeros_like(bar[:2])
    wide = xp.concat([zeros, bar, zeros])
    x_bar = wide[2:] * res.k[0] + wide[1:-1] * res.k[1] + wide[:-2] * res.k[2]
    k_bar = [xp.sum(bar * res.x[i : i + n]) for i in range(3)]
    return x_bar, xp.stack(k_bar)


@diptych.rule
def running_sum(x):
    xp = diptych.namespace(x)
    return xp.cumulative_sum(x)


@running_sum.vjp
def running_sum_vjp(res, bar):
    xp = diptych.namespace(bar)
    return xp.flip(xp.cumulative_sum(xp.flip(bar)))


@diptych.rule
def steps(x):
    return x[1:] - x[:-1]


@steps.vjp
def steps_vjp(res, bar):
    xp = diptych.namespace(bar)
    zero = xp.zeros_like(bar[:1])
    return xp.concat([zero, bar]) - xp.concat([bar, zero])


@diptych.rule
def gather(x, index):
    xp = diptych.namespace(x)
    return xp.take(x, index, axis=0)


@gather.vjp
def gather_vjp(res, bar):
    xp = diptych.namespace(bar)
    rows = xp.arange(res.x.shape[0])
    hit = xp.astype(rows[:, None] == res.index[None, :], bar.dtype)
    return hit @ bar, None


@diptych.rule
def take_and_add(x, y, index):
    xp = diptych.namespace(x)
    return 2 * xp.take(x, index, axis=0) + y


@take_and_add.vjp
def take_and_add_vjp(res, bar):
    xp = diptych.namespace(bar)
    hit = xp.astype(xp.arange(res.x.shape[0])[:, None] == res.index[None, :], bar.dtype)
    return 2 * (hit @ bar), xp.sum(bar, axis=0), None


@diptych.rule
def sort(x):
    xp = diptych.namespace(x)
    return xp.sort(x)


@sort.vjp
def sort_vjp(res, bar):
    xp = diptych.namespace(bar)
    return xp.take(bar, xp.argsort(xp.argsort(res.x)), axis=0)


@sort.jvp
def sort_jvp(res, x_dot):
    xp = diptych.namespace(x_dot)
    return xp.take(x_dot, xp.argsort(res.x), axis=0)


@diptych.rule
def largest(x):
    xp = diptych.namespace(x)
    return xp.max(x, axis=-1)


@largest.vjp
def largest_vjp(res, bar):
    xp = diptych.namespace(bar)
    hit = xp.arange(res.x.shape[-1]) == xp.argmax(res.x, axis=-1)[..., None]
    return xp.where(hit, bar[..., None], xp.zeros_like(res.x))


@diptych.rule
def interpolate(values, at):
    xp = diptych.namespace(values, at)
    low = xp.astype(xp.floor(at), xp.int64)
    share = at - xp.floor(at)
    return (1 - share) * xp.take(values, low, axis=0) + share * xp.take(values, low + 1, axis=0)


@interpolate.vjp
def interpolate_vjp(res, bar):
    xp = diptych.namespace(bar)
    low = xp.astype(xp.floor(res.at), xp.int64)
    share = res.at - xp.floor(res.at)
    knots = xp.arange(res.values.shape[0])[:, None]
    first = xp.astype(knots == low[None, :], bar.dtype)
    second = xp.astype(knots == low[None, :] + 1, bar.dtype)
    slope = xp.take(res.values, low + 1, axis=0) - xp.take(res.values, low, axis=0)
    return first @ (bar * (1 - share)) + second @ (bar * share), bar * slope


# Entry by entry -----------------------------------------------------------------------------------


@diptych.rule
def huber(x):
    xp = diptych.namespace(x)
    return xp.where(xp.abs(x) < 1, 0.5 * x**2, xp.abs(x) - 0.5)


@huber.partials
def huber_partials(res):
    xp = diptych.namespace(res.x)
    return xp.where(xp.abs(res.x) < 1, res.x, xp.sign(res.x))


@diptych.rule
def log_density(x, mean, spread):
    xp = diptych.namespace(x)
    return -0.5 * ((x - mean) / spread) ** 2 - xp.log(spread)


@log_density.partials
def log_density_partials(res):
    far = (res.x - res.mean) / res.spread
    return -far / res.spread, far / res.spread, (far**2 - 1) / res.spread


@diptych.rule
def horner(x, c):
    out = x * 0 + c[3]
    for i in (2, 1, 0):
        out = out * x + c[i]
    return out


@horner.vjp
def horner_vjp(res, bar):
    xp = diptych.namespace(bar)
    slope = (3 * res.c[3] * res.x + 2 * res.c[2]) * res.x + res.c[1]
    return bar * slope, xp.stack([xp.sum(bar * res.x**i) for i in range(4)])


@diptych.rule
def logistic(x):
    xp = diptych.namespace(x)
    return 1 / (1 + xp.exp(-x))


@logistic.partials
def logistic_partials(res):
    return res.out * (1 - res.out)


# Examples -----------------------------------------------------------------------------------------


def normal(*shape):
    return np.random.default_rng([5, *shape]).normal(size=shape)


def square(n=3):
    return normal(n, n) + 3 * np.eye(n)


def shares(*shape, seed=0):
    found = np.random.default_rng([seed, *shape]).uniform(0.2, 1.0, shape)
    return found / found.sum(-1, keepdims=True)


def complex_normal(n, seed=0):
    rng = np.random.default_rng([seed, n])
    return rng.normal(size=n) + 1j * rng.normal(size=n)


INDEX = np.array([2, 0, 2, 1])

_EXAMPLES = [
    (softmax, lambda: (normal(2, 3),)),
    (logsumexp, lambda: (normal(2, 3),)),
    (layer_norm, lambda: (normal(3, 4), normal(4), normal(4, 1)[:, 0] + 1)),
    (rms_norm, lambda: (normal(3, 4), normal(4))),
    (kl_divergence, lambda: (shares(2, 3), shares(2, 3, seed=1))),
    (matmul, lambda: (square(), normal(3, 3))),
    (outer, lambda: (normal(3), normal(3, 1)[:, 0] + 1)),
    (solve, lambda: (square(), normal(3, 3))),
    (inverse, lambda: (square(),)),
    (logdet, lambda: (square(),)),
    (quadratic_form, lambda: (square(), normal(3))),
    (trace_of_product, lambda: (square(), normal(3, 3))),
    (triple, lambda: (square(), normal(3, 3), square() + 1)),
    (norm, lambda: (normal(4),)),
    (squared_distances, lambda: (normal(3, 2), normal(3, 2) + 1)),
    (cosine_similarity, lambda: (normal(4), normal(4, 1)[:, 0])),
    (cross, lambda: (normal(2, 3), normal(2, 3) ** 2)),
    (convolution, lambda: (normal(6), normal(3))),
    (running_sum, lambda: (normal(5),)),
    (steps, lambda: (normal(5),)),
    (gather, lambda: (normal(3, 2), INDEX)),
    (take_and_add, lambda: (normal(3, 2), normal(2), INDEX)),
    (sort, lambda: (normal(5),)),
    (largest, lambda: (normal(2, 3),)),
    (interpolate, lambda: (normal(5), np.array([0.3, 1.6, 3.2]))),
    (complex_product, lambda: (complex_normal(3), complex_normal(3, 1))),
    (squared_modulus, lambda: (complex_normal(3),)),
    (rotation, lambda: (complex_normal(3), normal(3))),
    (fourier, lambda: (complex_normal(4),)),
    (huber, lambda: (np.array([-2.0, -0.4, 0.7, 1.5]),)),
    (log_density, lambda: (normal(4), np.array(0.3), np.array(1.7))),
    (horner, lambda: (normal(3), normal(4))),
    (logistic, lambda: (normal(4),)),
]

CASES = [Case(rule.__name__, rule, args) for rule, args in _EXAMPLES]
