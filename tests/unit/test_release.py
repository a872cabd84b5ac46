# SPDX-License-Identifier: GPL-3.0-or-later
"""A release on a host: whole or not there, whatever happens in between."""

from __future__ import annotations

import collections.abc
import dataclasses
import ensurepip
import io
import os
import signal
import stat
import subprocess
import sys
import tarfile
import time
import typing as t
import zipfile
from pathlib import Path

import pytest
from ansible_collections.lastro.deploy.plugins.module_utils import _release, _whole_directory
from ansible_collections.lastro.deploy.plugins.module_utils._artifact import digest
from ansible_collections.lastro.deploy.plugins.module_utils._errors import LastroError
from ansible_collections.lastro.deploy.plugins.modules import release as release_module

ROOT = Path(__file__).resolve().parents[2]
CallModule = collections.abc.Callable[..., dict[str, t.Any]]


def pack(path: Path, files: dict[str, str | bytes], mode: t.Literal["w", "w:gz"] = "w:gz") -> Path:
    with tarfile.open(path, mode) as tar:
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o644
            tar.addfile(member, io.BytesIO(data))
    return path


def pip_wheel() -> Path:
    """The pip that Python brings along."""
    (pip,) = (Path(ensurepip.__file__).parent / "_bundled").glob("pip-*.whl")
    return pip


def tiny_wheel() -> bytes:
    """A wheel with the module tiny, whose VALUE is 7, and the command tiny-value."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("tiny.py", "VALUE = 7\n")
        archive.writestr("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        archive.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("tiny-1.0.dist-info/RECORD", "tiny.py,,\ntiny-1.0.dist-info/METADATA,,\ntiny-1.0.dist-info/WHEEL,,\ntiny-1.0.dist-info/RECORD,,\n")
    return content.getvalue()


@dataclasses.dataclass(frozen=True)
class Built:
    """What the controller would have copied to the host."""

    archive: Path
    wheels: Path

    def options(self, root: Path, release: str = "r1-0000001", **other: object) -> dict[str, t.Any]:
        named = {"archive": str(self.archive), "sha256": digest(self.archive), "wheels": str(self.wheels)}
        return {"root": str(root), "release": release, **named, "python": sys.executable, **other}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    directory = tmp_path_factory.mktemp("built")
    pip = pip_wheel()
    archive = pack(directory / "source.tar.gz", {"requirements.txt": "tiny==1.0\n", "app/main.py": "import tiny\nprint(tiny.VALUE)\n"})
    return Built(archive, pack(directory / "wheels.tar", {pip.name: pip.read_bytes(), "tiny-1.0-py3-none-any.whl": tiny_wheel()}, "w"))


def works(directory: Path) -> bool:
    """The release's own interpreter runs the release's program with the release's library."""
    finished = subprocess.run([directory / "venv" / "bin" / "python", directory / "app" / "main.py"], cwd="/", capture_output=True, text=True, check=True)
    return finished.stdout == "7\n"


def names(directory: Path) -> list[str]:
    return sorted(one.name for one in directory.iterdir())


def test_a_release_is_staged_once(built: Built, tmp_path: Path, call_module: CallModule) -> None:
    root = tmp_path / "root"
    directory = root / "releases" / "r1-0000001"
    options = built.options(root, progress_file=str(tmp_path / "progress.json"))
    checked = call_module(release_module, check=True, **options)
    assert (checked["changed"], checked["diff"]["after"], root.exists()) == (True, {"releases": ["r1-0000001"]}, False)
    staged = call_module(release_module, **options)
    assert {name: staged[name] for name in ("changed", "files", "wheels", "directory", "removed")} == {
        "changed": True,
        "files": 2,
        "wheels": 2,
        "directory": str(directory),
        "removed": [],
    }
    assert works(directory)
    assert names(root / "releases") == ["r1-0000001"]
    assert names(directory) == ["app", "requirements.txt", "venv"]
    assert stat.S_IMODE(directory.stat().st_mode) == 0o755
    assert '"done": 3' in (tmp_path / "progress.json").read_text(encoding="utf-8")
    again = call_module(release_module, **options)
    assert (again["changed"], again["files"], again["diff"]["before"] == again["diff"]["after"]) == (False, 0, True)


def test_the_hosts_own_pip_settings_do_not_matter(built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_REQUIRE_HASHES", "1")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "of the caller"))
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".config" / "pip").mkdir(parents=True)
    (tmp_path / ".config" / "pip" / "pip.conf").write_text("[install]\nrequire-hashes = true\n", encoding="ascii")
    assert _release.run({**built.options(tmp_path / "root"), "requirements": "requirements.txt", "remove": []})["wheels"] == 2
    assert works(tmp_path / "root" / "releases" / "r1-0000001")


HALF = """
import tarfile, time
whole = tarfile.TarFile.extractall
def half(self, path, **other):
    whole(self, path, members=self.getmembers()[:1], **other)
    time.sleep(600)
tarfile.TarFile.extractall = half
"""

HANGING = """#!{real}
import pathlib, subprocess, sys
subprocess.run([sys.executable, *sys.argv[1:]], check=True)
installer = pathlib.Path(sys.argv[-1], "bin", "python")
installer.unlink()
installer.write_text("#!/bin/sh\\ntouch '{started}'\\nexec sleep 600\\n")
installer.chmod(0o755)
"""


@pytest.mark.parametrize("when", ["unpacking", "installing"])
def test_killed_in_the_middle_and_staged_again(when: str, built: Built, tmp_path: Path, call_module: CallModule) -> None:
    root, started = tmp_path / "root", tmp_path / "started"
    directory = root / "releases" / "r1-0000001"
    if when == "unpacking":
        kill_when((directory / "requirements.txt").exists, built.options(root), HALF)
    else:  # the environment is there, and what shall install into it hangs
        (tmp_path / "python").write_text(HANGING.format(real=sys.executable, started=started), encoding="utf-8")
        (tmp_path / "python").chmod(0o755)
        kill_when(started.exists, built.options(root, python=str(tmp_path / "python")))
        assert [path.is_dir() for path in (root / "venvs").glob("*/bin")] == [True]
    assert (directory / _whole_directory.UNFINISHED).exists()
    assert not _whole_directory.is_complete(directory)
    (directory / "left over").touch()
    assert call_module(release_module, **built.options(root))["changed"] is True
    assert works(directory)
    assert names(directory) == ["app", "requirements.txt", "venv"]


def kill_when(condition: collections.abc.Callable[[], bool], options: dict[str, t.Any], before: str = "") -> None:
    """Stage in a process group of its own, and kill all of it (SIGKILL) once *condition* holds."""
    options = {"requirements": "requirements.txt", "remove": [], **options}
    program = f"import sys; sys.path.insert(0, {str(ROOT / 'collections')!r})\n{before}\n"
    program += f"from ansible_collections.lastro.deploy.plugins.module_utils import _release\n_release.run({options!r})\n"
    with subprocess.Popen([sys.executable, "-c", program], start_new_session=True) as process:
        until = time.monotonic() + 60
        while not condition():
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize("step", ["rename", "rmtree"])
def test_killed_while_it_is_removed(step: str, built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = tmp_path / "releases" / "r1"
    (directory / "venv").mkdir(parents=True)
    (directory / "app.py").touch()

    def die(*_arguments: object, **_options: object) -> t.NoReturn:
        raise KeyboardInterrupt

    if step == "rename":
        monkeypatch.setattr(Path, "rename", die)
    else:
        real = _whole_directory.shutil.rmtree

        def half(path: Path, **options: t.Any) -> None:  # noqa: ANN401
            if path.exists():
                (path / "app.py").unlink()
                die()
            real(path, **options)

        monkeypatch.setattr(_whole_directory.shutil, "rmtree", half)
    with pytest.raises(KeyboardInterrupt):
        _release.remove(tmp_path, ["r1"])
    monkeypatch.undo()
    # Either it stands there whole, or it is gone: half a release never counts as one.
    assert _whole_directory.is_complete(directory) is (step == "rename")
    assert directory.exists() is (step == "rename")
    _release.remove(tmp_path, ["r1"])
    assert names(tmp_path / "releases") == []


def test_a_wrong_checksum_changes_nothing(built: Built, tmp_path: Path, call_module: CallModule) -> None:
    refused = call_module(release_module, **{**built.options(tmp_path / "root"), "sha256": "0" * 64})
    assert refused["failed"] and "000000000000… was built" in refused["problem"] and str(built.archive) in refused["remedy"]["pt_BR"]
    missing = call_module(release_module, **{**built.options(tmp_path / "root"), "archive": str(tmp_path / "none")})
    assert missing["failed"] and "cannot be read: No such file" in missing["problem"]
    assert not (tmp_path / "root").exists()


def test_an_archive_that_leads_out_of_itself(built: Built, tmp_path: Path, call_module: CallModule) -> None:
    archive = pack(tmp_path / "bad.tar.gz", {"../outside": "x"})
    refused = call_module(release_module, **Built(archive, built.wheels).options(tmp_path / "root"))
    assert refused["failed"] and "bad.tar.gz cannot be unpacked" in refused["problem"]
    assert not list((tmp_path / "root").rglob("outside"))
    assert not _whole_directory.is_complete(tmp_path / "root" / "releases" / "r1-0000001")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"python": "/nonexistent/python"}, "This host cannot create the virtual environment: .*No such file"),
        ({"python": "false"}, "This host cannot create the virtual environment: exit status 1"),
        ({"requirements": "other.txt"}, "This host cannot install the wheels: .*other.txt"),
        ({"wheels": "none.tar"}, "none.tar cannot be unpacked"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_an_installation_lacks(change: dict[str, str], message: str, built: Built, tmp_path: Path) -> None:
    options = {**built.options(tmp_path / "root"), "requirements": "requirements.txt", "remove": [], **change}
    with pytest.raises(LastroError, match=message) as caught:
        _release.run(options)
    assert caught.value.remedy.pt_BR
    assert not _whole_directory.is_complete(tmp_path / "root" / "releases" / "r1-0000001")


def test_wheels_without_pip(built: Built, tmp_path: Path) -> None:
    wheels = pack(tmp_path / "wheels.tar", {"tiny-1.0-py3-none-any.whl": tiny_wheel()}, "w")
    with pytest.raises(LastroError, match=r"cannot install the wheels: .*pip\.whl"):
        _release.run({**Built(built.archive, wheels).options(tmp_path / "root"), "requirements": "requirements.txt", "remove": []})


def test_a_full_disk(built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_arguments: object, **_options: object) -> t.NoReturn:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(tarfile.TarFile, "extractall", full)
    with pytest.raises(LastroError, match="r1-0000001 cannot be written: No space left on device"):
        _release.run({**built.options(tmp_path / "root"), "requirements": "requirements.txt", "remove": []})
    assert not _whole_directory.is_complete(tmp_path / "root" / "releases" / "r1-0000001")


def test_releases_with_the_same_wheels_share_their_environment(built: Built, tmp_path: Path, call_module: CallModule) -> None:
    root = tmp_path / "root"
    assert call_module(release_module, **built.options(root))["wheels"] == 2
    second = call_module(release_module, **built.options(root, "r2-0000002"))
    assert (second["changed"], second["wheels"]) == (True, 0)
    assert works(root / "releases" / "r2-0000002")
    assert len(names(root / "venvs")) == 1
    call_module(release_module, root=str(root), remove=["r1-0000001"])
    assert works(root / "releases" / "r2-0000002")
    call_module(release_module, root=str(root), remove=["r2-0000002"])
    assert names(root / "venvs") == []


def test_removing(tmp_path: Path, call_module: CallModule) -> None:
    for release in ("r1", "r2", "r3"):
        (tmp_path / "releases" / release / "venv").mkdir(parents=True)
        (tmp_path / "env").mkdir(exist_ok=True)
        (tmp_path / "env" / f"{release}.env").touch()
    checked = call_module(release_module, check=True, root=str(tmp_path), remove=["r1", "r9"])
    assert (checked["changed"], checked["removed"], names(tmp_path / "releases")) == (True, ["r1"], ["r1", "r2", "r3"])
    removed = call_module(release_module, root=str(tmp_path), remove=["r1", "r3", "r9"])
    assert (removed["changed"], removed["removed"], removed["diff"]) == (True, ["r1", "r3"], {"before": {"releases": ["r1", "r3"]}, "after": {"releases": []}})
    assert (names(tmp_path / "releases"), names(tmp_path / "env")) == (["r2"], ["r2.env"])
    assert call_module(release_module, root=str(tmp_path), remove=["r1", "r3"])["changed"] is False


@pytest.mark.parametrize("release", ["", ".", "..", "../r1", "a/b", "-rf", "r1\n", ".r1.gone"])
def test_a_name_that_is_no_release(release: str, built: Built, tmp_path: Path, call_module: CallModule) -> None:
    (tmp_path / "releases" / "r1").mkdir(parents=True)
    refused = call_module(release_module, root=str(tmp_path), remove=[release])
    assert refused["failed"] and "is not the id of a release" in refused["problem"]
    if release:
        assert call_module(release_module, **built.options(tmp_path, release=release))["failed"]
    assert names(tmp_path / "releases") == ["r1"]
