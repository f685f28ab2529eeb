"""Arrays as people pass them: numbers, integers, NumPy beside others, shapes, strides, dtypes."""

import numpy as np
import pytest

import diptych
from frameworks import DIFFERENTIATING, FRAMEWORKS, check, framework, same

A, B = np.array([0.5, 1.5, 2.5]), np.array([2.0, -1.0, 3.0])


@diptych.rule
def product(x, y):
    return x * y


@product.vjp
def product_vjp(res, out_bar):
    xp = diptych.namespace(out_bar)
    return (
        lambda: (
            2 * out_bar * xp.conj(res.y) if "complex" in str(out_bar.dtype) else 2 * out_bar * res.y
        ),
        lambda: (
            2 * out_bar * xp.conj(res.x) if "complex" in str(out_bar.dtype) else 2 * out_bar * res.x
        ),
    )


@diptych.rule
def elementwise(x, y):
    return x * y


@elementwise.partials
def elementwise_partials(res):
    return 2 * res.y, 2 * res.x


# Python numbers.


@FRAMEWORKS
@pytest.mark.parametrize("number", [3, 2.5, True, 0], ids=repr)
@pytest.mark.parametrize("rule", [product, elementwise], ids=["vjp", "partials"])
def test_python_number_beside_an_array(fw, rule, number):
    check(fw, lambda x: rule(x, number), [A], A * number, [2.0 * number])
    check(fw, lambda x: rule(number, x), [A], A * number, [2.0 * number])


@FRAMEWORKS
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_python_number_does_not_widen(fw, dtype):
    x = fw.array(A, dtype)
    for number in (2, 2.5):
        out = product(x, number)
        assert fw.dtype(out) == dtype
        if fw.differentiates:
            (bar,) = fw.pull(lambda x, n=number: product(x, n), [x])
            assert fw.dtype(bar) == dtype
            (bar,) = fw.pull(lambda x, n=number: elementwise(x, n), [x])
            assert fw.dtype(bar) == dtype


@FRAMEWORKS
def test_complex_number_beside_a_complex_array(fw):
    z = A + 1j * B
    check(fw, lambda x: elementwise(x, 2 - 1j), [z], z * (2 - 1j), [2 * (2 + 1j)])


def test_numbers_alone():
    assert product(2.0, 3.0) == 6.0
    assert product(2, True) == 2
    assert product(1j, 2) == 2j


# Integers and booleans have no cotangent.


@FRAMEWORKS
def test_integer_and_boolean_arrays(fw):
    @diptych.rule
    def chosen(x, index, mask):
        xp = diptych.namespace(x)
        taken = x[index]
        return xp.where(mask, taken, xp.zeros_like(taken))

    @chosen.vjp
    def chosen_vjp(res, out_bar):
        xp = diptych.namespace(out_bar)
        kept = xp.where(res.mask, out_bar, xp.zeros_like(out_bar))
        hits = xp.astype(xp.arange(3)[:, None] == res.index[None, :], out_bar.dtype)
        return 2 * (hits @ kept), None, None

    index, mask = fw.array(np.array([2, 0, 2, 1])), fw.array(np.array([True, True, True, False]))
    value = np.array([2.5, 0.5, 2.5, 0.0])
    check(fw, lambda x: chosen(x, index, mask), [A], value, [[2, 0, 4]])


@DIFFERENTIATING
@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8", "bool"])
def test_what_a_rule_says_of_integers_is_not_asked(fw, dtype):
    n = fw.array(np.array([1, 0, 1]), dtype)
    for rule in (product, elementwise):
        check(fw, lambda x, r=rule: r(x, n), [A], A * [1, 0, 1], [[2, 0, 2]])
        same(
            fw, fw.push(lambda x, r=rule: r(x, n), [fw.array(A)], [fw.array(B)]), 2 * B * [1, 0, 1]
        )


@DIFFERENTIATING
def test_tangent_of_an_integer_is_none(fw):
    @diptych.rule
    def f(x, n):
        return x * n

    @f.jvp
    def f_jvp(res, x_dot, n_dot):
        assert n_dot is None
        return 3 * x_dot * res.n

    n = fw.array(np.array([1, 2, 3]))
    same(fw, fw.push(lambda x: f(x, n), [fw.array(A)], [fw.array(B)]), 3 * B * [1, 2, 3])
    same(fw, fw.push(lambda x: f(x, 4), [fw.array(A)], [fw.array(B)]), 12 * B)
    check(fw, lambda x: f(x, n), [A], A * [1, 2, 3], [[3, 6, 9]])


# NumPy arrays beside the framework's.


@DIFFERENTIATING
@pytest.mark.parametrize(
    "other",
    [B, B[::-1], np.float64(2.0), np.arange(3), np.array(2.0)],
    ids=["array", "negative stride", "scalar", "integers", "0-d"],
)
def test_numpy_beside_framework_arrays(fw, other):
    for rule in (product, elementwise):
        want = np.broadcast_to(2.0 * other, 3)
        check(fw, lambda x, r=rule: r(x, other), [A], A * other, [want])
        check(fw, lambda x, r=rule: r(other, x), [A], A * other, [want])


@DIFFERENTIATING
def test_numpy_arrays_in_a_tree(fw):
    @diptych.rule
    def f(tree):
        return tree["x"] * tree["w"][0] + tree["w"][1]

    @f.vjp
    def f_vjp(res, out_bar):
        w = res.tree["w"]
        return {"x": 2 * out_bar * w[0], "w": [2 * out_bar * res.tree["x"], None]}

    check(fw, lambda x: f({"x": x, "w": [B, np.ones(3)]}), [A], A * B + 1, [2 * B])


# Shapes.


@FRAMEWORKS
@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (0, 2, 1), (1,), (1, 1, 1)], ids=str)
@pytest.mark.parametrize("rule", [product, elementwise], ids=["vjp", "partials"])
def test_zero_dimensions_and_zero_sizes(fw, shape, rule):
    x, y = np.full(shape, 1.5), np.full(shape, -2.0)
    check(fw, rule, [x, y], x * y, [2 * y, 2 * x])


@FRAMEWORKS
@pytest.mark.parametrize(
    "shapes", [((3,), ()), ((), (2, 3)), ((2, 1), (3,)), ((0, 1), (1, 3)), ((1,), (0,))], ids=str
)
def test_partials_reduce_what_was_broadcast(fw, shapes):
    x, y = (np.full(s, 1.0) + 0.5 * i for i, s in enumerate(shapes, 1))
    out = np.ones(np.broadcast_shapes(*shapes))
    bars = []
    for one, other in ((x, y), (y, x)):
        full = out * 2 * other
        extra = full.ndim - one.ndim
        axes = (*range(extra), *(i + extra for i, n in enumerate(one.shape) if n == 1))
        bars.append(full.sum(axes).reshape(one.shape))
    check(fw, elementwise, [x, y], x * y, bars)


@FRAMEWORKS
def test_reduction_of_nothing(fw):
    @diptych.rule
    def total(x):
        return diptych.namespace(x).sum(x)

    @total.vjp
    def total_vjp(res, out_bar):
        xp = diptych.namespace(out_bar)
        return 2 * xp.broadcast_to(out_bar, res.x.shape)

    for shape in ((0,), (), (2, 3)):
        x = np.full(shape, 1.5)
        check(fw, total, [x], x.sum(), [np.full(shape, 2.0)])


# Strides.

GRID = np.arange(1.0, 13.0).reshape(3, 4)
VIEWS = {
    "transposed": lambda x: x.T,
    "every other": lambda x: x[::2, 1::2],
    "column": lambda x: x[:, 1],
    "swapped": lambda x: x[None].swapaxes(0, 2),
}


@FRAMEWORKS
@pytest.mark.parametrize("view", list(VIEWS.values()), ids=list(VIEWS))
@pytest.mark.parametrize("rule", [product, elementwise], ids=["vjp", "partials"])
def test_non_contiguous(fw, view, rule):
    if fw.name == "torch":
        assert not view(fw.array(GRID)).is_contiguous()
    want = np.zeros((3, 4))
    view(want)[...] = 4 * view(GRID)
    check(fw, lambda x: rule(view(x), view(x)), [GRID], view(GRID) ** 2, [want])


@DIFFERENTIATING
def test_non_contiguous_cotangent(fw):
    x = fw.array(GRID)
    (bar,) = fw.pull(lambda x: product(x, x).T, [x], fw.array(GRID.T.copy()))
    same(fw, bar, 4 * GRID * GRID)


@pytest.mark.parametrize("rule", [product, elementwise], ids=["vjp", "partials"])
def test_expanded_tensor(rule):
    fw = framework("torch")
    y = fw.array(np.ones((2, 3)))
    check(fw, lambda x: rule(x.expand(2, 3), y), [A], np.stack([A, A]), [4])
    check(fw, lambda x: rule(x[:1].expand(3), x), [A], A[0] * A, [[2 * A.sum() + 2 * A[0], 1, 1]])
    # Here the cotangent is the expanded one.
    (bar,) = fw.pull(lambda x: rule(x, x), [y], fw.array(2.0).expand(2, 3))
    same(fw, bar, np.full((2, 3), 8.0))


@pytest.mark.parametrize("rule", [product, elementwise], ids=["vjp", "partials"])
def test_overlapping_windows(rule):
    fw = framework("torch")
    windows = np.array([0.5 * 0.5 + 1.5 * 1.5, 1.5 * 1.5 + 2.5 * 2.5])

    def call(x):
        seen = x.as_strided((2, 2), (1, 1))
        return rule(seen, seen).sum(-1)

    check(fw, call, [A], windows, [4 * A * [1, 2, 1]])
    view = np.lib.stride_tricks.sliding_window_view(A, 2)
    np.testing.assert_allclose(rule(view, view), view * view)


def test_arguments_are_not_written_to():
    x, y = A.copy(), B.copy()
    x.flags.writeable = y.flags.writeable = False
    np.testing.assert_allclose(product(x, y), A * B)
    assert diptych.vjp(product, x, y)[1](np.ones(3))[0] is not None


# Dtypes.

DTYPES = ["float16", "bfloat16", "float32", "float64", "complex64", "complex128"]


@DIFFERENTIATING
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rule", [product, elementwise], ids=["vjp", "partials"])
def test_every_dtype(fw, dtype, rule):
    x, y = fw.array(A, dtype), fw.array(B, dtype)
    assert fw.dtype(rule(x, y)) == dtype
    bars = fw.pull(rule, [x, y])
    assert [fw.dtype(bar) for bar in bars] == [dtype, dtype]
    np.testing.assert_array_equal(fw.numpy(rule(x, y)), A * B)  # exact in each of them
    np.testing.assert_array_equal(fw.numpy(bars[0]), 2 * B)
    np.testing.assert_array_equal(fw.numpy(bars[1]), 2 * A)
    dot = fw.push(rule, [x, y], [x, y])
    assert fw.dtype(dot) == dtype
    np.testing.assert_array_equal(fw.numpy(dot), 4 * A * B)


@DIFFERENTIATING
@pytest.mark.parametrize(
    "pair",
    [
        ("float32", "float64"),
        ("float16", "float32"),
        ("float64", "complex128"),
        ("complex64", "float32"),
    ],
    ids="+".join,
)
def test_partials_of_two_dtypes(fw, pair):
    x, y = fw.array(A, pair[0]), fw.array(B, pair[1])
    bars = fw.pull(elementwise, [x, y])
    assert [fw.dtype(bar) for bar in bars] == list(pair)
    np.testing.assert_array_equal(fw.numpy(bars[0]), 2 * B)
    np.testing.assert_array_equal(fw.numpy(bars[1]), 2 * A)
    # JAX and PyTorch keep complex64 beside float32; NumPy's rule gives the same for these pairs.
    assert fw.dtype(elementwise(x, y)) == str(np.result_type(*pair))


@FRAMEWORKS
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "complex64", "complex128"])
def test_values_keep_their_dtype(fw, dtype):
    out = product(fw.array(A, dtype), fw.array(B, dtype))
    assert fw.owns(out)
    assert fw.dtype(out) == dtype


# Several outputs, some of them integers, some of them inputs.


@FRAMEWORKS
def test_outputs_of_several_kinds(fw):
    @diptych.rule
    def ranked(x, y):
        xp = diptych.namespace(x)
        return {"order": xp.argsort(x), "y": y, "positive": x > 1, "xy": x * y, "n": 3}

    @ranked.vjp
    def ranked_vjp(res, bar):
        assert bar["order"] is None
        assert bar["positive"] is None
        return 2 * bar["xy"] * res.y, 2 * (bar["xy"] * res.x + bar["y"])

    out = ranked(fw.array(B), fw.array(A))
    same(fw, out["order"], np.argsort(B))
    same(fw, out["positive"], B > 1)
    same(fw, out["y"], A)
    check(fw, lambda x, y: ranked(x, y)["xy"], [B, A], A * B, [2 * A, 2 * B])
    check(fw, lambda x, y: ranked(x, y)["y"] + 0 * x, [B, A], A, [0, 2])
    check(
        fw,
        lambda x, y: ranked(x, y)["y"] + ranked(x, y)["xy"],
        [B, A],
        A + A * B,
        [2 * A, 2 * B + 2],
    )


@FRAMEWORKS
def test_output_that_is_an_input(fw):
    @diptych.rule
    def unchanged(x):
        return x

    @unchanged.vjp
    def unchanged_vjp(res, out_bar):
        return 2 * out_bar

    @unchanged.jvp
    def unchanged_jvp(res, x_dot):
        return 3 * x_dot

    check(fw, unchanged, [A], A, [2])
    check(fw, lambda x: unchanged(x) * x, [A], A * A, [3 * A])
    check(fw, lambda x: unchanged(unchanged(x)), [A], A, [4])
    if fw.differentiates:
        same(fw, fw.push(unchanged, [fw.array(A)], [fw.array(B)]), 3 * B)


@FRAMEWORKS
def test_same_output_twice(fw):
    @diptych.rule
    def twice(x):
        y = x * x
        return y, y

    @twice.vjp
    def twice_vjp(res, out_bar):
        return 2 * (2 * res.x * out_bar[0] + 20 * res.x * out_bar[1])

    check(fw, lambda x: twice(x)[0], [A], A * A, [4 * A])
    check(fw, lambda x: twice(x)[1], [A], A * A, [40 * A])
    check(fw, lambda x: twice(x)[0] + twice(x)[1], [A], 2 * A * A, [44 * A])
