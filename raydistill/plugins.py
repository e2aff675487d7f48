"""Plug-ins: generators, terms and data sets from outside of the package, for who names them by `--plugin`.

A plug-in is one Python file, or an importable module with the package around it. It defines dictionaries of the same names and entries as
the package's own: `GENERATORS` (`models.Family`), `TERMS` (`terms.TermKind`), `DATA` (`data.DataKind`). It runs as code, so nothing is
imported that the user does not name. Every process of a sweep runs the text that the driver read: the text travels, not the path.
"""

import importlib
import importlib.util
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, NamedTuple

from pydantic import BaseModel

from raydistill import data, models
from raydistill.config.architectures import NOISE_VARIANTS, PICTURE_VARIANTS, Generator
from raydistill.config.base import digest
from raydistill.config.data import DATA_VARIANTS, DataSet
from raydistill.config.terms import TERM_VARIANTS, Term
from raydistill.config.variants import PLUGIN_DIGESTS, Variants
from raydistill.errors import ConfigError
from raydistill.training import terms

_MOST_BYTES = 2_000_000


class Source(NamedTuple):
    path: str
    text: str


class Plugin(NamedTuple):
    module: str
    """The name that it is imported under."""
    sources: dict[str, Source]
    """Module -> file, of the plug-in and, where it lies in a package, of the whole package."""

    @property
    def name(self) -> str:
        """What users call it: the file's name, or the module's."""
        return Path(self.sources[self.module].path).name if self.module.startswith(_PREFIX) else self.module

    @property
    def digest(self) -> str:
        return digest({module: source.text for module, source in self.sources.items()})


class Registry(NamedTuple):
    """One kind of thing that a plug-in may add."""

    entries: dict[str, Any]
    """Name -> entry: where the package looks things up."""
    entry: type[Any]
    config: type[BaseModel]
    """What an entry's `config` is a subclass of."""
    variants: Callable[[Any], Variants]
    """Entry -> the sections of a config that may be of its class."""


REGISTRIES: dict[str, Registry] = {
    "GENERATORS": Registry(
        models.GENERATORS,
        models.Family,
        Generator,
        lambda family: PICTURE_VARIANTS if family.takes == "picture" else NOISE_VARIANTS,
    ),
    "TERMS": Registry(terms.TERMS, terms.TermKind, Term, lambda kind: TERM_VARIANTS),
    "DATA": Registry(data.DATA, data.DataKind, DataSet, lambda kind: DATA_VARIANTS),
}
"""The dictionary's name in a plug-in -> what it adds to."""
LOADED: dict[str, Plugin] = {}
"""The plug-ins of this process, by their module."""
_PREFIX = "raydistill_plugin_"
"""Of the module's name of a plug-in that is a single file."""


def load(given: Sequence[str]) -> None:
    """Imports the plug-ins that `--plugin` names. Raises ConfigError where one is not there, fails, or adds nothing that can be used."""
    for name in given:
        _take(_read(name))


def shipped() -> str:
    """The plug-ins of this process as JSON, for another process to `take_in`."""
    return json.dumps(list(LOADED.values()))


def take_in(plugins: str) -> None:
    """Imports what another process has `shipped`, from the same text. What is here already is left alone. Raises ConfigError as `load`."""
    for module, sources in json.loads(plugins):
        _take(Plugin(module, {name: Source(*source) for name, source in sources.items()}))


def recorded() -> dict[str, Any]:
    """What a sweep keeps of its plug-ins: name -> digest and the text of each file."""
    return {
        plugin.name: {
            "digest": plugin.digest,
            "files": {module: source.text for module, source in plugin.sources.items()},
        }
        for plugin in LOADED.values()
    }


# ---- reading ----------------------------------------------------------------------------------------------------------


def _read(given: str) -> Plugin:
    where = f"--plugin {given}"
    if given.endswith(".py") or "/" in given:
        path = Path(given)
        if path.suffix != ".py" or not path.is_file():
            raise ConfigError(
                f"{where}: no such file; give a .py file, or the name of a module that Python can import"
            )
        if not path.stem.isidentifier():
            raise ConfigError(f"{where}: a file's name is made of letters, digits and '_'; rename it")
        return Plugin(
            f"{_PREFIX}{path.stem}", {f"{_PREFIX}{path.stem}": Source(str(path), _text(path, where))}
        )
    top = given.partition(".")[0]
    try:
        spec = importlib.util.find_spec(top)  # of the outermost package: runs nothing
    except ValueError:
        spec = None
    if spec is None or (spec.origin is None and not spec.submodule_search_locations):
        raise ConfigError(
            f"{where}: there is no module {top!r} to import; give a .py file, or install the module"
        )
    if top in sys.modules and top not in {module.partition(".")[0] for module in LOADED}:
        raise ConfigError(f"{where}: {top} is a part of what runs already; give a module of your own")
    sources: dict[str, Source] = {}
    if spec.submodule_search_locations:
        root = Path(next(iter(spec.submodule_search_locations)))
        for path in sorted(root.rglob("*.py")):
            parts = [top, *path.relative_to(root).with_suffix("").parts]
            sources[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = Source(
                str(path), _text(path, where)
            )
    elif str(spec.origin).endswith(".py"):
        sources[top] = Source(str(spec.origin), _text(Path(str(spec.origin)), where))
    if given not in sources:
        raise ConfigError(f"{where}: {top} has no Python file for it; give a module that has one")
    if (size := sum(len(source.text) for source in sources.values())) > _MOST_BYTES:
        raise ConfigError(
            f"{where}: {top} has {size:,} bytes of source, at most {_MOST_BYTES:,} are sent; put what is needed in a file"
        )
    return Plugin(given, sources)


def _text(path: Path, where: str) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{where}: {path} cannot be read ({error})") from None


# ---- importing --------------------------------------------------------------------------------------------------------


class _Texts(MetaPathFinder, InspectLoader):
    """Imports the modules of one plug-in from their texts."""

    def __init__(self, plugin: Plugin):
        self.sources = plugin.sources

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in self.sources:
            return None
        spec = ModuleSpec(
            fullname, self, origin=self.sources[fullname].path, is_package=self.is_package(fullname)
        )
        spec.has_location = True
        return spec

    def is_package(self, fullname: str) -> bool:
        return self.sources[fullname].path.endswith("__init__.py")

    def get_source(self, fullname: str) -> str:
        return self.sources[fullname].text

    def get_code(self, fullname: str) -> CodeType:
        return compile(self.sources[fullname].text, self.sources[fullname].path, "exec")


def _take(plugin: Plugin) -> None:
    if (here := LOADED.get(plugin.module)) is None:
        _import(plugin)
    elif here.digest != plugin.digest:
        raise ConfigError(
            f"--plugin {plugin.name}: another file of that name is loaded; give one of them another name"
        )


def _import(plugin: Plugin) -> None:
    where, finder = f"--plugin {plugin.name}", _Texts(plugin)
    sys.meta_path.insert(0, finder)
    try:
        module = importlib.import_module(plugin.module)
        added = list(_added(module, where))
    except BaseException as error:
        sys.meta_path.remove(finder)
        for name in plugin.sources:
            sys.modules.pop(name, None)
        if isinstance(error, ConfigError) or not isinstance(error, Exception):
            raise
        raise ConfigError(f"{where}: {type(error).__name__}: {error}{_line(error, plugin)}") from error
    for registry, name, entry in added:
        registry.entries[name] = entry
        registry.variants(entry).add(entry.config)
        PLUGIN_DIGESTS[entry.config] = plugin.digest
    LOADED[plugin.module] = plugin


def _added(module: ModuleType, where: str) -> list[tuple[Registry, str, Any]]:
    """What the module's dictionaries add. Raises ConfigError where an entry is not what the package needs."""
    added = []
    for dictionary, registry in REGISTRIES.items():
        entries = getattr(module, dictionary, {})
        if not isinstance(entries, Mapping):
            raise ConfigError(
                f"{where}: {dictionary} must be a dictionary of name -> {registry.entry.__name__}"
            )
        for name, entry in entries.items():
            at, config = f"{where}: {dictionary}[{name!r}]", getattr(entry, "config", None)
            if not isinstance(entry, registry.entry):
                raise ConfigError(f"{at}: must be a {registry.entry.__name__}, found {type(entry).__name__}")
            if not (isinstance(config, type) and issubclass(config, registry.config)):
                raise ConfigError(
                    f"{at}.config: must be a subclass of {registry.config.__name__}, found {config!r}"
                )
            variants = registry.variants(entry)
            if config.model_fields[variants.tag].default != name:
                raise ConfigError(f"{at}.config: its field {variants.tag} must be {name!r} by default")
            if name in registry.entries:
                raise ConfigError(f"{at}: there is a {name!r} already; choose another name")
            added.append((registry, name, entry))
    if not added:
        raise ConfigError(f"{where}: it defines none of {', '.join(REGISTRIES)}; see docs/cookbook.md")
    return added


def _line(error: BaseException, plugin: Plugin) -> str:
    """Where in the plug-in it went wrong."""
    paths = {source.path for source in plugin.sources.values()}
    found, trace = "", error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename in paths:
            found = f" (line {trace.tb_lineno} of {trace.tb_frame.f_code.co_filename})"
        trace = trace.tb_next
    if isinstance(error, SyntaxError) and error.filename in paths:
        found = f" (line {error.lineno} of {error.filename})"
    return found
