# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The documentation of each role says what its defaults say."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest
import yaml

ROLES = Path(__file__).resolve().parents[2] / "roles"
NAMES = sorted(path.name for path in ROLES.iterdir() if path.is_dir())


def load(path: Path) -> dict[str, t.Any]:
    """The mapping in a YAML file; empty where there is none."""
    return (yaml.safe_load(path.read_text(encoding="utf-8")) or {}) if path.exists() else {}


def defaults(role: str) -> dict[str, t.Any]:
    """What the role's defaults set."""
    return load(ROLES / role / "defaults" / "main.yml")


def options(role: str) -> dict[str, dict[str, t.Any]]:
    """The documented options of all entry points."""
    specs = load(ROLES / role / "meta" / "argument_specs.yml")["argument_specs"]
    return {name: option for entry in specs.values() for name, option in (entry.get("options") or {}).items()}


@pytest.mark.parametrize("role", NAMES)
def test_has_readme_and_specs(role: str) -> None:
    assert (ROLES / role / "README.md").read_text(encoding="utf-8").strip()
    specs = load(ROLES / role / "meta" / "argument_specs.yml")["argument_specs"]
    tasks = ROLES / role / "tasks"
    entry_points = {str(path.relative_to(tasks)) for path in tasks.rglob("*.yml")}
    assert specs
    if not entry_points:
        return  # a role of defaults or handlers alone; its specs document, and nothing runs
    assert {name.removesuffix(".yml") for name in specs} <= {name.removesuffix(".yml") for name in entry_points} | {"main"}
    for entry in specs.values():
        assert entry["short_description"].strip()


@pytest.mark.parametrize("role", NAMES)
def test_every_option_has_type_and_description(role: str) -> None:
    for name, option in options(role).items():
        assert option.get("type"), name
        assert option.get("description"), name
        assert not (option.get("required") and "default" in option), name


@pytest.mark.parametrize("role", NAMES)
def test_every_default_is_documented_as_it_is(role: str) -> None:
    documented = options(role)
    for name, value in defaults(role).items():
        assert name in documented, f"{name} has a default and no documentation"
        assert "default" in documented[name], f"{name}: the default is not documented"
        assert documented[name]["default"] == value, name


@pytest.mark.parametrize("role", NAMES)
def test_every_documented_default_is_one(role: str) -> None:
    """The defaults of deploy_* stand in the role deploy alone; others may repeat them in their documentation."""
    real = {**(defaults("deploy") if role != "deploy" else {}), **defaults(role)}
    for name, option in options(role).items():
        if "default" in option:
            assert name in real, f"{name} has no default"
            assert option["default"] == real[name], name
