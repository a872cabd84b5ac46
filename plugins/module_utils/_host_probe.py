# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a host can take a release. PRIVATE to the collection."""

from __future__ import annotations

import os
import shutil
import subprocess
import typing as t
from pathlib import Path

from ._errors import Text

Finding = dict[str, t.Any]


def probe(python: str, directories: t.Sequence[str], min_free_mb: int) -> dict[str, t.Any]:
    """{python_version, checked, findings} of this host."""
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


__all__ = ("look_at", "probe", "python_version")
