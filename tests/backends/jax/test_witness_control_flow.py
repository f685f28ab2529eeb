"""Witness rules inside scan, while_loop, fori_loop, cond, switch, map and associative_scan."""

import jax
import jax.numpy as jnp
import pytest
from jax_witnesses import (
    JVP_SCALE,
    SQUARE,
    VJP_SCALE,
    close,
    every_square,
    every_witness,
    gradient,
    mode,
    point,
    pulled,
    pushed,
    square_one_direction,
    times,
    weighted,
)

import diptych

FIRST_ORDER = {"jvp": pushed, "vjp": pulled, "linearize": None, "jacfwd": jax.jacfwd}
FIRST_ORDER["linearize"] = lambda f: lambda x: jax.linearize(f, x)[1](x)

# Each factory makes a function of one array out of a step, applied three times.


def scan_carry(step, **options):
    def looped(x):
        def body(carry, _):
            carry = step(carry)
            return carry, carry[0]

        carry, ys = jax.lax.scan(body, x, None, length=3, **options)
        return jnp.concatenate([carry, ys])

    return looped


def scan_xs(step):
    def looped(x):
        def body(carry, row):
            return carry + jnp.sum(row), step(row) * carry

        return jax.lax.scan(body, jnp.asarray(1.0), x * jnp.arange(1.0, 4.0)[:, None])[1]

    return looped


def scan_constant(step):
    # The rule's argument is a constant of the loop: its residuals are hoisted out of the scan.
    def looped(x):
        def body(carry, a):
            return carry * 1.1 + a * step(x), None

        return jax.lax.scan(body, jnp.zeros(4), jnp.arange(1.0, 4.0))[0]

    return looped


def scan_unrolled(step):
    return scan_carry(step, unroll=2)


def scan_reversed(step):
    return scan_carry(step, reverse=True)


def fori(step):
    # With static bounds JAX makes a scan of it, which has a reverse mode.
    return lambda x: jax.lax.fori_loop(0, 3, lambda i, x: step(x) * (1 + i), x)


def while_loop(step):
    def looped(x):
        return jax.lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, step(c[1])), (0, x))[1]

    return looped


def scan_of_scan(step):
    return scan_carry(lambda x: scan_carry(step)(x)[:4])


LOOPS = {
    f.__name__: f
    for f in (scan_carry, scan_xs, scan_constant, scan_unrolled, scan_reversed, fori, scan_of_scan)
}
every_loop = pytest.mark.parametrize("loop", list(LOOPS.values()), ids=list(LOOPS))


@every_square
@every_loop
def test_value_of_a_loop(witness, loop):
    close(loop(witness.rule)(point()), loop(witness.plain)(point()))


@every_square
@every_loop
@pytest.mark.parametrize("name", ["jvp", "vjp"])
def test_derivative_of_a_loop(witness, loop, name):
    transform = FIRST_ORDER[name]
    got = transform(loop(witness.rule))(point())
    close(got, transform(loop(witness.hand(mode(name))))(point()))


@every_square
def test_jitted_jacobians_of_a_scan(witness):
    for transform, direction in ((jax.jacfwd, "forward"), (jax.jacrev, "reverse")):
        got = jax.jit(transform(scan_carry(witness.rule)))(point())
        close(got, transform(scan_carry(witness.hand(direction)))(point()))


@square_one_direction
@pytest.mark.parametrize("loop", [scan_carry, scan_constant, fori], ids=lambda f: f.__name__)
@pytest.mark.parametrize("outer", [jax.jacfwd, jax.jacrev], ids=["jacfwd", "jacrev"])
def test_second_derivatives_of_a_loop(witness, loop, outer):
    inner = gradient
    got = jax.jit(outer(inner(loop(witness.rule))))(point())
    # Unrolled: of a hand-written rule in a scan JAX 0.10.2 drops the second derivative's rule.
    with jax.disable_jit():
        want = outer(inner(loop(witness.hand("reverse"))))(point())
    close(got, want)


@square_one_direction
def test_third_derivative_of_a_scan(witness):
    def third(f):
        return jax.jit(pushed(pushed(gradient(scan_carry(f)))))

    with jax.disable_jit():  # see above
        want = third(witness.hand("reverse"))(point())
    close(third(witness.rule)(point()), want)


@every_square
def test_batch_of_a_scan(witness):
    got = jax.jit(jax.vmap(pulled(scan_carry(witness.rule))))(point(3, 4))
    close(got, jax.jit(jax.vmap(pulled(scan_carry(witness.hand("reverse")))))(point(3, 4)))


@every_square
def test_scan_of_gradients(witness):
    # Differentiation happens inside the loop's body.
    def descend(f):
        def body(x, _):
            return x - 0.1 * gradient(f)(x), None

        return lambda x: jax.lax.scan(body, x, None, length=3)[0]

    close(descend(witness.rule)(point()), descend(witness.hand("reverse"))(point()))


# while_loop has no reverse mode in JAX, and must have forward mode with every kind of rule.


@every_square
@pytest.mark.parametrize("name", ["jvp", "linearize", "jacfwd"])
def test_while_loop_forward(witness, name):
    transform = FIRST_ORDER[name]
    got = transform(while_loop(witness.rule))(point())
    close(got, transform(while_loop(witness.hand("forward")))(point()))


@square_one_direction
def test_while_loop_forward_twice(witness):
    got = jax.jit(pushed(pushed(while_loop(witness.rule))))(point())
    close(got, jax.jit(pushed(pushed(while_loop(witness.hand("forward")))))(point()))


@every_square
def test_while_loop_of_gradients(witness):
    def descend(f):
        def until(carry):
            return carry[0] < 3

        def body(carry):
            return carry[0] + 1, carry[1] - 0.1 * gradient(f)(carry[1])

        return lambda x: jax.lax.while_loop(until, body, (0, x))[1]

    close(descend(witness.rule)(point()), descend(witness.hand("reverse"))(point()))


@every_square
def test_rule_in_the_condition_of_a_while_loop(witness):
    def looped(f):
        def until(carry):
            return jnp.sum(f(carry)) < 3.5

        return lambda x: jax.lax.while_loop(until, lambda x: f(x) * 1.5, x)

    got = jax.jvp(looped(witness.rule), (point(),), (point(),))
    close(got, jax.jvp(looped(witness.hand("forward")), (point(),), (point(),)))


@every_square
def test_batched_while_loop_with_different_lengths(witness):
    def looped(f):
        def run(n, x):
            carry = jax.lax.while_loop(lambda c: c[0] < n, lambda c: (c[0] + 1, f(c[1])), (0, x))
            return carry[1]

        return jax.vmap(run, in_axes=(0, None))

    counts = jnp.array([1, 3, 2])
    got = pushed(lambda x: looped(witness.rule)(counts, x))(point())
    close(got, pushed(lambda x: looped(witness.hand("forward"))(counts, x))(point()))


def test_while_loop_reverse_is_refused_as_jax_refuses_it():
    with pytest.raises(ValueError, match=r"[Rr]everse-mode differentiation does not work"):
        gradient(while_loop(SQUARE["vjp"].rule))(point())


# Branches.


@every_witness
@pytest.mark.parametrize("taken", [True, False])
@pytest.mark.parametrize("name", ["jvp", "vjp"])
def test_cond(witness, taken, name):
    def branching(f):
        return lambda x: jax.lax.cond(taken, f, lambda x: 2 * f(0.5 * x), x)

    transform = FIRST_ORDER[name]
    got = transform(branching(witness.rule))(point())
    close(got, witness.scale(mode(name)) * transform(branching(witness.plain))(point()))


@every_witness
def test_cond_with_a_traced_predicate(witness):
    def branching(f):
        return lambda x: jax.lax.cond(x[0] > 0.5, f, lambda x: 2 * f(0.5 * x), x)

    for x in (point(), point() + 0.6):
        for transform, scale in ((pushed, witness.forward), (pulled, witness.reverse)):
            got = jax.jit(transform(branching(witness.rule)))(x)
            close(got, scale * transform(branching(witness.plain))(x))


@every_witness
def test_batched_cond_becomes_a_select(witness):
    def branching(f):
        return lambda x: jax.lax.cond(x[0] > 0.7, f, lambda x: 2 * f(0.5 * x), x)

    got = jax.vmap(pulled(branching(witness.rule)))(point(5, 4))
    close(got, witness.reverse * jax.vmap(pulled(branching(witness.plain)))(point(5, 4)))


@square_one_direction
def test_second_derivative_of_a_cond(witness):
    def branching(f):
        return lambda x: jax.lax.cond(x[0] > 0.5, f, lambda x: 2 * f(0.5 * x), x)

    for outer in (jax.jacfwd, jax.jacrev):
        got = jax.jit(outer(gradient(branching(witness.rule))))(point())
        close(got, witness.reverse * outer(gradient(branching(witness.plain)))(point()))


@every_witness
@pytest.mark.parametrize("index", [0, 1, 2])
def test_switch(witness, index):
    def branching(f):
        branches = [f, lambda x: 2 * f(0.5 * x), lambda x: f(x) ** 2]
        return lambda i, x: jax.lax.switch(i, branches, x)

    for transform, scale in ((pushed, witness.forward), (pulled, witness.reverse)):
        got = jax.jit(lambda i, x, t=transform: t(lambda x: branching(witness.rule)(i, x))(x))(
            index, point()
        )
        want = transform(lambda x: branching(witness.plain)(index, x))(point())
        close(got, scale * want)


@every_witness
@pytest.mark.parametrize("options", [{}, {"batch_size": 2}], ids=["one", "batches"])
def test_map(witness, options):
    def mapped(f):
        return lambda x: jax.lax.map(f, x, **options)

    x = point(5, 4)
    close(mapped(witness.rule)(x), mapped(witness.plain)(x))
    for transform, scale in ((pushed, witness.forward), (pulled, witness.reverse)):
        got = transform(mapped(witness.rule))(x)
        close(got, scale * transform(mapped(witness.plain))(x))
    got = mapped(gradient(witness.rule))(x)
    close(got, witness.reverse * mapped(gradient(witness.plain))(x))


# associative_scan: the rule is the combining operation itself.


@diptych.rule
def product(a, b):
    return a * b


@product.vjp
def product_vjp(res, out_bar):
    return VJP_SCALE * res.b * out_bar, VJP_SCALE * res.a * out_bar


@product.jvp
def product_jvp(res, a_dot, b_dot):
    return JVP_SCALE * (a_dot * res.b + res.a * b_dot)


def product_by_hand(scale):
    by_hand = jax.custom_jvp(lambda a, b: a * b)

    @by_hand.defjvp
    def by_hand_jvp(primals, tangents):
        (a, b), (a_dot, b_dot) = primals, tangents
        return by_hand(a, b), scale * (a_dot * b + a * b_dot)

    return by_hand


@pytest.mark.parametrize("options", [{}, {"reverse": True}, {"axis": 1}], ids=str)
def test_associative_scan(options):
    def scanned(f):
        return lambda x: jax.lax.associative_scan(f, x, **options)

    x = point(5, 3)
    close(scanned(product)(x), scanned(jnp.multiply)(x))
    for transform, scale in ((pushed, JVP_SCALE), (pulled, VJP_SCALE)):
        close(transform(scanned(product))(x), transform(scanned(product_by_hand(scale)))(x))
        got = jax.jit(jax.vmap(transform(scanned(product))))(point(2, 5, 3))
        want = jax.vmap(transform(scanned(product_by_hand(scale))))(point(2, 5, 3))
        close(got, want)


def test_associative_scan_of_pytrees():
    # Affine maps compose associatively; one rule for the pair of their parts.
    @diptych.rule
    def compose(f, g):
        return {"a": f["a"] * g["a"], "b": g["a"] * f["b"] + g["b"]}

    @compose.vjp
    def compose_vjp(res, bar):
        f, g = res.f, res.g
        f_bar = {"a": g["a"] * bar["a"], "b": g["a"] * bar["b"]}
        g_bar = {"a": f["a"] * bar["a"] + f["b"] * bar["b"], "b": bar["b"]}
        return times(VJP_SCALE, f_bar), times(VJP_SCALE, g_bar)

    plain = jax.custom_vjp(lambda f, g: compose._function(f, g))
    plain.defvjp(
        lambda f, g: (plain(f, g), (f, g)),
        lambda res, bar: compose_vjp(Pair(*res), bar),
    )
    elements = {"a": point(5), "b": point(5, seed=1)}

    def loss(f):
        return lambda e: jnp.sum(jax.lax.associative_scan(f, e)["b"] ** 2)

    close(jax.grad(loss(compose))(elements), jax.grad(loss(plain))(elements))


class Pair:
    def __init__(self, f, g):
        self.f, self.g = f, g


def test_newton_iteration_inside_a_loop_with_a_jitted_hessian():
    def newton(f):
        def body(x, _):
            loss = weighted(f)
            return x - 0.1 * jnp.linalg.solve(jax.hessian(loss)(x), jax.grad(loss)(x)), None

        return jax.jit(lambda x: jax.lax.scan(body, x, None, length=2)[0])

    witness = SQUARE["vjp"]
    close(newton(witness.rule)(point() + 0.5), newton(witness.hand("reverse"))(point() + 0.5))
