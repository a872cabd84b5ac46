# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What holds for every file of the collection."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
HEADER = (ROOT / "plugins" / "module_utils" / "_errors.py").read_text(encoding="utf-8").splitlines()[:3]
LINKED = {"galaxy.yml", "meta", "playbooks", "plugins", "roles"}
SETS = ("runtime", "tools", "upload", "demo", "test", "lint")


def known_files(*patterns: str) -> list[Path]:
    """Files that git has, or would take."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *patterns], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    return sorted(path for name in listed.split("\0") if name and (path := ROOT / name).is_file() and not path.is_symlink())


MODULES = sorted(path.stem for path in (ROOT / "plugins" / "modules").glob("*.py"))


def pins(name: str) -> dict[str, list[str]]:
    """The versions of a requirements file by package; several where a marker chooses."""
    found: dict[str, list[str]] = {}
    for line in (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith(("#", "-c ", "-r ")):
            match = re.fullmatch(r"([a-z0-9-]+)==(\S+)( ; python_version (?:<|>=) \"3\.12\")?", line)
            assert match, f"{name}.txt: {line!r} is no exact pin"
            found.setdefault(match[1], []).append(match[2])
    return found


def test_headers() -> None:
    assert HEADER[0].startswith("# Copyright") and HEADER[2].startswith("# SPDX")
    bad = []
    for path in known_files("*.py", "tests/bin/*", ".ci/run", "Makefile"):
        lines = path.read_text(encoding="utf-8").splitlines()
        if lines and lines[0].startswith("#!"):
            lines.pop(0)
        wanted = HEADER if "plugins" in path.parts else HEADER[2:]
        if lines and not set(wanted) <= set(lines[:4]):
            bad.append(str(path.relative_to(ROOT)))
    assert not bad


@pytest.mark.parametrize("module", MODULES)
def test_modules_start_as_ansible_wants(module: str) -> None:
    text = (ROOT / "plugins" / "modules" / f"{module}.py").read_text(encoding="utf-8")
    assert text.startswith("#!/usr/bin/python\n")
    assert "\nDOCUMENTATION = r" in text
    assert "\nEXAMPLES = r" in text
    assert "\nRETURN = r" in text


def test_every_module_is_in_the_action_group() -> None:
    runtime = yaml.safe_load((ROOT / "meta" / "runtime.yml").read_text(encoding="utf-8"))
    assert runtime["action_groups"]["deploy"] == MODULES


def test_every_module_that_works_on_a_host_notices_when_it_is_gone() -> None:
    runtime = yaml.safe_load((ROOT / "meta" / "runtime.yml").read_text(encoding="utf-8"))
    routed = {name for name, route in runtime["plugin_routing"]["modules"].items() if route == {"action_plugin": "lastro.deploy.host_module"}}
    own = {path.stem for path in (ROOT / "plugins" / "action").glob("*.py")}
    assert routed == set(MODULES) - own


def test_links_are_one_for_each_entry_and_known_to_git() -> None:
    folder = ROOT / "collections" / "ansible_collections" / "lastro" / "deploy"
    assert {entry.name for entry in folder.iterdir()} == LINKED
    for entry in folder.iterdir():
        assert entry.is_symlink()
        assert entry.resolve() == ROOT / entry.name
    listed = subprocess.run(["git", "ls-files", "--stage", "collections"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    assert {(line.split()[0], Path(line.split()[-1]).name) for line in listed} == {("120000", name) for name in LINKED}


def test_nothing_is_excused_from_sanity() -> None:
    assert not list((ROOT / "tests" / "sanity").glob("ignore*"))


def test_pins_are_documented() -> None:
    text = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    for name in SETS:
        for package, versions in pins(name).items():
            for version in versions:
                assert re.search(rf"^\| {re.escape(package)} \| [^|]*{re.escape(version)}[^|]* \| [^|]", text, re.MULTILINE), f"{package} {version}"


def test_pins_do_not_contradict() -> None:
    constraints = pins("constraints")
    direct = {package for name in SETS for package in pins(name)}
    assert not direct & set(constraints)
    assert sum(len(pins(name)) for name in SETS) == len(direct)


def generate_docs(directory: Path, *options: str) -> int:
    """The exit status of tests/bin/generate-docs."""
    command = [sys.executable, str(ROOT / "tests" / "bin" / "generate-docs"), str(directory), *options]
    return subprocess.run(command, capture_output=True, check=False).returncode


def test_generated_documentation(tmp_path: Path) -> None:
    assert generate_docs(tmp_path, "--check") == 1
    assert not list(tmp_path.iterdir())
    (tmp_path / "gone.md").touch()
    assert generate_docs(tmp_path) == 0
    assert {path.stem for path in tmp_path.iterdir()} == {*MODULES, "README"}
    text = (tmp_path / "new_secrets.md").read_text(encoding="utf-8")
    assert "| `dest` | path | **required** | The directory for both files" in text
    assert '| `keys` | list of str | `["vault_secret_key", "vault_token_encryption_key"]` |' in text
    assert "| `idempotent` | none |" in text
    assert generate_docs(tmp_path, "--check") == 0
    (tmp_path / "new_secrets.md").write_text(text + "more", encoding="utf-8")
    assert generate_docs(tmp_path, "--check") == 1


def test_committed_documentation_is_up_to_date() -> None:
    assert generate_docs(ROOT / "docs" / "modules", "--check") == 0, "run: make docs"
