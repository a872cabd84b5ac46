# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tool environment of a host: made once for the same wheels, exchanged at once, the one before kept."""

from __future__ import annotations

import collections.abc
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
from ansible_collections.lastro.deploy.plugins.module_utils import _whole_directory
from ansible_collections.lastro.deploy.plugins.modules import tool_environment

from .test_release import pack, pip_wheel, tiny_wheel

CallModule = collections.abc.Callable[..., dict[str, t.Any]]


@pytest.fixture
def wheels(tmp_path: Path) -> t.Callable[[str], Path]:
    pip = pip_wheel()

    def make(name: str) -> Path:
        return pack(tmp_path / f"wheels-{name}.tar", {pip.name: pip.read_bytes(), "tiny-1.0-py3-none-any.whl": tiny_wheel()}, "w")

    return make


def value(interpreter: str) -> str:
    return subprocess.run([interpreter, "-c", "import tiny; print(tiny.VALUE)"], capture_output=True, text=True, check=True).stdout.strip()


def test_one_is_made_exchanged_and_the_one_before_kept(tmp_path: Path, wheels: t.Callable[[str], Path], call_module: CallModule) -> None:
    link = tmp_path / "lastro" / "tools"
    options = {"path": str(link), "python": sys.executable}
    first = wheels("1")
    checked = call_module(tool_environment, check=True, wheels=str(first), **options)
    assert (checked["changed"], checked["wheels"], link.parent.exists()) == (True, 0, False)
    made = call_module(tool_environment, wheels=str(first), **options)
    assert (made["changed"], made["wheels"], made["interpreter"]) == (True, 2, str(link / "bin" / "python"))
    assert value(made["interpreter"]) == "7"
    again = call_module(tool_environment, wheels=str(first), **options)
    assert (again["changed"], again["wheels"]) == (False, 0)
    running = link.resolve()
    call_module(tool_environment, wheels=str(wheels("2")), **options)
    assert link.resolve() != running and value(str(running / "bin" / "python")) == value(made["interpreter"]) == "7"
    call_module(tool_environment, wheels=str(wheels("3")), **options)
    assert not running.exists() and value(made["interpreter"]) == "7"
    assert len(list(link.resolve().parent.iterdir())) == 2


def test_one_that_a_crash_left_unfinished_is_made_anew(tmp_path: Path, wheels: t.Callable[[str], Path], call_module: CallModule) -> None:
    link = tmp_path / "lastro" / "tools"
    options = {"path": str(link), "python": sys.executable, "wheels": str(wheels("1"))}
    call_module(tool_environment, **options)
    (link / _whole_directory.UNFINISHED).touch()
    (link / "bin" / "python").unlink()
    made = call_module(tool_environment, **options)
    assert (made["changed"], value(made["interpreter"])) == (True, "7")


def test_an_interpreter_that_is_not_there(tmp_path: Path, wheels: t.Callable[[str], Path], call_module: CallModule) -> None:
    refused = call_module(tool_environment, path=str(tmp_path / "lastro" / "tools"), python="/usr/bin/python9.99", wheels=str(wheels("1")))
    assert refused["failed"] and "cannot create the virtual environment" in refused["msg"]
    assert not (tmp_path / "lastro" / "tools").exists()
