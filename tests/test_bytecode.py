"""What is read off the code of a rule's functions: the same on every version of Python.

In doubt everything is taken as read, and nothing as sound.
"""

import random
import sys
import types

import numpy as np
import pytest

from diptych.captures import Captures
from diptych.outside import values_read
from diptych.reads import fields_read

LIMIT = 3.0
ARRAY = np.ones(2)
SHAPE = (2, 3)
HELPERS = types.SimpleNamespace(k=2.0)


class Config:
    k = 2.0


def plain(res, bar):
    return bar * res.x


def two(res, bar):
    return bar * res.x + res.y, bar * res.out


def method(res, bar):
    return bar * res.x.sum(), res.y.reshape(-1)


def stored(res, bar):
    k = res.x
    k = bar * k
    return k


def swapped(res, bar):
    x, y = res.x, res.y
    x, y = y, x
    return x * bar, y


def comprehension(res, bar):
    return [res.x * b for b in bar]


def nested_comprehension(res, bar):
    return {i: [res.y for _ in bar if res.x is b] for i, b in enumerate(bar)}


def shadowed_in_comprehension(res, bar):
    return [res.z for res in bar]


def closed(res, bar):
    return lambda: res.x * bar


def closed_twice(res, bar):
    def inner():
        return (lambda: res.y)() * res.x

    return inner


def in_class(res, bar):
    class Inner:
        k = res.x

        def f(self):
            return res.y

    return Inner


def shadowed(res, bar):
    return (lambda res: res.z)(bar) + res.x


def f_string(res, bar):
    return f"{res.x}", bar


def conditional(res, bar):
    return res.x if bar is None else res.y


def matched(res, bar):
    match bar:
        case 0:
            return res.x
        case _:
            return res.y


def handled(res, bar):
    try:
        return res.x
    except ValueError:
        return res.y
    finally:
        res.out  # noqa: B018


def walrus(res, bar):
    return (k := res.x) * k


def unpacked(res, bar):
    x, y, _ = res
    return x * y


def passed_on(res, bar):
    return plain(res, bar)


def passed_between(res, bar):
    return plain(bar, res)


def renamed(res, bar):
    r = res
    return r.x


def renamed_with(res, bar):
    r, b = res, bar
    return r.x * b


def subscript(res, bar):
    return res[0]


def compared(res, bar):
    return bar is res


def set_attribute(res, bar):
    res.x = bar
    return bar


def returned(res, bar):
    return res


def collected(res, bar):
    return (res, res.x)


def starred(res, bar):
    return plain(*res)


def reassigned(res, bar):
    res = bar
    return res.z


def deleted(res, bar):
    x = res.x
    del res
    return x


def formatted(res, bar):
    return f"{res}"


def local(res, bar):
    return locals()["res"].x


def all_in_comprehension(res, bar):
    return [res for _ in bar]


def stored_between(res, bar):
    x = res.x
    y = res.y
    return x * y * bar


READS = {
    plain: {"x"},
    two: {"x", "y", "out"},
    method: {"x", "y"},
    stored: {"x"},
    swapped: {"x", "y"},
    comprehension: {"x"},
    nested_comprehension: {"x", "y"},
    closed: {"x"},
    closed_twice: {"x", "y"},
    in_class: {"x", "y"},
    shadowed: {"x"},
    f_string: {"x"},
    conditional: {"x", "y"},
    matched: {"x", "y"},
    handled: {"x", "y", "out"},
    walrus: {"x"},
    stored_between: {"x", "y"},
    shadowed_in_comprehension: None,
    local: None,
    unpacked: None,
    passed_on: None,
    passed_between: None,
    renamed: None,
    renamed_with: None,
    subscript: None,
    compared: None,
    set_attribute: None,
    returned: None,
    collected: None,
    starred: None,
    reassigned: None,
    deleted: None,
    formatted: None,
    all_in_comprehension: None,
}


@pytest.mark.parametrize("function", READS, ids=lambda f: f.__name__)
def test_fields_read(function):
    found, expected = fields_read(function), READS[function]
    assert found == (None if expected is None else frozenset(expected))


def _outer(k, array):
    held = k
    changed = 0

    def number(x):
        return x * held

    def of_array(x):
        return x * array

    def comprehension(x):
        return [i * held for i in x]

    def nested(x):
        return lambda: [held for _ in x]

    def in_class(x):
        class Inner:
            value = held

            def f(self):
                return held

        return Inner

    def changing(x):
        nonlocal changed
        changed += 1
        return x

    def annotated(x: int, *, k: float = 2.0) -> int:
        return x * k

    return locals()


INNER = {k: v for k, v in _outer(2.0, ARRAY).items() if isinstance(v, types.FunctionType)}


def global_number(x):
    return x * LIMIT


def global_array(x):
    return x * ARRAY


def global_in_comprehension(x):
    return [i * ARRAY for i in x]


def global_in_class(x):
    class Inner:
        value = ARRAY

    return Inner


def global_called(x):
    return global_number(x)


def global_called_of_array(x):
    return global_array(x) + 1


def library(x):
    return np.sin(x) * np.linalg.norm(x)


def random_library(x):
    return x * np.random.rand()  # noqa: NPY002


def random_module(x):
    return x * random.random()


def of_class(x):
    return x * Config.k


def of_object(x):
    return x * HELPERS.k


def global_store(x):
    global _stored
    _stored = x
    return x


def imports(x):
    import time

    return x * time.time()


def imports_library(x):
    import math

    return math.sin(x)


def built_in(x):
    return len(x) + sum(x) + max(x, key=abs)


def shape(x):
    return x.reshape(SHAPE)


# The name of what is read from outside, where it is read at all, and whether it is sure to stay.
OUTSIDE = {
    INNER["number"]: ("held", True),
    INNER["of_array"]: ("array", False),
    INNER["comprehension"]: ("held", True),
    INNER["nested"]: ("held", True),
    INNER["in_class"]: ("held", True),
    INNER["changing"]: (None, False),
    INNER["annotated"]: (None, True),
    global_number: ("LIMIT", True),
    global_array: ("ARRAY", False),
    global_in_comprehension: ("ARRAY", False),
    global_in_class: ("ARRAY", False),
    global_called: ("LIMIT", True),
    global_called_of_array: ("ARRAY", False),
    library: (None, True),
    random_library: (None, False),
    random_module: (None, False),
    of_class: ("Config", False),
    of_object: ("HELPERS", False),
    global_store: (None, False),
    imports: (None, False),
    imports_library: (None, True),
    built_in: (None, True),
    shape: ("SHAPE", True),
}


@pytest.mark.parametrize("function", OUTSIDE, ids=lambda f: f.__name__)
def test_what_is_read_from_outside(function):
    name, sound = OUTSIDE[function]
    captures = Captures([function])
    assert captures.unchanged() is sound
    assert captures.open is not sound
    if name is not None:
        assert name in dict(captures.values())
        assert name in dict(values_read([function]))


def test_a_number_that_changes(monkeypatch):
    captures = Captures([global_called])
    assert captures.unchanged()
    monkeypatch.setattr(sys.modules[__name__], "LIMIT", 4.0)
    assert not captures.unchanged()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="type parameters are new in Python 3.12")
def test_a_class_with_type_parameters():
    scope = {"ARRAY": ARRAY}
    exec(
        "def f(x):\n class Inner[T]:\n  value = ARRAY\n  def g(self) -> T: return x\n return Inner",
        scope,
    )
    assert "ARRAY" in dict(Captures([scope["f"]]).values())
    assert "ARRAY" in dict(values_read([scope["f"]]))
