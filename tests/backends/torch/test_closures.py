"""A body that reads from outside what is differentiated raises, however it reads it."""

import functools
from types import ModuleType

import pytest
import torch
from compiling import clean_dynamo, compiled
from torch.autograd import forward_ad
from torch.func import functional_call, grad, jacfwd, jvp, vjp
from torch_witnesses import close, point

import diptych
from diptych.errors import ClosureError

__all__ = ["clean_dynamo"]

weight = point(seed=3).requires_grad_()
POINT = point()


def with_default(x, w=weight):
    return w * x


def with_keyword_default(x, *, w=weight):
    return w * x


class Settings:
    w = weight

    def __init__(self, x=None):
        self.x = x

    def constructed(self):
        return self.x * weight

    def __call__(self, x):
        return self.x * x

    @staticmethod
    def static(x):
        return x * weight

    @classmethod
    def of_class(cls, x):
        return x * cls.w


def labelled(x):
    return x * labelled.w


labelled.w = weight


@functools.lru_cache
def remembered():
    return weight


module = ModuleType("somebody")
module.w = weight
settings = Settings(weight)
partial = functools.partial(torch.mul, weight)
bound = weight.mul
several = (1.0, with_default)

BODIES = {
    "global": (lambda x: weight * x, "weight"),
    "nested": (lambda x: (lambda: weight * x)(), "weight"),
    "default": (lambda x: with_default(x), "w"),
    "keyword default": (lambda x: with_keyword_default(x), "w"),
    "class": (lambda x: Settings.w * x, "Settings.w"),
    "instance": (lambda x: settings.x * x, "settings.x"),
    "call": (lambda x: settings(x), "settings.x"),
    "static method": (lambda x: Settings.static(x), "weight"),
    "class method": (lambda x: Settings.of_class(x), "Settings.w"),
    "constructed": (lambda x: Settings(x).constructed(), "weight"),
    "function": (lambda x: labelled(x), "labelled.w"),
    "remembered": (lambda x: remembered() * x, "weight"),
    "module": (lambda x: module.w * x, "module.w"),
    "partial": (lambda x: partial(x), "partial[0]"),
    "bound": (lambda x: bound(x), "bound"),
    "in a tuple": (lambda x: several[1](x), "w"),
}


def rule_of(body):
    @diptych.rule
    def f(x):
        return body(x)

    f.vjp(lambda res, out_bar: 2 * out_bar)
    return f


WAYS = {
    "autograd": lambda f, x: f(x.requires_grad_()),
    "value": lambda f, x: f(x),
    "grad": lambda f, x: grad(lambda x: f(x).sum())(x),
    "jvp": lambda f, x: jvp(f, (x,), (x,)),
    "vmap": lambda f, x: torch.vmap(f)(x[None]),
    "vmap of grad": lambda f, x: torch.vmap(grad(lambda x: f(x).sum()))(x[None]),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", BODIES)
def test_a_parameter_that_is_read_from_outside_is_named(kind, way):
    body, name = BODIES[kind]
    with pytest.raises(ClosureError, match=r"reads .* from outside its arguments") as error:
        WAYS[way](rule_of(body), point())
    assert f"'{name}'" in str(error.value)


@pytest.mark.parametrize("way", WAYS)
def test_a_partial_as_the_rule(way):
    f = diptych.rule(functools.partial(lambda w, x: w * x, weight))
    f.vjp(lambda res, out_bar: 2 * out_bar)
    with pytest.raises(ClosureError):
        WAYS[way](f, point())


def read(w, x):
    """Returns a rule's value that reads `w` from outside."""

    @diptych.rule
    def f(x):
        return w * x

    f.vjp(lambda res, out_bar: 2 * w * out_bar)
    return f(x).sum()


def dual_number(f, w):
    with forward_ad.dual_level():
        return f(forward_ad.make_dual(w, w))


AROUND = {
    "grad": lambda f, w: grad(f)(w),
    "vjp": lambda f, w: vjp(f, w),
    "jvp": lambda f, w: jvp(f, (w,), (w,)),
    "jacfwd": lambda f, w: jacfwd(f)(w),
    "jvp of grad": lambda f, w: jvp(grad(f), (w,), (w,)),
    "vmap": lambda f, w: torch.vmap(f)(w[None]),
    "vmap of grad": lambda f, w: torch.vmap(grad(f))(w[None]),
    "dual numbers": dual_number,
}


@pytest.mark.parametrize("name", AROUND)
def test_what_a_transform_around_the_rule_looks_at_is_named(name):
    with pytest.raises(ClosureError, match=r"reads 'w' from outside its arguments"):
        AROUND[name](lambda w: read(w, POINT), point(seed=1))


@pytest.mark.parametrize("name", ["grad", "jvp"])
def test_an_inner_transform_hides_nothing(name):
    inner = {"grad": lambda w: grad(lambda x: read(w, x))(POINT).sum()}
    inner["jvp"] = lambda w: jvp(lambda x: read(w, x), (POINT,), (POINT,))[1]
    for outer in (grad, jacfwd):
        with pytest.raises(ClosureError, match=r"reads 'w' from outside"):
            outer(inner[name])(point(seed=1))


def test_a_shape_or_a_detached_value_may_be_read():
    def loss(w):
        @diptych.rule
        def f(x):
            return x * w.shape[0] + w.detach()

        f.vjp(lambda res, out_bar: 8 * out_bar)
        return f(POINT * w).sum()

    x = point(seed=1)
    close(grad(loss)(x), 8 * POINT)
    close(jvp(loss, (x,), (x,))[1], (8 * POINT * x).sum())


class Scale(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(point(seed=1))

    @diptych.rule
    def scaled(self, x):
        return self.w * x

    @scaled.vjp
    def scaled_vjp(res, out_bar):  # noqa: N805
        return 2 * res.self.w * out_bar

    def forward(self, x):
        return self.scaled(x)


def test_parameters_of_a_module():
    with pytest.raises(ClosureError, match=r"reads 'self.w' from outside"):
        Scale()(point().requires_grad_())
    of_parameters = lambda p: functional_call(Scale(), p, (point(),)).sum()  # noqa: E731
    with pytest.raises(ClosureError, match=r"reads 'self.w' from outside"):
        grad(of_parameters)({"w": point()})


@pytest.mark.parametrize("way", ["value", "grad", "vmap"])
def test_compiled(way):
    f = rule_of(lambda x: weight * x)
    x = point().requires_grad_(way == "value")
    with pytest.raises(Exception, match=r"'weight'.* from outside its arguments"):
        compiled(lambda x: WAYS[way](f, x))(x)


def test_what_a_class_or_function_holds_is_never_taken_as_unchanged():
    class Config:
        n = 2.0

    @diptych.rule
    def f(x):
        return Config.n * x

    assert f._statement.captures.open
    assert not f._statement.captures.unchanged()
