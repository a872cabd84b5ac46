# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection resolves from a fresh clone and, installed from its tarball, from anywhere: for each Python of this machine."""

from __future__ import annotations

import collections.abc
import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .pythons import VERSIONS, programs

ROOT = Path(__file__).resolve().parents[2]
PLAYBOOK = """
- hosts: localhost
  connection: local
  gather_facts: false
  vars:
    ansible_python_interpreter: "{{ ansible_playbook_python }}"
  tasks:
    - name: A module that reads a file of the host
      lastro.deploy.env_contract:
        environment_file: "{{ environment_file }}"
        contract: {TOKEN_ENCRYPTION_KEY: {type: key, bytes: 32}}
      register: checked
    - name: A filter
      ansible.builtin.copy:
        content: "{{ {'checked': checked.checked, 'version': ansible_version.full} | to_json }}"
        dest: "{{ answer }}"
        mode: "0600"
"""


@dataclasses.dataclass(frozen=True)
class Ansible:
    """The programs of one environment, away from the user's own settings."""

    bin: Path
    home: Path

    def run(self, *command: str | Path, cwd: Path, collections_path: Path | None = None) -> str:
        """Standard output of a program of the environment."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_") or name.startswith("ANSIBLE_WORKER_")}
        environment |= {"ANSIBLE_HOME": str(self.home), "PATH": f"{self.bin}:{os.environ['PATH']}"}
        if collections_path is not None:
            environment["ANSIBLE_COLLECTIONS_PATH"] = str(collections_path)
        finished = subprocess.run([self.bin / command[0], *command[1:]], cwd=cwd, env=environment, capture_output=True, text=True, check=False)
        assert finished.returncode == 0, finished.stdout + finished.stderr
        return finished.stdout


@pytest.fixture(scope="module", params=VERSIONS)
def ansible(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Ansible:
    """The programs of each version."""
    return Ansible(programs(request.param), tmp_path_factory.mktemp("ansible-home"))


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What somebody gets who clones the repository as it would be committed now, links included."""
    target = tmp_path_factory.mktemp("clone")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    names = [name for name in listed.split("\0") if name and os.path.lexists(ROOT / name)]
    archive = subprocess.run(["tar", "--null", "--files-from=-", "-cf", "-"], cwd=ROOT, input="\0".join(names).encode(), capture_output=True, check=True).stdout
    subprocess.run(["tar", "-xf", "-"], cwd=target, input=archive, check=True)
    return target


@pytest.fixture(scope="module")
def installed(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory into which the tarball, built from the clone, was installed."""
    target = tmp_path_factory.mktemp("installed")
    ansible = Ansible(Path(sys.executable).parent, tmp_path_factory.mktemp("galaxy-home"))
    ansible.run("ansible-galaxy", "collection", "build", "--output-path", target, clone, cwd=target)
    (tarball,) = target.glob("*.tar.gz")
    ansible.run("ansible-galaxy", "collection", "install", tarball, "-p", target / "collections", "--offline", cwd=target)
    return target / "collections"


@pytest.fixture
def environment_file(tmp_path: Path) -> Path:
    """An environment file that fulfils the contract of PLAYBOOK."""
    path = tmp_path / "app.env"
    path.write_text('TOKEN_ENCRYPTION_KEY="SGVyZSBhcmUgdGhpcnR5LXR3byBieXRlcyEgMTIzNDU="\n', encoding="utf-8")
    path.chmod(0o600)
    return path


def module_names() -> list[str]:
    return sorted(f"lastro.deploy.{path.stem}" for path in (ROOT / "plugins" / "modules").glob("*.py"))


def check_modules_run(ansible: Ansible, run_in: Path, collections_path: Path | None, environment_file: Path) -> None:
    """PLAYBOOK, from *run_in*."""
    playbook, answer = environment_file.with_name("play.yml"), environment_file.with_name("answer.json")
    playbook.write_text(PLAYBOOK, encoding="utf-8")
    variables = json.dumps({"environment_file": str(environment_file), "answer": str(answer)})
    ansible.run("ansible-playbook", playbook, "-i", "localhost,", "-e", variables, cwd=run_in, collections_path=collections_path)
    result = json.loads(answer.read_text(encoding="utf-8"))
    assert result["checked"] == 1
    assert result["version"].startswith("2.19." if ansible_python(ansible) == "3.11" else "2.21.")


def ansible_python(ansible: Ansible) -> str:
    """3.11, 3.12, ..."""
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    return subprocess.run([ansible.bin / "python", "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_a_fresh_clone(ansible: Ansible, clone: Path, environment_file: Path) -> None:
    documented = json.loads(ansible.run("ansible-doc", "-t", "module", "--json", *module_names(), cwd=clone))
    assert sorted(documented) == module_names()
    check_modules_run(ansible, clone, None, environment_file)


def test_the_tarball_installed_elsewhere(ansible: Ansible, installed: Path, environment_file: Path, tmp_path: Path) -> None:
    assert [path for path in installed.rglob("*") if path.is_symlink()] == []
    documented = json.loads(ansible.run("ansible-doc", "-t", "module", "--json", *module_names(), cwd=tmp_path, collections_path=installed))
    assert sorted(documented) == module_names()
    check_modules_run(ansible, tmp_path, installed, environment_file)


@pytest.mark.parametrize("playbook", sorted(path.stem for path in (ROOT / "playbooks").glob("*.yml")))
def test_playbooks_resolve_by_name(playbook: str, installed: Path, tmp_path: Path) -> None:
    """Their roles and modules included: --syntax-check loads them all."""
    ansible = Ansible(Path(sys.executable).parent, tmp_path / "home")
    (tmp_path / "hosts").write_text("[app]\na\n[proxy]\na\n[primary]\na\n[load]\n", encoding="utf-8")
    ansible.run("ansible-playbook", f"lastro.deploy.{playbook}", "--syntax-check", "-i", tmp_path / "hosts", cwd=tmp_path, collections_path=installed)


def test_nothing_in_the_clone_changes_by_using_it(clone: Path, ansible: Ansible) -> None:
    """The links stay links: the tools that would replace them by copies are not among those that we use."""
    folder = clone / "collections" / "ansible_collections" / "lastro" / "deploy"
    ansible.run("ansible-galaxy", "collection", "list", cwd=clone)
    assert all(entry.is_symlink() for entry in folder.iterdir())


@pytest.fixture
def project(installed: Path, tmp_path: Path) -> collections.abc.Iterator[tuple[Ansible, Path]]:
    """A project of a user's own, by new_project."""
    ansible = Ansible(Path(sys.executable).parent, tmp_path / "home")
    ansible.run("ansible-playbook", "lastro.deploy.new_project", "-e", "new_project_dest=mine", cwd=tmp_path, collections_path=installed)
    yield ansible, tmp_path / "mine"


def test_deploy_in_a_project_of_ones_own(project: tuple[Ansible, Path], installed: Path) -> None:
    ansible, directory = project
    ansible.run("ansible-playbook", "deploy.yml", "-i", "prod", "--syntax-check", cwd=directory, collections_path=installed)
    ansible.run("ansible-inventory", "-i", "staging", "--list", cwd=directory, collections_path=installed)
