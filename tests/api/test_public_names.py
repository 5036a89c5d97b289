"""What `import stream_scorer` promises: names, their documentation, and that it is light."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import stream_scorer as ss

HEAVY = ("mxnet", "pyarrow", "numba", "numpy", "scipy", "pydantic", "redis", "confluent_kafka")
CLASSES = [name for name in ss.__all__ if inspect.isclass(getattr(ss, name))]


@pytest.mark.parametrize("name", [n for n in ss.__all__ if n != "__version__"])
def test_every_public_name_is_documented(name: str) -> None:
    value = getattr(ss, name)
    assert callable(value)
    assert (value.__doc__ or "").strip(), f"{name} has no docstring"


@pytest.mark.parametrize("name", CLASSES)
def test_every_public_method_is_documented(name: str) -> None:
    kind = getattr(ss, name)
    for attribute, value in vars(kind).items():
        inner = value.func if hasattr(value, "func") else getattr(value, "__func__", value)
        own = inspect.isfunction(inner) or isinstance(value, property)
        if own and not attribute.startswith("_"):
            assert (value.__doc__ or inner.__doc__ or "").strip(), f"{name}.{attribute}"


def test_public_functions_are_typed() -> None:
    for name in ss.__all__:
        value = getattr(ss, name)
        if inspect.isfunction(value):
            found = set(value.__annotations__)
            assert found == {*inspect.signature(value).parameters, "return"}, name


def test_the_import_is_light_and_names_come_when_asked_for() -> None:
    code = (
        "import sys\nimport stream_scorer as ss\n"
        f"print([m for m in {HEAVY} if m in sys.modules])\n"
        "ss.InputError, ss.load_model, ss.features_at, ss.open_store, ss.train\n"
        "print('mxnet' in sys.modules, 'numba' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines() == ["[]", "False True"]


def test_names_for_type_checkers_are_those_of_the_list() -> None:
    """mypy reads the imports under TYPE_CHECKING; Python reads `__getattr__`."""
    tree = ast.parse(Path(ss.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    for_types = {a.name: n.module for n in block.body for a in n.names}  # type: ignore[attr-defined]
    assert sorted([*for_types, "__version__"]) == sorted(ss.__all__) == dir(ss)
    for name, module in for_types.items():
        assert module == f"stream_scorer.{ss._MODULE_OF[name]}"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'featuresat'"):
        ss.featuresat  # noqa: B018
