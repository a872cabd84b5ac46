# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""new_project and new_secrets: what they write, what they refuse, and what they never show."""

from __future__ import annotations

import base64
import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from pyrage import x25519

ROOT = Path(__file__).resolve().parents[2]
PROJECT = ROOT / "roles" / "new_project" / "files" / "project"
PASSWORD = "correct horse battery staple"
SECRET = re.compile(r"AGE-SECRET-KEY-\w+|[A-Za-z0-9_-]{43}=")


def playbook(cwd: Path, name: str, *options: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run lastro.deploy.NAME in *cwd* and return how it ended, in JSON."""
    command = [Path(sys.executable).parent / "ansible-playbook", f"lastro.deploy.{name}", "-i", "localhost,", *options]
    settings = {
        **{key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_") or key.startswith("ANSIBLE_WORKER_")},
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"),
        "ANSIBLE_HOME": str(cwd / ".ansible-home"),
        **environment,
    }
    return subprocess.run(command, cwd=cwd, env=settings, capture_output=True, text=True, check=False)


def files(directory: Path) -> dict[str, bytes]:
    """Content by relative path."""
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def recap(output: str) -> dict[str, int]:
    """The figures of the one host."""
    (line,) = re.findall(r"^localhost +: (.*)$", output, re.MULTILINE)
    return {name: int(number) for name, number in (part.split("=") for part in line.split())}


def test_writes_a_project_and_nothing_twice(tmp_path: Path) -> None:
    checked = playbook(tmp_path, "new_project", "-e", "new_project_dest=mine", "--check", "--diff")
    assert (checked.returncode, (tmp_path / "mine").exists()) == (0, False), checked.stdout + checked.stderr
    assert "+deploy_environment: prod" in checked.stdout
    written = playbook(tmp_path, "new_project", "-e", "new_project_dest=mine")
    assert written.returncode == 0, written.stdout + written.stderr
    expected = {name.replace("gitignore", ".gitignore"): content for name, content in files(PROJECT).items()}
    assert files(tmp_path / "mine") == expected
    again = playbook(tmp_path, "new_project", "-e", f"new_project_dest={tmp_path}/mine")
    assert recap(again.stdout)["changed"] == 0
    (tmp_path / "mine" / "prod" / "hosts").unlink()
    assert recap(playbook(tmp_path, "new_project", "-e", "new_project_dest=mine").stdout)["changed"] == 1
    assert files(tmp_path / "mine") == expected


def test_refuses_to_overwrite_and_names_all(tmp_path: Path) -> None:
    assert playbook(tmp_path, "new_project", "-e", "new_project_dest=mine").returncode == 0
    (tmp_path / "mine" / "prod" / "hosts").write_text("[app]\nown\n", encoding="utf-8")
    (tmp_path / "mine" / "deploy.yml").unlink()
    (tmp_path / "mine" / "deploy.yml").mkdir()
    (tmp_path / "mine" / "status.yml").unlink()
    before = files(tmp_path / "mine")
    refused = playbook(tmp_path, "new_project", "-e", "new_project_dest=mine")
    assert refused.returncode == 2
    assert re.search(r"differ from what would be written: deploy\.yml, prod/hosts\.", refused.stdout)
    assert files(tmp_path / "mine") == before


def test_a_directory_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refused = playbook(tmp_path, "new_project", "-e", "new_project_dest=file/mine")
    assert refused.returncode == 2
    assert "file/mine cannot be written: Not a directory" in refused.stdout


def test_wants_to_know_where(tmp_path: Path) -> None:
    for name in ("new_project", "new_secrets"):
        refused = playbook(tmp_path, name)
        assert refused.returncode == 2
        assert f"{name}_dest=" in refused.stdout


FILLED = {
    "deploy_app": "calendar-api",
    "deploy_version": "v1",
    "  url": "/srv/calendar-api.git",
    "deploy_user": "calendar",
    "deploy_url": "http://127.0.0.1:8080",
    "    command": "gunicorn --bind {bind} app:app",
}
SERVICES = {
    "DATABASE_URL": "postgresql://app:secret-of-the-database@db/app",
    "REDIS_URL": "redis://redis:6379/0",
    "EVIDENCE_KEY": "secret-of-the-evidence-of-both-environments",
}
PLAN = """
- hosts: localhost
  connection: local
  gather_facts: false
  tasks:
    - lastro.deploy.plan: {artifact: false, environment: "{{ wanted }}"}
"""


def fill_in(directory: Path, environment: str) -> None:
    """Do what the template asks for."""
    profile, hosts = directory / environment / "group_vars" / "all" / "main.yml", directory / environment / "hosts"
    text = profile.read_text(encoding="utf-8").replace("{address: FILL_IN}", "{address: ':8080'}")
    for key, value in FILLED.items():
        text, count = re.subn(f"(?m)^{key}: FILL_IN(?= |$)", f"{key}: '{value}'", text)
        assert count == 1, key
    assert "FILL_IN" not in re.sub(r"(?m)default\(\[?'FILL_IN'|default='FILL_IN'|^ *#.*$", "", text)
    profile.write_text(text, encoding="utf-8")
    hosts.write_text(hosts.read_text(encoding="utf-8").replace("FILL_IN_", "HOST_"), encoding="utf-8")


@pytest.mark.parametrize("environment", ["prod", "staging"])
def test_a_filled_in_project_can_be_planned(environment: str, tmp_path: Path, password_file: Path) -> None:
    assert playbook(tmp_path, "new_project", "-e", "new_project_dest=.").returncode == 0
    inventory = ("-i", environment, "--vault-password-file", str(password_file))
    unfilled = playbook(tmp_path, "deploy", *inventory)
    assert unfilled.returncode == 2
    named = set(re.findall(r"^ +- ([\w.\[\]]+): is not filled in", unfilled.stdout, re.MULTILINE))
    options = {
        "deploy_source.url",
        "deploy_processes.web.command",
        "deploy_site.address",
        "deploy_backup.identity",
        "deploy_env.SECRET_KEY",
        "deploy_evidence.key",
    }
    assert options | {"deploy_app", "deploy_version", "deploy_user", "deploy_url", "deploy_env.DATABASE_URL", "deploy_env.REDIS_URL"} <= named
    assert {"FILL_IN_APP1", "FILL_IN_PROXY1"} <= set(re.findall(r"FILL_IN_\w+", unfilled.stdout))
    assert "UNREACHABLE" not in unfilled.stdout
    assert playbook(tmp_path, "new_secrets", "-e", f"new_secrets_dest={environment}/group_vars/all", *inventory).returncode == 0
    fill_in(tmp_path, environment)
    (tmp_path / "plan.yml").write_text(PLAN, encoding="utf-8")
    program = [str(Path(sys.executable).parent / "ansible-playbook"), "plan.yml", *inventory, "-e", f"wanted={environment}", "-vv"]
    services = {f"{environment.upper()}_{name}": value for name, value in SERVICES.items()}
    settings = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"), "ANSIBLE_HOME": str(tmp_path / "home"), **services}
    planned = subprocess.run(program, cwd=tmp_path, env=settings, capture_output=True, text=True, check=False)
    assert planned.returncode == 0, planned.stdout + planned.stderr
    assert "secret-of-the" not in planned.stdout
    assert not SECRET.search(planned.stdout)


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_text(PASSWORD + "\n", encoding="utf-8")
    return path


def decrypted(path: Path, password_file: Path) -> dict[str, str]:
    """The variables in a vaulted file, by the program that a user would take."""
    program = Path(sys.executable).parent / "ansible-vault"
    text = subprocess.run([program, "view", "--vault-password-file", password_file, path], capture_output=True, text=True, check=True).stdout
    variables: dict[str, str] = yaml.safe_load(text)
    return variables


def test_writes_vaulted_secrets_and_shows_none(tmp_path: Path, password_file: Path) -> None:
    dest = tmp_path / "prod" / "group_vars" / "all"
    options = ("-e", "new_secrets_dest=prod/group_vars/all", "--vault-password-file", password_file, "--diff")
    checked = playbook(tmp_path, "new_secrets", *options, "--check")
    assert (checked.returncode, recap(checked.stdout)["changed"], dest.exists()) == (0, 1, False), checked.stdout + checked.stderr
    written = playbook(tmp_path, "new_secrets", *options, "-vvv")
    assert written.returncode == 0, written.stdout + written.stderr
    assert sorted(files(dest)) == ["recipients.yml", "vault.yml"]
    assert stat.S_IMODE((dest / "vault.yml").stat().st_mode) == 0o600
    variables = decrypted(dest / "vault.yml", password_file)
    assert list(variables) == ["vault_backup_identity", "vault_secret_key", "vault_token_encryption_key"]
    for name in ("vault_secret_key", "vault_token_encryption_key"):
        assert len(base64.urlsafe_b64decode(variables[name])) == 32
    assert len(set(variables.values())) == 3
    recipients = yaml.safe_load((dest / "recipients.yml").read_text(encoding="utf-8"))
    assert recipients == {"backup_recipients": [str(x25519.Identity.from_str(variables["vault_backup_identity"]).to_public())]}
    for text in (written.stdout, written.stderr, (dest / "recipients.yml").read_text(encoding="utf-8")):
        assert not SECRET.search(text)
        assert not any(value in text for value in variables.values())


def test_never_overwrites_secrets(tmp_path: Path, password_file: Path) -> None:
    (tmp_path / "recipients.yml").write_text("mine", encoding="utf-8")
    refused = playbook(tmp_path, "new_secrets", "-e", "new_secrets_dest=.", "--vault-password-file", password_file)
    assert refused.returncode == 2
    assert f"{tmp_path}/recipients.yml is there already" in refused.stdout
    assert not (tmp_path / "vault.yml").exists()
    assert (tmp_path / "recipients.yml").read_text(encoding="utf-8") == "mine"


def test_needs_a_vault_password(tmp_path: Path, password_file: Path) -> None:
    without = playbook(tmp_path, "new_secrets", "-e", "new_secrets_dest=s")
    other = playbook(tmp_path, "new_secrets", "-e", "new_secrets_dest=s", "--vault-id", f"staging@{password_file}", ANSIBLE_VAULT_ENCRYPT_IDENTITY="prod")
    assert (without.returncode, other.returncode) == (2, 2)
    assert "no vault password to encrypt" in without.stdout
    assert "no vault password named prod (vault_encrypt_identity)" in other.stdout
    assert not (tmp_path / "s").exists()


def test_takes_the_identity_that_the_user_named(tmp_path: Path, password_file: Path) -> None:
    another = tmp_path / "another"
    another.write_text("something else\n", encoding="utf-8")
    ids = ("--vault-id", f"prod@{password_file}", "--vault-id", f"staging@{another}")
    written = playbook(
        tmp_path, "new_secrets", "-e", json.dumps({"new_secrets_dest": "s", "new_secrets_keys": ["pepper"]}), *ids, ANSIBLE_VAULT_ENCRYPT_IDENTITY="staging"
    )
    assert written.returncode == 0, written.stdout + written.stderr
    assert (tmp_path / "s" / "vault.yml").read_text(encoding="utf-8").startswith("$ANSIBLE_VAULT;1.2;AES256;staging\n")
    assert list(decrypted(tmp_path / "s" / "vault.yml", another)) == ["vault_backup_identity", "pepper"]
