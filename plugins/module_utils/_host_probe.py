# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a host can take a release: interpreter, room, environment, services, backup and sign-offs in one look. PRIVATE to the collection."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import subprocess
import types
import typing as t
from pathlib import Path

from . import _backup_upload, _env_contract, _pg_dump, _pgbackrest, _postgres, _service_probe, _signoff
from ._argspec import ArgumentSpec
from ._errors import LastroError, Text
from ._findings import from_error

Finding = dict[str, t.Any]

BACKUPS: dict[str, types.ModuleType] = {"pg_dump": _pg_dump, "pgbackrest": _pgbackrest}
"""The backend of each provider of backups; they share the names that are called here."""


def argument_spec() -> ArgumentSpec:
    """The options of the module host_probe."""
    return ArgumentSpec(
        {
            "python": {"type": "str", "default": "python3"},
            "directories": {"type": "list", "elements": "path", "default": []},
            "min_free_mb": {"type": "int", "default": 200},
            "environment_file": {"type": "path"},
            "contract": {"type": "dict", "default": {}},
            "services": {"type": "list", "elements": "dict", "default": []},
            "backup": {"type": "dict", "default": {}},
            "backup_provider": {"type": "str", "default": "pg_dump", "choices": sorted(BACKUPS)},
            "upload": _backup_upload.options(),
            "signoffs": {"type": "dict", "default": {}},
        }
    )


@dataclasses.dataclass(frozen=True)
class Look:
    """Everything that is looked at on one host; an empty part is not."""

    python: str
    directories: tuple[str, ...]
    min_free_mb: int
    contract: dict[str, t.Any]
    services: dict[str, t.Any]
    provider: str
    backup: dict[str, t.Any]
    signoffs: dict[str, t.Any]

    def secrets(self) -> set[str]:
        """Passwords, to be censored."""
        found = _service_probe.secrets_in(self.services) if self.services else set()
        with contextlib.suppress(LastroError):  # it comes as a finding
            found.update(_postgres.settings_from_params(self.backup).secrets() if self.backup else ())
        found.update(filter(None, [self.backup.get("identity")]))
        return found


def look_from(options: t.Mapping[str, t.Any]) -> Look:
    """The look that the options of ``argument_spec`` describe. Raises LastroError for a part that is none."""
    file = {"environment_file": options["environment_file"]}
    return Look(
        options["python"],
        tuple(options["directories"]),
        options["min_free_mb"],
        _checked(_env_contract.argument_spec(), "contract", {**file, "contract": options["contract"], "report_only": True}, options),
        _checked(_service_probe.argument_spec(), "services", {**file, "targets": options["services"], "report_only": True}, options),
        options["backup_provider"],
        _checked(BACKUPS[options["backup_provider"]].argument_spec(), "backup", _backup_options(options), options),
        options["signoffs"],
    )


def _backup_options(options: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """The options of the provider's module. A URL of its own goes before the environment file; pgBackRest has its own stores."""
    file = {} if "database_url" in options["backup"] else {"environment_file": options["environment_file"]}
    upload = {"upload": options["upload"]} if options["backup_provider"] == "pg_dump" else {}
    return {**file, **options["backup"], **upload}


def _checked(spec: ArgumentSpec, name: str, values: dict[str, t.Any], options: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    return spec.checked(f"deploy_{'env_contract' if name == 'contract' else name}", values) if options[name] else {}


def run(look: Look) -> dict[str, t.Any]:
    """{python_version, checked, findings, signoffs}: the result of the module host_probe, all findings in one list."""
    host = probe(look.python, look.directories, look.min_free_mb)
    signed = _signoffs(look.signoffs) if look.signoffs else {}
    parts = [
        host,
        _env_contract.run(look.contract) if look.contract else {},
        _service_probe.run(look.services) if look.services else {},
        _backup(BACKUPS[look.provider], look.backup) if look.backup else {},
        signed,
    ]
    return {
        "python_version": host["python_version"],
        "checked": sum(part.get("checked", 0) for part in parts),
        "findings": [finding for part in parts for finding in part.get("findings", [])],
        "signoffs": signed.get("signoffs", []),
    }


def _signoffs(wanted: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    return _signoff.run(Path(wanted["state_dir"]), release=wanted["release"], name=None, by="", comment="", required=wanted["required"], write=False)


def _backup(provider: types.ModuleType, options: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """What a backup would fail at."""
    try:
        provider.run(_postgres.settings_from_params(options), provider.options_from_params(options), check_mode=True)
    except LastroError as error:
        return {"findings": [from_error("backup", error).as_result("target")]}
    return {}


def probe(python: str, directories: t.Sequence[str], min_free_mb: int) -> dict[str, t.Any]:
    """{python_version, checked, findings} of the host itself."""
    version = python_version(python)
    findings = [] if version else [_no_python(python)]
    for directory in directories:
        findings += look_at(Path(directory), min_free_mb)
    return {"python_version": version, "checked": 1 + len(directories), "findings": findings}


def python_version(python: str) -> str:
    """Version such as "3.11" of an interpreter that has the module venv; "" where there is none."""
    program = "import sys, venv; print(f'{sys.version_info.major}.{sys.version_info.minor}')"
    try:
        # A backend knows no AnsibleModule, so there is no run_command here.
        finished = subprocess.run(  # pylint: disable=ansible-bad-function
            [python, "-c", program], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
        )
    except OSError:
        return ""
    return finished.stdout.strip() if finished.returncode == 0 else ""


def look_at(directory: Path, min_free_mb: int) -> list[Finding]:
    """Findings on one directory, or on its nearest parent where it does not exist yet."""
    existing = next(path for path in (directory, *directory.parents) if path.exists())
    if not os.access(existing, os.W_OK | os.X_OK):
        return [_not_writable(directory, existing)]
    free = shutil.disk_usage(existing).free // 2**20
    return [_too_full(directory, free, min_free_mb)] if free < min_free_mb else []


def _no_python(python: str) -> Finding:
    remedy = Text(
        f"Install Python 3.11 or newer with its module venv, or name the interpreter in deploy_python (now {python}).",
        f"Instale Python 3.11 ou mais novo com o módulo venv, ou indique o interpretador em deploy_python (agora {python}).",
    )
    return {"target": "deploy_python", "problem": f"{python} does not start or lacks the module venv.", "remedy": remedy._asdict()}


def _not_writable(directory: Path, existing: Path) -> Finding:
    remedy = Text(f"Let the deploying user write to {existing}, or use become.", f"Permita que o usuário do deploy grave em {existing}, ou use become.")
    return {"target": str(directory), "problem": f"{existing} cannot be written.", "remedy": remedy._asdict()}


def _too_full(directory: Path, free: int, needed: int) -> Finding:
    remedy = Text(
        f"Free at least {needed - free} MB on that disk, or lower deploy_min_free_mb.",
        f"Libere pelo menos {needed - free} MB nesse disco, ou reduza deploy_min_free_mb.",
    )
    return {"target": str(directory), "problem": f"the disk is full: {free} MB are free, {needed} MB are needed.", "remedy": remedy._asdict()}


__all__ = ("Look", "argument_spec", "look_at", "look_from", "probe", "python_version", "run")
