"""Broken by what is kept, changed, drawn again or shared between calls."""

import torch
from corpus import broken, normal, normals


@broken(
    ("purity", "vjp"),
    ("nondeterministic", "state", "where"),
    normal(40),
    "dropout whose mask is drawn again in the backward",
)
class DropoutRedrawn(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * (torch.rand_like(x) > 0.5)

    @staticmethod
    def backward(ctx, g):
        return g * (torch.rand_like(g) > 0.5)


@broken(
    ("purity", "vjp"),
    ("nondeterministic", "state", "wrong", "where"),
    normal(6),
    "checkpointing that recomputes without restoring the generator's state",
)
class RecomputedOtherNoise(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.sin(x + torch.randn_like(x))

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * torch.cos(x + torch.randn_like(x))


@broken(
    ("purity", "vjp"),
    ("stale residual", "changed in place", "state"),
    normal(5),
    "a residual used as scratch memory: wrong at the second backward (retain_graph)",
)
class ResidualAsScratch(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.cosine = x.cos()
        return x.sin()

    @staticmethod
    def backward(ctx, g):
        return ctx.cosine.mul_(g)


@broken(
    "purity", "changed in place", normal(5), "the cotangent scaled in place: seen by other branches"
)
class CotangentInPlace(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 3 * x

    @staticmethod
    def backward(ctx, g):
        return g.mul_(3)


@broken("purity", "changed in place", normal(5), "an in-place op on the input without mark_dirty")
class InputInPlaceUndeclared(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        with torch.no_grad():
            x.data.sub_(x.mean())
        return x * 1.0

    @staticmethod
    def backward(ctx, g):
        return g - g.mean()


@broken(
    "purity",
    ("stale residual", "state"),
    normal(5),
    "residuals on the class: two calls before the backward",
)
class ResidualOnClass(torch.autograd.Function):
    kept = None

    @staticmethod
    def forward(ctx, x):
        ResidualOnClass.kept = x.detach().clone()
        return x.sin()

    @staticmethod
    def backward(ctx, g):
        return g * ResidualOnClass.kept.cos()


@broken(
    ("purity", "primal", "vjp"),
    ("stale residual", "state", "other constants", "wrong"),
    normal(5),
    "a cache of residuals whose key is the shape (spectral convs)",
)
class CacheByShape(torch.autograd.Function):
    cache: dict = {}  # noqa: RUF012 - the defect itself

    @staticmethod
    def forward(ctx, x):
        kept = CacheByShape.cache.setdefault(tuple(x.shape), x.detach().clone())
        ctx.kept = kept
        return x.sin()

    @staticmethod
    def backward(ctx, g):
        return g * ctx.kept.cos()


@broken("partial", "subset", normals((4,), (4,)), "all(needs_input_grad) where any was meant")
class AllForAny(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, y):
        ctx.save_for_backward(x, y)
        return x * y

    @staticmethod
    def backward(ctx, g):
        x, y = ctx.saved_tensors
        if not all(ctx.needs_input_grad):
            return g * y if ctx.needs_input_grad[0] else None, None
        return g * y, g * x


@broken("partial", "subset", normals((4,), (4,)), "needs_input_grad[0] asked for argument 1")
class OtherFlag(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, y):
        ctx.save_for_backward(x, y)
        return x.sin() * y

    @staticmethod
    def backward(ctx, g):
        x, y = ctx.saved_tensors
        one = g * y * x.cos() if ctx.needs_input_grad[0] else None
        other = g * x.sin() if ctx.needs_input_grad[0] else None
        return one, other


@broken(
    "partial",
    ("subset", "raises"),
    normal(4),
    "set_materialize_grads(False), and None is multiplied",
)
class NoneMultiplied(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x)
        return x.sin(), x.cos()

    @staticmethod
    def backward(ctx, g, h):
        (x,) = ctx.saved_tensors
        return g * x.cos() - h * x.sin()


@broken("purity", "state", normal(4), "a step counter that turns a schedule on after some calls")
class AfterManyCalls(torch.autograd.Function):
    calls = 0

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.square()

    @staticmethod
    def backward(ctx, g):
        AfterManyCalls.calls += 1
        (x,) = ctx.saved_tensors
        return 2 * g * x * (1.0 if AfterManyCalls.calls < 60 else 0.5)


@broken("purity", "aliases", normal(4), "the input's memory handed out as the output")
class OutputIsInput(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.detach()

    @staticmethod
    def backward(ctx, g):
        return g


_KEPT: list = []


@broken("memory", "kept alive", normal(50), "a list for debugging that nobody empties")
class KeptInList(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        out = x.sin()
        _KEPT.append(out)
        ctx.save_for_backward(x)
        return out

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * x.cos()


@broken(
    "memory",
    "kept alive",
    normal(50),
    "the output kept as an attribute of ctx: a cycle (PyTorch docs)",
)
class OutputOnContext(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.out = x.exp()
        return ctx.out

    @staticmethod
    def backward(ctx, g):
        return g * ctx.out


@broken("cost", "costly", normal(400), "a backward that builds the Jacobian, one column at a time")
class JacobianBuilt(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sin().cumsum(0)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        columns = []
        for i in range(x.shape[0]):
            unit = torch.zeros_like(x)
            unit[i] = 1.0
            columns.append((unit * x.cos()).cumsum(0))
        return torch.stack(columns) @ g


_WEIGHT = torch.arange(1.0, 5.0, dtype=torch.float64).requires_grad_()


@broken(
    "captures", "captured", normal(4), "a Function that reads a module's parameter from outside"
)
class WeightFromOutside(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * _WEIGHT.detach().to(x.dtype)

    @staticmethod
    def backward(ctx, g):
        return g * _WEIGHT.detach().to(g.dtype)


@broken(
    "captures",
    "captured",
    normal(4),
    "a lambda that closes over a parameter (checkpoint, torchdiffeq)",
)
class ClosedOverParameter(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.square() * _WEIGHT.to(x.dtype)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 2 * g * x * _WEIGHT.to(g.dtype)
