"""What errors of host rules say: the line to add, the derivative to state."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

from diptych.errors import MissingDirectionError, message

if TYPE_CHECKING:
    from diptych.host import HostFunction


def line_for_out(function: HostFunction) -> str:
    """Returns the line that declares `out`, as if the result were like the first array."""
    statement, parameters = function.call.statement, function.call.parameters
    signature = parameters.signature.replace(return_annotation=inspect.Parameter.empty)
    plain = [p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()]
    lambda_ = f"lambda {str(signature.replace(parameters=plain))[1:-1]}"
    like = function.call.leaf_names[0] if function.call.leaf_names else parameters.names[0]
    spec = f"diptych.Spec({like}.shape, {like}.dtype)"
    if function.kind == "fwd":
        return f"@{function.name}.fwd(out={lambda_}: ({spec}, ({spec},)))"
    static = "".join(f"{n!r}, " for n in parameters.static_names)
    options = f"static=({static.strip()}), " if static else ""
    options += "host=True, " + ("vectorized=True, " if statement.vectorized else "")
    decorator = statement.decorator
    return f"@{decorator}{options}out={lambda_}: {spec})"


def cannot_differentiate(function: HostFunction) -> MissingDirectionError:
    """Returns the error for host code that a transform would have to differentiate."""
    name, kind = function.name, function.kind
    what = {"primal": f"host rule {name}", "fwd": f"host rule {name}"}.get(
        kind, f"the {kind} of host rule {name}"
    )
    mend = (
        f"state @{name}.vjp or @{name}.jvp"
        if kind in ("primal", "fwd")
        else f"for higher orders let @{name}.{kind} be a rule itself (or call one), "
        "with its own derivative"
    )
    return MissingDirectionError(
        message(
            f"{what} is differentiated further than it can be",
            expected="a derivative that is stated: NumPy code cannot be differentiated",
            got="NumPy code",
            mend=mend,
        )
    )
