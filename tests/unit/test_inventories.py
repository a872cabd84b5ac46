# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The two templates of an inventory, here and in the project that new_project writes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PROJECT = ROOT / "roles" / "new_project" / "files" / "project"
ENVIRONMENTS = ("prod", "staging")
# What AWX takes for a playbook when it looks through a project.
AWX_PLAYBOOK = re.compile(r"^\s*-?\s*(?:hosts|include|import_playbook):", re.MULTILINE)


def tree(folder: Path) -> dict[str, bytes]:
    """Content by relative path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def profile(environment: str) -> dict[str, t.Any]:
    """The variables of the template."""
    loaded: dict[str, t.Any] = yaml.safe_load((ROOT / "inventories" / environment / "group_vars" / "all" / "main.yml").read_text(encoding="utf-8"))
    return loaded


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_are_the_files_of_new_project(environment: str) -> None:
    assert tree(ROOT / "inventories" / environment) == tree(PROJECT / environment)


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_stand_at_the_root_as_typed(environment: str) -> None:
    assert (ROOT / environment).is_symlink()
    assert (ROOT / environment).readlink() == Path("inventories", environment)


def test_project_has_a_playbook_of_each_that_it_imports() -> None:
    for path in PROJECT.glob("*.yml"):
        (play,) = yaml.safe_load(path.read_text(encoding="utf-8"))
        name = play["ansible.builtin.import_playbook"].removeprefix("lastro.deploy.")
        assert name == path.stem
        assert (ROOT / "playbooks" / f"{name}.yml").is_file(), name


def test_both_have_the_same_options() -> None:
    assert set(profile("prod")) == set(profile("staging"))
    for environment in ENVIRONMENTS:
        assert profile(environment)["deploy_environment"] == environment


def test_every_option_exists() -> None:
    known = set(yaml.safe_load((ROOT / "roles" / "deploy" / "defaults" / "main.yml").read_text(encoding="utf-8")))
    assert set(profile("prod")) - known == set()


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_an_environment_does_not_read_the_secrets_of_the_other(environment: str) -> None:
    text = (ROOT / "inventories" / environment / "group_vars" / "all" / "main.yml").read_text(encoding="utf-8")
    names = re.findall(r"lookup\('ansible.builtin.env', '(\w+)'", text)
    assert names
    assert all(name.startswith(f"{environment.upper()}_") for name in names)


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_no_file_looks_like_a_playbook_to_awx(environment: str) -> None:
    for name, content in tree(ROOT / "inventories" / environment).items():
        assert "group_vars" in Path(name).parts or not AWX_PLAYBOOK.search(content.decode())


@pytest.mark.parametrize(("environment", "app"), [("prod", ["FILL_IN_APP1", "FILL_IN_APP2"]), ("staging", ["FILL_IN_APP1"])])
def test_ansible_reads_it(environment: str, app: list[str]) -> None:
    program = Path(sys.executable).parent / "ansible-inventory"
    finished = subprocess.run([program, "-i", environment, "--list"], cwd=ROOT, env=os.environ, capture_output=True, text=True, check=True)
    found = json.loads(finished.stdout)
    assert found["app"]["hosts"] == app
    assert found["primary"]["hosts"] == ["FILL_IN_APP1"]
    assert found["proxy"]["hosts"] == ["FILL_IN_PROXY1"]
    variables = found["_meta"]["hostvars"]["FILL_IN_APP1"]
    # A value that is not there yet is a FILL_IN too, and no error.
    assert variables["deploy_env"]["SECRET_KEY"].count("FILL_IN") == 1
