# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A virtual environment on a host, from a tar file of wheels and without an index. PRIVATE to the collection."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from ._errors import LastroError, Text
from ._tar import extract
from ._whole_directory import begin, discard, finish

WHEELS = ".lastro-wheels"


def directory_name(wheels: Path, python: str) -> str:
    """The name of the environment that these wheels and this interpreter make: another one for other wheels."""
    return f"{wheels.stem}-{hashlib.sha256(python.encode()).hexdigest()[:8]}"


def make(venv: Path, wheels: Path, python: str, requirements: Path | None = None) -> int:
    """Make *venv* anew with *python* and install *requirements* from *wheels*, or all of them; how many wheels there were.

    Raises LastroError where *wheels* cannot be unpacked or *python* cannot do it, OSError where the disk is full.
    """
    discard(venv)
    begin(venv)
    _run([python, "-m", "venv", "--without-pip", str(venv)], "create the virtual environment")
    unpacked = venv / WHEELS
    extract(wheels, unpacked)
    found = sorted(str(path) for path in unpacked.iterdir())
    pip = next(unpacked.glob("pip-*.whl"), unpacked / "pip.whl")
    options = ["--quiet", "--no-index", "--disable-pip-version-check", f"--find-links={unpacked}"]
    wanted = [f"--requirement={requirements}"] if requirements else found
    _run([str(venv / "bin" / "python"), str(pip / "pip"), "install", *options, *wanted], "install the wheels")
    shutil.rmtree(unpacked)
    finish(venv)
    return len(found)


def _run(command: list[str], what: str) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON", "VIRTUAL_ENV", "__PYVENV"))}
    environment["PIP_CONFIG_FILE"] = os.devnull  # this host's own indexes and constraints are not the release's
    try:
        # A backend knows no AnsibleModule, so there is no run_command here.
        finished = subprocess.run(  # pylint: disable=ansible-bad-function
            command, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
        )
        reason = "" if finished.returncode == 0 else " ".join(finished.stderr.split())[-300:] or f"exit status {finished.returncode}"
    except OSError as error:
        reason = str(error)
    if reason:
        raise LastroError(
            f"This host cannot {what}: {reason}",
            remedy=Text(
                en="Check the interpreter (deploy_python or tool_environment_python; it needs the module venv) and the host's free space.",
                pt_BR="Verifique o interpretador (deploy_python ou tool_environment_python; precisa do módulo venv) e o espaço livre no host.",
            ),
        )


__all__ = ("directory_name", "make")
