"""Several regions in one config: a shared part, and for each region tables laid over it.

`[regions.de]`, `[regions.de.kafka]` and so on hold what is different in a region; tables are merged
setting by setting, and a list, such as `[[features]]`, replaces the shared one. Variables of the
environment win over the file: `STREAM_SCORER__REGIONS__DE__KAFKA__INPUT_TOPIC` for one region after
those that hold for all. Whoever loads settings chooses one region, and what results is settings
like any other, so nothing else knows of several. Two regions that would read or write the same
place are refused, whichever is chosen: one would count the other's events.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from itertools import combinations
from typing import Any

from pydantic import BaseModel

from stream_scorer.errors import ConfigError
from stream_scorer.settings.sources import merge

REGION_VARIABLE = "STREAM_SCORER_REGION"

_NAME = re.compile(r"[a-z0-9](?!.*__)[a-z0-9_-]{0,31}")
# What two regions must not share, and the server on which a name means the same.
_OWN = (
    ("store.namespace", "redis.url"),
    ("kafka.group_id", "kafka.bootstrap_servers"),
    ("kafka.transactional_id", "kafka.bootstrap_servers"),
    ("kafka.input_topic", "kafka.bootstrap_servers"),
    ("kafka.output_topic", "kafka.bootstrap_servers"),
    ("kafka.dead_letter_topic", "kafka.bootstrap_servers"),
    ("model.path", None),
)


def settings_of_region(
    file: dict[str, Any], environment: dict[str, Any], region: str | None, model: type[BaseModel]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The nested values of the file, and those of the environment, for one region.

    Without `regions` in the file both are as they were. model: has the defaults. Raises ConfigError
    where no region or one that is not there is chosen, where a name is none, and where two regions
    share what each must have for itself.
    """
    if "regions" not in file:
        if "regions" in environment:
            raise ConfigError("regions", "(a table)", "only the file declares regions; add them")
        if region:
            remedy = "the config declares no regions; leave it out, or add such as [regions.de]"
            raise ConfigError("--region", region, remedy)
        return file, environment
    over_file = _tables(file["regions"])
    over_environment = _tables(environment.get("regions", {}))
    for name in over_environment.keys() - over_file.keys():
        remedy = f"the environment sets it, and the file declares {_listed(over_file)}"
        raise ConfigError("regions", name, remedy)
    found = {
        name: (
            _laid_over(file, over_file[name]),
            _laid_over(environment, over_environment.get(name, {})),
        )
        for name in over_file
    }
    _refuse_shared(found, model)
    if region not in found:
        remedy = f"choose one region of the config: {_listed(over_file)}"
        raise ConfigError("--region", region or "(none)", remedy)
    return found[region]


def _tables(regions: object) -> dict[str, Mapping[str, Any]]:
    if not isinstance(regions, Mapping):
        raise ConfigError("regions", "(no table)", "write a table for each, such as [regions.de]")
    for name, table in regions.items():
        if not _NAME.fullmatch(name):
            remedy = (
                "a region's name has 1 to 32 of a-z, 0-9, - and _, begins with a letter or digit, "
                "and has no two _ together"
            )
            raise ConfigError("regions", name, remedy)
        if not isinstance(table, Mapping):
            raise ConfigError(f"regions.{name}", "(no table)", f"write a table [regions.{name}]")
        if "regions" in table:
            raise ConfigError(
                f"regions.{name}.regions", "(a table)", "a region has none; remove it"
            )
    return dict(regions)


def _laid_over(shared: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    data = copy.deepcopy({name: value for name, value in shared.items() if name != "regions"})
    merge(data, copy.deepcopy(dict(over)))
    return data


def _refuse_shared(
    found: Mapping[str, tuple[dict[str, Any], dict[str, Any]]], model: type[BaseModel]
) -> None:
    # Values as they are written, for files that another region names may not be on this machine.
    defaults = model().model_dump()

    def value(region: str, setting: str | None) -> str:
        if setting is None:
            return ""
        section, name = setting.split(".")
        file, environment = found[region]
        for data in (environment, file, defaults):
            table = data.get(section)
            if isinstance(table, Mapping) and name in table:
                return str(table[name])
        return ""

    for one, other in combinations(found, 2):
        for setting, server in _OWN:
            shared = value(one, setting)
            if (shared, value(one, server)) == (value(other, setting), value(other, server)):
                remedy = f"regions {one} and {other} share it; give each its own"
                raise ConfigError(setting, shared, remedy)


def _listed(names: Mapping[str, object]) -> str:
    return ", ".join(sorted(names)) or "none"
