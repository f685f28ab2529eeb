"""What the tests of compiled code share: a clean Dynamo around each test."""

import contextlib

import pytest
import torch
from torch._C import _functorch as functorch
from torch._dynamo.testing import CompileCounterWithBackend
from torch.autograd import forward_ad


@pytest.fixture(autouse=True)
def clean_dynamo():
    """Starts each test with no compiled code and, where one failed inside a transform, mends it.

    Dynamo traces torch.func by entering its levels for real; a compilation that fails inside leaves
    them entered, and every later test of the process would fail with it.
    """
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()
    functorch.pop_dynamic_layer_stack_and_undo_to_depth(0)
    with contextlib.suppress(RuntimeError):
        torch._C._exit_dual_level(level=0)
    forward_ad._current_level = -1
    forward_ad._set_fwd_grad_enabled(True)
    torch._C._set_grad_enabled(True)


def compiled(f, backend="aot_eager", **options):
    """Returns f compiled as one graph."""
    return torch.compile(f, backend=backend, fullgraph=True, **options)


def counted(f, **options):
    """Returns f compiled as one graph, and the counter of compilations."""
    counter = CompileCounterWithBackend("aot_eager")
    return torch.compile(f, backend=counter, fullgraph=True, **options), counter
