# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Turns the inventory into a plan on the controller, before any host is contacted."""

from __future__ import annotations

import collections.abc
import datetime
import getpass
import json
import os
import re
import secrets
import typing as t
from pathlib import Path

import yaml
from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.lastro.deploy.plugins.module_utils import _artifact, _batches, _environment_file, _plan, _texts
from ansible_collections.lastro.deploy.plugins.module_utils._controller import this_controller
from ansible_collections.lastro.deploy.plugins.module_utils._errors import LastroError

display = Display()
DEFAULTS = Path(__file__).resolve().parents[2] / "roles" / "deploy" / "defaults" / "main.yml"


class ActionModule(ActionBase):
    """See plugins/modules/plan.py for the documentation."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Validate the profile, build the artifact and return the plan."""
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        _valid, options = self.validate_argument_spec(
            argument_spec={
                "environment": {"type": "str", "choices": ["staging", "prod"]},
                "artifact": {"type": "bool", "default": True},
                "title": {"type": "bool", "default": True},
            }
        )
        groups = {name: list(members) for name, members in variables["groups"].items()}
        profile, unreadable = self._profile(variables, groups)
        found = _plan.findings(profile, groups, self._known(), unreadable) + _policy(profile, options["environment"])
        if found:
            result.update(_refusal(found))
            return result
        try:
            plan = self._plan(profile, groups, build=options["artifact"])
        except LastroError as error:
            return {**result, "failed": True, **error.as_result()}
        if options["title"]:
            display.display(_texts.run_title(plan, profile.get("deploy_language", "en")))
        return {**result, "changed": False, **plan}

    @staticmethod
    def _known() -> set[str]:
        return set(yaml.safe_load(DEFAULTS.read_text(encoding="utf-8")))

    @staticmethod
    def _profile(variables: dict[str, t.Any], groups: dict[str, list[str]]) -> tuple[dict[str, t.Any], dict[str, str]]:
        """The deploy_* variables as the primary host sees them, and those that cannot be evaluated."""
        primary = next(iter(groups.get("primary", ())), "localhost")
        host_variables = variables["hostvars"].get(primary, variables)
        profile: dict[str, t.Any] = {}
        unreadable: dict[str, str] = {}
        for name in sorted(host_variables):
            if not name.startswith("deploy_"):
                continue
            try:
                profile[name] = _plain(host_variables[name])
            except AnsibleError as error:
                unreadable[name] = str(error.message).splitlines()[0][:200]
        return profile, unreadable

    def _plan(self, profile: dict[str, t.Any], groups: dict[str, list[str]], *, build: bool) -> dict[str, t.Any]:
        build_dir = _directory(profile.get("deploy_build_dir") or ".lastro/build") / profile["deploy_app"]
        source = profile["deploy_source"]
        version = str(profile["deploy_version"])
        hosts = _plan.taking_part(groups)
        plan: dict[str, t.Any] = {
            "run_id": _run_id(datetime.datetime.now(tz=datetime.UTC)),
            "app": profile["deploy_app"],
            "deploy_environment": profile["deploy_environment"],
            "version": version,
            "actor": profile.get("deploy_actor") or os.environ.get("SUDO_USER") or getpass.getuser(),
            "reason": profile.get("deploy_reason") or "",
            "controller": this_controller(os.getppid()),
            "hosts": hosts,
            "batches": _batches.batches(hosts["app"], profile.get("deploy_batches") or [1]),
            "build_dir": str(build_dir),
            "evidence_dir": str(_directory(profile.get("deploy_evidence", {}).get("dir") or ".lastro/evidence")),
        }
        if not build:
            return plan
        archive = _artifact.build_source(
            _artifact.Source(kind=source["type"], url=source["url"], version=str(source.get("version") or version), sha256=source.get("sha256", "")), build_dir
        )
        sha256 = _artifact.digest(archive)
        parts = [_environment_file.render(profile["deploy_env"]), json.dumps(profile["deploy_processes"], sort_keys=True, default=str)]
        release = {"id": _artifact.release_id(version, sha256, parts), "version": version, "sha256": sha256}
        return {**plan, "release": release, "archive": str(archive)}


def _directory(path: str) -> Path:
    """A directory on the controller, relative to where ansible-playbook was started."""
    return Path(path).expanduser().absolute()


def _plain(value: object) -> t.Any:  # noqa: ANN401 - an inventory value has any type
    """*value* without Ansible's lazy containers."""
    if isinstance(value, collections.abc.Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _run_id(moment: datetime.datetime) -> str:
    job = os.environ.get("AWX_JOB_ID") or os.environ.get("JOB_ID", "")
    return f"{moment:%Y%m%dT%H%M%S}-{re.sub(r'[^A-Za-z0-9]+', '_', job) or secrets.token_hex(2)}"


def _policy(profile: dict[str, t.Any], environment: str | None) -> list[_plan.Finding]:
    found = profile.get("deploy_environment")
    if environment is None or found == environment:
        return []
    return [
        _plan.Finding(
            "deploy_environment", f"is {found!r}, this playbook is for {environment}.", f"Run it with the inventory of {environment} (-i {environment})."
        )
    ]


def _refusal(found: list[_plan.Finding]) -> dict[str, t.Any]:
    lines = "\n".join(f"  - {finding}" for finding in found)
    return {
        "failed": True,
        "msg": f"The inventory needs {len(found)} correction{'s' if len(found) > 1 else ''} before any host is contacted:\n{lines}",
        "problems": [vars(finding) for finding in found],
    }
