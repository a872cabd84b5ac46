# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Pythons of this machine, each with the ansible-core that its pins bring."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

BIN = Path(__file__).resolve().parents[1] / "bin"
HERE = f"{sys.version_info[0]}.{sys.version_info[1]}"
PYTHONS = dict(line.split(" ", 1) for line in subprocess.run([BIN / "find-pythons"], capture_output=True, text=True, check=True).stdout.splitlines())
VERSIONS = sorted({HERE, *PYTHONS})


def programs(version: str) -> Path:
    """The directory of ansible-playbook for a version: the tests' own environment, or one with the pins that stays in the cache."""
    if version == HERE:
        return Path(sys.executable).parent
    cache = subprocess.run([BIN / "cache-directory"], capture_output=True, text=True, check=True).stdout.strip()
    environment = Path(cache) / f"venv-{version}"
    subprocess.run([BIN / "make-venv", environment, "runtime"], env={**os.environ, "PYTHON": PYTHONS[version]}, check=True)
    return environment / "bin"
