"""Plug-ins: generators, bases, terms, recipes, data sets, scorers and samplers of others, by `--plugin`.

A plug-in is one Python file, or an importable module with the package around it; an installed package may
give its module a name by an entry point of the group `raydistill.plugins`. It defines dictionaries with the
names and entries of the package's own: `GENERATORS` (`models.Family`), `BASES` (`training.bases.BaseKind`),
`TERMS` (`training.terms.TermKind`), `RECIPES` (`training.recipes.RecipeKind`), `DATA` (`data.DataKind`),
`EXTRACTORS` (`evaluation.extractors.ExtractorKind`), `SEGMENTERS` (`evaluation.segmenters.SegmenterKind`),
`SAMPLERS` (functions of (problem, history, number) -> proposals, as in `search.SAMPLERS`). It runs as code,
so nothing is imported that the user does not name. Every process of a sweep runs the text that the driver
read, because the text is sent to it, not the path."""

import importlib
import importlib.metadata
import importlib.util
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any, NamedTuple

from pydantic import BaseModel

from raydistill import data, models, search
from raydistill.config.architectures import NOISE_VARIANTS, PICTURE_VARIANTS, Generator
from raydistill.config.base import digest
from raydistill.config.bases import BASE_VARIANTS, Base
from raydistill.config.data import DATA_VARIANTS, DataSet
from raydistill.config.terms import TERM_VARIANTS, Term
from raydistill.config.training import TEACHER_VARIANTS, GeneratorTraining
from raydistill.config.variants import PLUGIN_DIGESTS, Variants
from raydistill.errors import ConfigError
from raydistill.evaluation.extractors import EXTRACTORS, ExtractorKind
from raydistill.evaluation.segmenters import SEGMENTERS, SegmenterKind
from raydistill.reading import read_text
from raydistill.training import bases, recipes, terms

_MOST_BYTES = 2_000_000
"""Largest size of a plug-in's sources."""


class Source(NamedTuple):
    """One Python file of a plug-in."""

    path: str
    text: str


class Plugin(NamedTuple):
    """A plug-in and the text of its files."""

    module: str
    """The name under which it is imported."""
    sources: dict[str, Source]
    """Module -> file, of the plug-in and, where it lies in a package, of the whole package."""

    @property
    def name(self) -> str:
        """What users call it: the file's name, or the module's."""
        return Path(self.sources[self.module].path).name if self.module.startswith(_PREFIX) else self.module

    @property
    def digest(self) -> str:
        """The digest of the texts of all files."""
        return digest({module: source.text for module, source in self.sources.items()})


class Registry(NamedTuple):
    """One dictionary that plug-ins may add to."""

    entries: dict[str, Any]
    """The package's own dictionary, name -> entry."""
    entry: type[Any]
    """Class of the entries."""
    config: type[BaseModel] | None = None
    """Base class of an entry's `config`; None: it has none, an option names it."""
    variants: Callable[[Any], Variants] | None = None
    """Entry -> the sections of a config that may be of the class `entry.config`; None as above."""


REGISTRIES: dict[str, Registry] = {
    "GENERATORS": Registry(
        models.GENERATORS,
        models.Family,
        Generator,
        lambda family: PICTURE_VARIANTS if family.takes == "picture" else NOISE_VARIANTS,
    ),
    "BASES": Registry(bases.BASES, bases.BaseKind, Base, lambda kind: BASE_VARIANTS),
    "TERMS": Registry(terms.TERMS, terms.TermKind, Term, lambda kind: TERM_VARIANTS),
    "RECIPES": Registry(
        recipes.RECIPES, recipes.RecipeKind, GeneratorTraining, lambda kind: TEACHER_VARIANTS
    ),
    "DATA": Registry(data.DATA, data.DataKind, DataSet, lambda kind: DATA_VARIANTS),
    "EXTRACTORS": Registry(EXTRACTORS, ExtractorKind),
    "SEGMENTERS": Registry(SEGMENTERS, SegmenterKind),
    "SAMPLERS": Registry(search.SAMPLERS, FunctionType),
}
"""Name of a dictionary in a plug-in -> what its entries are added to."""
LOADED: dict[str, Plugin] = {}
"""Module -> plug-in, of those that this process has imported."""
GROUP = "raydistill.plugins"
"""Entry points by which installed packages name their plug-ins. Only what --plugin names is imported."""
_PREFIX = "raydistill_plugin_"
"""Beginning of the module name of a plug-in that is a single file."""


def load(given: Sequence[str]) -> None:
    """Import the plug-ins that `--plugin` names.

    Raises:
        ConfigError: one does not exist, fails, or adds nothing that can be used.
    """
    for name in given:
        _take(_read(name))


def to_json() -> str:
    """The plug-ins of this process as JSON, for `load_json` in another process."""
    return json.dumps(list(LOADED.values()))


def load_json(plugins: str) -> None:
    """Import the plug-ins of another process, from what `to_json` returned there. One that is here is left as
    it is.

    Raises:
        ConfigError: one fails, adds nothing that can be used, or has the name of another plug-in.
    """
    for module, sources in json.loads(plugins):
        _take(Plugin(module, {name: Source(*source) for name, source in sources.items()}))


def sweep_record() -> dict[str, Any]:
    """What `sweep.json` says of the plug-ins of this process: name -> digest and the text of each file."""
    return {
        plugin.name: {
            "digest": plugin.digest,
            "files": {module: source.text for module, source in plugin.sources.items()},
        }
        for plugin in LOADED.values()
    }


# ---- reading -----------------------------------------------------------------------------------------------


def _read(given: str) -> Plugin:
    where = f"--plugin {given}"
    if given.endswith(".py") or "/" in given:
        return _read_file(given, where)
    named = next(iter(importlib.metadata.entry_points(group=GROUP, name=given)), None)
    return _read_module(given if named is None else named.module, where)


def _read_file(given: str, where: str) -> Plugin:
    path = Path(given)
    if path.suffix != ".py" or not path.is_file():
        raise ConfigError(
            f"{where}: no such file; give a .py file, or the name of a module that Python can import"
        )
    if not path.stem.isidentifier():
        raise ConfigError(f"{where}: a file's name is made of letters, digits and '_'; rename it")
    module = f"{_PREFIX}{path.stem}"
    return Plugin(module, {module: Source(str(path), _text(path, where))})


def _read_module(given: str, where: str) -> Plugin:
    """The plug-in of a module, with all files of the outermost package around it."""
    top = given.partition(".")[0]
    try:
        spec = importlib.util.find_spec(top)  # of the outermost package, so that nothing is executed
    except ValueError:
        spec = None
    if spec is None or (spec.origin is None and not spec.submodule_search_locations):
        named = ", ".join(sorted(importlib.metadata.entry_points(group=GROUP).names)) or "none"
        raise ConfigError(
            f"{where}: there is no module {top!r} to import; give a .py file, or install the module. "
            f"Plug-ins of installed packages: {named}"
        )
    if top in sys.modules and top not in {module.partition(".")[0] for module in LOADED}:
        raise ConfigError(f"{where}: {top} is a part of what runs already; give a module of your own")
    sources: dict[str, Source] = {}
    if spec.submodule_search_locations:
        root = Path(next(iter(spec.submodule_search_locations)))
        for path in sorted(root.rglob("*.py")):
            parts = [top, *path.relative_to(root).with_suffix("").parts]
            module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            sources[module] = Source(str(path), _text(path, where))
    elif str(spec.origin).endswith(".py"):
        sources[top] = Source(str(spec.origin), _text(Path(str(spec.origin)), where))
    if given not in sources:
        raise ConfigError(f"{where}: {top} has no Python file for it; give a module that has one")
    if (size := sum(len(source.text) for source in sources.values())) > _MOST_BYTES:
        raise ConfigError(
            f"{where}: {top} has {size:,} bytes of source, at most {_MOST_BYTES:,} are sent; "
            "put what is needed in a file"
        )
    return Plugin(given, sources)


def _text(path: Path, where: str) -> str:
    try:
        return read_text(path)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{where}: {path} cannot be read ({error})") from None


# ---- importing ---------------------------------------------------------------------------------------------


class _Texts(MetaPathFinder, InspectLoader):
    """Imports the modules of one plug-in from their texts."""

    def __init__(self, plugin: Plugin):
        self.sources = plugin.sources

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """How a module of the plug-in is made; None for any other name."""
        if fullname not in self.sources:
            return None
        origin = self.sources[fullname].path
        spec = ModuleSpec(fullname, self, origin=origin, is_package=self.is_package(fullname))
        spec.has_location = True
        return spec

    def is_package(self, fullname: str) -> bool:
        """Whether the module is a package's `__init__.py`."""
        return self.sources[fullname].path.endswith("__init__.py")

    def get_source(self, fullname: str) -> str:
        """The text of the module."""
        return self.sources[fullname].text

    def get_code(self, fullname: str) -> CodeType:
        """The module compiled, with the path of its file for tracebacks."""
        source = self.sources[fullname]
        return compile(source.text, source.path, "exec")


def _take(plugin: Plugin) -> None:
    """Imports a plug-in unless it is here. Raises ConfigError where another one has its name."""
    if (present := LOADED.get(plugin.module)) is None:
        _import(plugin)
    elif present.digest != plugin.digest:
        raise ConfigError(
            f"--plugin {plugin.name}: another file of that name is loaded; give one of them another name"
        )


def _import(plugin: Plugin) -> None:
    """Imports a plug-in and adds its entries; after an error nothing of it is left."""
    where, finder = f"--plugin {plugin.name}", _Texts(plugin)
    sys.meta_path.insert(0, finder)
    try:
        module = importlib.import_module(plugin.module)
        entries = _entries(module, where)
    except BaseException as error:
        sys.meta_path.remove(finder)
        for name in plugin.sources:
            sys.modules.pop(name, None)
        if isinstance(error, ConfigError | KeyboardInterrupt):
            raise
        raise ConfigError(f"{where}: {type(error).__name__}: {error}{_line(error, plugin)}") from error
    for registry, name, entry in entries:
        registry.entries[name] = entry
        if registry.variants is None:
            PLUGIN_DIGESTS[entry] = plugin.digest
        else:
            registry.variants(entry).add(entry.config)
            PLUGIN_DIGESTS[entry.config] = plugin.digest
    LOADED[plugin.module] = plugin


def _entries(module: ModuleType, where: str) -> list[tuple[Registry, str, Any]]:
    """What the module's dictionaries add: registry, name, entry.

    Raises:
        ConfigError: there is nothing, or an entry is not what the package needs.
    """
    out = []
    for dictionary, registry in REGISTRIES.items():
        entries = getattr(module, dictionary, {})
        if not isinstance(entries, Mapping):
            raise ConfigError(
                f"{where}: {dictionary} must be a dictionary of name -> {registry.entry.__name__}"
            )
        for name, entry in entries.items():
            _require_entry(registry, name, entry, f"{where}: {dictionary}[{name!r}]")
            out.append((registry, name, entry))
    if not out:
        raise ConfigError(f"{where}: it defines none of {', '.join(REGISTRIES)}; see docs/how-to/plug-ins.md")
    return out


def _require_entry(registry: Registry, name: str, entry: Any, where: str) -> None:
    """Raises ConfigError where an entry of a plug-in cannot be added to a registry."""
    if not isinstance(entry, registry.entry):
        raise ConfigError(f"{where}: must be a {registry.entry.__name__}, found {type(entry).__name__}")
    if registry.config is not None and registry.variants is not None:
        config = entry.config
        if not (isinstance(config, type) and issubclass(config, registry.config)):
            raise ConfigError(
                f"{where}.config: must be a subclass of {registry.config.__name__}, found {config!r}"
            )
        tag = registry.variants(entry).tag
        if config.model_fields[tag].default != name:
            raise ConfigError(f"{where}.config: its field {tag} must be {name!r} by default")
    elif not re.fullmatch(r"[A-Za-z0-9_-]+", str(name)):
        raise ConfigError(f"{where}: a name of letters, digits, '-' and '_', as an option takes it")
    if name in registry.entries:
        raise ConfigError(f"{where}: there is a {name!r} already; choose another name")


def _line(error: BaseException, plugin: Plugin) -> str:
    """Where in the plug-in an error was raised, as the end of a message; empty where it was not in the
    plug-in."""
    paths = {source.path for source in plugin.sources.values()}
    if isinstance(error, SyntaxError) and error.filename in paths:
        return f" (line {error.lineno} of {error.filename})"
    text, trace = "", error.__traceback__
    while trace is not None:
        path = trace.tb_frame.f_code.co_filename
        if path in paths:
            text = f" (line {trace.tb_lineno} of {path})"
        trace = trace.tb_next
    return text
