# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What may be unpacked, on a Python with the filter and on one without it: the same."""

from __future__ import annotations

import io
import stat
import tarfile
import typing as t
from pathlib import Path

import pytest
from ansible_collections.lastro.deploy.plugins.module_utils._errors import LastroError
from ansible_collections.lastro.deploy.plugins.module_utils._tar import extract

Member = tuple[str, dict[str, t.Any], bytes]


@pytest.fixture(params=["filter", "no filter"], autouse=True)
def python(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Python of the tests, and one before 3.11.4."""
    if request.param == "no filter":
        monkeypatch.delattr(tarfile, "data_filter")


def pack(path: Path, *members: Member) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, changes, content in members:
            member = tarfile.TarInfo(name)
            member.mode, member.size, member.uid = 0o644, len(content), 4711
            for attribute, value in changes.items():
                setattr(member, attribute, value)
            tar.addfile(member, io.BytesIO(content))
    return path


LINK = {"type": tarfile.SYMTYPE}
DIRECTORY = {"type": tarfile.DIRTYPE, "mode": 0o700}


def test_files_directories_and_links_of_its_own(tmp_path: Path) -> None:
    path = pack(
        tmp_path / "a.tar.gz",
        ("bin", DIRECTORY, b""),
        ("bin/run", {"mode": 0o4777}, b"#!/bin/sh\n"),
        ("/etc/passwd", {}, b"ours"),
        ("bin/again", {**LINK, "linkname": "run"}, b""),
        ("up", {**LINK, "linkname": "bin/../etc"}, b""),
        ("hard", {"type": tarfile.LNKTYPE, "linkname": "bin/run", "mode": 0o755}, b""),
    )
    assert extract(path, tmp_path / "out") == 6
    out = tmp_path / "out"
    assert (out / "etc" / "passwd").read_bytes() == b"ours"
    assert (out / "bin" / "again").read_bytes() == (out / "hard").read_bytes() == b"#!/bin/sh\n"
    found = (out / "bin" / "run").stat()
    assert (stat.S_IMODE(found.st_mode), found.st_uid) == (0o755, tmp_path.stat().st_uid)
    assert (out / "up").resolve() == out / "etc"


@pytest.mark.parametrize(
    "members",
    [
        [("../outside", {}, b"x")],
        [("a/../../outside", {}, b"x")],
        [("link", {**LINK, "linkname": "../outside"}, b"")],
        [("link", {**LINK, "linkname": "/etc/passwd"}, b"")],
        [("there", {**LINK, "linkname": "."}, b""), ("there/../../outside", {}, b"x")],
        [("deep", DIRECTORY, b""), ("deep/link", {**LINK, "linkname": "../.."}, b"")],
        [("hard", {"type": tarfile.LNKTYPE, "linkname": "../secret"}, b"")],
        [("pipe", {"type": tarfile.FIFOTYPE}, b"")],
        [("disk", {"type": tarfile.BLKTYPE}, b"")],
    ],
)
def test_nothing_reaches_out(tmp_path: Path, members: list[Member]) -> None:
    (tmp_path / "secret").write_text("theirs", encoding="ascii")
    path = pack(tmp_path / "a.tar.gz", *members)
    before = sorted(one.name for one in tmp_path.iterdir())
    with pytest.raises(LastroError, match=r"a\.tar\.gz cannot be unpacked: "):
        extract(path, tmp_path / "out")
    assert sorted(one.name for one in tmp_path.iterdir() if one.name != "out") == before
    assert not [one for one in (tmp_path / "out").rglob("*") if not one.resolve().is_relative_to(tmp_path / "out")]
