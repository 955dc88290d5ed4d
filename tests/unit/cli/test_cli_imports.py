"""What the command line and the package may load before they are asked to work."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {"pyarrow", "duckdb", "polars", "matplotlib", "numpy", "jinja2", "rich", "jsonschema"}
ALLOWED_THIRD_PARTY = {"click", "msgspec"}


def loaded_by(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(*sorted({{m.split('.')[0] for m in sys.modules}}))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    return set(done.stdout.split("\n")[-2].split())


def third_party(modules: set[str]) -> set[str]:
    before = loaded_by("")
    return {m for m in modules - before - set(sys.stdlib_module_names) if not m.startswith("_")}


@pytest.mark.parametrize(
    "code",
    [
        "import flightlog",
        "from flightlog.cli import run\nrun(['--help'])",
        "from flightlog.cli import run\nrun(['--version'])",
    ],
)
def test_import_and_help_load_only_what_the_allow_list_names(code: str) -> None:
    assert third_party(loaded_by(code)) <= ALLOWED_THIRD_PARTY | {"flightlog"}


@pytest.mark.parametrize(
    "code",
    [
        "import flightlog; flightlog.run, flightlog.Agent, flightlog.tool",
        "from flightlog.runtime import loop, gateway, agent",
        "from flightlog.recorder import recorder, record",
    ],
)
def test_embedded_runtime_and_recorder_load_nothing_heavy(code: str) -> None:
    assert loaded_by(code) & (HEAVY - {"jsonschema"}) == set()


def test_the_package_has_at_most_20_public_names_and_all_of_them_load() -> None:
    import flightlog

    assert len(flightlog.__all__) <= 20
    for name in flightlog.__all__:
        assert getattr(flightlog, name) is not None
    assert set(flightlog.__all__) <= set(dir(flightlog))


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    import flightlog

    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = flightlog.nothing
