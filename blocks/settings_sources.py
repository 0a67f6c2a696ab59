"""Where settings come from: each source read into the same flat form, a dotted key to a value.

Later sources win over earlier ones, so that precedence is the order in which they are merged.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import yaml
from pydantic import BaseModel

from blocks.interpolation import interpolate
from blocks.validation_errors import Problem, is_hidden, is_secret, nearest, unknown_key
from tasks.errors import SettingsError

log = logging.getLogger(__name__)

PREFIX = "STEMWRIGHT_"
SHORT_VARIABLES = {"STEMWRIGHT_MODELS": "engine.models_dir"}
# Read elsewhere, and no settings of a run.
OTHER_VARIABLES = frozenset({"STEMWRIGHT_STATE", "STEMWRIGHT_ENDPOINT_KEYS", "STEMWRIGHT_PLUGINS"})


@dataclass(frozen=True)
class SourcedValue:
    """A value, where it was set, and how the user wrote it there.

    `unset` are the variables without a value that it refers to.
    """

    value: Any
    origin: str
    written: Any
    unset: tuple[str, ...] = ()


@dataclass
class SettingsSource:
    """What one source gives, and what is wrong with it."""

    values: dict[str, SourcedValue] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


class BlockLike(Protocol):
    """A Block, or what stands for several."""

    @property
    def full_name(self) -> str: ...

    def to_settings(self) -> dict[str, Any]: ...


def leaves(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every dotted key of a model, with its type."""
    for name, info in model.model_fields.items():
        if inner := _section(info.annotation):
            yield from leaves(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", info.annotation


def from_mapping(tree: Mapping[str, Any], model: type[BaseModel], origin: str) -> SettingsSource:
    """A nested mapping, as the command line's overrides and a Block give it. None isn't set."""
    return _flatten(tree, model, lambda path, value: SourcedValue(value, origin, value), origin)


def from_file(path: Path, model: type[BaseModel], environ: Mapping[str, str]) -> SettingsSource:
    """A YAML file, with its variables filled in from the environment.

    Raises:
        SettingsError: The file can't be read or isn't YAML.
    """
    tree = _restore_indentation(_read_yaml(path), model)
    problems: list[Problem] = []

    def fill(key: str, written: Any) -> SourcedValue:
        named: list[str] = []
        unset: list[str] = []

        def filled(key: str, value: Any) -> Any:
            if isinstance(value, list):
                return [filled(key, item) for item in value]
            if isinstance(value, dict):
                return {name: filled(f"{key}.{name}", item) for name, item in value.items()}
            if not isinstance(value, str):
                return value
            found = interpolate(value, environ)
            problems.extend(_reference_problems(key, found.unset, found.broken, str(path)))
            named.extend(found.names)
            # No key, rather than a piece of one; whoever needs it says which variable is missing.
            nothing = is_secret(key) and bool(found.unset or not found.text)
            unset.extend(found.names if nothing else found.unset)
            return "" if nothing else found.text

        value = filled(key, written)
        names = "".join(f" (${{{name}}})" for name in named) if isinstance(written, str) else ""
        return SourcedValue(value, f"{path}{names}", written, tuple(unset))

    source = _flatten(tree, model, fill, str(path))
    source.problems.extend(problems)
    return source


def from_environment(model: type[BaseModel], environ: Mapping[str, str]) -> SettingsSource:
    """`STEMWRIGHT_SECTION__KEY` variables. Empty ones are unset, unknown ones warned of."""
    keys = {PREFIX + path.replace(".", "__").upper(): path for path, _ in leaves(model)}
    source = SettingsSource()
    # The short names first: the full ones win.
    for name, path in (SHORT_VARIABLES | keys).items():
        if value := environ.get(name):
            source.values[path] = SourcedValue(value, f"the environment variable {name}", value)
    known = keys.keys() | SHORT_VARIABLES.keys() | OTHER_VARIABLES
    for name in environ:
        if name.startswith(PREFIX) and name not in known:
            log.warning("%s sets nothing; did you mean %s?", name, nearest(name, list(keys)))
    return source


def from_block(block: str | BlockLike, model: type[BaseModel]) -> SettingsSource:
    """A Prefect Block, or the `slug/name` of a saved one, for which this imports Prefect.

    Raises:
        SettingsError: No such Block, or Prefect's API can't be reached.
    """
    name = block if isinstance(block, str) else block.full_name
    if isinstance(block, str):
        from blocks.prefect_blocks import load_block

        block = load_block(block)
    return from_mapping(block.to_settings(), model, f"the Prefect block {name}")


def nested(given: Mapping[str, SourcedValue]) -> dict[str, Any]:
    """Flat keys as the nested mapping that pydantic takes."""
    tree: dict[str, Any] = {}
    for path, item in given.items():
        *sections, leaf = path.split(".")
        branch = tree
        for section in sections:
            branch = branch.setdefault(section, {})
        branch[leaf] = item.value
    return tree


def _section(annotation: Any) -> type[BaseModel] | None:
    is_model = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    return annotation if is_model else None


def _flatten(
    tree: Mapping[str, Any],
    model: type[BaseModel],
    give: Callable[[str, Any], SourcedValue],
    origin: str,
) -> SettingsSource:
    source = SettingsSource()
    known = list(model.model_fields) + [path for path, _ in leaves(model)]

    def walk(branch: Mapping[str, Any], fields: type[BaseModel], prefix: str) -> None:
        for name, value in branch.items():
            path = f"{prefix}{name}"
            info = fields.model_fields.get(str(name))
            if info is None:
                source.problems.append(Problem(unknown_key(path, known), origin))
            elif value is None:
                continue
            elif inner := _section(info.annotation):
                if isinstance(value, Mapping):
                    walk(value, inner, f"{path}.")
                else:
                    sentence = f"{path}: must be a section of keys, not a single value."
                    source.problems.append(Problem(sentence, origin))
            else:
                source.values[path] = give(path, value)

    walk(tree, model, "")
    return source


def _reference_problems(
    key: str, unset: tuple[str, ...], broken: tuple[str, ...], origin: str
) -> Iterator[Problem]:
    for text in broken:
        shown = "it" if is_hidden(key) else text
        yield Problem(f"{key}: {shown} holds no variable's name; write $$ for a dollar.", origin)
    if not is_secret(key):
        for name in unset:
            yield Problem(f"{key}: the environment variable {name} is not set.", origin)


class _Loader(yaml.SafeLoader):
    """Refuses a key given twice, of which YAML would silently drop the first."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[str] = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            continue
        if key.value in seen:
            raise yaml.MarkedYAMLError(problem="a key is given twice", problem_mark=key.start_mark)
        seen.add(key.value)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def _read_yaml(path: Path) -> Mapping[str, Any]:
    problem = ""
    tree: Any = None
    try:
        # The loader is a SafeLoader.
        tree = yaml.load(path.read_text("utf-8-sig"), Loader=_Loader)
    except FileNotFoundError:
        problem = f"there is no configuration file at {path}."
    except OSError as error:
        problem = f"{path} can't be read: {error.strerror}."
    except UnicodeDecodeError:
        problem = f"{path} is not UTF-8 text."
    except yaml.MarkedYAMLError as error:
        problem = f"{path} is not YAML: {_yaml_problem(error)}."
    except (yaml.YAMLError, RecursionError, ValueError):
        problem = f"{path} is not YAML."
    if not problem and tree is not None and not isinstance(tree, dict):
        problem = f"{path} holds no sections of keys."
    if problem:
        # Raised out here so that no library's error, which may quote a secret, hangs on it.
        raise SettingsError(problem)
    return tree or {}


def _yaml_problem(error: yaml.MarkedYAMLError) -> str:
    # The parser quotes what it stumbled over; only its short quotes can't be a secret.
    problem = re.sub(r"'[^']{4,}'", "'…'", error.problem or "it breaks off")
    mark = error.problem_mark
    return f"{problem} (line {mark.line + 1}, column {mark.column + 1})" if mark else problem


def _restore_indentation(tree: Mapping[str, Any], model: type[BaseModel]) -> Mapping[str, Any]:
    """Put keys back under the empty section above them: a web page's text loses indentation."""
    restored: dict[str, Any] = {}
    section = ""
    for key, value in tree.items():
        inner = _section(info.annotation) if (info := model.model_fields.get(str(key))) else None
        if inner and value is None:
            section, restored[key] = key, {}
        elif section and not info and key in _fields(model, section):
            restored[section][key] = value
        else:
            section, restored[key] = "", value
    return restored


def _fields(model: type[BaseModel], section: str) -> Mapping[str, Any]:
    inner = _section(model.model_fields[section].annotation)
    return inner.model_fields if inner else {}
