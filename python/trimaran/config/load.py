"""From file, environment and flags to one `Config`. Flags win over the environment, the environment over the file.

Whatever is wrong is told with file, key, value and what was expected; nothing is guessed and no key is ignored.
"""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

from trimaran.errors import ConfigError

from .model import Config, Declaration, Pool
from .values import Unfit, parse

FILE_NAME = "trimaran.toml"
PREFIX = "TRIMARAN_"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration and where it came from. All paths are absolute."""

    config: Config
    path: Path | None
    """The file, where there is one."""
    directory: Path
    """The app's directory: working directory of its processes and first place of its imports."""
    state_directory: Path
    flags: Mapping[str, str]
    """What the command line said, so that a reload can say it again."""

    @property
    def source(self) -> str:
        """What messages call the configuration."""
        return str(self.path) if self.path else "command line"


def load(path: Path | None, *, environ: Mapping[str, str], flags: Mapping[str, str]) -> Loaded:
    """The configuration of this directory. `flags` are settings by dotted name, for example `servers.count`.

    Without `path`, `trimaran.toml` of the current directory is used when it is there. Raises ConfigError.
    """
    given = path
    if path is None and Path(FILE_NAME).is_file():
        path = Path(FILE_NAME)
    tables: dict[str, Any] = {}
    if path is not None:
        path = path.absolute()
        tables = _read(path, given or path)
    source = str(given or FILE_NAME) if path else "command line"
    config = _table(Config, tables, "", source)
    config = _with_pool_defaults(config, tables, source)
    for variable, dotted, value in _from_environment(environ, config):
        config = _override(config, dotted, value, f"environment variable {variable}")
    for dotted, value in flags.items():
        config = _override(config, dotted, value, "command line")
    if config.app is not None and config.servers.app is None:
        config = dataclasses.replace(config, servers=dataclasses.replace(config.servers, app=config.app))
    base = path.parent if path else Path.cwd()
    directory = (base / config.directory).resolve()
    if not directory.is_dir():
        raise ConfigError(source, "directory", config.directory, f"an existing directory; {directory} is none")
    return Loaded(config, path, directory, (base / config.state_directory).resolve(), dict(flags))


def _read(path: Path, shown: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(str(shown), "", None, "there is no such file; `trimaran init` writes one") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(str(shown), "", None, f"cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(str(shown), "", None, f"is not TOML: {error}") from None


def declarations(cls: type) -> dict[str, tuple[Any, Declaration]]:
    """Fields of a settings class: name to type and declaration."""
    hints = get_type_hints(cls)
    return {
        field.name: (hints[field.name], cast(Declaration, field.metadata["setting"]))
        for field in dataclasses.fields(cls)
    }


def _table(cls: type[T], table: object, prefix: str, source: str, defaults: T | None = None) -> T:
    """One table of the file as its settings class. `defaults` stand in for what is not said."""
    if not isinstance(table, dict):
        raise ConfigError(source, prefix.rstrip("."), table, "a table")
    known = declarations(cls)
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in known:
            raise ConfigError(source, prefix + key, None, _unknown(key, known))
        kind, declaration = known[key]
        values[key] = _value(kind, declaration, value, prefix + key, source)
    if defaults is not None:
        return cast(T, dataclasses.replace(cast(Any, defaults), **values))
    return cls(**values)


def _value(kind: Any, declaration: Declaration, value: object, key: str, source: str) -> object:
    origin, arguments = get_origin(kind), get_args(kind)
    if dataclasses.is_dataclass(kind) and "setting" in dataclasses.fields(kind)[0].metadata:
        return cast(object, _table(cast(type[Any], kind), value, key + ".", source))
    if is_list_of_tables(kind):
        if not isinstance(value, list):
            raise ConfigError(source, key, value, f"tables, each written as [[{key}]]")
        return tuple(
            _table(cast(type[Any], arguments[0]), item, f"{key}[{at}].", source) for at, item in enumerate(value)
        )
    if (origin is Mapping and dataclasses.is_dataclass(arguments[1])) or _is_mapping_of_tables(kind):
        if not isinstance(value, dict):
            raise ConfigError(source, key, value, f"tables, each written as [{key}.NAME]")
        return {
            name: _table(cast(type[Any], arguments[1]), item, f"{key}.{name}.", source) for name, item in value.items()
        }
    try:
        return parse(kind, value, declaration)
    except Unfit as unfit:
        raise ConfigError(source, key, value, f"expected {unfit}. {declaration.help}") from None


def _is_mapping_of_tables(kind: Any) -> bool:
    arguments = get_args(kind)
    return len(arguments) == 2 and dataclasses.is_dataclass(arguments[1])


def is_list_of_tables(kind: Any) -> bool:
    """Whether a setting is written as [[tables]]."""
    arguments = get_args(kind)
    return (
        get_origin(kind) is tuple
        and dataclasses.is_dataclass(arguments[0])
        and "setting" in dataclasses.fields(arguments[0])[0].metadata
    )


def _unknown(key: str, known: Mapping[str, object]) -> str:
    near = difflib.get_close_matches(key, known, n=1)
    hint = f"did you mean {near[0]}?" if near else "known here: " + ", ".join(sorted(known))
    return f"there is no such setting; {hint}"


def _with_pool_defaults(config: Config, tables: Mapping[str, Any], source: str) -> Config:
    """`[servers]` says what `[pools.NAME]` does not, except which app and which addresses."""
    defaults = dataclasses.replace(config.servers, app=None, addresses=())
    pools = {}
    for name, table in tables.get("pools", {}).items():
        prefix = f"pools.{name}."
        pool = _table(Pool, table, prefix, source, defaults)
        if "health" in table:
            health = _table(type(defaults.health), table["health"], prefix + "health.", source, defaults.health)
            pool = dataclasses.replace(pool, health=health)
        pools[name] = pool
    return dataclasses.replace(config, pools=pools)


def _from_environment(environ: Mapping[str, str], config: Config) -> list[tuple[str, str, str]]:
    """`TRIMARAN_GATEWAY_BIND=...` as (variable, gateway.bind, value). Only names of settings count.

    Those inside a named table are among them where the file has the table: `TRIMARAN_DATABASES_MAIN_NODES`.
    """
    names: dict[str, str] = {}
    for dotted in [*_names_in_tables(config), *dotted_names(Config)]:
        variable = PREFIX + _as_variable(dotted)
        other = names.setdefault(variable, dotted)
        if other != dotted and variable in environ:
            raise ConfigError(
                f"environment variable {variable}", dotted, environ[variable], f"one setting; {other} is another"
            )
    return [(variable, names[variable], value) for variable, value in environ.items() if variable in names]


def _as_variable(dotted: str) -> str:
    return dotted.upper().replace(".", "_").replace("-", "_")


def _names_in_tables(config: Config) -> list[str]:
    """Settings by dotted name inside the named tables that there are."""
    found: list[str] = []
    for key, (kind, _) in declarations(Config).items():
        if _is_mapping_of_tables(kind):
            inner = cast(type, get_args(kind)[1])
            for name in getattr(config, key):
                # One with a dot is refused later; a dotted name could not tell it.
                found += [] if "." in name else dotted_names(inner, f"{key}.{name}.")
    return found


def dotted_names(cls: type, prefix: str = "") -> dict[str, Declaration]:
    """Every single setting by dotted name, without those inside named tables."""
    names: dict[str, Declaration] = {}
    for name, (kind, declaration) in declarations(cls).items():
        if dataclasses.is_dataclass(kind) and "setting" in dataclasses.fields(kind)[0].metadata:
            names |= dotted_names(cast(type, kind), f"{prefix}{name}.")
        elif not _is_mapping_of_tables(kind) and not is_list_of_tables(kind):
            names[prefix + name] = declaration
    return names


def _override(config: T, dotted: str, text: str, source: str, whole: str | None = None) -> T:
    """`config` with one setting replaced by its text form."""
    name, _, rest = dotted.partition(".")
    if isinstance(config, Mapping):
        inner = _override(config[name], rest, text, source, whole)
        return cast(T, {**config, name: inner})
    known = declarations(type(config))
    if name not in known:
        raise ConfigError(source, whole or dotted, text, _unknown(name, known))
    if rest:
        inner = _override(getattr(config, name), rest, text, source, whole or dotted)
        return cast(T, dataclasses.replace(cast(Any, config), **{name: inner}))
    kind, declaration = known[name]
    value = _value(kind, declaration, text, whole or dotted, source)
    return cast(T, dataclasses.replace(cast(Any, config), **{name: value}))
