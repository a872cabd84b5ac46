# SPDX-License-Identifier: GPL-3.0-or-later
"""The files that a proxy of ours looks for: what they mean, odd ones made by hand, and the order in which they come and go."""

from __future__ import annotations

import collections.abc
import errno
import json
import os
import stat
import typing as t
from pathlib import Path

import pytest
from ansible_collections.lastro.deploy.plugins.module_utils import _proxy_flags as flags_module
from ansible_collections.lastro.deploy.plugins.module_utils._errors import LastroError
from ansible_collections.lastro.deploy.plugins.module_utils._proxy_flags import Flags, Found, Wanted, Words
from ansible_collections.lastro.deploy.plugins.modules import caddy_info
from hypothesis import given
from hypothesis import strategies as st

CallModule = collections.abc.Callable[..., dict[str, t.Any]]
PAGES = {"html": "<p>back soon</p>\n", "json": "{}\n"}
WORDS = Words("run-1", "ana", "moving", "22:30")
TOKEN = "t0ken-" * 10


@pytest.fixture
def flags(tmp_path: Path) -> Flags:
    made = Flags(tmp_path / "proxy")
    made.testers.mkdir(parents=True)
    made.pages.mkdir()
    return made


def apply(wanted: list[Wanted]) -> dict[str, t.Any]:
    return flags_module.apply(wanted, write=True)


@pytest.mark.parametrize(
    ("content", "fields"),
    [
        (b"", {}),
        (b"back at noon", {}),
        (b"{broken", {}),
        (b"[1, 2]", {}),
        (b'{"run_id": 7, "by": null}', {}),
        (b'{"by": "ana", "run_id": "run-1", "extra": "x"}', {"by": "ana", "run_id": "run-1"}),
        # What is no JSON as a whole may still say who it was.
        (b'{"by":"ana", "message": "unclosed', {"by": "ana"}),
        (b'{"by": "An\\u00e1 \\"x\\" \\ud83d\\ude00"}', {"by": 'Aná "x" 😀'}),
        (b'{"by": "\\ud83d"}', {"by": "?"}),
        (b'{"by": "\\x"}', {}),
        (b'{"by": "a\nb"}', {}),
        (b'{"message": "\\"run_id\\": \\"run-1\\""}', {"message": '"run_id": "run-1"'}),
        (b'\xff\xfe{"by": "ana \xe1"}', {"by": "ana \ufffd"}),
        (b"\0" * 100, {}),
    ],
)
def test_what_a_flag_says(content: bytes, fields: dict[str, str]) -> None:
    assert flags_module.flag_fields(content) == fields
    assert flags_module.maintenance(Found("file", 0o644, content)) == {"on": True, **fields}


@given(st.binary() | st.text().map(lambda text: f'{{"by": "{text}"}}'.encode()))
def test_no_flag_is_too_odd(content: bytes) -> None:
    for value in flags_module.flag_fields(content).values():
        value.encode()


@given(st.text(), st.text(), st.text(), st.text())
def test_a_run_reads_what_it_wrote(run_id: str, by: str, message: str, until: str) -> None:
    wanted = flags_module.want_closed(Flags(Path("/x")), Found(), Words(run_id, by, message, until), PAGES, since="now", force=False)
    content = wanted[-1].content or b""
    assert flags_module.flag_fields(content) == {"run_id": run_id, "by": by, "message": message, "until": until, "since": "now"}
    assert not flags_module.stays(Found("file", 0o644, content), run_id, force=False)
    assert flags_module.stays(Found("file", 0o644, content), run_id + "x", force=False)


def test_the_pages_come_before_the_flag_and_go_after_it(flags: Flags) -> None:
    closed = flags_module.want_closed(flags, Found(), WORDS, PAGES, since="2026-11-21T22:10:04Z", force=False)
    assert [one.path.name for one in closed] == ["current.html", "current.json", "maintenance.flag"]
    assert [one.path.name for one in flags_module.want_open(flags)] == ["maintenance.flag", "current.html", "current.json"]
    assert apply(closed)["changed"]
    assert json.loads(flags.maintenance.read_bytes()) == {
        "run_id": "run-1",
        "by": "ana",
        "message": "moving",
        "until": "22:30",
        "since": "2026-11-21T22:10:04Z",
    }
    assert {stat.S_IMODE(path.stat().st_mode) for path in (flags.maintenance, *flags.pages.iterdir())} == {0o644}
    assert apply(flags_module.want_open(flags))["changed"]
    assert not apply(flags_module.want_open(flags))["changed"]
    assert not flags.maintenance.exists()
    assert list(flags.pages.iterdir()) == []


@pytest.mark.parametrize("kind", ["file", "other"])
def test_somebody_elses_maintenance_keeps_its_words_unless_by_force(flags: Flags, kind: t.Literal["file", "other"]) -> None:
    found = Found(kind, 0o600, b"")
    assert flags_module.want_closed(flags, found, WORDS, PAGES, since="now", force=False) == []
    assert len(flags_module.want_closed(flags, found, WORDS, PAGES, since="now", force=True)) == 3
    # Without a run id it is a human's, whom a run does not overrule and another human does.
    assert flags_module.stays(found, "run-1", force=False)
    assert not flags_module.stays(found, "run-1", force=True)
    assert not flags_module.stays(found, "", force=False)


def test_a_maintenance_that_changes_hands_keeps_its_beginning() -> None:
    before = Found("file", 0o644, b'{"run_id": "dead", "since": "22:10"}')
    flag = flags_module.want_closed(Flags(Path("/x")), before, WORDS, PAGES, since="23:00", force=True)[-1].content or b""
    assert (flags_module.flag_fields(flag)["run_id"], flags_module.flag_fields(flag)["since"]) == (WORDS.run_id, "22:10")


def test_a_slot_is_one_file(flags: Flags) -> None:
    assert apply(flags_module.want_slot(flags, "app1", "green"))["changed"]
    assert not apply(flags_module.want_slot(flags, "app1", "green"))["changed"]
    flag = flags.green("app1")
    assert stat.S_IMODE(flag.stat().st_mode) == 0o644
    # Presence alone counts; only a mode that would hide it is mended.
    flag.write_text("by hand", encoding="utf-8")
    flag.chmod(0o600)
    assert apply(flags_module.want_slot(flags, "app1", "green"))["changed"]
    assert (flag.read_text(encoding="utf-8"), stat.S_IMODE(flag.stat().st_mode)) == ("by hand", 0o644)
    assert flags_module.read(flags, ["app1", "app2"]) == {"maintenance": {}, "slots": {"app1": "green", "app2": "blue"}}
    assert apply(flags_module.want_slot(flags, "app1", "blue"))["changed"]
    assert not apply(flags_module.want_slot(flags, "app1", "blue"))["changed"]
    assert flags_module.read(flags, ["app1"])["slots"] == {"app1": "blue"}


def test_flags_that_are_no_plain_files(flags: Flags, tmp_path: Path, call_module: CallModule) -> None:
    def told() -> dict[str, t.Any]:
        answer = call_module(caddy_info, state_dir=str(tmp_path), hosts=["app1"])
        assert not answer.get("changed")
        return answer

    # Caddy follows links, and finds no file in a directory or behind a link that leads nowhere.
    flags.green("app1").mkdir()
    assert told()["slots"] == {"app1": "blue"}
    flags.green("app1").rmdir()
    flags.green("app1").symlink_to("real")
    assert told()["slots"] == {"app1": "blue"}
    flags.maintenance.symlink_to("real")
    assert told()["maintenance"] == {}
    (flags.directory / "real").write_bytes(b'{"by": "ana"}' + b" " * 10)
    assert told()["slots"] == {"app1": "green"}
    assert told()["maintenance"] == {"on": True, "by": "ana"}
    # The link goes, what it leads to stays.
    apply(flags_module.want_open(flags))
    assert (flags.directory / "real").exists()
    assert told()["maintenance"] == {}
    # Nobody waits for the other end of a pipe.
    os.mkfifo(flags.maintenance)
    assert told()["maintenance"] == {"on": True}
    flags.maintenance.unlink()
    flags.maintenance.write_bytes(b"x" * flags_module.FLAG_LIMIT + b'"by": "too far"' + b"\xff" * 2**20)
    assert told()["maintenance"] == {"on": True}
    flags.maintenance.unlink()
    flags.maintenance.mkdir()
    answer = told()
    assert answer["failed"]
    assert answer["problem"] == f"{flags.maintenance} is a directory where a file belongs."
    assert set(answer["remedy"]) == {"en", "pt_BR"}


def test_nothing_is_there_yet(tmp_path: Path, call_module: CallModule) -> None:
    answer = call_module(caddy_info, state_dir=str(tmp_path / "no"), hosts=["app1"])
    assert (answer["maintenance"], answer["slots"]) == ({}, {"app1": "blue"})
    (tmp_path / "no").touch()
    assert "cannot be read: Not a directory" in call_module(caddy_info, state_dir=str(tmp_path / "no"))["problem"]


def test_a_directory_in_a_files_place_is_never_removed(flags: Flags) -> None:
    (flags.green("app1") / "inside").mkdir(parents=True)
    for slot in ("blue", "green"):
        with pytest.raises(LastroError, match="is a directory where a file belongs"):
            apply(flags_module.want_slot(flags, "app1", slot))
    assert (flags.green("app1") / "inside").is_dir()
    with pytest.raises(LastroError, match="is no directory"):
        flags_module.needed(Wanted(Path("/x"), "directory", 0o755), Found("file", 0o644))


@pytest.mark.parametrize(
    ("token", "good"),
    [
        ("a" * 31, False),
        ("a" * 32, True),
        ("A-_9" * 32, True),
        ("a" * 129, False),
        ("a" * 40 + "\n", False),
        ("../" * 20, False),
        ("é" * 40, False),
        ("", False),
    ],
)
def test_tokens(token: str, good: bool) -> None:
    assert flags_module.token_is_good(token) is good
    wanted = flags_module.want_testers(Flags(Path("/x")), token, ["old" * 20])
    assert [(one.kind, one.path.name) for one in wanted] == [("absent", "old" * 20), *([("file", token)] if good else [])]


def test_a_token_is_nowhere_told(flags: Flags, monkeypatch: pytest.MonkeyPatch) -> None:
    old = "0ld-" * 10
    (flags.testers / old).touch()
    (flags.testers / "directory").mkdir()
    (flags.testers / "nowhere").symlink_to("gone")
    wanted = flags_module.want_testers(flags, TOKEN, flags_module.names_of_testers(flags))
    assert TOKEN not in repr(wanted)
    checked = flags_module.apply(wanted, write=False)
    assert sorted(path.name for path in flags.testers.iterdir()) == [old, "directory", "nowhere"]
    assert checked == apply(wanted) == {"changed": True, "diff": []}
    assert sorted(path.name for path in flags.testers.iterdir()) == ["directory", TOKEN]
    assert stat.S_IMODE((flags.testers / TOKEN).stat().st_mode) == 0o444
    assert not apply(flags_module.want_testers(flags, TOKEN, flags_module.names_of_testers(flags)))["changed"]
    (flags.testers / TOKEN).unlink()

    def full(*_unused: object, **_more: object) -> t.NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device", str(flags.testers / TOKEN))

    with monkeypatch.context() as patched:
        patched.setattr(flags_module, "write_atomic", full)
        with pytest.raises(LastroError, match="No space left") as raised:
            apply(wanted)
    assert TOKEN not in json.dumps(raised.value.as_result())
    (flags.testers / TOKEN).mkdir()
    with pytest.raises(LastroError, match="holds a directory") as raised:
        apply(wanted)
    assert TOKEN not in json.dumps(raised.value.as_result())


def test_a_token_file(tmp_path: Path) -> None:
    path = tmp_path / "tester"
    path.write_bytes(b"  " + TOKEN.encode() + b"\r\n")
    assert flags_module.read_token(path) == TOKEN
    path.write_bytes(b"\xff" * 40 + b"a" * 2**20)
    assert not flags_module.token_is_good(flags_module.read_token(path))
    with pytest.raises(LastroError, match="no cannot be read: No such file"):
        flags_module.read_token(tmp_path / "no")
    assert flags_module.names_of_testers(Flags(tmp_path / "no")) == []


def test_directories_get_their_mode_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        apply([Wanted(tmp_path / "a" / "b", "directory", 0o755), Wanted(tmp_path / "a" / "c", "directory", 0o711)])
    finally:
        os.umask(before)
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a", "a/b", "a/c")] == [0o755, 0o755, 0o711]
    (tmp_path / "a" / "c").chmod(0o755)
    assert apply([Wanted(tmp_path / "a" / "c", "directory", 0o711)])["changed"]
    assert stat.S_IMODE((tmp_path / "a" / "c").stat().st_mode) == 0o711


def test_the_diff_shows_what_was_planned(tmp_path: Path) -> None:
    page = tmp_path / "page"
    page.write_bytes(b"old \xff\n")
    page.chmod(0o600)
    wanted = [Wanted(page, "file", 0o644, b"new\n"), Wanted(tmp_path / "note", "file", 0o644, b"x", silent=True), Wanted(tmp_path / "flag", "file", 0o644)]
    shown = flags_module.apply(wanted, write=False)["diff"]
    assert [(one["before"], one["after"]) for one in shown] == [("file 0600\nold \ufffd\n", "file 0644\nnew\n"), ("", "file 0644\n")]
    assert apply(wanted)["diff"] == shown
    assert flags_module.apply(wanted, write=False) == {"changed": False, "diff": []}
