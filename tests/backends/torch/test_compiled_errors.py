"""Errors in compiled code reach the user with their own text, Dynamo's around it or not."""

import numpy as np
import pytest
import torch
from compiling import clean_dynamo, compiled
from torch.func import grad
from torch_witnesses import close, point

import diptych
from diptych.errors import StaticArgumentError

__all__ = ["clean_dynamo"]


def test_a_host_rule_of_a_tree_without_out():
    @diptych.rule(host=True)
    def wave(tree):
        return np.sin(tree["x"])

    with pytest.raises(Exception, match=r"add it, for example @diptych.rule\(host=True, out="):
        compiled(lambda x: wave({"x": x}))(point())


def test_the_user_s_own_error():
    @diptych.rule
    def broken(tree):
        raise ValueError("my own error")

    broken.vjp(lambda res, bar: None)
    for _ in range(2):
        with pytest.raises(Exception, match="my own error"):
            compiled(lambda x: broken({"x": x}))(point())


@diptych.rule(static="settings")
def scaled(x, settings):
    return settings["k"] * x


@scaled.vjp
def scaled_vjp(res, out_bar):
    return 2 * res.settings["k"] * out_bar


def test_static_dictionaries():
    close(compiled(grad(lambda x: scaled(x, {"k": 3.0}).sum()))(point()), 0 * point() + 6)
    with pytest.raises(Exception, match="a static argument holds tensors"):
        compiled(lambda x, k: scaled(x, {"k": k}))(point(), point())


def test_symbolic_trace():
    class Module(torch.nn.Module):
        def forward(self, x):
            return scaled(x, {"k": 1.0})

    with pytest.raises(
        StaticArgumentError, match=r"got: torch.fx.proxy.Proxy\n  mend: trace with torch.e"
    ):
        torch.fx.symbolic_trace(Module())


def test_a_method_through_its_class():
    class Wave:
        k = 3.0

        @diptych.rule
        def value(self, x):
            return torch.sin(self.k * x)

        value.vjp(lambda res, out_bar: 2 * res.self.k * torch.cos(res.self.k * res.x) * out_bar)

    wave = Wave()
    got = compiled(grad(lambda x: Wave.value(wave, x).sum()))(point())
    close(got, 6 * torch.cos(3 * point()))
