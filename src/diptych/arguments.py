"""How a call's arguments become leaves, and leaves become arguments again.

A call is split into static arguments and one pytree of all others. Pytrees are optree's, in a
namespace of our own, to which the node types of JAX and PyTorch and plain dataclasses are added
when they are first met.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import optree

from diptych.errors import KindError, StaticArgumentError, StructureError, message
from diptych.records import dataclass_node

NAMESPACE = "diptych"
SCALARS = (bool, int, float, complex, np.generic)
_PLAIN = frozenset({bool, int, float, complex, str, bytes})
_leaf_types: set[type] = set(_PLAIN)  # types that are known to be no nodes

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@dataclasses.dataclass(frozen=True)
class Spec:
    """The shape and dtype of one array.

    Args:
        shape: the lengths of its axes.
        dtype: a NumPy dtype, or what `numpy.dtype` takes.
    """

    shape: tuple[int, ...]
    dtype: Any


def flatten(tree: Any) -> tuple[list[Any], optree.PyTreeSpec]:
    """Returns the leaves of a pytree and its structure; `None` is a node without leaves.

    Node types of JAX, PyTorch and plain dataclasses that were never met are learnt.
    """
    leaves, treedef = optree.tree_flatten(tree, namespace=NAMESPACE)
    if not _leaf_types.issuperset(map(type, leaves)) and _adopt_nodes(leaves):
        return flatten(tree)
    return leaves, treedef


def _adopt_nodes(leaves: Sequence[Any]) -> bool:
    """Returns whether one of the supposed leaves is a node to somebody else, and now to us."""
    for leaf in leaves:
        if type(leaf) in _leaf_types:
            continue
        if adopt_node(leaf):
            return True
        if hasattr(leaf, "dtype"):  # of what is no array it may be learnt later that it is a node
            if len(_leaf_types) > 1000:  # types may be made at run time
                _leaf_types.intersection_update(_PLAIN)
            _leaf_types.add(type(leaf))
    return False


def unflatten(treedef: optree.PyTreeSpec, leaves: Iterable[Any]) -> Any:
    """Returns the pytree of this structure with these leaves."""
    return optree.tree_unflatten(treedef, leaves)


def leaf_names(root: str, treedef: optree.PyTreeSpec) -> list[str]:
    """Returns each leaf's name as a user would write it, such as `params['w'][0]`."""
    return [accessor.codify(root) for accessor in treedef.accessors()]


def adopt_node(leaf: Any) -> bool:
    """Teaches our pytrees the type of a supposed leaf, where it is a node to somebody else.

    Returns:
        Whether it is a node: its owner must be flattened anew.
    """
    kind = type(leaf)
    if kind is Spec or isinstance(leaf, type):
        return False
    if not optree.tree_is_leaf(leaf, namespace=NAMESPACE):
        return True  # another leaf of this type was first
    for parts in (_jax_node, _torch_node, _dataclass_node):
        functions = parts(leaf)
        if functions is not None:
            try:
                optree.register_pytree_node(kind, *functions, namespace=NAMESPACE)
            except ValueError:  # another thread was faster
                return not optree.tree_is_leaf(leaf, namespace=NAMESPACE)
            return True
    return False


def is_node(x: Any) -> bool:
    """Returns whether `x` is a pytree node rather than a leaf."""
    return adopt_node(x)


def _jax_node(leaf: Any) -> tuple[Callable[..., Any], Callable[..., Any]] | None:
    from diptych import backends  # it imports this module

    jax = sys.modules.get("jax")
    # Dynamo cannot look into JAX's pytrees; what it traces is none of JAX's.
    if jax is None or backends.compiling() or jax.tree_util.all_leaves([leaf]):
        return None

    def children_of(node: Any) -> tuple[Any, ...]:
        paths, treedef = jax.tree_util.tree_flatten_with_path(node, is_leaf=lambda x: x is not node)
        entries = tuple(_entry_name(path[0]) for path, _ in paths)
        return tuple(child for _, child in paths), treedef, entries

    return children_of, lambda treedef, children: jax.tree_util.tree_unflatten(treedef, children)


def _torch_node(leaf: Any) -> tuple[Callable[..., Any], Callable[..., Any]] | None:
    pytree = sys.modules.get("torch.utils._pytree")
    node = pytree and pytree.SUPPORTED_NODES.get(type(leaf))
    if not node:
        return None

    def children_of(x: Any) -> tuple[Any, ...]:
        children, context = node.flatten_fn(x)
        return tuple(children), context, None

    return children_of, lambda context, children: node.unflatten_fn(list(children), context)


def _dataclass_node(leaf: Any) -> tuple[Callable[..., Any], Callable[..., Any]] | None:
    return dataclass_node(leaf, is_node) if dataclasses.is_dataclass(leaf) else None


def _entry_name(key: Any) -> Any:
    for attribute in ("name", "key", "idx"):
        if hasattr(key, attribute):
            return getattr(key, attribute)
    return str(key)


def _signature(function: Callable[..., Any], name: str) -> inspect.Signature:
    if isinstance(function, np.ufunc):  # its arrays; not `out`, `where` and the like
        names = ["x"] if function.nin == 1 else [f"x{i + 1}" for i in range(function.nin)]
        return inspect.Signature(
            [inspect.Parameter(n, inspect.Parameter.POSITIONAL_OR_KEYWORD) for n in names]
        )
    try:
        return inspect.signature(function)
    except (ValueError, TypeError):
        raise KindError(
            message(
                f"rule of {name}",
                expected="a function whose parameters Python can tell",
                got=f"a built-in without a signature, {function!r}",
                mend="call it in a function of your own: def f(x): return ...",
            )
        ) from None


class Parameters:
    """The parameters of a rule's function: which are static, and how a call binds to them.

    Args:
        function: the rule's function.
        static: the names of its static parameters.
        stateful: whether a static value may change between calls, as an object's `self` does.
    """

    def __init__(
        self, function: Callable[..., Any], static: Iterable[str] = (), *, stateful: bool = False
    ):
        self.stateful = stateful
        self.name = getattr(function, "__name__", type(function).__name__)
        self.signature = _signature(function, self.name)
        parameters = list(self.signature.parameters.values())
        self.names = tuple(p.name for p in parameters)
        self.static = frozenset(static)
        if unknown := self.static - set(self.names):
            raise StaticArgumentError(
                message(
                    f"rule of {self.name}: static={sorted(self.static)}",
                    expected=f"names of parameters, which are {list(self.names)}",
                    got=f"{sorted(unknown)}",
                    mend="correct the name, or remove it from `static`",
                )
            )
        # A function in the body of a class; of what it is given there, nothing is known yet.
        path = getattr(function, "__qualname__", "").rpartition(".")[0]
        self.may_be_method = path != "" and not path.endswith("<locals>")
        self.dynamic_names = tuple(n for n in self.names if n not in self.static)
        self.static_names = tuple(n for n in self.names if n in self.static)
        self.kinds = {p.name: p.kind for p in parameters}
        # A call with this many positional arguments and nothing else binds without looking.
        self.plain = all(p.kind in _POSITIONAL for p in parameters)
        self.static_positions = tuple(i for i, n in enumerate(self.names) if n in self.static)
        self.dynamic_positions = tuple(i for i, n in enumerate(self.names) if n not in self.static)
        fixed = [p for p in parameters if p.name in self.static]
        self._positional_static = tuple(p in fixed for p in parameters if p.kind in _POSITIONAL)
        self._rest_static = any(p.kind is p.VAR_POSITIONAL for p in fixed)
        self._keywords_static = any(p.kind is p.VAR_KEYWORD for p in fixed)

    def static_flags(self, count: int) -> tuple[bool, ...]:
        """Returns which of a call's `count` positional arguments are static."""
        flags = self._positional_static
        return flags[:count] + (self._rest_static,) * (count - len(flags))

    def takes_static(self, name: str) -> bool:
        """Returns whether a keyword argument of this name is static."""
        return name in self.static if name in self.kinds else self._keywords_static

    def bind(self, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[tuple, tuple]:
        """Returns the values of the dynamic and of the static parameters, defaults filled in."""
        if self.plain and not kwargs and len(args) == len(self.names):
            return (
                tuple([args[i] for i in self.dynamic_positions]),
                tuple([args[i] for i in self.static_positions]),
            )
        try:
            bound = self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.name}{self.signature}: {error}") from None
        bound.apply_defaults()
        values = bound.arguments
        return (
            tuple([values[name] for name in self.dynamic_names]),
            tuple([values[name] for name in self.static_names]),
        )

    def merge(self, dynamic: Sequence[Any], static: Sequence[Any]) -> tuple[list, dict[str, Any]]:
        """Returns the positional and keyword arguments with which the function is called."""
        values = dict(zip(self.dynamic_names, dynamic, strict=True))
        values.update(zip(self.static_names, static, strict=True))
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        for name in self.names:
            kind = self.kinds[name]
            if kind in _POSITIONAL:
                args.append(values[name])
            elif kind is inspect.Parameter.VAR_POSITIONAL:
                args.extend(values[name])
            elif kind is inspect.Parameter.KEYWORD_ONLY:
                kwargs[name] = values[name]
            else:
                kwargs.update(values[name])
        return args, kwargs

    def argument_name(self, position: int) -> str:
        """Returns the name of the argument at this position of a call."""
        for i, name in enumerate(self.names):
            if self.kinds[name] is inspect.Parameter.VAR_POSITIONAL:
                return f"{name}[{position - i}]"
            if i == position:
                return name
        raise IndexError(position)

    def spread(self, dynamic: Sequence[Any]) -> list[tuple[str, Any]]:
        """Returns each argument's name and value: those of `*args` count one by one."""
        arguments: list[tuple[str, Any]] = []
        for name, value in zip(self.dynamic_names, dynamic, strict=True):
            if self.kinds[name] is inspect.Parameter.VAR_POSITIONAL:
                arguments.extend((f"{name}[{i}]", item) for i, item in enumerate(value))
            else:
                arguments.append((name, value))
        return arguments


def align(treedef: optree.PyTreeSpec, tree: Any, where: str, what: str, mend: str) -> list[Any]:
    """Returns the parts of `tree` at the leaves of `treedef`; `None` stands for a subtree of zeros.

    Raises:
        StructureError: if the two do not fit.
    """
    if tree is None:
        return [None] * treedef.num_leaves
    if treedef.is_leaf():
        return [tree]
    try:
        return treedef.flatten_up_to(tree)
    except (ValueError, TypeError):
        pass
    # A node may be None as a whole: go down one level and try again.
    children = treedef.children()
    parts = _children(tree, treedef)
    if parts is None or len(parts) != len(children):
        raise StructureError(
            message(
                where,
                expected=f"the structure of {what}, {describe(treedef)}",
                got=_outline(tree),
                mend=mend,
            )
        )
    found: list[Any] = []
    for child, part in zip(children, parts, strict=True):
        found.extend(align(child, part, where, what, mend))
    return found


def _children(tree: Any, treedef: optree.PyTreeSpec) -> list[Any] | None:
    kind = treedef.type
    if type(tree) is kind and dataclasses.is_dataclass(kind) and _names_attributes(treedef, tree):
        # Whatever its other fields are: a (co)tangent has no use for them.
        return [getattr(tree, name) for name in treedef.entries()]
    one_level = treedef.one_level()
    if one_level is None:
        return None
    try:
        return one_level.flatten_up_to(tree)
    except (ValueError, TypeError):
        return None


def _names_attributes(treedef: optree.PyTreeSpec, tree: Any) -> bool:
    return all([isinstance(n, str) and hasattr(tree, n) for n in treedef.entries()])


def describe(treedef: optree.PyTreeSpec) -> str:
    """Returns a structure as text, each leaf a star."""
    return str(treedef).removeprefix("PyTreeSpec(").split(", namespace=")[0].removesuffix(")")


def _outline(tree: Any) -> str:
    _, treedef = flatten(tree)
    return "a single value" if treedef.is_leaf() else describe(treedef)
