# SPDX-License-Identifier: GPL-3.0-or-later
"""Backups copied off-site, to real stores over ways that damage and break: what the store has afterwards, and what the module says of it."""

from __future__ import annotations

import collections.abc
import contextlib
import dataclasses
import json
import os
import random
import signal
import subprocess
import time
import typing as t
from pathlib import Path

import psycopg2
import pytest
from ansible_collections.lastro.deploy.plugins.module_utils import _backup_manifest
from ansible_collections.lastro.deploy.plugins.modules import backup_info, pg_dump
from demo.postgres import bin_directory, free_port
from pyrage import x25519

from . import off_site
from .off_site import ACCESS_KEY, BUCKET, PROGRAMS, S3, SECRET_KEY, Sftp

Call = collections.abc.Callable[..., dict[str, t.Any]]
Rounds = collections.abc.Callable[[int, int], int]
RECIPIENT = str(x25519.Identity.generate().to_public())
WRONG = "a-wrong-secret-0a1b2c3d4e5f"
BOTH = ["b1.dump.zst.age", "b1.manifest.json"]


@pytest.fixture(scope="module")
def rclone_store(tmp_path_factory: pytest.TempPathFactory) -> collections.abc.Iterator[S3]:
    with off_site.rclone_s3(tmp_path_factory.mktemp("store")) as store:
        yield store


@pytest.fixture(scope="module")
def moto_store() -> collections.abc.Iterator[S3]:
    with off_site.moto_s3() as store:
        yield store


def empty(store: S3) -> collections.abc.Iterator[S3]:
    """The store; what was put below the application's path is gone afterwards."""
    yield store
    for name in store.names():
        store.rclone("deletefile", f"seen:{BUCKET}/app/{name}")


@pytest.fixture(params=["rclone", "moto"])
def store(request: pytest.FixtureRequest) -> collections.abc.Iterator[S3]:
    """An S3 server with nothing below the application's path."""
    yield from empty(request.getfixturevalue(f"{request.param}_store"))


@pytest.fixture
def strict(rclone_store: S3) -> collections.abc.Iterator[S3]:
    """The one that refuses other credentials than its own."""
    yield from empty(rclone_store)


@pytest.fixture
def dest(tmp_path: Path) -> Path:
    return tmp_path / "backups"


@pytest.fixture
def dump(call_module: Call, database: str, dest: Path) -> Call:
    """The module pg_dump over a database of two megabytes that no compression makes smaller."""
    with contextlib.closing(psycopg2.connect(database)) as opened, opened as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE ballast (id int, content bytea)")
        for number in range(2):
            cursor.execute("INSERT INTO ballast VALUES (%s, %s)", (number, psycopg2.Binary(os.urandom(1 << 20))))

    def call(**options: object) -> dict[str, t.Any]:
        arguments: dict[str, object] = {"database_url": database, "dest": str(dest), "name": "b1", "recipients": [RECIPIENT], "bin_dir": str(bin_directory())}
        result = call_module(pg_dump, **{**arguments, **options})
        told = json.dumps(result)
        assert SECRET_KEY not in told and WRONG not in told and ACCESS_KEY not in told
        return result

    return call


def assert_whole(store: S3, dest: Path, name: str = "b1") -> None:
    """The store gives back what is here, byte for byte, and no part of anything."""
    names = [f"{name}.dump.zst.age", f"{name}.manifest.json"]
    assert {*names} <= {*store.names()}
    assert [one for one in store.names() if one.endswith(".part")] == []
    for one in names:
        assert store.content(one) == (dest / one).read_bytes(), one


def assert_good_here(dest: Path, name: str = "b1") -> None:
    _backup_manifest.check_file(dest, _backup_manifest.read(_backup_manifest.manifest_path(dest, name)))


def test_a_backup_is_copied_read_back_and_not_sent_twice(dump: Call, store: S3, dest: Path) -> None:
    planned = dump(check=True, upload=store.upload())
    assert planned["changed"] is True and "uploaded" not in planned
    assert store.names() == []
    first = dump(upload=store.upload())
    assert first["changed"] is True
    assert first["uploaded"]["to"] == f"offsite:{BUCKET}/app/b1.dump.zst.age"
    assert first["uploaded"]["sent"] == BOTH
    assert_whole(store, dest)
    for check in (False, True):
        again = dump(check=check, upload=store.upload())
        assert (again["changed"], again["uploaded"]["sent"]) == (False, [])


def test_every_file_of_a_backup_is_copied(dump: Call, strict: S3, dest: Path) -> None:
    files = ["b1.dump.zst.age", "b1.globals.sql.zst.age", "b1.manifest.json"]
    assert dump(globals="without_passwords", upload=strict.upload())["uploaded"]["sent"] == files
    assert strict.names() == files
    assert strict.content(files[1]) == (dest / files[1]).read_bytes()
    strict.rclone("deletefile", f"seen:{BUCKET}/app/{files[1]}")
    assert dump(check=True, upload=strict.upload())["uploaded"]["sent"] == files[1:]
    assert dump(globals="without_passwords", upload=strict.upload())["uploaded"]["sent"] == files[1:]


def test_only_what_is_missing_or_damaged_is_sent(dump: Call, store: S3, dest: Path, tmp_path: Path) -> None:
    assert "uploaded" not in dump()
    assert dump(check=True, upload=store.upload())["uploaded"]["sent"] == BOTH
    assert dump(upload=store.upload())["uploaded"]["sent"] == BOTH
    store.rclone("deletefile", f"seen:{BUCKET}/app/b1.manifest.json")
    assert dump(upload=store.upload())["uploaded"]["sent"] == BOTH[1:]
    damaged = bytearray((dest / BOTH[0]).read_bytes())
    damaged[len(damaged) // 3] ^= 4
    store.put(BOTH[0], bytes(damaged), tmp_path / "damaged")
    assert dump(check=True, upload=store.upload())["uploaded"]["sent"] == BOTH
    assert dump(upload=store.upload())["uploaded"]["sent"] == BOTH
    assert_whole(store, dest)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"secret_access_key": WRONG}, "SignatureDoesNotMatch"),
        ({"access_key_id": "AKSOMEBODYELSE1234"}, "Forbidden"),
    ],
)
def test_wrong_credentials(dump: Call, strict: S3, dest: Path, changed: dict[str, str], message: str) -> None:
    upload = strict.upload(config=strict.config(**changed))
    planned = dump(check=True, upload=upload)
    assert planned["failed"] is True and not dest.exists()
    result = dump(upload=upload)
    for refused in (planned, result):
        assert message in refused["msg"] or "40" in refused["msg"]
        assert "Correct the credentials in upload.config" in refused["remedy"]["en"]
    assert "is good, but it has no proved copy at offsite:backups/app" in result["problem"]
    assert "uploads only what is missing" in result["remedy"]["en"] and "só o que falta" in result["remedy"]["pt_BR"]
    assert result["path"] == str(dest / BOTH[0])
    assert_good_here(dest)
    assert strict.names() == []


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"remote": "off site"}, "upload.remote is 'off site'"),
        ({"path": "/"}, "upload.path is '/'"),
        ({"config": {"provider": "Other"}}, "upload.config has no type"),
        ({"timeout": 1}, "upload.timeout is 1"),
        ({"rclone": "/nonexistent/rclone"}, "There is no rclone at /nonexistent/rclone"),
        ({"path": "no-such-bucket/app"}, "the store has no such bucket"),
    ],
)
def test_a_bad_input_is_named_before_anything_is_written(dump: Call, strict: S3, dest: Path, changed: dict[str, t.Any], message: str) -> None:
    result = dump(check=True, upload=strict.upload(**changed))
    assert result["failed"] is True
    assert message in result["msg"]
    assert set(result["remedy"]) == {"en", "pt_BR"}
    assert not dest.exists()


def test_a_host_without_rclone(dump: Call, strict: S3, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(PROGRAMS))
    assert dump(check=True, upload=strict.upload())["changed"] is True
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "There is no rclone on this host" in dump(check=True, upload=strict.upload())["msg"]


def marks(content: bytes, seeded: random.Random) -> tuple[bytes, ...]:
    """Three pieces of the content, of which a proxy that reads in pieces sees at least one whole."""
    return tuple(content[where : where + 12] for where in (seeded.randrange(1000, len(content) - 1000) for _unused in range(3)))


@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_way_that_damages_bytes(dump: Call, store: S3, dest: Path, direction: str, seeded: random.Random) -> None:
    dump()
    with off_site.way_to(store) as (way, seen):
        setattr(way, f"flip_{direction}", marks((dest / BOTH[0]).read_bytes(), seeded))
        result = dump(upload=seen.upload())
        assert way.flipped > 0
        assert result["failed"] is True and "uploaded" not in result
        assert "b1.manifest.json" not in store.names()
        assert_good_here(dest)
        if direction == "down":
            assert "bytes came back, but with another SHA-256" in result["msg"]
            assert "Do not trust this store" in result["remedy"]["en"]
            assert store.names() == []
        way.reset()
        assert dump(upload=seen.upload())["uploaded"]["sent"] == BOTH
    assert_whole(store, dest)


@dataclasses.dataclass
class Breakable:
    """A server that can be killed and started again over the same files."""

    store: S3
    command: list[str]
    process: subprocess.Popen[bytes]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def start(self) -> None:
        if self.process.poll() is not None:
            self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            off_site.await_answer(self.store.port, self.process)


@pytest.fixture(params=["s3", "sftp"])
def breakable(request: pytest.FixtureRequest, tmp_path: Path) -> collections.abc.Iterator[Breakable]:
    port = free_port()
    kind, command_of = (S3, off_site.s3_command) if request.param == "s3" else (Sftp, off_site.sftp_command)
    command = command_of(tmp_path / "store", port)
    with off_site.running(command, port) as process:
        server = Breakable(kind(port), command, process)
        yield server
        server.kill()


def kill_rclone() -> None:
    """kill -9 of the rclone that uploads: the child of this very process that serves nothing."""
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, IndexError):
            fields = status.read_text(encoding="utf-8").rpartition(")")[2].split()
            command = (status.parent / "cmdline").read_bytes().split(b"\0")
            if int(fields[1]) == os.getpid() and command[0].endswith(b"rclone") and b"serve" not in command:
                os.kill(int(status.parent.name), signal.SIGKILL)


@pytest.fixture
def moments(rounds: Rounds, seeded: random.Random) -> list[int]:
    """After how many bytes to cut: two megabytes go there, and two come back."""
    return [seeded.randrange(1, 4_000_000) for _unused in range(rounds(1, 20))]


@pytest.mark.parametrize("fault", ["way", "server", "rclone"])
def test_an_upload_that_is_cut_at_a_random_moment(dump: Call, breakable: Breakable, dest: Path, fault: str, moments: list[int]) -> None:
    cuts = 0
    with off_site.way_to(breakable.store) as (way, seen):
        for number, moment in enumerate(moments):
            name = f"cut{number}"
            way.cut_after = moment
            way.at_cut = {"way": way.cut_now, "server": breakable.kill, "rclone": kill_rclone}[fault]
            result = dump(name=name, upload=seen.upload(timeout=5))
            cuts += way.cut_after == 0
            breakable.start()
            assert_good_here(dest, name)
            if result.get("failed"):
                assert f"{name}.dump.zst.age is good, but it has no proved copy" in result["msg"], result["msg"]
                assert "uploaded" not in result
            else:
                assert_whole(breakable.store, dest, name)
            if f"{name}.manifest.json" in breakable.store.names():
                assert breakable.store.content(f"{name}.dump.zst.age") == (dest / f"{name}.dump.zst.age").read_bytes()
            way.reset()
            again = dump(name=name, upload=seen.upload())
            assert again["changed"] is bool(again["uploaded"]["sent"])
            assert_whole(breakable.store, dest, name)
    assert cuts > 0


def test_a_network_that_swallows_everything_ends_within_the_limit(dump: Call, strict: S3, dest: Path) -> None:
    with off_site.way_to(strict) as (way, seen):
        way.silent_after = 700_000
        began = time.monotonic()
        result = dump(name="silent", upload=seen.upload(timeout=5))
        assert time.monotonic() - began < 120
        assert result["failed"] is True
        assert "has no proved copy at offsite:backups/app" in result["msg"]
        assert "See that the store answers from this host" in result["remedy"]["en"]
        assert_good_here(dest, "silent")
        assert not [name for name in strict.names() if "manifest" in name]
        way.reset()
        assert dump(name="silent", upload=seen.upload())["uploaded"]["sent"] == ["silent.dump.zst.age", "silent.manifest.json"]


def test_parts_of_killed_uploads_go_with_the_next_run(dump: Call, dest: Path, tmp_path: Path) -> None:
    """On a store that can rename."""
    port = free_port()
    with off_site.running(off_site.sftp_command(tmp_path / "store", port), port):
        store = Sftp(port)
        dump(name="old")
        store.put(".old.dump.zst.age.part", b"half", tmp_path / "x")
        store.put(".somebody.else.part", b"not ours", tmp_path / "x")
        dump(upload=store.upload())
        assert store.names() == [".somebody.else.part", *BOTH]


def test_no_secret_in_arguments_files_or_the_log(dump: Call, strict: S3, dest: Path, tmp_path: Path) -> None:
    record = tmp_path / "record"
    program = tmp_path / "rclone"
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$*" >>{record}\nenv >>{record}.env\nexec {PROGRAMS / "rclone"} "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    result = dump(name="quiet", upload=strict.upload(rclone=str(program)), _ansible_verbosity=4)
    assert result["uploaded"]["sent"]
    shown = result["invocation"]["module_args"]["upload"]["config"]
    assert (shown["type"], shown["endpoint"]) == ("s3", strict.config()["endpoint"])
    assert SECRET_KEY in Path(f"{record}.env").read_text(encoding="utf-8")
    Path(f"{record}.env").unlink()
    lines = record.read_text(encoding="utf-8").splitlines()
    assert {line.split()[0] for line in lines} == {"lsjson", "backend", "copyto", "cat", "copy"}
    found = [path for path in tmp_path.rglob("*") if path.is_file() and (SECRET_KEY.encode() in path.read_bytes() or ACCESS_KEY.encode() in path.read_bytes())]
    assert found == []


def test_no_secret_in_the_system_log(dump: Call, strict: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[str] = []
    monkeypatch.setattr("syslog.syslog", lambda *said: logged.append(str(said)))
    monkeypatch.setattr("ansible.module_utils.basic.has_journal", False)
    dump(check=True, upload=strict.upload())
    assert "b1" in " ".join(logged) and "offsite" in " ".join(logged)
    assert SECRET_KEY not in " ".join(logged) and ACCESS_KEY not in " ".join(logged)


def test_the_roles_upload_and_say_nothing_of_the_secret(
    player: t.Any,  # noqa: ANN401 - a class of conftest.py, which tests cannot import
    include_role: t.Any,  # noqa: ANN401 - as above
    strict: S3,
    database: str,
    base: Path,
) -> None:
    """Preflight, the phase, the list of backups and its alert, as verbose as it gets."""
    environment = base / "r1.env"
    environment.write_text(f"DATABASE_URL={database}\n", encoding="utf-8")
    backup = {"dest": str(base / "backups"), "recipients": [RECIPIENT], "bin_dir": str(bin_directory()), "upload": strict.upload()}
    run_id = "20261121T221004-7c1f"
    (base / "state").mkdir()
    lease = {"state_dir": str(base / "state"), "run_id": run_id, "seconds": 120}
    run = {"deploy_run": {"run_id": run_id}, "deploy_lease": lease, "deploy_work_env": str(environment)}
    wrong = {**strict.upload(), "config": strict.config(secret_access_key=WRONG)}
    asked = {"environment_file": str(environment), "backup": {**{key: backup[key] for key in ("dest", "recipients", "bin_dir")}, "name": "b"}, "upload": wrong}
    probe = {"lastro.deploy.host_probe": asked, "register": "probed"}
    play = player({"deploy_state_dir": lease["state_dir"], "deploy_backup": backup})
    done = play(probe, include_role("backup", "main", **run), include_role("backup", "status"), facts=["probed", "backup_evidence"], options=["-vvvv"])
    assert any("SignatureDoesNotMatch" in one["problem"] for one in done.facts["probed"]["findings"])
    assert done.facts["backup_evidence"]["uploaded"]["sent"] == [f"{run_id}.dump.zst.age", f"{run_id}.manifest.json"]
    assert f"{run_id}  " in done.output and "good, off-site" in done.output
    assert_whole(strict, base / "backups", run_id)
    strict.rclone("deletefile", f"seen:{BUCKET}/app/{run_id}.manifest.json")
    alert = play(include_role("backup", "status"), options=["-vvvv"], fails=True)
    assert "There is no good backup in offsite:backups/app; one of the last 26h 00m is expected." in alert.output
    assert "make one now with the playbook backup" in alert.output
    for output in (done.output, alert.output):
        assert SECRET_KEY not in output and WRONG not in output and ACCESS_KEY not in output
    left = [path for path in (base / "state").rglob("*") if path.is_file()]
    assert not [path for path in left if SECRET_KEY.encode() in path.read_bytes()]


def test_a_remote_of_the_hosts_own_configuration(dump: Call, dest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rclone.conf").write_text(f"[shelf]\ntype = alias\nremote = {tmp_path / 'shelf'}\n", encoding="utf-8")
    monkeypatch.setenv("RCLONE_CONFIG", str(tmp_path / "rclone.conf"))
    assert dump(upload={"remote": "shelf", "path": "app"})["uploaded"]["to"] == f"shelf:app/{BOTH[0]}"
    assert sorted(path.name for path in (tmp_path / "shelf" / "app").iterdir()) == BOTH
    assert (tmp_path / "shelf" / "app" / BOTH[0]).read_bytes() == (dest / BOTH[0]).read_bytes()


def aged(dest: Path, name: str, days: float, **copied_from: str) -> None:
    """Make a backup older than it is; with *base* (and *run_id*), one more of that age with the content of *base*."""
    base = copied_from.pop("base", name)
    content = {**json.loads((dest / f"{base}.manifest.json").read_text(encoding="utf-8")), "created": _backup_manifest.utc(time.time() - days * 86_400)}
    if base != name:
        file = f"{name}.dump.zst.age"
        (dest / file).write_bytes((dest / content["file"]).read_bytes())
        content |= {"name": name, "file": file, **copied_from}
    (dest / f"{name}.manifest.json").write_text(json.dumps(content), encoding="utf-8")


def test_retention_at_the_store(dump: Call, store: S3, dest: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    (state / "runs").mkdir(parents=True)
    for run_id, outcome in (("run-good", "deployed"), ("run-bad", "rolled_back"), ("run-cut", "")):
        records = [{"kind": "opened", "run_id": run_id}, *([{"kind": "outcome", "outcome": outcome}] if outcome else [])]
        (state / "runs" / f"{run_id}.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in records), encoding="utf-8")
    dump(name="o1")
    for number, run_id in enumerate(["run-good", "run-bad", "run-cut", "", ""], start=2):
        aged(dest, f"o{number}", 60 - number, base="o1", run_id=run_id)
    aged(dest, "o1", 60)
    store.rclone("copy", "--s3-no-check-bucket", str(dest), f"seen:{BUCKET}/app")
    store.put("foreign.dump", b"not ours", tmp_path / "x")
    store.put("broken.manifest.json", b"{}", tmp_path / "x")
    store.rclone("deletefile", f"seen:{BUCKET}/app/o6.dump.zst.age")  # no good copy any more, so it counts for nothing
    retention = {"days": 30, "keep_at_least": 2, "keep": [], "state_dir": str(state)}
    result = dump(name="new", upload=store.upload(), retention=retention)
    assert sorted(result["pruned"]) == ["o1", "o2", "o5"]  # here o6 is the second good one, new the first
    assert sorted(result["uploaded"]["pruned"]) == ["o1", "o2"]  # there o5 is
    names = store.names()
    assert {"foreign.dump", "broken.manifest.json", "o6.manifest.json"} <= {*names}
    assert {name.split(".")[0] for name in names if name.endswith("age")} == {"o3", "o4", "o5", "new"}
    assert {path.name.split(".")[0] for path in dest.iterdir()} == {"o3", "o4", "o6", "new"}


def test_nothing_is_removed_where_the_upload_failed(dump: Call, strict: S3, dest: Path) -> None:
    dump(name="old", verify="read")
    aged(dest, "old", 60)
    wrong = strict.upload(config=strict.config(secret_access_key=WRONG))
    assert dump(name="new", upload=wrong, retention={"days": 1, "keep_at_least": 1})["failed"] is True
    assert (dest / "old.dump.zst.age").exists()
    made_good = dump(name="new", upload=strict.upload(), retention={"days": 1, "keep_at_least": 1})
    assert (made_good["changed"], made_good["pruned"]) == (True, ["old"])
    assert not (dest / "old.dump.zst.age").exists()


def test_the_list_of_backups_fails_when_the_last_good_one_is_old(call_module: Call, dump: Call, store: S3, dest: Path) -> None:
    def info(**options: object) -> dict[str, t.Any]:
        return call_module(backup_info, dest=str(dest), **options)

    none = info(max_age="26h")
    assert none["failed"] is True and "no good backup" in none["msg"]
    dump(name="first")
    aged(dest, "first", 2)
    dump(name="second", upload=store.upload())
    listed = info(max_age="26h", upload=store.upload())
    assert [(one["name"], one["good"], one["off_site"]) for one in listed["backups"]] == [("second", True, True), ("first", True, False)]
    assert (listed["newest_good"], listed["changed"]) == ("second", False)
    assert listed["backups"][1]["age"] == pytest.approx(2 * 86_400, abs=300)
    assert "second" in listed["text"]["en"] and "second" in listed["text"]["pt_BR"]
    content = bytearray((dest / "second.dump.zst.age").read_bytes())
    content[len(content) // 2] ^= 1
    (dest / "second.dump.zst.age").write_bytes(bytes(content))
    assert info(max_age="26h")["newest_good"] == "second"  # the size alone says nothing
    stale = info(max_age="26h", verify="read")
    assert stale["failed"] is True
    assert "The last good backup in" in stale["msg"] and "is first, 48h" in stale["msg"]
    assert next(one for one in stale["backups"] if one["name"] == "second")["problem"].endswith("it was damaged or changed.")
    store.rclone("deletefile", f"seen:{BUCKET}/app/second.dump.zst.age")
    gone = info(max_age="26h", upload=store.upload())
    assert gone["failed"] is True and "offsite:backups/app" in gone["msg"]
