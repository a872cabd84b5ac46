# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a host can take a release: interpreter, rights, room."""

from __future__ import annotations

import collections.abc
import os
import shutil
import sys
import types
import typing as t
from pathlib import Path

import pytest
from ansible_collections.lastro.deploy.plugins.module_utils import _host_probe
from ansible_collections.lastro.deploy.plugins.modules import host_probe

CallModule = collections.abc.Callable[..., dict[str, t.Any]]


def test_a_good_host(tmp_path: Path, call_module: CallModule) -> None:
    found = call_module(host_probe, python=sys.executable, directories=[str(tmp_path), str(tmp_path / "not" / "yet")], min_free_mb=1)
    assert found["python_version"] == f"{sys.version_info.major}.{sys.version_info.minor}"
    assert (found["changed"], found["checked"], found["findings"]) == (False, 3, [])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", ["exit 3", "echo no venv >&2; exit 1", None])
def test_an_interpreter_that_does_not_do(content: str | None, tmp_path: Path, call_module: CallModule) -> None:
    python = tmp_path / "python"
    if content:
        python.write_text(f"#!/bin/sh\n{content}\n", encoding="ascii")
        python.chmod(0o755)
    found = call_module(host_probe, python=str(python))
    (finding,) = found["findings"]
    assert (found["python_version"], finding["target"]) == ("", "deploy_python")
    assert str(python) in finding["problem"] and finding["remedy"]["pt_BR"]


def test_all_findings_at_once(tmp_path: Path, call_module: CallModule) -> None:
    free = shutil.disk_usage(tmp_path).free // 2**20
    found = call_module(host_probe, python="/nonexistent/python", directories=[str(tmp_path / "a"), str(tmp_path)], min_free_mb=free + 2000)
    assert [finding["target"] for finding in found["findings"]] == ["deploy_python", str(tmp_path / "a"), str(tmp_path)]
    assert "the disk is full" in found["findings"][1]["problem"] and f"{free + 2000} MB are needed" in found["findings"][1]["problem"]


def test_a_full_disk_in_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: types.SimpleNamespace(free=150 * 2**20))
    assert _host_probe.look_at(tmp_path, 150) == []
    (finding,) = _host_probe.look_at(tmp_path, 200)
    assert finding["problem"] == "the disk is full: 150 MB are free, 200 MB are needed."
    assert finding["remedy"]["en"].startswith("Free at least 50 MB")


def test_a_directory_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []

    def access(path: Path, mode: int) -> bool:
        asked.append(path)
        assert mode == os.W_OK | os.X_OK
        return False

    monkeypatch.setattr(os, "access", access)  # root may write everywhere
    (finding,) = _host_probe.look_at(tmp_path / "a" / "b", 1)
    assert asked == [tmp_path]
    assert (finding["target"], finding["problem"]) == (str(tmp_path / "a" / "b"), f"{tmp_path} cannot be written.")


def test_one_list_of_findings_from_every_part(tmp_path: Path, call_module: CallModule) -> None:
    file = tmp_path / "r2.env"
    file.write_text('DATABASE_URL="postgresql://calendar:sesame-open-door@127.0.0.1:1/calendar"\nKEY="short"\n', encoding="utf-8")
    file.chmod(0o600)
    found = call_module(
        host_probe,
        python=sys.executable,
        environment_file=str(file),
        contract={"KEY": {"type": "key", "bytes": 32}, "SECRET_KEY": {"type": "string"}},
        services=[{"name": "sessions", "kind": "tcp", "host": "127.0.0.1", "port": 1}, {"kind": "redis", "url_variable": "REDIS_URL"}],
        backup={"dest": str(tmp_path / "backups"), "name": "20261121T221004-7c1f", "encryption": "none"},
        signoffs={"state_dir": str(tmp_path / "state"), "release": "r2-3f9c2e1", "required": ["tech_lead"]},
    )
    assert "findings" in found, found
    subjects = [finding.get("target") or finding["variable"] for finding in found["findings"]]
    assert subjects == ["KEY", "SECRET_KEY", "sessions", "REDIS_URL", "backup", "sign-off"]
    assert (found["checked"], found["signoffs"], found["changed"]) == (1 + 2 + 2 + 1, [], False)
    assert all(finding["problem"] and finding["remedy"]["pt_BR"] for finding in found["findings"])
    assert "sesame" not in str(found) and sorted(path.name for path in tmp_path.iterdir()) == ["r2.env"]


def test_a_part_of_the_profile_that_is_none(call_module: CallModule) -> None:
    found = call_module(host_probe, services=[{"kind": "mysql", "host": "127.0.0.1"}])
    assert found["failed"] and "deploy_services: value of kind must be one of" in found["problem"]
    found = call_module(host_probe, backup_provider="pgbackrest", backup={"dest": "/b"})
    assert found["failed"] and "deploy_backup: " in found["problem"] and "stanza" in found["problem"]
    found = call_module(host_probe, backup={"destination": "/b"})
    assert found["failed"] and "deploy_backup: " in found["problem"] and "dest" in found["problem"]
