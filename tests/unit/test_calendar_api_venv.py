# SPDX-License-Identifier: GPL-3.0-or-later
"""The environment that the tests run the application in: made once, complete or not at all."""

from __future__ import annotations

import concurrent.futures
import subprocess
from pathlib import Path

import pytest
from demo import application_venv as module
from demo.application_venv import application_venv


@pytest.fixture
def requirements(tmp_path: Path) -> Path:
    path = tmp_path / "requirements.txt"
    path.write_text("# nothing\n", encoding="utf-8")
    return path


def test_it_is_made_once_also_when_three_ask_at_once(requirements: Path, tmp_path: Path) -> None:
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        found = {str(python) for python in pool.map(lambda _unused: application_venv(requirements, tmp_path / "base"), range(3))}
    (python,) = found
    made = (Path(python).parents[1] / module.COMPLETE).stat().st_mtime_ns
    assert str(application_venv(requirements, tmp_path / "base")) == python
    assert (Path(python).parents[1] / module.COMPLETE).stat().st_mtime_ns == made
    subprocess.run([python, "-c", "import sys; assert sys.prefix != sys.base_prefix"], check=True)


def test_one_that_was_cut_off_is_made_again(requirements: Path, tmp_path: Path) -> None:
    python = application_venv(requirements, tmp_path / "base")
    (python.parents[1] / module.COMPLETE).unlink()
    (python.parents[1] / "left over").touch()
    assert application_venv(requirements, tmp_path / "base") == python
    assert not (python.parents[1] / "left over").exists()


def test_other_requirements_are_another_environment(requirements: Path, tmp_path: Path) -> None:
    first = application_venv(requirements, tmp_path / "base")
    requirements.write_text("# nothing else\n", encoding="utf-8")
    assert application_venv(requirements, tmp_path / "base") != first


def test_requirements_that_do_not_install(requirements: Path, tmp_path: Path) -> None:
    requirements.write_text("not a requirement\n", encoding="utf-8")
    for _unused in range(2):
        with pytest.raises(RuntimeError, match="requirement"):
            application_venv(requirements, tmp_path / "base")


def test_a_directory_that_others_can_write(requirements: Path, tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base").chmod(0o777)
    with pytest.raises(RuntimeError, match="only this user can write"):
        application_venv(requirements, tmp_path / "base")
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(RuntimeError, match="only this user can write"):
        application_venv(requirements, tmp_path / "link")
