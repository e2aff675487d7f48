"""The page of the Python names: every public name with its signature and docstring."""

import ast
import importlib
import importlib.util
import inspect
import textwrap
from collections.abc import Iterator
from functools import cached_property
from itertools import pairwise
from typing import Any

from raydistill.commands.reference.markdown import REWRITE, attribute_docstrings, paragraphs, wrapped

MODULES = {
    "raydistill": "What most scripts need",
    "raydistill.space": "Files of search spaces",
    "raydistill.method": "The method of the paper",
    "raydistill.method.vem": "The energy-based term",
    "raydistill.method.langevin": "Its sampler",
    "raydistill.search": "Search",
    "raydistill.records.tables": "Result tables",
    "raydistill.records.pareto": "Fronts and hypervolumes",
    "raydistill.config": "Config classes that plug-ins extend",
    "raydistill.data": "Data",
    "raydistill.models.cost": "Costs",
    "raydistill.training.recipes": "Recipes",
    "raydistill.training.terms": "Terms",
    "raydistill.testing": "Contracts that plug-ins are tested by",
}
"""Module -> what its names are for. A module without `__all__` is public in what it defines."""


def python_page() -> str:
    """A section for each module of `MODULES` that there is.

    Raises:
        ValueError: a public name has no docstring.
    """
    parts = ["# Python"]
    parts.append(
        wrapped(
            "The public names, by the module that they are imported from. What is not here may change "
            "without "
            f"notice. This page is made of signatures and docstrings; `{REWRITE}` writes it again."
        )
    )
    shown: dict[int, str] = {}
    for module_name, title in MODULES.items():
        if importlib.util.find_spec(module_name) is None:
            continue
        names = public_names(module_name)
        if names:
            parts += [f"## {title}: `{module_name}`", wrapped(f"`from {module_name} import ...`")]
        for name, value in names.items():
            parts += _entry(module_name, name, value, shown)
    return "\n\n".join(parts) + "\n"


def public_names(module_name: str) -> dict[str, Any]:
    """Name -> value: what a module's `__all__` lists, or what is defined in it and begins with no `_`."""
    module = importlib.import_module(module_name)
    listed = getattr(module, "__all__", None)
    if listed is not None:
        return {name: getattr(module, name) for name in sorted(listed, key=str.lower)}
    if inspect.getfile(module).endswith("__init__.py"):
        return {}
    return {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module_name and callable(value)
    }


def _entry(module_name: str, name: str, value: Any, shown: dict[int, str]) -> Iterator[str]:
    yield f"### `{name}`"
    if inspect.ismodule(value):
        yield from _required(value.__doc__, f"{module_name}.{name}")
        return
    if id(value) in shown:
        yield f"See [`{shown[id(value)]}`](#{_anchor(shown[id(value)])})."
        return
    if not inspect.isclass(value) and not inspect.isroutine(value):
        yield from _required(_constant_docstring(module_name, name), f"{module_name}.{name}")
        return
    shown[id(value)] = name
    yield f"```python\n{_signature(name, value)}\n```"
    yield from _required(value.__doc__, f"{module_name}.{name}")
    if inspect.isclass(value):
        if fields := attribute_docstrings(value):
            yield "\n".join(
                wrapped(f"`{field}`: {text}", first="* ", then="  ") for field, text in fields.items()
            )
        for method, function in list(vars(value).items()):
            plain = _plain(function)
            if not method.startswith("_") and inspect.isfunction(plain) and plain.__doc__:
                is_read = isinstance(function, property | cached_property)
                kind = "property" if is_read else "method"
                yield f"#### `{name}.{method}`: {kind}"
                yield f"```python\n{_signature(method, plain)}\n```"
                yield from paragraphs(plain.__doc__)


def _plain(member: Any) -> Any:
    """The function in a property or a class method; anything else as it is."""
    if isinstance(member, cached_property):
        return member.func
    return getattr(member, "fget", None) or getattr(member, "__func__", member)


def _required(text: str | None, name: str) -> Iterator[str]:
    if not text:
        raise ValueError(f"{name} is public and has no docstring: write one")
    yield from paragraphs(text)


def _signature(name: str, value: Any) -> str:
    """As it stands in the code; of a class, what it is made with."""
    parsed = _WithoutBounds().visit(ast.parse(textwrap.dedent(inspect.getsource(value))))
    (node,) = parsed.body
    if isinstance(node, ast.ClassDef):
        made = [each for each in node.body if isinstance(each, ast.FunctionDef) and each.name == "__init__"]
        fields = [ast.unparse(each) for each in node.body if isinstance(each, ast.AnnAssign)]
        return f"class {name}({_arguments(made[0]) if made else _in_lines(fields, len(name))})"
    assert isinstance(node, ast.FunctionDef)
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"{name}({_arguments(node)}){returns}"


class _WithoutBounds(ast.NodeTransformer):
    """`int` in place of `Annotated[int, ...]`."""

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        self.generic_visit(node)
        is_annotated = isinstance(node.value, ast.Name) and node.value.id == "Annotated"
        return node.slice.elts[0] if is_annotated and isinstance(node.slice, ast.Tuple) else node


def _arguments(node: ast.FunctionDef) -> str:
    """The arguments of a function, one a line where they are many."""
    whole = node.args
    positional = [*whole.posonlyargs, *whole.args]
    defaults: list[ast.expr | None] = [None] * (len(positional) - len(whole.defaults))
    out = [_argument(each, default) for each, default in zip(positional, [*defaults, *whole.defaults])]
    if whole.vararg:
        out.append(f"*{ast.unparse(whole.vararg)}")
    elif whole.kwonlyargs:
        out.append("*")
    out += [_argument(each, default) for each, default in zip(whole.kwonlyargs, whole.kw_defaults)]
    if whole.kwarg:
        out.append(f"**{ast.unparse(whole.kwarg)}")
    return _in_lines([each for each in out if each not in ("self", "cls")], len(node.name))


def _argument(argument: ast.arg, default: ast.expr | None) -> str:
    text = ast.unparse(argument)
    return text if default is None else f"{text} = {ast.unparse(default)}"


def _in_lines(parts: list[str], before: int) -> str:
    line = ", ".join(parts)
    if before + len(line) < 90:
        return line
    return "".join(f"\n    {part}," for part in parts) + "\n"


def _constant_docstring(module_name: str, name: str) -> str | None:
    """The text below the assignment of a name, in the module that a package imports it from."""
    module = importlib.import_module(module_name)
    tree = ast.parse(inspect.getsource(module))
    for statement, below in pairwise(tree.body):
        target = statement.target if isinstance(statement, ast.AnnAssign) else None
        if isinstance(statement, ast.Assign):
            target = statement.targets[0]  # type: ignore[assignment]
        if isinstance(target, ast.Name) and target.id == name and isinstance(below, ast.Expr):
            return str(ast.literal_eval(below.value))
    for statement in ast.walk(tree):  # type: ignore[assignment]
        if isinstance(statement, ast.ImportFrom) and name in {alias.name for alias in statement.names}:
            return _constant_docstring(str(statement.module), name)
    return None


def _anchor(name: str) -> str:
    return name.lower()
