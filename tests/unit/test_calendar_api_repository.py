# SPDX-License-Identifier: GPL-3.0-or-later
"""The releases of the example as files and as commits."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from calendar_api import repository

TOP_LEVEL = {"README.md", "alembic.ini", "calendar_api", "gunicorn.conf.py", "migrations", "requirements.txt"}


def git(directory: Path, *arguments: str) -> str:
    environment = {"PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    command = ["git", "-c", "safe.directory=*", "-C", str(directory), *arguments]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout


def tree(directory: Path) -> dict[str, bytes]:
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("repository") / "calendar-api"
    repository.build_repository(directory)
    return directory


@pytest.mark.parametrize("release", repository.RELEASES)
def test_a_tag_holds_the_files_of_its_release(built: Path, tmp_path: Path, release: str) -> None:
    repository.extract(release, tmp_path / "extracted")
    git(tmp_path, "clone", "--quiet", "--branch", release, str(built), "cloned")
    cloned = {name: content for name, content in tree(tmp_path / "cloned").items() if not name.startswith(".git/")}
    assert cloned == tree(tmp_path / "extracted")
    assert {path.name for path in (tmp_path / "extracted").iterdir()} == TOP_LEVEL


def test_one_commit_for_each_release(built: Path) -> None:
    assert git(built, "log", "--format=%D", "--reverse", "main").split("\n")[:-1] == ["tag: r1", "tag: r2", "tag: r3", "tag: r4", "HEAD -> main, tag: r5"]
    assert not git(built, "status", "--porcelain")


def test_the_commits_are_the_same_whatever_the_user_has_configured(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    (hooks / "pre-commit").write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    (hooks / "pre-commit").chmod(0o755)
    (tmp_path / ".gitconfig").write_text(
        f"[user]\nname = Somebody\nemail = somebody@example.org\n[commit]\ngpgSign = true\n[core]\nhooksPath = {hooks}\nautocrlf = true\n", encoding="utf-8"
    )
    for name, value in {"HOME": str(tmp_path), "GIT_AUTHOR_NAME": "Else", "GIT_DIR": str(tmp_path / "elsewhere"), "TZ": "Asia/Tokyo"}.items():
        monkeypatch.setenv(name, value)
    before = os.umask(0o077)
    try:
        repository.build_repository(tmp_path / "again")
    finally:
        os.umask(before)
    for release in repository.RELEASES:
        assert git(tmp_path / "again", "rev-parse", release) == git(built, "rev-parse", release)


@pytest.mark.parametrize("release", list(repository.MADE_FROM))
def test_an_overlay_holds_only_what_differs(release: str) -> None:
    before = repository.files(repository.MADE_FROM[release])
    overlay = tree(repository.HERE / "releases" / release)
    assert overlay
    assert not [name for name, content in overlay.items() if before.get(name) == content]


def test_caches_stay_out_of_a_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "source" / "calendar_api" / "__pycache__").mkdir(parents=True)
    (tmp_path / "source" / "calendar_api" / "__pycache__" / "config.pyc").write_bytes(b"cache")
    (tmp_path / "source" / "alembic.ini").write_bytes(b"kept")
    monkeypatch.setattr(repository, "HERE", tmp_path)
    assert repository.files("r1") == {"alembic.ini": b"kept"}


def test_a_release_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="r1, r2, r3, r4"):
        repository.extract("r9", tmp_path / "r9")
    assert not (tmp_path / "r9").exists()


def test_a_directory_that_holds_something(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    with pytest.raises(ValueError, match="not empty"):
        repository.build_repository(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_git_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "git").write_text("#!/bin/sh\necho no room >&2\nexit 3\n", encoding="utf-8")
    (tmp_path / "bin" / "git").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(RuntimeError, match="git init ended with 3: no room"):
        repository.build_repository(tmp_path / "repository")


def test_every_requirement_is_pinned() -> None:
    lines = repository.files("r1")["requirements.txt"].decode().splitlines()
    pins = [line.partition("==") for line in lines if line and not line.startswith("#")]
    assert all(name and version for name, _unused, version in pins)
    assert {"flask", "sqlalchemy", "alembic", "gunicorn", "psycopg2-binary", "redis", "cryptography", "requests", "prometheus-client"} <= {
        pin[0] for pin in pins
    }
