"""Typical rules of matrices and vectors, for `mutated_rules`."""

import diptych

# Matrices -----------------------------------------------------------------------------------------


@diptych.rule
def matmul(x, y):
    return x @ y


@matmul.vjp
def matmul_vjp(res, bar):
    return bar @ res.y.T, res.x.T @ bar


@matmul.jvp
def matmul_jvp(res, x_dot, y_dot):
    return x_dot @ res.y + res.x @ y_dot


@diptych.rule
def outer(x, y):
    return x[:, None] * y[None, :]


@outer.vjp
def outer_vjp(res, bar):
    return bar @ res.y, bar.T @ res.x


@diptych.rule
def solve(a, b):
    xp = diptych.namespace(a, b)
    return xp.linalg.solve(a, b)


@solve.vjp
def solve_vjp(res, bar):
    xp = diptych.namespace(bar)
    b_bar = xp.linalg.solve(res.a.T, bar)
    return -(b_bar @ res.out.T), b_bar


@solve.jvp
def solve_jvp(res, a_dot, b_dot):
    xp = diptych.namespace(a_dot)
    return xp.linalg.solve(res.a, b_dot - a_dot @ res.out)


@diptych.rule
def inverse(a):
    xp = diptych.namespace(a)
    return xp.linalg.inv(a)


@inverse.jvp
def inverse_jvp(res, a_dot):
    return -(res.out @ a_dot @ res.out)


@diptych.rule
def logdet(a):
    xp = diptych.namespace(a)
    return xp.linalg.slogdet(a)[1]


@logdet.vjp
def logdet_vjp(res, bar):
    xp = diptych.namespace(bar)
    return bar * xp.linalg.inv(res.a).T


@diptych.rule
def quadratic_form(a, x):
    return x @ a @ x


@quadratic_form.vjp
def quadratic_form_vjp(res, bar):
    return bar * res.x[:, None] * res.x[None, :], bar * (res.a @ res.x + res.x @ res.a)


@diptych.rule
def trace_of_product(a, b):
    xp = diptych.namespace(a, b)
    return xp.sum(a * b.T)


@trace_of_product.vjp
def trace_of_product_vjp(res, bar):
    return bar * res.b.T, bar * res.a.T


@diptych.rule
def triple(x, y, z):
    return x @ y @ z


@triple.vjp
def triple_vjp(res, bar):
    left = bar @ res.z.T
    return left @ res.y.T, res.x.T @ left, (res.x @ res.y).T @ bar


# Vectors ------------------------------------------------------------------------------------------


@diptych.rule
def norm(x):
    xp = diptych.namespace(x)
    return xp.sqrt(xp.sum(x**2))


@norm.vjp
def norm_vjp(res, bar):
    return bar * res.x / res.out


@diptych.rule
def squared_distances(x, y):
    xp = diptych.namespace(x, y)
    return xp.sum((x[:, None, :] - y[None, :, :]) ** 2, axis=-1)


@squared_distances.vjp
def squared_distances_vjp(res, bar):
    xp = diptych.namespace(bar)
    g = 2 * bar[:, :, None] * (res.x[:, None, :] - res.y[None, :, :])
    return xp.sum(g, axis=1), -xp.sum(g, axis=0)


@diptych.rule
def cosine_similarity(x, y):
    xp = diptych.namespace(x, y)
    return xp.sum(x * y) / xp.sqrt(xp.sum(x**2) * xp.sum(y**2))


@cosine_similarity.vjp
def cosine_similarity_vjp(res, bar):
    xp = diptych.namespace(bar)
    xx, yy = xp.sum(res.x**2), xp.sum(res.y**2)
    both = xp.sqrt(xx * yy)
    x_bar = bar * (res.y / both - res.out * res.x / xx)
    return x_bar, bar * (res.x / both - res.out * res.y / yy)


def _cross(x, y):
    xp = diptych.namespace(x, y)
    a, b, c = x[..., 0], x[..., 1], x[..., 2]
    d, e, f = y[..., 0], y[..., 1], y[..., 2]
    return xp.stack([b * f - c * e, c * d - a * f, a * e - b * d], axis=-1)


@diptych.rule
def cross(x, y):
    return _cross(x, y)


@cross.vjp
def cross_vjp(res, bar):
    return _cross(res.y, bar), -_cross(res.x, bar)


@cross.jvp
def cross_jvp(res, x_dot, y_dot):
    return _cross(x_dot, res.y) + _cross(res.x, y_dot)
