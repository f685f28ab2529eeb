"""Broken forward modes and second derivatives."""

import numpy as np
import torch
from corpus import broken, normal, normals, positive


@broken(
    "order", "detached", normal(5), "an intermediate kept on ctx (pytorch/pytorch#104040)", order=2
)
class SinhIntermediate(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.e = torch.exp(x)
        return (ctx.e - 1 / ctx.e) / 2

    @staticmethod
    def backward(ctx, g):
        return g * (ctx.e + 1 / ctx.e) / 2


@broken(
    "order",
    ("stale residual", "detached"),
    positive(5),
    "one factor recomputed, the other kept on ctx",
    order=2,
)
class HalfDetached(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.sine = torch.sin(x)
        ctx.save_for_backward(x)
        return x * ctx.sine

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * (ctx.sine + x * x.cos())


@broken("order", "detached", normal(5), "a backward written with .data or .detach()", order=2)
class BackwardOnData(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * 3 * x.detach() ** 2


@broken("order", "detached", normal(5), "a backward under no_grad, for speed", order=2)
class BackwardUnderNoGrad(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        with torch.no_grad():
            d = 3 * x**2
        return g * d


class _CubeBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, g, x):
        ctx.save_for_backward(g, x)
        return g * 3 * x**2

    @staticmethod
    def backward(ctx, h):
        g, x = ctx.saved_tensors
        return h * 3 * x**2, h * g * 3 * x  # 6 x g


@broken(
    "order",
    ("factor", "stale residual"),
    normal(5),
    "a double backward by hand, its 2 forgotten",
    order=2,
)
class DoubleBackwardFactor(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return _CubeBackward.apply(g, x)


class _Product(torch.autograd.Function):
    """A product of sines, right but for its JVP."""

    @staticmethod
    def forward(x, y):
        return x.sin() * y

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx, g):
        x, y = ctx.saved_tensors
        return g * y * x.cos(), g * x.sin()


@broken("jvp", "missing term", normals((4,), (4,)), "a JVP that forgets one argument")
class JvpMissingTerm(_Product):
    @staticmethod
    def jvp(ctx, x_dot, y_dot):
        x, y = ctx.saved_tensors
        return x_dot * y * x.cos()


@broken("jvp", "factor", normals((4,), (4,)), "a JVP off by a factor, beside a right VJP")
class JvpFactor(_Product):
    @staticmethod
    def jvp(ctx, x_dot, y_dot):
        x, y = ctx.saved_tensors
        return 2 * (x_dot * y * x.cos() + y_dot * x.sin())


@broken(
    ("jvp", "adjoint"),
    ("zero", "not adjoint"),
    normals((4,), (4,)),
    "a JVP stub that was never filled in",
)
class JvpZero(_Product):
    @staticmethod
    def jvp(ctx, x_dot, y_dot):
        return torch.zeros_like(x_dot)


@broken(
    "adjoint",
    "not adjoint",
    normals((4,), (4,)),
    "a VJP scaled on purpose, a JVP that was not",
    intentional=True,
)
class ScaledOneWay(torch.autograd.Function):
    @staticmethod
    def forward(x, y):
        return x * y

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx, g):
        x, y = ctx.saved_tensors
        return 0.1 * g * y, 0.1 * g * x

    @staticmethod
    def jvp(ctx, x_dot, y_dot):
        x, y = ctx.saved_tensors
        return x_dot * y + x * y_dot


@broken("linear", "not linear", normals((4,), (4,)), "a JVP that normalises its tangent")
class JvpNormalised(_Product):
    @staticmethod
    def jvp(ctx, x_dot, y_dot):
        x, y = ctx.saved_tensors
        size = (x_dot.square().sum() + y_dot.square().sum()).sqrt()
        return (x_dot * y * x.cos() + y_dot * x.sin()) / size


@broken(
    "vjp",
    ("missing term", "wrong"),
    normals((5,)),
    "part of a loss behind detach(): the value still depends on it",
    name="detached_part",
)
def detached_part(x):
    return x.sin() * x.exp().detach()


@broken(
    ("finite", "vjp"),
    "not finite",
    lambda rng: (np.array([-1.0, 0.0, 2.0]),),
    "where(x > 0, sqrt(x), 0): NaN from the branch not taken",
    name="where_sqrt",
)
def where_sqrt(x):
    return torch.where(x > 0, torch.sqrt(x) * x, torch.zeros_like(x))


@broken(
    "vjp", "zero", normal(4), "float(x.max()): a value that left the graph", name="scaled_by_item"
)
def scaled_by_item(x):
    return torch.ones(3, dtype=x.dtype) * x.square().sum().item() + 0 * x.sum()


class FrozenByAccident(torch.nn.Module):
    """A module whose bias is added under no_grad."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([[0.5, -1.0], [2.0, 0.3]]).double())
        self.bias = torch.nn.Parameter(torch.tensor([0.1, 0.2]).double())

    def forward(self, x):
        with torch.no_grad():
            bias = self.bias.exp()
        return x @ self.weight + bias


broken("vjp", "zero", normal(3, 2), "a parameter used under no_grad", name="FrozenByAccident")(
    FrozenByAccident()
)


class CountingModule(torch.nn.Module):
    """A module whose output changes from call to call."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return x.sin() * (1 + 0.1 * self.calls)


broken(
    ("purity", "vjp", "primal"),
    ("state", "other value", "nondeterministic"),
    normal(4),
    "a warm-up schedule in forward()",
    name="CountingModule",
)(CountingModule())


@torch.library.custom_op("diptych_corpus::cube", mutates_args=())
def cube(x: torch.Tensor) -> torch.Tensor:
    return x**3


def _cube_setup(ctx, inputs, output):
    ctx.save_for_backward(*inputs)


cube.register_autograd(lambda ctx, g: g * 2 * ctx.saved_tensors[0] ** 2, setup_context=_cube_setup)
cube.register_fake(lambda x: torch.empty_like(x))
broken(
    "vjp",
    "factor",
    normal(4),
    "torch.library: register_autograd with a wrong constant",
    name="custom_op_cube",
)(cube)


@torch.library.custom_op("diptych_corpus::rowsum", mutates_args=())
def rowsum(x: torch.Tensor) -> torch.Tensor:
    return x.sum(-1)


rowsum.register_autograd(
    lambda ctx, g: g[..., None].expand(*g.shape, ctx.n),
    setup_context=lambda ctx, inputs, output: setattr(ctx, "n", inputs[0].shape[-1]),
)
rowsum.register_fake(lambda x: torch.empty_like(x))  # the shape of the input
broken(
    "compile",
    ("compiled differently", "raises"),
    normal(3, 4),
    "torch.library: register_fake with the input's shape",
    name="custom_op_fake",
    compile=True,
)(rowsum)


@torch.library.custom_op("diptych_corpus::square", mutates_args=())
def square(x: torch.Tensor) -> torch.Tensor:
    return x**2


square.register_autograd(lambda ctx, g: 2 * g * ctx.saved_tensors[0], setup_context=_cube_setup)
square.register_fake(lambda x: torch.empty_like(x))
broken(
    ("jvp", "honoured"),
    ("zero", "bypassed"),
    normal(4),
    "torch.library: forward mode gives zero with no error",
    name="custom_op_forward",
)(square)
