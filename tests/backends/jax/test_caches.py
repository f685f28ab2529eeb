"""Caches: calls are remembered where it pays, boundedly, and never past what they depend on."""

import collections
import gc
import sys
import tracemalloc
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax_witnesses import close, point

import diptych

X = point()


def make(static=False):
    """Returns a rule of an array (and a static `k`) that reads nothing from outside, and its code.

    A rule that reads something mutable is never run from a cache, hence no counters in here.
    """
    if static:

        @diptych.rule(static=("k",))
        def rule(x, k):
            return x * 2
    else:

        @diptych.rule
        def rule(x):
            return x * 2

    @rule.vjp
    def rule_vjp(res, out_bar):
        return 4 * out_bar

    @rule.jvp
    def rule_jvp(res, x_dot):
        return 6 * x_dot

    return rule


def watched(rule, f):
    """Calls `f` and returns how often each function that was stated for `rule` ran in it.

    "traced" counts runs of the body with an abstract array, "eager" those with a concrete one.
    """
    statement = rule._statement
    parts = {"vjp": statement.vjp, "jvp": statement.jvp}
    codes = {part.__code__: name for name, part in parts.items() if part is not None}
    runs = collections.Counter()

    def profile(frame, event, arg):
        if event != "call":
            return
        if frame.f_code is statement.body.__code__:
            abstract = isinstance(frame.f_locals["x"], jax.core.Tracer)
            runs["traced" if abstract else "eager"] += 1
        elif frame.f_code in codes:
            runs[codes[frame.f_code]] += 1

    sys.setprofile(profile)
    try:
        f()
    finally:
        sys.setprofile(None)
    return runs


def python_calls(f):
    """Returns how many Python functions are called by `f`: a measure of work without a clock.

    Generator expressions are left out: JAX looks for each tracer among all others with one.
    """
    count = 0

    def profile(frame, event, arg):
        nonlocal count
        count += event == "call" and frame.f_code.co_name != "<genexpr>"

    f()
    gc.disable()
    sys.setprofile(profile)
    try:
        f()
    finally:
        sys.setprofile(None)
        gc.enable()
    return count


NOTHING = collections.Counter()


# An eager call does not trace again.


@pytest.mark.parametrize("name", ["value", "grad", "jvp", "vjp", "linearize"])
def test_eager_calls_do_not_retrace(name):
    rule = make()
    call = {
        "value": lambda: rule(X),
        "grad": lambda: jax.grad(lambda x: jnp.sum(rule(x)))(X),
        "jvp": lambda: jax.jvp(rule, (X,), (X,)),
        "vjp": lambda: jax.vjp(rule, X)[1](X),
        "linearize": lambda: jax.linearize(rule, X)[1](X),
    }[name]
    assert watched(rule, call) != NOTHING
    for _ in range(3):
        call()
    assert watched(rule, lambda: [call() for _ in range(20)]) == NOTHING


@pytest.mark.parametrize("k", [3, 2.5, "text", (1, 2)], ids=repr)
def test_repeated_static_values_do_not_retrace(k):
    rule = make(static=True)

    def call():
        rule(X, k)
        jax.grad(lambda x: jnp.sum(rule(x, k)))(X)

    for _ in range(3):
        call()
    assert watched(rule, lambda: [call() for _ in range(20)]) == NOTHING


def test_one_trace_for_each_shape_and_dtype():
    rule = make()
    arrays = [jnp.ones(n, t) for n in (3, 5) for t in (np.float32, np.float64)]

    def call():
        return [rule(x) for x in arrays]

    for _ in range(3):
        call()
    assert watched(rule, call) == NOTHING
    assert watched(rule, lambda: rule(jnp.ones(7)))["traced"] >= 1


def test_new_static_values_are_not_compiled():
    # Compiling takes as long as a thousand calls: what is seen once is run as it is.
    rule = make(static=True)
    runs = watched(rule, lambda: [rule(X, i) for i in range(1000)])
    assert runs["traced"] <= 10
    assert runs["eager"] >= 990


def test_closures_are_not_compiled():
    rule = make(static=True)
    for i in range(30):  # a closure that is gone leaves its address to the next one
        runs = watched(rule, lambda i=i: [rule(X, lambda j=j: i + j) for j in range(100)])
        assert runs["traced"] <= 2, f"traced {runs} times for closures seen once, after {100 * i}"


def test_new_rules_are_not_compiled():
    for i in range(600):  # a rule that is gone leaves its address to the next one
        rule = make()
        runs = watched(rule, lambda rule=rule: rule(X))
        assert runs["traced"] == 0, f"traced at the first call, after {i} rules"


# Memory is flat however many calls were made.


def growth(call, warm, count):
    """Returns by how many bytes Python's memory grows in each of `count` calls after `warm`.

    What the warm calls left in bounded caches is traced as well: it is let go for the new.
    """
    tracemalloc.start()
    try:
        for i in range(warm):
            call(i)
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        for i in range(warm, warm + count):
            call(i)
        gc.collect()
        return (tracemalloc.get_traced_memory()[0] - before) / count
    finally:
        tracemalloc.stop()


def test_ten_thousand_static_values():
    rule = make(static=True)
    assert growth(lambda i: rule(X, i), warm=5000, count=5000) < 20
    early = python_calls(lambda: rule(X, -1))
    for i in range(3):
        assert python_calls(lambda i=i: rule(X, -2 - i)) <= 1.1 * early


def test_ten_thousand_closures():
    rule = make(static=True)
    many = watched(rule, lambda: [rule(X, lambda i=i: i) for i in range(2000)])
    assert many["traced"] <= 10, "compiled for closures seen once: the rest would take minutes"
    assert growth(lambda i: rule(X, lambda: i), warm=5000, count=5000) < 20


def test_gradients_with_new_static_values():
    rule = make(static=True)

    def call(i):
        return jax.grad(lambda x: jnp.sum(rule(x, i)))(X)

    call(0)
    first = python_calls(lambda: call(1))
    for i in range(2, 300):
        call(i)
    # Whatever JAX does for a new function it does each time; nothing is searched through.
    assert python_calls(lambda: call(-1)) <= 1.5 * first


class Token:
    """A static argument that can be watched."""


@pytest.mark.parametrize("transform", ["value", "grad", "jvp"])
def test_static_objects_are_let_go(transform):
    rule = make(static=True)
    calls = {
        "value": lambda token: rule(X, token),
        "grad": lambda token: jax.grad(lambda x: jnp.sum(rule(x, token)))(X),
        "jvp": lambda token: jax.jvp(lambda x: rule(x, token), (X,), (X,)),
    }
    watched = []
    for _ in range(40):
        token = Token()
        calls[transform](token)
        watched.append(weakref.ref(token))
    del token
    jax.clear_caches()  # what JAX itself holds is JAX's; what is alive after this is ours
    gc.collect()
    assert sum(ref() is not None for ref in watched) <= 2


def test_rules_are_let_go():
    watched = []
    for _ in range(40):
        rule = make()
        jax.grad(lambda x, r=rule: jnp.sum(r(x)))(X)
        watched.append(weakref.ref(rule))
    del rule
    jax.clear_caches()
    gc.collect()
    assert sum(ref() is not None for ref in watched) <= 2


def test_residuals_are_what_the_rule_reads_and_are_let_go():
    @diptych.rule
    def square(x, y):
        return x * x + y

    @square.vjp
    def square_vjp(res, out_bar):
        return 4 * res.x * out_bar, 2 * out_bar

    def alive():
        gc.collect()
        return sum(x.shape == (1003,) for x in jax.live_arrays())

    x, y = jnp.arange(1003.0), jnp.ones(1003)
    assert alive() == 2
    _, pull = jax.vjp(square, x, y)
    del x, y, _
    assert alive() == 1, "x, and neither y nor the output"
    close(pull(jnp.ones(1003))[0], 4 * jnp.arange(1003.0))
    del pull
    assert alive() == 0


def test_new_shapes_keep_what_is_ours_flat():
    rule = make()

    def ours():
        gc.collect()
        return sum(str(type(x).__module__).startswith("diptych") for x in gc.get_objects())

    before = ours()
    for n in range(1, 301):  # traced only: compiling each would take a minute
        jax.eval_shape(rule, jax.ShapeDtypeStruct((n,), float))
    # JAX remembers what it traced, and each of its programs may refer to one object of ours.
    assert ours() - before <= 300 + 250, "something is kept for each shape"


# What a call depends on is looked at anew.

FACTOR = 2.0


def test_changed_global_is_seen(monkeypatch):
    @diptych.rule
    def scaled(x):
        return FACTOR * x

    @scaled.vjp
    def scaled_vjp(res, out_bar):
        return 2 * FACTOR * out_bar

    def both():
        return scaled(X), jax.grad(lambda x: jnp.sum(scaled(x)))(X)

    for _ in range(3):
        close(both(), (2 * X, jnp.full(4, 4.0)))
    monkeypatch.setitem(globals(), "FACTOR", 5.0)
    for _ in range(3):
        close(both(), (5 * X, jnp.full(4, 10.0)))


@pytest.mark.parametrize("kind", ["number", "array", "list", "object"])
def test_changed_closure_is_seen(kind):
    class Holder:
        value = 2.0

    holder = Holder()
    factor = {"number": 2.0, "array": np.array(2.0), "list": [2.0], "object": holder}[kind]

    def read():
        if kind == "list":
            return factor[0]
        return factor.value if kind == "object" else factor

    @diptych.rule
    def scaled(x):
        return read() * x

    @scaled.vjp
    def scaled_vjp(res, out_bar):
        return 2 * read() * out_bar

    def both():
        return scaled(X), jax.grad(lambda x: jnp.sum(scaled(x)))(X)

    for _ in range(3):
        close(both(), (2 * X, jnp.full(4, 4.0)))
    if kind == "number":
        factor = 5.0
    elif kind == "array":
        factor[...] = 5.0
    elif kind == "list":
        factor[0] = 5.0
    else:
        holder.value = 5.0
    for _ in range(3):
        close(both(), (5 * X, jnp.full(4, 10.0)))


def test_restated_derivative_is_used():
    rule = make()
    for _ in range(3):
        close(jax.grad(lambda x: jnp.sum(rule(x)))(X), jnp.full(4, 4.0))
    rule.vjp(lambda res, out_bar: 7 * out_bar)
    close(jax.grad(lambda x: jnp.sum(rule(x)))(X), jnp.full(4, 7.0))
    rule.fwd(lambda x: (x + 100, None))
    close(rule(X), X + 100)


def test_failed_call_leaves_nothing_behind():
    fails = [True]

    @diptych.rule
    def sometimes(x):
        if fails[0]:
            raise ArithmeticError("not yet")
        return 2 * x

    @sometimes.vjp
    def sometimes_vjp(res, out_bar):
        return 4 * out_bar

    for _ in range(2):
        with pytest.raises(ArithmeticError, match="not yet"):
            sometimes(X)
        with pytest.raises(ArithmeticError, match="not yet"):
            jax.grad(lambda x: jnp.sum(sometimes(x)))(X)
    fails[0] = False
    close(sometimes(X), 2 * X)
    close(jax.grad(lambda x: jnp.sum(sometimes(x)))(X), jnp.full(4, 4.0))


def test_work_is_linear_in_the_leaves():
    def plain(xs):
        return xs[0] + xs[-1]

    total = diptych.rule(plain)

    @total.vjp
    def total_vjp(res, out_bar):
        return [2 * out_bar] + [None] * (len(res.xs) - 2) + [2 * out_bar]

    def work(f, n):
        xs = [X] * n
        return python_calls(lambda: jax.make_jaxpr(jax.grad(lambda xs: jnp.sum(f(xs))))(xs))

    added = [work(total, n) - work(plain, n) for n in (100, 400)]
    assert added[1] <= 4.4 * added[0]
