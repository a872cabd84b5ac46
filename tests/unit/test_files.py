# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that a crash leaves old or new, the clock's text, progress files, and the small pieces that modules share."""

from __future__ import annotations

import base64
import collections.abc
import datetime
import json
import os
import pwd
import stat
import typing as t
from pathlib import Path

import pytest
from ansible_collections.lastro.deploy.plugins.module_utils import _clock, _files, _progress
from ansible_collections.lastro.deploy.plugins.module_utils._argspec import ArgumentSpec
from ansible_collections.lastro.deploy.plugins.module_utils._errors import LastroError, Text
from ansible_collections.lastro.deploy.plugins.modules import environment_file, random_file
from hypothesis import given
from hypothesis import strategies as st

CallModule = collections.abc.Callable[..., dict[str, t.Any]]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def broken(*_arguments: object) -> t.NoReturn:
    raise OSError(28, os.strerror(28))


# --- write_atomic -----------------------------------------------------------------------------------------------------


def test_write_atomic(tmp_path: Path) -> None:
    path = tmp_path / "file"
    _files.write_atomic(path, b"one")
    assert (path.read_bytes(), mode(path)) == (b"one", 0o600)
    before = path.stat().st_ino
    _files.write_atomic(path, b"two", mode=0o644)
    assert (path.read_bytes(), mode(path)) == (b"two", 0o644)
    assert path.stat().st_ino != before  # whoever reads the old file reads it to its end
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("function", ["fsync", "replace", "fchmod"])
def test_a_crash_leaves_the_old_file_and_nothing_else(function: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, function, broken)
    with pytest.raises(OSError, match="No space left"):
        _files.write_atomic(path, b"new")
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


def test_the_content_is_on_the_disk_before_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    real_fsync, real_replace = os.fsync, os.replace

    def fsync(descriptor: int) -> None:
        order.append("directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        real_fsync(descriptor)

    def replace(source: Path, target: Path) -> None:
        order.append("rename")
        assert mode(Path(source)) == 0o600
        real_replace(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    _files.write_atomic(tmp_path / "file", b"x")
    assert order == ["file", "rename", "directory"]


def test_a_link_under_the_temporary_name_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"keep")
    (tmp_path / f".file.{os.getpid()}.part").symlink_to(victim)
    with pytest.raises(OSError, match="symbolic links"):
        _files.write_atomic(tmp_path / "file", b"x")
    assert victim.read_bytes() == b"keep"


# --- JSON lines -------------------------------------------------------------------------------------------------------


def test_append_line(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    assert _files.read_json_lines(path) == []
    _files.append_line(path, '{"a": 1}')
    _files.append_line(path, '{"a": "\u2028\x85"}')
    assert mode(path) == 0o600
    assert _files.read_json_lines(path) == [{"a": 1}, {"a": "\u2028\x85"}]
    path.write_bytes(b'{"a": 1}\n{"b": "tor')
    _files.append_line(path, '{"c": 3}')
    assert path.read_bytes() == b'{"a": 1}\n{"b": "tor\n{"c": 3}\n'
    assert _files.read_json_lines(path) == [{"a": 1}, {"c": 3}]


def test_lines_that_are_no_records_are_left_out() -> None:
    assert _files.parse_json_lines(b'\n[1]\n"text"\n5\nnull\n{"a": \xff}\n{"a": "\xff"}\n{}\n') == [{"a": "\ufffd"}, {}]


def test_writing_names_the_file() -> None:
    with pytest.raises(LastroError, match=r"^/x/y cannot be written: Permission denied\. Free some space") as caught, _files.writing(Path("/x/y")):
        raise PermissionError(13, "Permission denied")
    assert caught.value.remedy.pt_BR
    with pytest.raises(LastroError, match="odd"), _files.writing(Path("/x/y")):
        raise OSError("odd")
    with pytest.raises(KeyError), _files.writing(Path("/x/y")):
        raise KeyError("other")


# --- clock ------------------------------------------------------------------------------------------------------------


@given(st.datetimes(min_value=datetime.datetime(1970, 1, 1), max_value=datetime.datetime(2200, 1, 1), timezones=st.timezones()))
def test_time_as_text(moment: datetime.datetime) -> None:
    text = _clock.to_text(moment)
    assert _clock.from_text(text) == moment.astimezone(datetime.UTC)
    assert len(text) == 27 and text.endswith("Z")


def test_now_has_its_zone_and_texts_sort_like_times() -> None:
    first = _clock.utc_now()
    assert first.tzinfo is datetime.UTC
    assert _clock.to_text(first) < _clock.to_text(first + datetime.timedelta(microseconds=1))
    with pytest.raises(ValueError, match="Invalid isoformat"):
        _clock.from_text("yesterday")


# --- progress ---------------------------------------------------------------------------------------------------------


def test_progress_at_most_once_a_second_and_always_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "progress.json"
    now = 100.0
    report = _progress.file_progress(str(path), clock=lambda: now)
    seen = []
    for done, total, elapsed in ((1, 10, 0.0), (2, 10, 0.9), (3, 10, 1.0), (4, 0, 1.5), (10, 10, 1.6), (5, 0, 2.5), (6, 0, 2.6)):
        now = 100.0 + elapsed
        report(done, total, "rows")
        seen.append(json.loads(path.read_text(encoding="utf-8"))["done"])
    assert seen == [1, 1, 3, 3, 10, 10, 6]
    assert json.loads(path.read_text(encoding="utf-8")) == {"done": 6, "total": 0, "unit": "rows", "seconds": 0.1}  # since it fell to 5
    report(1, 9, "bytes")  # another unit is written at once
    assert json.loads(path.read_text(encoding="utf-8")) == {"done": 1, "total": 9, "unit": "bytes", "seconds": 0.0}


def test_progress_never_stops_the_work(tmp_path: Path) -> None:
    assert _progress.file_progress(None) is _progress.silent
    _progress.silent(1, 2, "rows")
    _progress.file_progress(str(tmp_path / "none" / "progress.json"))(1, 1, "rows")
    assert list(tmp_path.iterdir()) == []
    assert _progress.progress_argument_spec().options == {"progress_file": {"type": "path"}}


# --- errors and options -----------------------------------------------------------------------------------------------


def test_an_error_as_a_result() -> None:
    error = LastroError("It broke.", remedy=Text(en="Mend it.", pt_BR="Conserte."), count=3)
    assert str(error) == "It broke. Mend it."
    assert error.as_result() == {"msg": "It broke. Mend it.", "problem": "It broke.", "remedy": {"en": "Mend it.", "pt_BR": "Conserte."}, "count": 3}
    assert str(LastroError("One:\n- a", remedy=Text(en="Mend it.", pt_BR=""))) == "One:\n- a\nMend it."
    assert str(LastroError("It broke.", remedy=Text(en="", pt_BR=""))) == "It broke."


def test_merged_options_keep_the_constraints_of_both() -> None:
    one = ArgumentSpec({"a": {"type": "str"}}, required_if=(("a", "x", ["b"]),), mutually_exclusive=(("a", "b"),))
    two = ArgumentSpec({"b": {"type": "int"}}, required_one_of=(("a", "b"),), required_together=(("b", "c"),))
    merged = one.merge(two)
    assert merged.options == {"a": {"type": "str"}, "b": {"type": "int"}}
    assert (merged.required_if, merged.mutually_exclusive) == (one.required_if, one.mutually_exclusive)
    assert (merged.required_one_of, merged.required_together) == (two.required_one_of, two.required_together)


# --- random_file ------------------------------------------------------------------------------------------------------


def test_a_random_file_is_made_once(tmp_path: Path, call_module: CallModule) -> None:
    path = tmp_path / "new" / "token"
    assert call_module(random_file, check=True, path=str(path))["changed"] is True
    assert not path.parent.exists()
    made = call_module(random_file, path=str(path))
    value = path.read_bytes()
    assert (made["changed"], made["path"]) == (True, str(path))
    assert len(base64.urlsafe_b64decode(value + b"=")) == 32
    assert (mode(path), mode(path.parent)) == (0o600, 0o700)
    again = call_module(random_file, path=str(path))
    assert again["changed"] is False
    assert path.read_bytes() == value
    assert value.decode() not in json.dumps([made, again])
    call_module(random_file, path=str(tmp_path / "other"))
    assert (tmp_path / "other").read_bytes() != value


def test_a_random_file_that_cannot_be(tmp_path: Path, call_module: CallModule) -> None:
    (tmp_path / "file").touch()
    refused = call_module(random_file, path=str(tmp_path / "file" / "token"))
    assert refused["failed"] and "token cannot be written: File exists" in refused["msg"]


# --- the environment file of a release --------------------------------------------------------------------------------


def test_an_environment_file_is_private_and_written_once(tmp_path: Path, call_module: CallModule) -> None:
    path = tmp_path / "app" / "env" / "r2.env"
    options = {"path": str(path), "content": 'KEY="sesame"\n', "owner": pwd.getpwuid(os.geteuid()).pw_name}
    assert call_module(environment_file, check=True, **options)["changed"] is True
    assert not path.parent.exists()
    answer = call_module(environment_file, **options)
    assert (answer["changed"], answer["path"]) == (True, str(path)) and "sesame" not in str(answer)
    assert (path.read_text(encoding="utf-8"), mode(path), mode(path.parent)) == ('KEY="sesame"\n', 0o600, 0o700)
    assert call_module(environment_file, **options)["changed"] is False
    path.chmod(0o644)
    assert call_module(environment_file, **{**options, "owner": ""})["changed"] is True
    assert mode(path) == 0o600


def test_an_environment_file_of_a_user_that_is_not_there(tmp_path: Path, call_module: CallModule) -> None:
    answer = call_module(environment_file, path=str(tmp_path / "r2.env"), content="A=1", owner="nobody-of-this-name")
    assert answer["failed"] and "no user nobody-of-this-name" in answer["problem"] and "deploy_user" in answer["remedy"]["en"]
    assert list(tmp_path.iterdir()) == []
