"""Witness rules through torch.export: the value is the body's, the derivative never the body's."""

import pytest
import torch
from compiling import clean_dynamo
from torch.export import Dim, export
from torch.func import grad
from torch_witnesses import (
    WITNESSES,
    close,
    directional,
    every_witness,
    point,
    right_or_raises,
    weighted,
    weights,
)

import diptych

__all__ = ["clean_dynamo"]


class Apply(torch.nn.Module):
    """A module that applies a function to a weighed input."""

    def __init__(self, f):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(1.5, dtype=torch.float64))
        self.f = f

    def forward(self, x):
        return self.f(self.weight * x)


@every_witness
@pytest.mark.parametrize("strict", [False, True])
def test_value(witness, strict):
    program = export(Apply(witness.rule), (point(),), strict=strict)
    for seed in (0, 1):
        close(program.module()(point(seed=seed)).detach(), witness.plain(1.5 * point(seed=seed)))


@every_witness
@pytest.mark.parametrize("strict", [False, True])
def test_dynamic_shapes(witness, strict):
    shapes = ({0: Dim("rows", min=2)},)
    program = export(Apply(witness.rule), (point(5, 4),), dynamic_shapes=shapes, strict=strict)
    for rows in (2, 5, 9):
        close(program.module()(point(rows, 4)).detach(), witness.plain(1.5 * point(rows, 4)))


OUTSIDE = point(4)


@every_witness
@pytest.mark.parametrize("strict", [False, True])
def test_vmap(witness, strict):
    if strict and witness.name == "outside":
        # PyTorch 2.13 cannot, rule or no rule: it clones the tensor from outside under the vmap.
        for f in (witness.rule, lambda x: x * OUTSIDE):
            with pytest.raises(RuntimeError, match="requires_grad_"):
                export(Apply(torch.vmap(f)), (point(5, 4),), strict=True)
        return
    program = export(Apply(torch.vmap(witness.rule)), (point(5, 4),), strict=strict)
    close(program.module()(point(5, 4)).detach(), torch.vmap(witness.plain)(1.5 * point(5, 4)))


# Export copies PyTorch's own pytree specifications, whose class warns of its age.
@pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")
@every_witness
def test_decompositions(witness):
    program = export(Apply(witness.rule), (point(),)).run_decompositions()
    close(program.module()(point()).detach(), witness.plain(1.5 * point()))


@every_witness
@pytest.mark.parametrize("strict", [False, True])
def test_gradient_of_an_exported_program_is_the_rule_s_or_raises(witness, strict):
    def gradient(module):
        x = point().requires_grad_()
        out = module(x)
        return torch.autograd.grad(out, x, weights(out))[0]

    want = witness.reverse * gradient(Apply(witness.plain))
    module = export(Apply(witness.rule), (point(),), strict=strict).module()
    right_or_raises(lambda: gradient(module), want, "export|does not require grad|derivative")


@pytest.mark.parametrize("kind", ["vjp", "jvp", "both", "kept"])
@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize(
    ("transform", "mode"),
    [(lambda f: grad(weighted(f)), "reverse"), (directional, "forward")],
    ids=["grad", "jvp"],
)
def test_derivative_inside_an_exported_program_is_right_or_raises(kind, strict, transform, mode):
    witness = WITNESSES[kind]

    def export_and_run():
        module = export(Apply(transform(witness.rule)), (point(),), strict=strict).module()
        return module(point(seed=1)).detach()

    want = witness.scale(mode) * transform(witness.plain)(1.5 * point(seed=1))
    right_or_raises(export_and_run, want, "export")


@pytest.mark.parametrize("kind", ["vjp", "jvp", "both", "kept"])
def test_saved_and_loaded(kind, tmp_path):
    witness = WITNESSES[kind]
    torch.export.save(export(Apply(witness.rule), (point(),)), tmp_path / "rule.pt2")
    module = torch.export.load(tmp_path / "rule.pt2").module()
    close(module(point()).detach(), witness.plain(1.5 * point()))


def test_static_arguments_and_pytrees():
    @diptych.rule(static="n")
    def powers(tree, n):
        return {"power": tree["x"] ** n, "sum": [tree["y"].sum()]}

    @powers.vjp
    def powers_vjp(res, bar):
        x, y = res.tree["x"], res.tree["y"]
        return {
            "x": 2 * res.n * x ** (res.n - 1) * bar["power"],
            "y": 2 * bar["sum"][0] * torch.ones_like(y),
        }

    class Powers(torch.nn.Module):
        def forward(self, tree):
            return powers(tree, n=3)

    tree = {"x": point(), "y": point(2, seed=1)}
    out = export(Powers(), (tree,)).module()(tree)
    close(out, {"power": point() ** 3, "sum": [point(2, seed=1).sum()]})
