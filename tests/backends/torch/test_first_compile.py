"""What is compiled first in a process, when nothing has been called before."""

import os
import subprocess
import sys

import pytest

pytest.importorskip("torch")

_PROGRAM = """
import torch, diptych

@diptych.rule
def f(x):
    return torch.sin(x)

@f.vjp
def f_vjp(res, out_bar):
    return 2 * out_bar * torch.cos(res.x)

compiled = torch.compile({made}, fullgraph=True, backend="aot_eager")
x = torch.tensor([0.5, 1.0], dtype=torch.float64)
torch.testing.assert_close(compiled(x), 2 * torch.cos(x))
"""


@pytest.mark.parametrize(
    "made",
    [
        "lambda x: diptych.grad(lambda x: f(x).sum())(x)",
        "lambda x: diptych.vjp(f, x)[1](torch.ones_like(x))[0]",
        "lambda x: torch.func.grad(lambda x: f(x).sum())(x)",
        "lambda x: diptych.jacobian(f)(x).sum(0)",
    ],
)
def test_first_call_in_a_process(made):
    run = subprocess.run(
        [sys.executable, "-c", _PROGRAM.format(made=made)],
        capture_output=True,
        text=True,
        env=dict(os.environ),
    )
    assert run.returncode == 0, run.stderr[-2000:]
