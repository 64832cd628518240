"""What source files declare, read without importing them: modules, public names, signatures, docstrings."""

import ast
from dataclasses import dataclass, field, replace
from pathlib import Path

__all__ = ["Declaration", "Module", "Sources"]

Node = ast.ClassDef | ast.FunctionDef | ast.expr


@dataclass(frozen=True)
class Declaration:
    """One name where it is defined: a class, a function, or a constant with its value."""

    module: str
    name: str
    node: Node
    docstring: str

    @property
    def bases(self) -> list[str]:
        """The base classes that are written in the class, as they are written there."""
        node = self.node
        return [ast.unparse(base) for base in node.bases] if isinstance(node, ast.ClassDef) else []

    @property
    def kind(self) -> str | None:
        """The kind under which a part is registered."""
        for keyword in self.node.keywords if isinstance(self.node, ast.ClassDef) else ():
            if keyword.arg == "kind" and isinstance(keyword.value, ast.Constant):
                return str(keyword.value.value)
        return None

    @property
    def signature(self) -> str:
        """How it is called, or the value of a constant. Annotations and defaults are those of the source."""
        match self.node:
            case ast.FunctionDef():
                return _call(self.name, _arguments(self.node), _returns(self.node))
            case ast.ClassDef():
                fields = _fields(self.node, keyword_only=self.kind is not None)
                if fields is not None:
                    return _call(self.name, fields, "")
                made = next((item for item in _methods(self.node) if item.name == "__init__"), None)
                return self.name if made is None else _call(self.name, _arguments(made, bound=True), "")
            case value:
                return f"{self.name} = {ast.unparse(value)}"

    @property
    def members(self) -> list["Declaration"]:
        """Public methods and properties with a docstring, in the order of the source; a property has no arguments."""
        if not isinstance(self.node, ast.ClassDef):
            return []
        found = []
        for item in _methods(self.node):
            text = ast.get_docstring(item)
            if text and (not item.name.startswith("_") or item.name == "__call__"):
                found.append(Declaration(self.module, item.name, item, text))
        return found

    @property
    def member_signature(self) -> str:
        """How a method is called on an object, or a property's name and type."""
        assert isinstance(self.node, ast.FunctionDef)
        decorators = {ast.unparse(item).split(".")[-1] for item in self.node.decorator_list}
        if decorators & {"property", "cached_property"}:
            return f"{self.name}{_returns(self.node).replace(' ->', ':')}"
        return _call(self.name, _arguments(self.node, bound="staticmethod" not in decorators), _returns(self.node))


@dataclass(frozen=True)
class Module:
    """One source file: the names it lists, what it defines, and where what it imports comes from."""

    name: str
    docstring: str
    listed: tuple[str, ...]
    defined: dict[str, Declaration] = field(default_factory=dict)
    imported: dict[str, tuple[str, str]] = field(default_factory=dict)


class Sources:
    """The modules of some packages below a folder."""

    def __init__(self, root: Path, packages: tuple[str, ...]) -> None:
        self.modules: dict[str, Module] = {}
        self.packages: list[str] = []
        for path in sorted(path for package in packages for path in (root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            if parts[-1] == "__init__":
                self.packages.append(name)
            self.modules[name] = _module(name, ast.parse(path.read_text(encoding="utf-8")))
        for name in self.packages:
            public = self.modules.get(f"{name}.public")  # whose names are the package's, where there is one
            if public is not None:
                self.modules[name] = replace(self.modules[name], listed=public.listed, imported=public.imported)

    def find(self, module: str, name: str) -> Declaration | Module:
        """Where a name of a module is defined; a module for the name of a module.

        Raises:
            KeyError: if it is neither defined nor imported there, nor the name of a module below.
        """
        here = self.modules[module]
        if name in here.defined:
            return here.defined[name]
        source = here.imported.get(name)
        if source is not None and source != (module, name):
            return self.find(*source)
        return self.modules[f"{module}.{name}"]


def _module(name: str, tree: ast.Module) -> Module:
    found = Module(name, ast.get_docstring(tree) or "", _listed(tree))
    for node, following in zip(tree.body, [*tree.body[1:], None], strict=True):
        match node:
            case ast.ClassDef() | ast.FunctionDef():
                found.defined[node.name] = Declaration(name, node.name, node, ast.get_docstring(node) or "")
            case ast.Assign(targets=[ast.Name(id=target)], value=value):
                found.defined[target] = Declaration(name, target, value, _below(following))
            case ast.AnnAssign(target=ast.Name(id=target), value=ast.expr() as value):
                found.defined[target] = Declaration(name, target, value, _below(following))
            case ast.ImportFrom(module=str(source)):
                for alias in node.names:
                    found.imported[alias.asname or alias.name] = (source, alias.name)
    return found


def _listed(tree: ast.Module) -> tuple[str, ...]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return tuple(ast.literal_eval(node.value))
    return ()


def _below(node: ast.stmt | None) -> str:
    """The string literal that describes the constant above it."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
        return node.value.value
    return ""


def _methods(node: ast.ClassDef) -> list[ast.FunctionDef]:
    return [item for item in node.body if isinstance(item, ast.FunctionDef)]


def _fields(node: ast.ClassDef, *, keyword_only: bool) -> list[str] | None:
    """The fields of a dataclass as arguments; None for another class."""
    decorators = [item for item in node.decorator_list if ast.unparse(item).startswith("dataclass")]
    if not (decorators or keyword_only):
        return None
    keyword_only = keyword_only or any("kw_only=True" in ast.unparse(item) for item in decorators)
    first: list[str] = []
    later: list[str] = []
    for item in node.body:
        if not isinstance(item, ast.AnnAssign) or ast.unparse(item.annotation).startswith("ClassVar"):
            continue
        default, positional = _default(item.value)
        (first if positional or not keyword_only else later).append(
            f"{ast.unparse(item.target)}: {ast.unparse(item.annotation)}{default}"
        )
    return [*first, "*", *later] if later else first


def _default(value: ast.expr | None) -> tuple[str, bool]:
    """`` = VALUE`` or nothing, and whether the field may be given by its position."""
    if value is None:
        return "", False
    if not (isinstance(value, ast.Call) and ast.unparse(value.func) == "field"):
        return f" = {ast.unparse(value)}", False
    options = {item.arg: ast.unparse(item.value) for item in value.keywords}
    default = f"{options['default_factory']}()" if "default_factory" in options else options.get("default", "")
    return f" = {default}" if default else "", options.get("kw_only") == "False"


def _arguments(node: ast.FunctionDef, bound: bool = False) -> list[str]:
    """What stands between the parentheses, without ``self`` for a method."""
    arguments = node.args
    named = [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(named) - len(arguments.defaults)) + list(arguments.defaults)
    parts = [_argument(*pair) for pair in zip(named, defaults, strict=True)]
    if arguments.posonlyargs:
        parts.insert(len(arguments.posonlyargs), "/")
    parts = parts[1:] if bound else parts
    if arguments.vararg is not None:
        parts.append(f"*{ast.unparse(arguments.vararg)}")
    elif arguments.kwonlyargs:
        parts.append("*")
    parts += [_argument(*pair) for pair in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]
    return [*parts, f"**{ast.unparse(arguments.kwarg)}"] if arguments.kwarg is not None else parts


def _argument(argument: ast.arg, default: ast.expr | None) -> str:
    return f"{ast.unparse(argument)}{'' if default is None else f' = {ast.unparse(default)}'}"


def _returns(node: ast.FunctionDef) -> str:
    return "" if node.returns is None else f" -> {ast.unparse(node.returns)}"


def _call(name: str, arguments: list[str], returns: str) -> str:
    """On one line where it fits, else an argument a line."""
    line = f"{name}({', '.join(arguments)}){returns}"
    if len(line) <= 100:
        return line
    return "\n".join([f"{name}(", *(f"    {argument}," for argument in arguments), f"){returns}"])
