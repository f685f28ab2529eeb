"""Properties of binding and pytrees, over random signatures, calls and trees."""

import collections
import dataclasses
import inspect
from typing import Any, NamedTuple

import numpy as np
import pytest

import diptych
from frameworks import DIFFERENTIATING, FRAMEWORKS, same

hypothesis = pytest.importorskip("hypothesis")
given, settings, st = hypothesis.given, hypothesis.settings, hypothesis.strategies

FEW = settings(max_examples=60, deadline=None, derandomize=True)

P = inspect.Parameter
KINDS = {
    "only": P.POSITIONAL_ONLY,
    "either": P.POSITIONAL_OR_KEYWORD,
    "keyword": P.KEYWORD_ONLY,
}


@st.composite
def signatures(draw):
    """Random signatures as people write them: names, kinds in order, defaults, * and **."""
    only = draw(st.integers(0, 2))
    either = draw(st.integers(0, 3))
    variadic = draw(st.booleans())
    keyword = draw(st.integers(0, 2))
    rest = draw(st.booleans())
    positional = only + either
    without = draw(st.integers(0, positional))  # from here on they have defaults
    parameters = []
    for i in range(positional):
        default = P.empty if i < without else 10.0 + i
        kind = KINDS["only"] if i < only else KINDS["either"]
        parameters.append(P(f"p{i}", kind, default=default))
    if variadic:
        parameters.append(P("args", P.VAR_POSITIONAL))
    for i in range(keyword):
        default = draw(st.sampled_from([P.empty, 20.0 + i]))
        parameters.append(P(f"k{i}", KINDS["keyword"], default=default))
    if rest:
        parameters.append(P("rest", P.VAR_KEYWORD))
    return inspect.Signature(parameters)


@st.composite
def calls(draw, signature):
    """A random call, which may fit the signature or not."""
    args = [float(i + 1) for i in range(draw(st.integers(0, 6)))]
    names = [p.name for p in signature.parameters.values() if p.name not in ("args", "rest")]
    chosen = draw(st.lists(st.sampled_from([*names, "other", "another"]), unique=True, max_size=5))
    return args, {name: 100.0 + i for i, name in enumerate(chosen)}


@st.composite
def signatures_and_calls(draw):
    signature = draw(signatures())
    return signature, *draw(calls(signature))


@st.composite
def fitting(draw):
    """A signature with a call that fits it, built from the signature."""
    signature = draw(signatures())
    args, kwargs = [], {}
    by_keyword = False
    for p in signature.parameters.values():
        if p.kind is P.VAR_POSITIONAL:
            if not by_keyword:
                args += [float(50 + i) for i in range(draw(st.integers(0, 3)))]
        elif p.kind is P.VAR_KEYWORD:
            kwargs.update({f"extra{i}": 200.0 + i for i in range(draw(st.integers(0, 2)))})
        elif p.default is not P.empty and draw(st.booleans()):
            by_keyword = by_keyword or p.kind is not P.KEYWORD_ONLY
            if p.kind is P.POSITIONAL_ONLY:
                # What follows a positional-only argument that is left out can only be a keyword.
                continue
        elif p.kind is P.KEYWORD_ONLY or (by_keyword and p.kind is P.POSITIONAL_OR_KEYWORD):
            kwargs[p.name] = float(len(kwargs) + 30)
        elif by_keyword:
            continue
        elif p.kind is P.POSITIONAL_OR_KEYWORD and draw(st.booleans()):
            by_keyword = True
            kwargs[p.name] = float(len(kwargs) + 30)
        else:
            args.append(float(len(args) + 1))
    names = draw(st.permutations(list(kwargs)))
    return signature, args, {name: kwargs[name] for name in names}


def function_of(signature, seen):
    """A function with this signature that notes how its parameters were bound."""

    def function(*args, **kwargs):
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        seen.append(dict(bound.arguments))
        return total(bound.arguments)

    function.__signature__ = signature
    return function


def leaves_of(value):
    if isinstance(value, dict):
        return [leaf for key in sorted(value) for leaf in leaves_of(value[key])]
    if isinstance(value, (tuple, list)):
        return [leaf for item in value for leaf in leaves_of(item)]
    return [value]


def total(arguments):
    """A sum that tells every argument from every other one."""
    return sum((i + 1) ** 2 * x for i, x in enumerate(leaves_of(list(arguments.values()))))


@FEW
@given(signatures_and_calls())
def test_binds_as_inspect_binds(case):
    signature, args, kwargs = case
    seen: list[dict] = []
    rule = diptych.rule(function_of(signature, seen))
    bound, refusal = None, None
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError as error:
        refusal = str(error)
    if bound is None:
        with pytest.raises(TypeError) as raised:
            rule(*args, **kwargs)
        assert refusal in str(raised.value)
        return
    bound.apply_defaults()
    value = rule(*args, **kwargs)
    assert seen[-1] == dict(bound.arguments)
    assert value == total(bound.arguments)


@FEW
@given(fitting())
def test_fitting_calls_bind_as_inspect_binds(case):
    signature, args, kwargs = case
    bound = signature.bind(*args, **kwargs)  # an error here would be one of the strategy
    bound.apply_defaults()
    seen: list[dict] = []
    rule = diptych.rule(function_of(signature, seen))
    for _ in range(2):  # the second time a remembered way of binding may be used
        assert rule(*args, **kwargs) == total(bound.arguments)
        assert seen[-1] == dict(bound.arguments)
        assert list(seen[-1].get("rest", ())) == list(bound.arguments.get("rest", ()))


@FEW
@given(fitting(), st.data())
def test_static_parameters_reach_the_function(case, data):
    signature, args, kwargs = case
    names = [
        p.name
        for p in signature.parameters.values()
        if p.kind not in (P.VAR_KEYWORD, P.VAR_POSITIONAL)
    ]
    static = data.draw(st.sets(st.sampled_from(names)) if names else st.just(set()))
    bound = signature.bind(*args, **kwargs)
    bound.apply_defaults()
    seen: list[dict] = []
    rule = diptych.rule(static=tuple(static))(function_of(signature, seen))
    assert rule(*args, **kwargs) == total(bound.arguments)
    assert seen[-1] == dict(bound.arguments)


def stated(rule, static=()):
    """States twice the true derivative of `total`, whatever the signature."""

    @rule.vjp
    def rule_vjp(res, out_bar):
        assert res._fields[-1] == "out"
        position = iter(range(1, 1000))
        bars = []
        for name in res._fields[:-1]:
            value = getattr(res, name)
            if name in static:
                assert isinstance(value, float)
                next(position)
            elif name == "args":
                bars += [2 * next(position) ** 2 * out_bar for _ in value]
            elif name == "rest":
                bars.append({key: 2 * next(position) ** 2 * out_bar for key in sorted(value)})
            else:
                bars.append(2 * next(position) ** 2 * out_bar)
        return bars[0] if len(bars) == 1 else tuple(bars)

    return rule


@DIFFERENTIATING
@settings(max_examples=25, deadline=None, derandomize=True)
@given(case=fitting(), data=st.data())
def test_gradients_reach_the_right_arguments(fw, case, data):
    signature, args, kwargs = case
    hypothesis.assume(args or kwargs)
    named = [name for name in kwargs if not name.startswith("extra")]
    static = data.draw(st.sets(st.sampled_from(named)) if named else st.just(set()))
    hypothesis.assume(args or len(static) < len(kwargs))
    rule = stated(diptych.rule(static=tuple(static))(function_of(signature, [])), static)
    moving = [name for name in kwargs if name not in static]

    def call(*xs):
        positional, keywords = xs[: len(args)], xs[len(args) :]
        return rule(
            *positional,
            **{name: kwargs[name] for name in static},
            **dict(zip(moving, keywords, strict=True)),
        )

    numbers = [*args, *[kwargs[name] for name in moving]]
    bars = fw.pull(call, [fw.array(x) for x in numbers])
    # Which position has each argument in the sum? Move it by one and see.
    bound = signature.bind(*args, **kwargs)
    bound.apply_defaults()
    base = total(bound.arguments)
    for i, bar in enumerate(bars):
        moved = list(numbers)
        moved[i] += 1
        again = signature.bind(
            *moved[: len(args)],
            **{n: kwargs[n] for n in static},
            **dict(zip(moving, moved[len(args) :], strict=True)),
        )
        again.apply_defaults()
        assert fw.numpy(bar) == pytest.approx(2 * (total(again.arguments) - base))


# Pytrees.


class Point(NamedTuple):
    x: Any
    y: Any


@dataclasses.dataclass
class Box:
    inside: Any
    label: Any = None


TREES = st.recursive(
    st.just("leaf") | st.none(),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.sampled_from("abcd"), inner, max_size=3),
        st.dictionaries(st.sampled_from("abcd"), inner, max_size=3).map(collections.OrderedDict),
        st.builds(Point, inner, inner),
        st.builds(Box, inner),
    ),
    max_leaves=8,
)


def tree_map(f, tree):
    """A map over the trees above that knows nothing of any library's pytrees."""
    if tree is None:
        return None
    if isinstance(tree, Point):
        return Point(*[tree_map(f, item) for item in tree])
    if isinstance(tree, Box):
        return Box(tree_map(f, tree.inside), tree_map(f, tree.label))
    if isinstance(tree, dict):
        return type(tree)((key, tree_map(f, item)) for key, item in tree.items())
    if isinstance(tree, (list, tuple)):
        return type(tree)(tree_map(f, item) for item in tree)
    return f(tree)


def tree_leaves(tree):
    found = []
    tree_map(found.append, tree)
    return found


def outline(tree):
    """The tree with every leaf replaced by a star: types, keys and order are compared."""
    if isinstance(tree, Box):
        return Box, outline(tree.inside), outline(tree.label)
    if isinstance(tree, Point):
        return Point, outline(tree.x), outline(tree.y)
    if isinstance(tree, dict):
        return type(tree), [(key, outline(item)) for key, item in tree.items()]
    if isinstance(tree, (list, tuple)):
        return type(tree), [outline(item) for item in tree]
    return tree if tree is None else "*"


def fill(fw, tree):
    numbers = iter(range(1, 100))
    return tree_map(lambda _: fw.array(np.array([1.0, 2.0]) * next(numbers)), tree)


@FRAMEWORKS
@settings(max_examples=40, deadline=None, derandomize=True)
@given(tree=TREES)
def test_trees_round_trip(fw, tree):
    seen = []

    @diptych.rule
    def passed(t, x):
        seen.append(t)
        return {"t": tree_map(lambda leaf: 2 * leaf, t), "x": x}

    @passed.vjp
    def passed_vjp(res, out_bar):
        return tree_map(lambda bar: 4 * bar, out_bar["t"]), out_bar["x"]

    tree = fill(fw, tree)
    out = passed(tree, fw.array(1.0))["t"]
    # JAX keeps the keys of a dict in order of its own; ours come as they went in, or sorted.
    assert sorted_outline(seen[0]) == sorted_outline(tree)
    assert sorted_outline(out) == sorted_outline(tree)
    for got, want in zip(tree_leaves_sorted(out), tree_leaves_sorted(tree), strict=True):
        same(fw, got, 2 * fw.numpy(want))


def sorted_outline(tree):
    return outline(_sorted(tree))


def tree_leaves_sorted(tree):
    return tree_leaves(_sorted(tree))


def _sorted(tree):
    if isinstance(tree, Box):
        return Box(_sorted(tree.inside), _sorted(tree.label))
    if isinstance(tree, Point):
        return Point(_sorted(tree.x), _sorted(tree.y))
    if isinstance(tree, collections.OrderedDict):  # whose order counts
        return collections.OrderedDict((key, _sorted(item)) for key, item in tree.items())
    if isinstance(tree, dict):
        return {key: _sorted(tree[key]) for key in sorted(tree)}
    if isinstance(tree, (list, tuple)):
        return type(tree)(_sorted(item) for item in tree)
    return tree


@DIFFERENTIATING
@settings(max_examples=25, deadline=None, derandomize=True)
@given(tree=TREES, seed=st.integers(0, 3))
def test_gradients_of_trees(fw, tree, seed):
    count = len(tree_leaves(tree))
    hypothesis.assume(count > 0)
    rng = np.random.default_rng(seed)
    arrays = [fw.array(rng.random(2) + 0.5) for _ in range(count)]

    def value(t):
        return sum((i + 1) * leaf * leaf for i, leaf in enumerate(tree_leaves_sorted(t)))

    squares = diptych.rule(value)

    @squares.vjp
    def squares_vjp(res, out_bar):
        numbers = iter(range(1, 100))
        return tree_map(lambda leaf: 4 * next(numbers) * leaf * out_bar, _sorted(res.t))

    def call(f):
        def through(*xs):
            leaves = iter(xs)
            return f(tree_map(lambda _: next(leaves), tree))

        return through

    got, want = fw.pull(call(squares), arrays), fw.pull(call(value), arrays)
    for a, b in zip(got, want, strict=True):
        same(fw, a, 2 * fw.numpy(b))
