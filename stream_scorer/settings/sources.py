"""Where settings come from, a TOML file and the environment, and how a wrong one is reported.

Both sources become nested dictionaries, and a variable `STREAM_SCORER__SECTION__FIELD` wins over
the file. Paths in the file are relative to the file, those in the environment to the working
directory. pydantic's errors are translated to one line for each wrong field, with its value and the
remedy. The value of a secret never gets into a message; whether a field is secret follows from its
name (`is_secret`).
"""

from __future__ import annotations

import copy
import difflib
import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from stream_scorer.confidential import is_secret, shown_address
from stream_scorer.errors import ConfigError
from stream_scorer.storage.places import is_address

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PREFIX = "STREAM_SCORER__"
Location = tuple[str | int, ...]

# Names whose text is taken as it is. Narrower than `is_secret`: a list may have "key" in its name.
_PASSWORD = re.compile(r"password|secret|\.key\.pem|jaas|token|basic\.auth", re.IGNORECASE)
_ADDRESS = re.compile(r"url|servers|address", re.IGNORECASE)
_UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")
_SECTIONS = ("model_type", "model_attributes_type", "dataclass_type")
_REMEDIES = {
    "missing": "has to be set; see the config that `init` writes",
    "int_parsing": "write a whole number",
    "int_type": "write a whole number",
    "int_from_float": "write a whole number",
    "float_parsing": "write a number",
    "float_type": "write a number",
    "bool_parsing": "write true or false",
    "bool_type": "write true or false",
    "string_type": "write text in quotes",
    "path_type": "write a path in quotes",
    "tuple_type": 'write a list, such as ["view", "purchase"]',
    "dict_type": "write a table of names and values",
    **dict.fromkeys(_SECTIONS, "write a section with settings in it: [{}]"),
}
_KINDS = {str: "text", bool: "true or false", int: "a number", float: "a number", list: "a list"}

# A list of tables: section, which of them, field. These fields decide what its others may be.
ENTRY_DEPTH = 3
DECIDES_MORE = ("kind", "by", "buckets")


class SeveralConfigError(ConfigError):
    """Several wrong settings; the message has one line for each."""

    def __init__(self, errors: list[ConfigError]) -> None:
        first = errors[0]
        super().__init__(first.field, first.value, first.remedy)
        self.args = ("\n".join(str(e) for e in errors),)
        self.errors = errors


def raise_all(errors: list[ConfigError]) -> None:
    """Raise the error, or one error for several; do nothing where the list is empty."""
    errors = list({str(error): error for error in errors}.values())
    if len(errors) == 1:
        raise errors[0] from None
    if errors:
        raise SeveralConfigError(errors) from None


def read_text(path: Path) -> str:
    """The file as text, without the mark that Windows programs put before UTF-8.

    Raises OSError, and UnicodeDecodeError for a file that is not UTF-8.
    """
    return path.read_text(encoding="utf-8-sig")


def read_toml(path: Path) -> dict[str, Any]:
    """The file as nested dicts. Raises ConfigError naming the file and the line."""
    try:
        return tomllib.loads(read_text(path))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        remedy = f"can't read this file: {reason}; check path and permissions"
        raise ConfigError("--config", path, remedy) from None
    except UnicodeDecodeError:
        raise ConfigError("--config", path, "is not UTF-8 text; save it as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError("--config", path, f"is not valid TOML: {error}; correct it") from None


def read_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """The `STREAM_SCORER__` variables as nested dictionaries; [...] and {...} are read as JSON.

    A secret is never read as JSON: a password may begin with a bracket. Raises ConfigError where
    one variable sets a whole section and another one a setting of it.
    """
    tree: dict[str, Any] = {}
    # Windows writes all names in upper case, so the case does not matter.
    for key, text in environment.items():
        if not key.upper().startswith(PREFIX):
            continue
        *sections, name = key[len(PREFIX) :].lower().split("__")
        at = tree
        for section in sections:
            at = at.setdefault(section, {})
            if not isinstance(at, dict):
                remedy = (
                    "another variable sets a section as a whole of which this is a part; unset one"
                )
                raise ConfigError(key, "(set)", remedy)
        # The rest is turned to numbers and so on by pydantic, which takes text.
        is_password = _PASSWORD.search(name) and not name.endswith("_file")
        at[name] = text if is_password else _from_json(text)
    return tree


def not_read(environment: Mapping[str, str], model: type[BaseModel]) -> list[ConfigError]:
    """One error for each variable that is a setting of `model` but for its underscores.

    Kubernetes sets such as STREAM_SCORER_WEB_PORT=tcp://10.0.0.1:80 for a service of that name.
    """
    settings = {
        f"{section}_{name}".upper(): f"{PREFIX}{section}__{name}".upper()
        for section in _fields_of(model)
        for name in _names(model, (section,))
    }
    wrong = []
    for key, text in environment.items():
        meant = settings.get(key.upper().removeprefix("STREAM_SCORER_").replace("__", "_"))
        begins = key.upper().startswith("STREAM_SCORER_") and not key.upper().startswith(PREFIX)
        if begins and meant and not text.startswith(("tcp://", "udp://")):
            remedy = f"is not read: the name of a setting has two underscores twice, {meant}"
            wrong.append(ConfigError(key, "(not shown)", remedy))
    return wrong


def merge(under: dict[str, Any], over: Mapping[str, Any]) -> None:
    """Put the values of `over` into `under`, section by section, replacing what is there."""
    for name, value in over.items():
        below = under.get(name)
        if isinstance(value, Mapping) and isinstance(below, dict):
            merge(below, value)
        else:
            under[name] = value


def _from_json(text: str) -> Any:
    if text.lstrip()[:1] in ("[", "{"):
        try:
            return json.loads(text)
        except ValueError:
            return text
    return text


def anchor_paths(data: dict[str, Any], model: type[BaseModel], directory: Path) -> None:
    """Put `directory` before each relative path in `data`; `model` says which values are paths."""
    for name, field in model.model_fields.items():
        value = data.get(name)
        kinds = _kinds(field.annotation)
        if isinstance(value, str) and Path in kinds and not is_address(value):
            data[name] = str(directory / value)
        elif isinstance(value, dict):
            inner = next((k for k in kinds if _is_model(k)), None)
            if inner is not None:
                anchor_paths(value, inner, directory)


def _kinds(annotation: Any) -> list[Any]:
    """An annotation and all types that it is made of."""
    return [annotation] + [kind for part in get_args(annotation) for kind in _kinds(part)]


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def explain(
    error: ValidationError, model: type[BaseModel], environment: Mapping[str, str]
) -> list[ConfigError]:
    """One ConfigError for each wrong field of `model`."""
    return [
        ConfigError(_field(e["loc"], environment), _given_value(e), _remedy(e, model))
        for e in error.errors(include_url=False)
    ]


def without(
    data: Mapping[str, Any], error: ValidationError, model: type[BaseModel]
) -> tuple[dict[str, Any], set[str]]:
    """`data` without what is wrong in it, and the names that nothing is known of by that.

    A wrong setting gets its default there, which nobody chose: what contradicts it says nothing.
    A misspelt name stands for the setting that it is like, and an unknown one for none.
    """
    rest, doubtful = copy.deepcopy(dict(data)), set()
    for one in error.errors(include_url=False):
        path, names = _cut(one["loc"], rest)
        if one["type"] in _UNKNOWN:
            near = _near(one["loc"], model)
            if near and _at((*path[:-1], near), data) is None:
                doubtful.add(".".join((*names[:-1], near)))
        else:
            doubtful.add(".".join(names))
            if len(path) == ENTRY_DEPTH and names[-1] in DECIDES_MORE:
                doubtful.add(".".join(names[:-1]))
        around = _at(path[:-1], rest)
        if isinstance(around, dict):
            around.pop(path[-1], None)
        elif isinstance(around, list) and isinstance(path[-1], int):
            around[path[-1]] = None  # so that the places of the others stay as they are
    for name, value in rest.items():
        if isinstance(value, list):
            rest[name] = [entry for entry in value if entry is not None]
    return rest, doubtful


def _at(location: Location, data: Any) -> Any:
    """What stands there, or None."""
    for part in location:
        if isinstance(data, dict):
            data = data.get(part)
        elif isinstance(data, list) and isinstance(part, int) and part < len(data):
            data = data[part]
        else:
            return None
    return data


def _cut(location: Location, data: Mapping[str, Any]) -> tuple[Location, list[str]]:
    """What is to be taken out where `location` is wrong, and its name in messages.

    Of a list all of it goes: what is left would be another one. Of a list of tables, as
    [[features]] writes it, the field of the table goes, or the table where it has no name.
    """
    section, *inside = location
    entries = data.get(str(section))
    if inside and isinstance(inside[0], int) and isinstance(entries, list):
        entry = entries[inside[0]]
        named = isinstance(entry, dict) and isinstance(entry.get("name"), str)
        if named and len(inside) > 1 and inside[1] != "name":
            return location[:ENTRY_DEPTH], [str(section), entry["name"], str(inside[1])]
        return location[:2], [str(section), str(inside[0])]
    cut = next((i for i, p in enumerate(location) if isinstance(p, int)), len(location))
    return location[:cut], [str(part) for part in location[:cut]]


def rests_on(error: ConfigError, doubtful: set[str]) -> bool:
    """Whether an error may be there only because of settings that are wrong themselves."""
    said = f"{error.field} {error.remedy}".replace('"', "")
    section = error.field.partition(".")[0]
    servers = section in ("kafka", "redis", "schema_registry")
    return any(name in said or (servers and name.startswith(section)) for name in doubtful)


def _field(location: Location, environment: Mapping[str, str]) -> str:
    path = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in location).lstrip(".")
    variable = PREFIX + "__".join(str(p) for p in location).upper()
    set_there = any(key.upper() == variable for key in environment)
    return f"{path} (from {variable})" if set_there else path


def _given_value(error: ErrorDetails) -> object:
    """What the setting was given, as a message may show it: no secret, and no whole table."""
    value = error["input"]
    if any(is_secret(str(p)) for p in error["loc"]):
        return "(secret)"
    if error["type"] == "missing" or isinstance(value, dict):
        return "(not set)" if error["type"] == "missing" else "(a table)"
    # A wrong name says nothing of what its value is: a misspelt password is one.
    if error["type"] in _UNKNOWN:
        return "(not shown)"
    if error["type"] in (*_SECTIONS, "dict_type"):
        return f"({_KINDS.get(type(value), 'another kind of value')})"
    text = str(value)
    if "://" in text or "@" in text or any(_ADDRESS.search(str(p)) for p in error["loc"]):
        return shown_address(text)
    return text


def _remedy(error: ErrorDetails, model: type[BaseModel]) -> str:
    kind, context = error["type"], error.get("ctx", {})
    if kind in _UNKNOWN:
        near = _near(error["loc"], model)
        return f"unknown setting; {f'did you mean {near}?' if near else 'remove it'}"
    if kind == "literal_error":
        return f"use {context['expected']}"
    if kind == "value_error":
        return str(context["error"])
    if error["loc"] == ("features",):
        return "write [[features]] before the settings of each feature"
    if kind in _REMEDIES:
        return _REMEDIES[kind].format(error["loc"][-1])
    return error["msg"].replace("Input should be", "must be").replace("String should", "must")


def _near(location: Location, model: type[BaseModel]) -> str:
    """The setting that an unknown name is most like; "" where it is like none."""
    *parents, name = location
    near = difflib.get_close_matches(str(name), list(_names(model, tuple(parents))), n=1)
    return near[0] if near else ""


def _names(model: Any, parents: Location) -> Iterator[str]:
    """The names of the settings in the section `parents`, to find one like a wrong name."""
    for part in parents:
        if isinstance(part, int):
            continue
        fields = _fields_of(model)
        if part not in fields:
            return
        model = next((k for k in _kinds(fields[str(part)]) if _fields_of(k)), None)
    yield from _fields_of(model)


def _fields_of(model: Any) -> dict[str, Any]:
    if _is_model(model):
        return {name: field.annotation for name, field in model.model_fields.items()}
    found = getattr(model, "__dataclass_fields__", {})
    return {name: field.type for name, field in found.items()}
