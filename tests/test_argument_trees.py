"""Pytrees as arguments and outputs: containers, classes, what JAX registers, None, any nesting."""

import collections
import dataclasses
from typing import Any, NamedTuple

import numpy as np
import pytest

import diptych
from diptych.errors import StructureError
from frameworks import DIFFERENTIATING, FRAMEWORKS, check, framework, same

A, B = np.array([0.5, 1.5, 2.5]), np.array([2.0, -1.0, 3.0])


class Pair(NamedTuple):
    a: Any
    b: Any


@dataclasses.dataclass
class Record:
    a: Any
    b: Any


@dataclasses.dataclass(frozen=True)
class Frozen:
    a: Any
    b: Any


@dataclasses.dataclass
class Validated:
    a: Any
    b: Any

    def __post_init__(self):
        if not hasattr(self.a, "shape"):
            raise TypeError("only arrays here")


# How to make each kind of node, and how to look into it.
ITEMS = (lambda t: t[0], lambda t: t[1])
KEYS = (lambda t: t["a"], lambda t: t["b"])
FIELDS = (lambda t: t.a, lambda t: t.b)
KINDS = {
    "dict": (lambda a, b: {"a": a, "b": b}, KEYS),
    "dict in another order": (lambda a, b: {"b": b, "a": a}, KEYS),
    "ordered dict": (lambda a, b: collections.OrderedDict(b=b, a=a), KEYS),
    "default dict": (lambda a, b: collections.defaultdict(list, a=a, b=b), KEYS),
    "list": (lambda a, b: [a, b], ITEMS),
    "tuple": (lambda a, b: (a, b), ITEMS),
    "deque": (lambda a, b: collections.deque([a, b]), ITEMS),
    "named tuple": (Pair, FIELDS),
    "dataclass": (Record, FIELDS),
    "frozen dataclass": (Frozen, FIELDS),
    "validating dataclass": (Validated, FIELDS),
    "nested": (
        lambda a, b: {"u": [a, None, (), {}], "v": Record((b,), None)},
        (lambda t: t["u"][0], lambda t: t["v"].a[0]),
    ),
}
every_kind = pytest.mark.parametrize(("make", "parts"), list(KINDS.values()), ids=list(KINDS))


def product_rule(make, parts):
    first, second = parts

    @diptych.rule
    def product(tree):
        return first(tree) * second(tree)

    @product.vjp
    def product_vjp(res, out_bar):
        assert type(res.tree) is type(make(0, 0) if make is not Validated else make(A, A))
        return make(2 * out_bar * second(res.tree), 2 * out_bar * first(res.tree))

    return product


@FRAMEWORKS
@every_kind
def test_tree_as_an_argument(fw, make, parts):
    product = product_rule(make, parts)
    check(fw, lambda a, b: product(make(a, b)), [A, B], A * B, [2 * B, 2 * A])


@FRAMEWORKS
@every_kind
def test_tree_as_an_output(fw, make, parts):
    first, second = parts

    @diptych.rule
    def both(x):
        return make(x * x, 3 * x)

    @both.vjp
    def both_vjp(res, out_bar):
        return 2 * (2 * res.x * first(out_bar) + 3 * second(out_bar))

    out = both(fw.array(A))
    assert type(out) is type(make(A, A))
    same(fw, first(out), A * A)
    same(fw, second(out), 3 * A)
    if fw.differentiates:
        (bar,) = fw.pull(lambda x: first(both(x)) * 5 + second(both(x)), [fw.array(A)])
        same(fw, bar, 2 * (10 * A + 3))
        (bar,) = fw.pull(lambda x: second(both(x)), [fw.array(A)])
        same(fw, bar, np.full(3, 6.0))


@DIFFERENTIATING
@every_kind
def test_tree_of_tangents(fw, make, parts):
    first, second = parts

    @diptych.rule
    def product(tree):
        return make(first(tree) * second(tree), 2 * first(tree))

    @product.jvp
    def product_jvp(res, dot):
        tree = res.tree
        total = first(dot) * second(tree) + first(tree) * second(dot)
        return make(3 * total, 6 * first(dot))

    def call(a, b):
        out = product(make(a, b))
        return first(out) + 10 * second(out)

    arrays = [fw.array(A), fw.array(B)]
    same(fw, fw.push(call, arrays, arrays), 3 * (2 * A * B + 20 * A))
    check(fw, call, [A, B], A * B + 20 * A, [3 * (B + 20), 3 * A])


@DIFFERENTIATING
@every_kind
def test_none_for_a_whole_tree(fw, make, parts):
    first, _ = parts

    @diptych.rule
    def f(tree, x):
        return first(tree) * x

    @f.vjp
    def f_vjp(res, out_bar):
        return None, 2 * first(res.tree) * out_bar

    def call(a, b, x):
        return f(make(a, b), x) + 0 * (a + b)

    check(fw, call, [A, B, B], A * B, [0 * A, 0 * A, 2 * A])


@DIFFERENTIATING
def test_none_and_lazy_parts_of_a_tree(fw):
    calls = []

    @diptych.rule
    def f(tree):
        return tree["x"] * tree["pair"][0] + tree["pair"][1]

    @f.vjp
    def f_vjp(res, out_bar):
        def lazy():
            calls.append(1)
            return 2 * res.tree["x"] * out_bar

        return {"x": None, "pair": (lazy, 2 * out_bar)}

    def call(x, p, q):
        return f({"x": x, "pair": (p, q)}) + 0 * x

    check(fw, call, [A, B, B], A * B + B, [0 * A, 2 * A, 2])
    assert calls == [1]
    x, p = fw.array(A), fw.array(B)
    fw.pull(lambda q: f({"x": x, "pair": (p, q)}), [p])
    assert calls == [1], "evaluated although the argument does not need it"


@FRAMEWORKS
def test_none_as_an_argument(fw):
    @diptych.rule
    def affine(x, w, b=None):
        return x * w if b is None else x * w + b

    @affine.vjp
    def affine_vjp(res, out_bar):
        bar = 2 * out_bar
        return bar * res.w, bar * res.x, None if res.b is None else bar

    check(fw, lambda x, w: affine(x, w), [A, B], A * B, [2 * B, 2 * A])
    check(fw, lambda x, w: affine(x, w, None), [A, B], A * B, [2 * B, 2 * A])
    check(fw, affine, [A, B, A], A * B + A, [2 * B, 2 * A, 2])


@FRAMEWORKS
def test_none_and_numbers_in_an_output(fw):
    @diptych.rule
    def f(x):
        return {"y": 2 * x, "nothing": None, "empty": ()}

    @f.vjp
    def f_vjp(res, out_bar):
        assert out_bar["nothing"] is None
        assert out_bar["empty"] == ()
        return 4 * out_bar["y"]

    out = f(fw.array(A))
    assert out["nothing"] is None
    assert out["empty"] == ()
    check(fw, lambda x: f(x)["y"], [A], 2 * A, [4])


@FRAMEWORKS
@pytest.mark.parametrize("count", [1, 1000])
def test_many_leaves(fw, count):
    @diptych.rule
    def total(xs):
        return sum(xs)

    @total.vjp
    def total_vjp(res, out_bar):
        return [2 * out_bar] * len(res.xs)

    check(fw, lambda x: total([x] * count), [A], count * A, [2 * count])


@FRAMEWORKS
def test_wrong_structure_is_named(fw):
    if not fw.differentiates:
        pytest.skip("NumPy's derivatives have tests of their own")

    @diptych.rule
    def f(tree):
        return tree["a"] * tree["b"]

    @f.vjp
    def f_vjp(res, out_bar):
        return {"a": out_bar, "c": out_bar}

    with pytest.raises(StructureError, match=r"vjp of f: 'tree'[\s\S]*expected[\s\S]*got"):
        fw.pull(lambda a, b: f({"a": a, "b": b}), [fw.array(A), fw.array(B)])


# Nodes that JAX knows and we do not.


def jax_nodes():
    jax = framework("jax").jax

    @jax.tree_util.register_pytree_node_class
    class Node:
        def __init__(self, a, b, name="n"):
            self.a, self.b, self.name = a, b, name

        def tree_flatten(self):
            return (self.a, self.b), self.name

        @classmethod
        def tree_unflatten(cls, name, children):
            return cls(*children, name)

    @jax.tree_util.register_dataclass
    @dataclasses.dataclass
    class Data:
        a: Any
        b: Any
        name: str = dataclasses.field(default="n", metadata={"static": True})

    class Registered:
        def __init__(self, a, b):
            self.a, self.b = a, b

    jax.tree_util.register_pytree_with_keys(
        Registered,
        lambda r: (
            ((jax.tree_util.GetAttrKey("a"), r.a), (jax.tree_util.GetAttrKey("b"), r.b)),
            None,
        ),
        lambda _, children: Registered(*children),
    )
    nodes = [Node, Data, Registered]
    try:
        eqx = __import__("equinox")
    except ImportError:
        return nodes

    class Module(eqx.Module):
        a: Any
        b: Any
        name: str = eqx.field(static=True, default="n")

    return [*nodes, Module]


@pytest.mark.parametrize("position", [0, 1, 2, 3], ids=["class", "dataclass", "keyed", "equinox"])
@pytest.mark.parametrize("as_output", [False, True])
def test_nodes_that_jax_knows(position, as_output):
    fw = framework("jax")
    nodes = jax_nodes()
    if position >= len(nodes):
        pytest.skip("equinox is not installed")
    node = nodes[position]

    @diptych.rule
    def f(tree):
        a, b = tree.a, tree.b
        return node(a * b, 3 * a) if as_output else a * b

    @f.vjp
    def f_vjp(res, bar):
        assert type(res.tree) is node
        a, b = res.tree.a, res.tree.b
        first, second = (bar.a, bar.b) if as_output else (bar, 0)
        return node(2 * (b * first + 3 * second), 2 * a * first)

    def call(a, b):
        out = f(node(a, b))
        if as_output:
            assert type(out) is node
            return out.a + 10 * out.b
        return out

    more = 30 if as_output else 0
    check(fw, call, [A, B], A * B + more * A, [2 * (B + more), 2 * A])
    check(fw, fw.jax.jit(call), [A, B], A * B + more * A, [2 * (B + more), 2 * A])
    got = fw.jax.vmap(call)(fw.array(A), fw.array(B))
    same(fw, got, A * B + more * A)


def test_static_part_of_a_node_is_seen_when_it_changes():
    fw = framework("jax")
    node = jax_nodes()[0]

    @diptych.rule
    def f(tree):
        return tree.a * (2 if tree.name == "twice" else 1)

    @f.vjp
    def f_vjp(res, out_bar):
        bar = 2 * out_bar * (2 if res.tree.name == "twice" else 1)
        return node(bar, None, res.tree.name)

    for _ in range(2):
        check(fw, lambda a: f(node(a, 1.0, "twice")), [A], 2 * A, [4])
        check(fw, lambda a: f(node(a, 1.0, "once")), [A], A, [2])


def test_node_that_torch_knows():
    fw = framework("torch")
    pytree = fw.torch.utils._pytree

    class Node:
        def __init__(self, a, b):
            self.a, self.b = a, b

    pytree.register_pytree_node(Node, lambda n: ([n.a, n.b], None), lambda c, _: Node(*c))
    product = product_rule(Node, FIELDS)
    check(fw, lambda a, b: product(Node(a, b)), [A, B], A * B, [2 * B, 2 * A])


@DIFFERENTIATING
@pytest.mark.parametrize("where", ["output", "residuals", "function"])
def test_node_met_first_as_something_else_than_an_argument(fw, where):
    @dataclasses.dataclass
    class Fresh:
        a: Any
        b: Any

    if fw.name == "jax":
        fw.jax.tree_util.register_dataclass(Fresh)

    @diptych.rule
    def f(x):
        return Fresh(x * 3, x) if where == "output" else x * 3

    @f.fwd
    def f_fwd(x):
        return f._function(x), Fresh(x * 2, None) if where == "residuals" else x * 2

    @f.vjp
    def f_vjp(res, out_bar):
        return out_bar.a * res if where == "output" else out_bar * getattr(res, "a", res)

    if where == "function":
        grad = diptych.grad(lambda tree: f(tree.a).sum())(Fresh(fw.array(A), fw.array(B)))
        assert type(grad) is Fresh
        same(fw, grad.a, 2 * A)
    else:
        check(fw, lambda x: f(x).a if where == "output" else f(x), [A], 3 * A, [2 * A])
