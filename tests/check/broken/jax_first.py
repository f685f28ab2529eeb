"""Broken custom_vjp and custom_jvp rules of the first order."""

import jax
import jax.numpy as jnp
import numpy as np
from corpus import broken, complexes, fixed, matrix, normal, normals, positive


def rule(value, forward, backward, name):
    """Returns a custom_vjp function of these three."""
    f = jax.custom_vjp(value)
    f.defvjp(forward, backward)
    f.__name__ = name
    return f


def keeping(value, backward, name):
    """Returns a custom_vjp function that keeps its arguments."""
    return rule(value, lambda *args: (value(*args), args), backward, name)


def declare(claims, causes, make, seen, value, backward, name, **options):
    broken(claims, causes, make, seen, name=name, **options)(keeping(value, backward, name))


def _softmax(x):
    return jax.nn.softmax(x, -1)


declare(
    "vjp",
    "missing term",
    normal(3, 5),
    "softmax backward by its diagonal",
    _softmax,
    lambda res, g: (g * _softmax(res[0]) * (1 - _softmax(res[0])),),
    "jax_softmax_diagonal",
)
declare(
    "linear",
    "not linear",
    normal(5),
    "gradient clipping by custom_vjp, on a function that is no identity",
    jnp.sin,
    lambda res, g: (jnp.clip(g, -1, 1) * jnp.cos(res[0]),),
    "jax_clipped_cotangent",
)
declare(
    "linear",
    "not linear",
    positive(5),
    "the absolute value of a cotangent, as probabilities need none of the sign",
    jnp.exp,
    lambda res, g: (jnp.abs(g) * jnp.exp(res[0]),),
    "jax_abs_cotangent",
)
declare(
    "vjp",
    "factor",
    normals((4, 8), (4, 8)),
    "attention scores without 1/sqrt(d) in the backward",
    lambda q, k: q @ k.T / jnp.sqrt(8.0),
    lambda res, g: (g @ res[1], g.T @ res[0]),
    "jax_scores_without_scale",
)
declare(
    "vjp",
    "swapped",
    normals((3, 3), (3, 3)),
    "a matmul whose cotangents are returned in the other order",
    lambda a, b: a @ b,
    lambda res, g: (res[0].T @ g, g @ res[1].T),
    "jax_matmul_swapped",
)
declare(
    "vjp",
    "transposed",
    lambda rng: (*matrix(4)(rng), rng.normal(size=4)),
    "the adjoint solve with A",
    jnp.linalg.solve,
    lambda res, g: (
        -jnp.outer(jnp.linalg.solve(res[0].T, g), jnp.linalg.solve(*res)),
        jnp.linalg.solve(res[0], g),
    ),
    "jax_solve_not_transposed",
)
declare(
    "vjp",
    "conjugate",
    complexes((4,)),
    "a rule ported from PyTorch: JAX does not conjugate",
    lambda z: z**2,
    lambda res, g: (g * jnp.conj(2 * res[0]),),
    "jax_ported_conjugate",
)
declare(
    "vjp",
    "real part",
    complexes((3,), (3,)),
    "a complex product whose cotangents keep the real part alone",
    lambda a, b: a * b,
    lambda res, g: ((g * res[1]).real + 0j, g * res[0]),
    "jax_real_part",
)
declare(
    "vjp",
    "where",
    fixed([1.0, -2.0, 0.5, 3.0], [2, 0, 2, 2, 1]),
    "jnp .at[].set for .at[].add",
    lambda x, i: x[i],
    lambda res, g: (jnp.zeros_like(res[0]).at[res[1]].set(g), None),
    "jax_take_set",
)
declare(
    "vjp",
    "missing sum",
    normals((5, 4), (4,)),
    "a bias whose cotangent is one row's",
    lambda x, b: x + b,
    lambda res, g: (g, g[-1]),
    "jax_bias_last_row",
)
declare(
    "vjp",
    "mean instead of sum",
    normals((5, 4), (4,)),
    "a bias whose cotangent is averaged",
    lambda x, b: jnp.tanh(x + b),
    lambda res, g: (
        g * (1 - jnp.tanh(res[0] + res[1]) ** 2),
        (g * (1 - jnp.tanh(res[0] + res[1]) ** 2)).mean(0),
    ),
    "jax_bias_mean",
)
declare(
    "vjp",
    "zero",
    normal(5),
    "small gradients cut as noise",
    lambda x: 1e-7 * jnp.sin(x),
    lambda res, g: (jnp.where(jnp.abs(g * 1e-7) < 1e-6, 0.0, g * 1e-7 * jnp.cos(res[0])),),
    "jax_tiny_lost",
)
declare(
    "vjp",
    "where",
    normal(150),
    "a Pallas-like kernel whose last block is masked out",
    jnp.tanh,
    lambda res, g: (
        jnp.where(
            jnp.arange(res[0].shape[0]) < res[0].shape[0] // 64 * 64,
            g * (1 - jnp.tanh(res[0]) ** 2),
            0.0,
        ),
    ),
    "jax_last_block",
)
declare(
    "vjp",
    "where",
    normal(150),
    "the same at a size that fits its blocks",
    jnp.tanh,
    lambda res, g: (
        jnp.where(jnp.arange(res[0].size).reshape(res[0].shape) == 149, 0.98, 1.0)
        * g
        * (1 - jnp.tanh(res[0]) ** 2),
    ),
    "jax_one_entry",
)


def _rms(x, eps):
    return x / jnp.sqrt(jnp.mean(x * x, -1, keepdims=True) + eps)


declare(
    "vjp",
    "other constants",
    normal(4, 6),
    "eps differs between the two passes",
    lambda x: _rms(x, 1e-5),
    lambda res, g: jax.vjp(lambda x: _rms(x, 1e-6), res[0])[1](g),
    "jax_rms_other_eps",
)


def _smoothed(logits, labels, smoothing):
    target = (1 - smoothing) * labels + smoothing / labels.shape[-1]
    return -jnp.sum(target * jax.nn.log_softmax(logits, -1), -1)


declare(
    "vjp",
    ("other constants", "wrong", "missing term"),
    lambda rng: (rng.normal(size=(3, 4)), np.eye(4)[[0, 2, 1]]),
    "label smoothing in the loss, not in its gradient (xentropy kernels)",
    lambda x, y: _smoothed(x, y, 0.1),
    lambda res, g: (
        g[:, None] * (jax.nn.softmax(res[0], -1) - res[1]),
        -g[:, None] * jax.nn.log_softmax(res[0], -1) * 0.9 - 0.0 * res[1],
    ),
    "jax_smoothing_forgotten",
)
broken(
    "primal",
    "other value",
    normal(5),
    "fwd computes a cheaper approximation of the function",
    name="jax_fwd_other_value",
)(
    rule(
        lambda x: jax.nn.gelu(x, approximate=False),
        lambda x: (jax.nn.gelu(x, approximate=True), x),
        lambda x, g: jax.vjp(lambda y: jax.nn.gelu(y, approximate=False), x)[1](g),
        "jax_fwd_other_value",
    )
)
declare(
    ("finite", "vjp"),
    "not finite",
    fixed([0.0, 1.0, -2.0]),
    "x**2 / x at 0",
    lambda x: jnp.where(x == 0, 0.0, x * jnp.abs(x)),
    lambda res, g: (g * 2 * res[0] ** 2 / jnp.abs(res[0]),),
    "jax_zero_by_zero",
)


def _attention(q, k, v):
    return jax.nn.softmax(q @ k.T, -1) @ v


def _attention_backward(res, g):
    q, k, v = res
    p = jax.nn.softmax(q @ k.T, -1)
    scores = p * (g @ v.T)  # flash attention's delta = rowsum(g * out) is left out
    return scores @ k, scores.T @ q, p.T @ g


declare(
    "vjp",
    ("missing term", "wrong"),
    normals((4, 3), (4, 3), (4, 3)),
    "flash attention without its delta term",
    _attention,
    _attention_backward,
    "jax_attention_delta",
)


def _fixed_point(a):
    x = jnp.zeros_like(a)
    for _ in range(60):
        x = jnp.cos(a * x) / 2
    return x


declare(
    "vjp",
    ("other constants", "wrong", "where"),
    normal(4),
    "an equilibrium layer: one step in place of the implicit derivative",
    _fixed_point,
    lambda res, g: (-g * _fixed_point(res[0]) * jnp.sin(res[0] * _fixed_point(res[0])) / 2,),
    "jax_one_step_gradient",
)


def _recurrence(x, w):
    def step(h, u):
        h = jnp.tanh(w * h + u)
        return h, h

    return jax.lax.scan(step, jnp.zeros(()), x)[1]


def _recurrence_backward(res, g):
    x, w = res
    h = _recurrence(x, w)
    bar, grad_x, grad_w = 0.0, [], 0.0
    for t in range(x.shape[0] - 1, -1, -1):
        bar = (bar + g[t]) * (1 - h[t] ** 2)
        grad_x.append(bar)
        grad_w = grad_w + bar * h[t]  # h[t - 1]
        bar = bar * w
    return jnp.stack(grad_x[::-1]), grad_w


declare(
    "vjp",
    ("wrong", "shifted", "factor"),
    lambda rng: (rng.normal(size=5), rng.normal(size=())),
    "an RNN's weight gradient with h[t] for h[t - 1]",
    _recurrence,
    _recurrence_backward,
    "jax_recurrence_off_by_one",
)
declare(
    "vjp",
    "ignored output",
    normal(4),
    "a pair whose second cotangent is dropped",
    lambda x: (jnp.sin(x), jnp.exp(x)),
    lambda res, g: (g[0] * jnp.cos(res[0]),),
    "jax_second_output",
)
declare(
    "cost",
    "costly",
    normal(300),
    "a backward that builds the Jacobian",
    lambda x: jnp.cumsum(jnp.sin(x)),
    lambda res, g: (jax.jacfwd(lambda x: jnp.cumsum(jnp.sin(x)))(res[0]).T @ g,),
    "jax_jacobian_built",
)
declare(
    "dtypes",
    "precision",
    lambda rng: (rng.normal(size=6).astype("float32"),),
    "a float32 backward in bfloat16",
    jnp.sin,
    lambda res, g: (
        g * jnp.cos(res[0])
        if res[0].dtype != jnp.float32
        else (g.astype(jnp.bfloat16) * jnp.cos(res[0].astype(jnp.bfloat16))).astype(jnp.float32),
    ),
    "jax_backward_bfloat16",
)
