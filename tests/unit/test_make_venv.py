# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""tests/bin/make-venv says in one sentence what a machine lacks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

MAKE_VENV = Path(__file__).resolve().parents[1] / "bin" / "make-venv"


def make_venv(directory: Path, python: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([MAKE_VENV, directory], env={**os.environ, "PYTHON": python, **environment}, capture_output=True, text=True, check=False)


def refusal(finished: subprocess.CompletedProcess[str]) -> str:
    """The one sentence."""
    assert finished.returncode == 1
    assert finished.stdout == ""
    (line,) = finished.stderr.splitlines()
    return line


def test_names_the_package_where_environments_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "lacking" / "ensurepip").mkdir(parents=True)
    (tmp_path / "lacking" / "ensurepip" / "__init__.py").write_text("raise ImportError", encoding="utf-8")
    line = refusal(make_venv(tmp_path / "venv", sys.executable, PYTHONPATH=str(tmp_path / "lacking")))
    assert "install the package python3-venv" in line
    assert f"apt-get install python3.{sys.version_info[1]}-venv" in line
    assert not (tmp_path / "venv").exists()


@pytest.mark.parametrize("script", [None, "exit 127"])
def test_no_interpreter(script: str | None, tmp_path: Path) -> None:
    python = tmp_path / "python"
    if script:
        python.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        python.chmod(0o755)
    assert "no working interpreter" in refusal(make_venv(tmp_path / "venv", str(python)))
    assert not (tmp_path / "venv").exists()


def test_an_old_interpreter(tmp_path: Path) -> None:
    python = tmp_path / "python"
    # It runs; it says that it is older than 3.11, and which it is.
    python.write_text('#!/bin/sh\ncase "$*" in *version_info*) exit 1;; --version) echo Python 3.9.2;; esac\n', encoding="utf-8")
    python.chmod(0o755)
    assert "Python 3.9.2 is too old: install Python 3.11 or newer" in refusal(make_venv(tmp_path / "venv", str(python)))


def test_makes_an_environment_once(tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    assert make_venv(venv, sys.executable).returncode == 0
    assert (venv / "bin" / "pip").exists()
    (venv / "kept").touch()
    again = make_venv(venv, sys.executable)
    assert (again.returncode, again.stdout, (venv / "kept").exists()) == (0, "", True)


def test_begins_again_where_an_environment_was_moved(tmp_path: Path) -> None:
    assert make_venv(tmp_path / "venv", sys.executable).returncode == 0
    (tmp_path / "venv").rename(tmp_path / "moved")
    assert make_venv(tmp_path / "moved", sys.executable).returncode == 0
    assert (tmp_path / "moved" / "bin" / "pip").read_text(encoding="utf-8").startswith(f"#!{tmp_path}/moved/bin/")
