# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the built collection holds, and what it must not."""

from __future__ import annotations

import collections.abc
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LEFT_OUT = {
    ".ansible",
    ".ci",
    ".demo",
    ".git",
    ".gitignore",
    ".hypothesis",
    ".lastro",
    ".venv",
    "ansible.cfg",
    "collections",
    "dist",
    "inventories",
    "molecule",
    "prod",
    "pyproject.toml",
    "staging",
}


@pytest.fixture(scope="module")
def tarball(tmp_path_factory: pytest.TempPathFactory) -> collections.abc.Iterator[tarfile.TarFile]:
    output = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [Path(sys.executable).parent / "ansible-galaxy", "collection", "build", "--output-path", output, ROOT], cwd=output, capture_output=True, check=True
    )
    (path,) = output.glob("lastro-deploy-*.tar.gz")
    with tarfile.open(path) as archive:
        yield archive


def test_no_links(tarball: tarfile.TarFile) -> None:
    assert [member.name for member in tarball if not (member.isfile() or member.isdir())] == []


def test_leaves_out_what_belongs_to_the_repository(tarball: tarfile.TarFile) -> None:
    names = tarball.getnames()
    assert {name.split("/")[0] for name in names} & LEFT_OUT == set()
    assert [name for name in names if "__pycache__" in name or name.endswith((".pyc", ".tar.gz", ".part"))] == []


def test_holds_what_a_user_needs(tarball: tarfile.TarFile) -> None:
    names = set(tarball.getnames())
    assert {"MANIFEST.json", "FILES.json", "LICENSE", "meta/runtime.yml", "plugins/module_utils/_errors.py", "changelogs/changelog.yaml"} <= names
    for folder in ("plugins", "roles", "playbooks"):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                assert str(path.relative_to(ROOT)) in names


def test_licence_is_named(tarball: tarfile.TarFile) -> None:
    manifest = tarball.extractfile("MANIFEST.json")
    assert manifest is not None
    information = json.load(manifest)["collection_info"]
    assert information["license"] == ["GPL-3.0-or-later"]
    assert information["dependencies"] == {}
