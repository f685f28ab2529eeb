"""torch.testing's autograd.Functions, each rewritten as a rule: both directions, to second order.

The NumPy ones are host rules. NumPy code cannot be differentiated, so each of their directions is a
host rule itself, with both of its own directions: enough for gradgradcheck in every nesting.
"""

import numpy as np
import torch

import diptych


def _sum_to(array, shape):
    """Returns the sum of a NumPy array over the axes along which `shape` was broadcast."""
    lead = array.ndim - len(shape)
    axes = (*range(lead), *(lead + i for i, n in enumerate(shape) if n == 1))
    return array.sum(axis=axes, keepdims=True).reshape(shape)


# NumpyCube: two outputs, the second being the slope of the first ----------------------------------


def _cube_spec(x):
    # NumPy's powers of booleans are integers, of the width of whatever they are multiplied by.
    dtypes = (np.int64, np.int8) if x.dtype == np.bool_ else (x.dtype, x.dtype)
    return tuple(diptych.Spec(x.shape, np.dtype(dtype)) for dtype in dtypes)


@diptych.rule(host=True, out=_cube_spec)
def numpy_cube(x):
    return x**3, 3 * x**2


@numpy_cube.jvp
@diptych.rule(host=True, out=lambda res, x_dot: (x_dot, x_dot))
def numpy_cube_jvp(res, x_dot):
    return 3 * res.x**2 * x_dot, 6 * res.x * x_dot


@numpy_cube_jvp.jvp
def numpy_cube_jvp_jvp(res, res_dot, x_dot_dot):
    x, x_dot, step = res.res.x, res.x_dot, res_dot.x
    return (
        6 * x * step * x_dot + 3 * x**2 * x_dot_dot,
        6 * step * x_dot + 6 * x * x_dot_dot,
    )


@numpy_cube_jvp.vjp
def numpy_cube_jvp_vjp(res, bar):
    x, x_dot = res.res.x, res.x_dot
    x_bar = 6 * x * x_dot * bar[0] + 6 * x_dot * bar[1]
    return res.res._replace(x=x_bar, out=None), 3 * x**2 * bar[0] + 6 * x * bar[1]


@numpy_cube.vjp
@diptych.rule(host=True, out=lambda res, bar: res.x)
def numpy_cube_vjp(res, bar):
    return 3 * res.x**2 * bar[0] + 6 * res.x * bar[1]


@numpy_cube_vjp.jvp
def numpy_cube_vjp_jvp(res, res_dot, bar_dot):
    x, bar, step = res.res.x, res.bar, res_dot.x
    moved = 6 * x * bar[0] * step + 6 * bar[1] * step
    return moved + 3 * x**2 * bar_dot[0] + 6 * x * bar_dot[1]


@numpy_cube_vjp.vjp
def numpy_cube_vjp_vjp(res, bar_bar):
    x, bar = res.res.x, res.bar
    x_bar = (6 * x * bar[0] + 6 * bar[1]) * bar_bar
    return res.res._replace(x=x_bar, out=None), (3 * x**2 * bar_bar, 6 * x * bar_bar)


# CubeGenVmap --------------------------------------------------------------------------------------


@diptych.rule
def cube(x):
    return x**3, 3 * x**2


@cube.vjp
def cube_vjp(res, bar):
    return 3 * res.x**2 * bar[0] + 6 * res.x * bar[1]


@cube.jvp
def cube_jvp(res, x_dot):
    return 3 * res.x**2 * x_dot, 6 * res.x * x_dot


# NumpyCubeNotComposable: NumPy code in the VJP, differentiable once -------------------------------


@diptych.rule(host=True, out=lambda x: x)
def numpy_cube_once(x):
    return x**3


@numpy_cube_once.vjp
def numpy_cube_once_vjp(res, out_bar):
    return 3 * res.x**2 * out_bar


# NumpyMul and MulGenVmap: two arguments that broadcast --------------------------------------------


def _product_spec(x, y):
    return diptych.Spec(np.broadcast_shapes(x.shape, y.shape), np.result_type(x.dtype, y.dtype))


@diptych.rule(host=True, out=_product_spec)
def numpy_mul(x, y):
    return x * y


@numpy_mul.jvp
@diptych.rule(host=True, out=lambda res, x_dot, y_dot: _product_spec(x_dot, y_dot))
def numpy_mul_jvp(res, x_dot, y_dot):
    return x_dot * res.y + res.x * y_dot


@numpy_mul_jvp.jvp
def numpy_mul_jvp_jvp(res, res_dot, x_dot_dot, y_dot_dot):
    moved = res.x_dot * res_dot.y + res_dot.x * res.y_dot
    return moved + x_dot_dot * res.res.y + res.res.x * y_dot_dot


@numpy_mul_jvp.vjp
def numpy_mul_jvp_vjp(res, bar):
    x, y = res.res.x, res.res.y
    x_bar, y_bar = _sum_to(bar * res.y_dot, x.shape), _sum_to(bar * res.x_dot, y.shape)
    res_bar = res.res._replace(x=x_bar, y=y_bar, out=None)
    return res_bar, _sum_to(bar * y, x.shape), _sum_to(bar * x, y.shape)


@numpy_mul.vjp
@diptych.rule(host=True, out=lambda res, out_bar: (res.x, res.y))
def numpy_mul_vjp(res, out_bar):
    return _sum_to(out_bar * res.y, res.x.shape), _sum_to(out_bar * res.x, res.y.shape)


@numpy_mul_vjp.jvp
def numpy_mul_vjp_jvp(res, res_dot, out_bar_dot):
    x, y = res.res.x, res.res.y
    x_bar_dot = res.out_bar * res_dot.y + out_bar_dot * y
    y_bar_dot = res.out_bar * res_dot.x + out_bar_dot * x
    return _sum_to(x_bar_dot, x.shape), _sum_to(y_bar_dot, y.shape)


@numpy_mul_vjp.vjp
def numpy_mul_vjp_vjp(res, bars):
    x, y, out_bar = res.res.x, res.res.y, res.out_bar
    x_bar = _sum_to(out_bar * bars[1], x.shape)
    y_bar = _sum_to(out_bar * bars[0], y.shape)
    out_bar_bar = _sum_to(bars[0] * y + x * bars[1], out_bar.shape)
    return res.res._replace(x=x_bar, y=y_bar, out=None), out_bar_bar


@diptych.rule
def mul(x, y):
    return x * y


@mul.partials
def mul_partials(res):
    return res.y, res.x


# NumpyExp_: in place there; rules are pure, so here is its pure twin. The residual is the output --


@diptych.rule(host=True, out=lambda x: x)
def numpy_exp(x):
    return np.exp(x)


@diptych.rule(host=True, out=lambda res, x_dot: x_dot)
def numpy_exp_slope(res, x_dot):
    return res.out * x_dot


# Diagonal, so one rule is both directions.
numpy_exp.jvp(numpy_exp_slope)
numpy_exp.vjp(numpy_exp_slope)


@numpy_exp_slope.jvp
def numpy_exp_slope_jvp(res, res_dot, x_dot_dot):
    return res_dot.out * res.x_dot + res.res.out * x_dot_dot


@numpy_exp_slope.vjp
def numpy_exp_slope_vjp(res, bar):
    return res.res._replace(x=None, out=res.x_dot * bar), res.res.out * bar


# NumpyTake, NumpySort and their generated-vmap forms ----------------------------------------------


@diptych.rule(host=True, static="dim", out=lambda x, ind, ind_inv, dim: x)
def numpy_take(x, ind, ind_inv, dim):
    return np.take_along_axis(x, ind, dim)


@numpy_take.jvp
@diptych.rule(host=True, out=lambda res, x_dot, ind_dot, ind_inv_dot: x_dot)
def numpy_take_jvp(res, x_dot, ind_dot, ind_inv_dot):
    return np.take_along_axis(x_dot, res.ind, res.dim)


@numpy_take_jvp.jvp
def numpy_take_jvp_jvp(res, res_dot, x_dot_dot, ind_dot_dot, ind_inv_dot_dot):
    return np.take_along_axis(x_dot_dot, res.res.ind, res.res.dim)


@numpy_take_jvp.vjp
def numpy_take_jvp_vjp(res, bar):
    return None, np.take_along_axis(bar, res.res.ind_inv, res.res.dim), None, None


@numpy_take.vjp
@diptych.rule(host=True, out=lambda res, out_bar: (out_bar, None, None))
def numpy_take_vjp(res, out_bar):
    return np.take_along_axis(out_bar, res.ind_inv, res.dim), None, None


@numpy_take_vjp.jvp
def numpy_take_vjp_jvp(res, res_dot, out_bar_dot):
    return np.take_along_axis(out_bar_dot, res.res.ind_inv, res.res.dim), None, None


@numpy_take_vjp.vjp
def numpy_take_vjp_vjp(res, bars):
    return None, np.take_along_axis(bars[0], res.res.ind, res.res.dim)


def _sort_spec(x, dim):
    order = diptych.Spec(x.shape, np.dtype(np.int64))
    return x, order, order


@diptych.rule(host=True, static="dim", out=_sort_spec)
def numpy_sort(x, dim):
    ind = np.argsort(x, axis=dim)
    return np.take_along_axis(x, ind, dim), ind, np.argsort(ind, axis=dim)


@numpy_sort.jvp
@diptych.rule(host=True, out=lambda res, x_dot: (x_dot, None, None))
def numpy_sort_jvp(res, x_dot):
    return np.take_along_axis(x_dot, res.out[1], res.dim), None, None


@numpy_sort_jvp.jvp
def numpy_sort_jvp_jvp(res, res_dot, x_dot_dot):
    return np.take_along_axis(x_dot_dot, res.res.out[1], res.res.dim), None, None


@numpy_sort_jvp.vjp
def numpy_sort_jvp_vjp(res, bars):
    return None, np.take_along_axis(bars[0], res.res.out[2], res.res.dim)


@numpy_sort.vjp
@diptych.rule(host=True, out=lambda res, bars: bars[0])
def numpy_sort_vjp(res, bars):
    return np.take_along_axis(bars[0], res.out[2], res.dim)


@numpy_sort_vjp.jvp
def numpy_sort_vjp_jvp(res, res_dot, bars_dot):
    return np.take_along_axis(bars_dot[0], res.res.out[2], res.res.dim)


@numpy_sort_vjp.vjp
def numpy_sort_vjp_vjp(res, bar):
    return None, (np.take_along_axis(bar, res.res.out[1], res.res.dim), None, None)


@diptych.rule(static="dim")
def take(x, ind, ind_inv, dim):
    return torch.take_along_dim(x, ind, dim)


@take.vjp
def take_vjp(res, out_bar):
    return take(out_bar, res.ind_inv, res.ind, res.dim), None, None


@take.jvp
def take_jvp(res, x_dot, ind_dot, ind_inv_dot):
    return take(x_dot, res.ind, res.ind_inv, res.dim)


@diptych.rule(static="dim")
def sort(x, dim):
    ind = torch.argsort(x, dim=dim)
    return torch.take_along_dim(x, ind, dim=dim), ind, torch.argsort(ind, dim=dim)


@sort.fwd
def sort_fwd(x, dim):
    values, ind, ind_inv = sort_body(x, dim)
    return (values, ind, ind_inv), (ind, ind_inv, dim)


def sort_body(x, dim):
    ind = torch.argsort(x, dim=dim)
    return torch.take_along_dim(x, ind, dim=dim), ind, torch.argsort(ind, dim=dim)


@sort.vjp
def sort_vjp(res, bars):
    ind, ind_inv, dim = res
    return take(bars[0], ind_inv, ind, dim)


@sort.jvp
def sort_jvp(res, x_dot):
    ind, ind_inv, dim = res
    return take(x_dot, ind, ind_inv, dim), None, None


# Select, SelectGenVmap, ForwardHasDefaultArgs -----------------------------------------------------


@diptych.rule(static="idx")
def select(x, idx):
    return x[idx]


@select.vjp
def select_vjp(res, out_bar):
    result = torch.zeros_like(res.x)
    rows = torch.arange(res.x.shape[0]) == res.idx
    return torch.where(rows[:, None], out_bar, result)


@select.jvp
def select_jvp(res, x_dot):
    return select(x_dot, res.idx)


@diptych.rule(static="idx")
def select_by_default(x, idx=(2,)):
    return x[idx]


@select_by_default.vjp
def select_by_default_vjp(res, out_bar):
    rows = torch.arange(res.x.shape[0]) == res.idx[0]
    return torch.where(rows[:, None], out_bar, torch.zeros_like(res.x))


@select_by_default.jvp
def select_by_default_jvp(res, x_dot):
    return select_by_default(x_dot, res.idx)


# ScaleGradGenVmap, ZeroGradientsGenVmap: derivatives that are not the function's own --------------

SCALE = 3.14


@diptych.rule
def scale_grad(x):
    return x.clone()


@scale_grad.vjp
def scale_grad_vjp(res, out_bar):
    return out_bar * SCALE


@scale_grad.jvp
def scale_grad_jvp(res, x_dot):
    return x_dot * SCALE


@diptych.rule
def zero_gradients(x, y):
    return x.clone(), y.clone()


@zero_gradients.vjp
def zero_gradients_vjp(res, bars):
    return torch.zeros(res.x.shape, dtype=res.x.dtype), None


@zero_gradients.jvp
def zero_gradients_jvp(res, x_dot, y_dot):
    return None, torch.zeros(y_dot.shape, dtype=y_dot.dtype)
