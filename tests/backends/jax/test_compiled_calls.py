"""An eager call is compiled the second time: nobody may be able to tell."""

import functools
import os
import random
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax_witnesses import close, point

import diptych

X = point()
RNG = random.Random(0)


class Settings:
    scale = 1.0


class Holder:
    def __init__(self, scale):
        self.scale = scale

    def times(self, x):
        return x * self.scale


def rule_of(body, **options):
    """Returns the rule of a body; its VJP is twice the cotangent."""
    rule = diptych.rule(**options)(body)
    rule.vjp(lambda res, out_bar: 2 * out_bar)
    return rule


def default_of_a_helper():
    table = {"scale": 1.0}

    def helper(x, table=table):
        return x * table["scale"]

    return lambda x: helper(x), lambda scale: table.update(scale=scale)


def keyword_default_of_a_helper():
    table = [1.0]

    def helper(x, *, table=table):
        return x * table[0]

    return lambda x: helper(x), lambda scale: table.__setitem__(0, scale)


def attribute_of_a_function():
    def helper(x):
        return x * helper.scale

    helper.scale = 1.0
    return lambda x: helper(x), lambda scale: setattr(helper, "scale", scale)


def attribute_of_a_class():
    return lambda x: x * Settings.scale, lambda scale: setattr(Settings, "scale", scale)


def attribute_of_an_instance_made_inside():
    return lambda x: x * Settings().scale, lambda scale: setattr(Settings, "scale", scale)


def code_of_a_helper():
    def helper(x):
        return x * 1.0

    def other(x):
        return x * 3.0

    return lambda x: helper(x), lambda scale: setattr(helper, "__code__", other.__code__)


def environment():
    os.environ["DIPTYCH_TEST_SCALE"] = "1"
    return (
        lambda x: x * float(os.environ["DIPTYCH_TEST_SCALE"]),
        lambda scale: os.environ.update(DIPTYCH_TEST_SCALE=str(scale)),
    )


def value_of_another_rule():
    inner = rule_of(lambda x: x * 1.0)
    return lambda x: inner(x), lambda scale: inner.fwd(lambda x: (x * scale, None))


@pytest.mark.parametrize(
    "make",
    [
        default_of_a_helper,
        keyword_default_of_a_helper,
        attribute_of_a_function,
        attribute_of_a_class,
        attribute_of_an_instance_made_inside,
        code_of_a_helper,
        environment,
        value_of_another_rule,
    ],
)
def test_what_a_body_reads_is_read_anew(make):
    Settings.scale = 1.0
    body, change = make()
    rule = rule_of(body)
    for _ in range(3):
        close(rule(X), X)
    change(3.0)
    for _ in range(3):
        close(rule(X), 3 * X)


def changed_object():
    held = Holder(1.0)
    return held, lambda x, held: x * held.scale, lambda scale: setattr(held, "scale", scale)


def changed_object_in_a_tuple():
    held = Holder(1.0)
    return (held,), lambda x, held: x * held[0].scale, lambda scale: setattr(held, "scale", scale)


def bound_method():
    held = Holder(1.0)
    return held.times, lambda x, times: times(x), lambda scale: setattr(held, "scale", scale)


def closure():
    table = [1.0]
    return (
        lambda x: x * table[0],
        lambda x, times: times(x),
        lambda scale: table.__setitem__(0, scale),
    )


def partial():
    table = [1.0]
    times = functools.partial(lambda table, x: x * table[0], table)
    return times, lambda x, times: times(x), lambda scale: table.__setitem__(0, scale)


@pytest.mark.parametrize(
    "make", [changed_object, changed_object_in_a_tuple, bound_method, closure, partial]
)
def test_static_value_that_changes_is_seen(make):
    static, body, change = make()

    @diptych.rule(static="static")
    def rule(x, static):
        return body(x, static)

    for _ in range(3):
        close(rule(X, static), X)
    change(3.0)
    for _ in range(3):
        close(rule(X, static), 3 * X)


@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_equal_static_values_are_not_the_same(zero):
    @diptych.rule(static="n")
    def divide(x, n):
        return x / n

    for n in (zero, -zero) * 3:
        close(divide(X, n), X / jnp.asarray(n))

    @diptych.rule(static="n")
    def times(x, n):
        return x * n[0]

    for n in ((1,), (1.0,), (True,)) * 3:
        assert times(jnp.arange(3), n).dtype == (jnp.arange(3) * n[0]).dtype


@pytest.mark.parametrize("draw", [random.random, RNG.random, np.random.rand, time.perf_counter])
def test_what_differs_each_time_differs_each_time(draw):
    rules = [rule_of(lambda x: 0 * x + draw())]
    if draw is np.random.rand:
        rules.append(rule_of(lambda x: 0 * x + np.random.rand()))  # noqa: NPY002
    for rule in rules:
        assert len({float(rule(X)[0]) for _ in range(5)}) == 5


def test_side_effects_on_the_outside_stay_eager():
    @diptych.rule
    def keeps_last(x):
        global LAST
        LAST = 2 * x
        return x

    for _ in range(3):
        keeps_last(X)
    close(LAST, 2 * X)


def by_truth(x, n):
    return x[x > 0.6]


def by_index(x, n):
    return x * (1, 2, 3)[n]


def by_range(x, n):
    return sum([x for _ in range(n)])


def by_shape(x, n):
    return jnp.ones((n, 2)) @ x[:2]


def by_refusing(x, n):
    if isinstance(x, jax.core.Tracer):
        raise ValueError("no tracer, please")
    return x * 2


@pytest.mark.parametrize("body", [by_truth, by_index, by_range, by_shape, by_refusing])
def test_body_that_looks_at_values_works_each_time(body):
    rule = rule_of(body)
    for _ in range(4):
        close(rule(X, 2), body(X, 2))


def test_error_of_a_body_is_its_own_and_does_not_last():
    def body(x):
        if x.shape[0] == 2:
            raise ValueError("two is too few")
        return x * 2

    rule = rule_of(body)
    for _ in range(3):
        with pytest.raises(ValueError, match="two is too few") as caught:
            rule(X[:2])
        assert caught.value.__context__ is None
        close(rule(X), 2 * X)


def test_many_rules_in_turn_are_not_compiled_in_each_round(monkeypatch):
    monkeypatch.setattr("diptych.backends.jax._JITTED", 4)
    compiled = []
    monkeypatch.setattr(jax, "jit", lambda f, jit=jax.jit: compiled.append(f) or jit(f))
    rules = [rule_of(lambda x: x * 2) for _ in range(6)]
    for _ in range(40):
        for rule in rules:
            close(rule(X), 2 * X)
    assert len(compiled) <= 6 * 4


@pytest.mark.parametrize("looks", ["numpy", "branch", "index"])
def test_a_derivative_that_looks_at_values_works_every_time(looks):
    @diptych.rule
    def take(x, i):
        return x[i]

    @take.vjp
    def take_vjp(res, out_bar):
        if looks == "numpy":
            found = np.zeros(res.x.shape)
            np.add.at(found, np.asarray(res.i), np.asarray(out_bar))
            return jnp.asarray(found), None
        if looks == "branch" and res.i[0] == 5:
            return None, None
        found = jnp.zeros_like(res.x)
        for k in range(len(res.i)):
            found = found.at[int(res.i[k])].add(out_bar[k])
        return found, None

    x, i = jnp.arange(4.0), jnp.array([1, 1, 3])
    for _ in range(5):
        bar = jax.vjp(lambda x: take(x, i), x)[1](jnp.ones(3))[0]
        np.testing.assert_array_equal(bar, [0, 2, 0, 1])
