# SPDX-License-Identifier: GPL-3.0-or-later
"""The environment file: what is written is read again, by us, by a shell, and by the program that starts with it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import typing as t
from pathlib import Path

import pytest
from ansible_collections.lastro.deploy.plugins.module_utils import _environment_file
from ansible_collections.lastro.deploy.plugins.module_utils._environment_file import parse, read, render
from hypothesis import given
from hypothesis import strategies as st

# A name of its own, so that none is the shell's (UID, IFS).
names = st.from_regex(r"T_[A-Za-z0-9_]{0,8}", fullmatch=True)
characters = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
# Text that likes to be taken for something else.
awkward = st.text(st.sampled_from("\\\"'$`!#=\n\r\t {}()*;&|~éß\u2028ÿA1"), max_size=12)
values = st.text(characters, max_size=20) | awkward


@given(st.dictionaries(names, values, max_size=5))
def test_round_trip(variables: dict[str, str]) -> None:
    assert parse(render(variables)) == variables


@given(st.dictionaries(names, values, max_size=5))
def test_round_trip_through_a_file(variables: dict[str, str]) -> None:
    with tempfile.NamedTemporaryFile("wb") as file:
        file.write(render(variables).encode())
        file.flush()
        assert read(file.name) == variables


@given(st.dictionaries(names, values.map(lambda value: value.replace("\n", "")), min_size=1, max_size=8))
def test_a_shell_reads_the_same(variables: dict[str, str]) -> None:
    with tempfile.NamedTemporaryFile("wb") as file:
        file.write(render(variables).encode())
        file.flush()
        command = ["bash", "-c", 'set -a; . "$1"; exec /usr/bin/env -0', "bash", file.name]
        shown = subprocess.run(command, env={"LC_ALL": "C.UTF-8"}, capture_output=True, check=True).stdout.decode()
    found = dict(line.split("=", 1) for line in shown.split("\0") if line.startswith("T_"))
    assert found == variables


def test_rendering() -> None:
    assert render({"B": 5, "A": 'x"\\$`y', "C": True}) == 'A="x\\"\\\\\\$\\`y"\nB="5"\nC="True"\n'
    assert render({}) == ""


@pytest.mark.parametrize("name", ["", "1A", "A-B", "A B", "A\n", "A=B", "É"])
def test_a_name_that_no_shell_takes(name: str) -> None:
    with pytest.raises(ValueError, match="is not a variable name"):
        render({name: "x"})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A=1\nexport B = no\nexport C='two words'\n", {"A": "1", "C": "two words"}),
        ("  A=bare value  \n# B=2\n; C=3\n\n=4\nD=\n", {"A": "bare value", "D": ""}),
        ("A=\"x\"\r\nB=y\r\nC='z'\r\n", {"A": "x", "B": "y", "C": "z"}),
        ('A="open\nB=2\n', {"A": '"open', "B": "2"}),
        ('A="line\nB=not a variable"\nC=3', {"A": "line\nB=not a variable", "C": "3"}),
        ('A="tab\\t and \\n stay"', {"A": "tab\\t and \\n stay"}),
        ("A=1\nA=2\n", {"A": "2"}),
        ("A=it's\n", {"A": "it's"}),
    ],
)
def test_reading_what_a_human_wrote(text: str, expected: dict[str, str]) -> None:
    assert parse(text) == expected


def test_a_program_starts_with_the_variables(tmp_path: Path) -> None:
    file = tmp_path / "r1.env"
    file.write_text(render({"LASTRO_SECRET": 'p"w\n2', "PATH": os.environ["PATH"]}), encoding="utf-8")
    program = "import os, sys; print(repr(os.environ['LASTRO_SECRET']), sys.argv[1], os.environ['LASTRO_KEPT'])"
    launcher = [sys.executable, _environment_file.__file__, str(file)]
    shown = subprocess.run(
        [*launcher, sys.executable, "-c", program, "argument"], env={**os.environ, "LASTRO_KEPT": "1"}, capture_output=True, text=True, check=True
    ).stdout
    assert shown == "'p\"w\\n2' argument 1\n"


def test_it_replaces_its_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "r1.env").write_text(render({"LASTRO_A": "1"}), encoding="utf-8")
    replaced: list[t.Any] = []
    monkeypatch.setattr(os, "execvpe", lambda *arguments: replaced.extend(arguments))
    _environment_file.main([str(tmp_path / "r1.env"), "gunicorn", "app:app"])  # type: ignore[unreachable, unused-ignore]
    assert replaced[:2] == ["gunicorn", ["gunicorn", "app:app"]]
    assert replaced[2] == {**os.environ, "LASTRO_A": "1"}


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read(str(tmp_path / "none.env"))
