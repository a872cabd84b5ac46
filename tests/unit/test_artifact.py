# SPDX-License-Identifier: GPL-3.0-or-later
"""The artifact: the same source gives the same bytes, whatever goes wrong is named, and credentials are shown nowhere."""

from __future__ import annotations

import base64
import collections.abc
import concurrent.futures
import contextlib
import dataclasses
import http.server
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import threading
import typing as t
import zipfile
from pathlib import Path

import pytest
from ansible_collections.lastro.deploy.plugins.module_utils import _artifact
from ansible_collections.lastro.deploy.plugins.module_utils._artifact import Source, Target, build_source, build_wheels, digest
from ansible_collections.lastro.deploy.plugins.module_utils._errors import LastroError
from ansible_collections.lastro.deploy.plugins.modules import wheelhouse

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
TOKEN = "hunter/eleven@2"
CallModule = collections.abc.Callable[..., dict[str, t.Any]]


def git(repository: Path, *arguments: str) -> str:
    quiet = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false", "-c", "init.defaultBranch=main"]
    return subprocess.run(["git", "-C", str(repository), *quiet, *arguments], capture_output=True, text=True, check=True).stdout.strip()


@dataclasses.dataclass(frozen=True)
class Repository:
    """A repository with a tag v1 and, behind it, a commit on the branch main."""

    path: Path
    first: str
    second: str


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    path = tmp_path_factory.mktemp("repository")
    git(path, "init", "--quiet")
    (path / "requirements.txt").write_text("tiny==1.0\n", encoding="ascii")
    git(path, "add", ".")
    git(path, "commit", "--quiet", "--message=one")
    git(path, "tag", "v1")
    first = git(path, "rev-parse", "HEAD")
    (path / "app.py").write_text("RELEASE = 2\n", encoding="ascii")
    git(path, "add", ".")
    git(path, "commit", "--quiet", "--message=two")
    return Repository(path, first, git(path, "rev-parse", "HEAD"))


def wheel(directory: Path, name: str, version: str = "1.0", tag: str = "py3-none-any") -> Path:
    """A wheel with one empty module."""
    path = directory / f"{name}-{version}-{tag}.whl"
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.py", "")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


def tarball(path: Path, **files: str) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name.replace("__", "."))
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    return path


# --- source: git ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["v1", "main", "first", "second"])
def test_git_takes_tags_branches_and_commits(version: str, repository: Repository, tmp_path: Path) -> None:
    commit = repository.first if version in ("v1", "first") else repository.second
    wanted = {"first": repository.first, "second": repository.second}.get(version, version)
    path = build_source(Source("git", str(repository.path), wanted), tmp_path / "build")
    assert path == tmp_path / "build" / f"source-{commit[:12]}.tar.gz"
    with tarfile.open(path) as tar:
        assert sorted(tar.getnames()) == (["requirements.txt"] if commit == repository.first else ["app.py", "requirements.txt"])
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_the_same_source_gives_the_same_bytes(repository: Repository, tmp_path: Path) -> None:
    one = build_source(Source("git", str(repository.path), "v1"), tmp_path / "one")
    two = build_source(Source("git", f"file://{repository.path}", repository.first), tmp_path / "two")
    assert one.read_bytes() == two.read_bytes()
    # What is there is not made again.
    before = one.stat()
    assert build_source(Source("git", str(repository.path), "v1"), tmp_path / "one").stat() == before


def test_git_is_not_misled_by_its_callers_environment(repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    assert build_source(Source("git", str(repository.path), "v1"), tmp_path / "build").exists()


@pytest.mark.parametrize("version", ["v9", "0" * 40, "--upload-pack=touch pwned"])
def test_a_version_that_is_not_there(version: str, repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LastroError, match=f"git cannot fetch {version} of the repository") as caught:
        build_source(Source("git", str(repository.path), version), tmp_path / "build")
    assert "deploy_version is a tag" in caught.value.remedy.en and caught.value.remedy.pt_BR
    assert [one.name for one in tmp_path.rglob("*")] == ["build"]


def test_a_repository_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(LastroError, match="does not appear to be a git repository"):
        build_source(Source("git", str(tmp_path / "none"), "v1"), tmp_path / "build")


def test_a_controller_without_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LastroError, match="The controller has no git"):
        build_source(Source("git", "https://example.org/x.git", "v1"), tmp_path / "build")


class GitServer(http.server.BaseHTTPRequestHandler):
    """git's own CGI program behind HTTP basic authentication; notes the command lines of all running git processes."""

    root: t.ClassVar[Path]
    seen: t.ClassVar[list[str]]
    refuse: t.ClassVar[bool] = False

    def do_GET(self) -> None:
        self.answer(b"")

    def do_POST(self) -> None:
        self.answer(self.rfile.read(int(self.headers["Content-Length"])))

    def answer(self, body: bytes) -> None:
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                self.seen.append(entry.read_bytes().decode(errors="replace"))
        if self.refuse or self.headers["Authorization"] != "Basic " + base64.b64encode(f"ana:{TOKEN}".encode()).decode():
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="git"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        path, _unused, query = self.path.partition("?")
        variables = {
            "GIT_PROJECT_ROOT": str(self.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
        }
        answer = subprocess.run(["git", "http-backend"], env={**os.environ, **variables}, input=body, capture_output=True, check=True).stdout
        head, _blank, content = answer.partition(b"\r\n\r\n")
        self.send_response(200)
        for line in head.decode().split("\r\n"):
            self.send_header(*line.split(": ", 1))
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def git_server(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> collections.abc.Iterator[str]:
    """Address of a server that has the repository as /REPOSITORY/.git for user ana."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    GitServer.root, GitServer.seen, GitServer.refuse = repository.path.parent, [], False
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), GitServer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"127.0.0.1:{server.server_address[1]}/{repository.path.name}/.git"
        server.shutdown()
        thread.join()


def test_credentials_in_the_url_are_used_and_seen_by_nobody(git_server: str, repository: Repository, tmp_path: Path) -> None:
    build = tmp_path / "build"
    path = build_source(Source("git", f"http://ana:{_quoted(TOKEN)}@{git_server}", "v1"), build)
    assert path.name == f"source-{repository.first[:12]}.tar.gz"
    fetching = [line for line in GitServer.seen if "fetch" in line or "remote-http" in line]
    assert fetching and any(git_server in line for line in fetching)
    assert not [line for line in GitServer.seen if TOKEN in line or _quoted(TOKEN) in line]
    assert [one.name for one in build.iterdir()] == [path.name]  # nor are they left on the disk


@pytest.mark.parametrize("refuse", [True, False], ids=["unauthorized", "unknown version"])
def test_credentials_are_in_no_message(refuse: bool, git_server: str, tmp_path: Path) -> None:
    GitServer.refuse = refuse
    with pytest.raises(LastroError, match="git cannot fetch v9") as caught:
        build_source(Source("git", f"http://ana:{_quoted(TOKEN)}@{git_server}", "v9"), tmp_path / "build")
    shown = str(caught.value.as_result())
    assert TOKEN not in shown and _quoted(TOKEN) not in shown and "hunter" not in shown


def test_a_token_alone_is_a_user_without_a_password(tmp_path: Path) -> None:
    url, options = _artifact._without_credentials("https://t0ken@example.org/x.git", tmp_path / "credentials")
    assert (url, len(options)) == ("https://example.org/x.git", 4)
    assert (tmp_path / "credentials").read_text(encoding="ascii") == "https://t0ken:@example.org\n"
    for plain in ("https://example.org/x.git", "git@example.org:team/x.git", "/path/x@y"):
        assert _artifact._without_credentials(plain, tmp_path / "other") == (plain, [])


def test_redaction_of_what_git_says() -> None:
    said = "fatal: unable to access\n 'https://ana:p/w@x@host.example/x.git/': no"
    assert _artifact._redact(said) == "fatal: unable to access 'https://host.example/x.git/': no"


def _quoted(text: str) -> str:
    return text.replace("/", "%2F").replace("@", "%40")


# --- source: archive --------------------------------------------------------------------------------------------------


def test_an_archive_is_taken_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tarball(tmp_path / "app.tar.gz", requirements__txt="")
    monkeypatch.chdir(tmp_path)
    for url in (str(path), f"file://{path}", "app.tar.gz"):
        assert build_source(Source("archive", url, "v1", digest(path)), tmp_path / "build") == path


def test_a_wrong_checksum(tmp_path: Path, repository: Repository) -> None:
    path = tarball(tmp_path / "app.tar.gz", a="1")
    for source in (Source("archive", str(path), "v1", "0" * 64), Source("git", str(repository.path), "v1", "0" * 64)):
        with pytest.raises(LastroError, match=r"has the SHA-256 [0-9a-f]{12}…, deploy_source\.sha256 says 000000000000…") as caught:
            build_source(source, tmp_path / "build")
        assert caught.value.remedy.pt_BR


def test_an_archive_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(LastroError, match=r"none\.tar\.gz does not exist on the controller"):
        build_source(Source("archive", str(tmp_path / "none.tar.gz"), "v1"), tmp_path / "build")


def test_a_build_directory_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LastroError, match="cannot be written"):
        build_source(Source("archive", str(tmp_path / "none.tar.gz"), "v1"), tmp_path / "file" / "build")


def test_reading_one_file_of_a_tarball(tmp_path: Path) -> None:
    path = tarball(tmp_path / "a.tar.gz", a="one")
    assert (_artifact.read_member(path, "a"), _artifact.read_member(path, "b")) == (b"one", b"")
    with tarfile.open(tmp_path / "dotted.tar", "w") as tar:
        (tmp_path / "c").write_text("two", encoding="ascii")
        tar.add(tmp_path / "c", arcname="./c")
        tar.add(tmp_path, arcname="directory", recursive=False)
    assert _artifact.read_member(tmp_path / "dotted.tar", "c") == b"two"
    assert _artifact.read_member(tmp_path / "dotted.tar", "directory") == b""
    whole = tarball(tmp_path / "b.tar.gz", padding=os.urandom(4000).hex(), a="one").read_bytes()
    for name, content in (("torn", whole[:-500]), ("text", b"no tarball"), ("empty", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(LastroError, match=f"The artifact {name} cannot be unpacked"):
            _artifact.read_member(tmp_path / name, "a")
    with pytest.raises(LastroError, match="cannot be unpacked"):
        _artifact.read_member(tmp_path / "none", "a")


# --- wheels -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that is the only place where pip finds wheels; a small one stands for pip itself."""
    directory = tmp_path / "links"
    directory.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(directory))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    name, _unused, version = _artifact.PIP.partition("==")
    wheel(directory, name, version)
    return directory


def test_wheels_are_collected_once(links: Path, tmp_path: Path, call_module: CallModule) -> None:
    wheel(links, "tiny")
    archive = tarball(tmp_path / "app.tar.gz", requirements__txt="tiny==1.0\n")
    options = {"archive": str(archive), "build_dir": str(tmp_path / "build"), "python_version": HERE}
    collected = call_module(wheelhouse, **options)
    path = Path(collected["path"])
    assert (collected["changed"], collected["sha256"]) == (True, digest(path))
    with tarfile.open(path) as tar:
        assert [re.sub(r"-\d.*", "", name) for name in tar.getnames()] == ["pip", "tiny"]
        assert {(member.mtime, member.uid, member.uname) for member in tar.getmembers()} == {(0, 0, "")}
    assert [one.name for one in path.parent.iterdir()] == [path.name]
    shutil.rmtree(links)  # nothing is asked for again
    again = call_module(wheelhouse, **options)
    assert (again["changed"], again["path"], again["sha256"]) == (False, collected["path"], collected["sha256"])


def test_wheels_of_a_requirements_file_within_constraints(links: Path, tmp_path: Path, call_module: CallModule) -> None:
    for version in ("1.0", "2.0"):
        wheel(links, "tiny", version)
    (tmp_path / "tools.txt").write_text("tiny\n", encoding="ascii")
    (tmp_path / "constraints.txt").write_text("tiny<2\n", encoding="ascii")
    options = {"requirements": str(tmp_path / "tools.txt"), "build_dir": str(tmp_path / "build"), "python_version": HERE}
    limited = call_module(wheelhouse, constraints=str(tmp_path / "constraints.txt"), **options)
    free = call_module(wheelhouse, **options)
    for result, version in ((limited, "1.0"), (free, "2.0")):
        with tarfile.open(result["path"]) as tar:
            assert [name for name in tar.getnames() if name.startswith("tiny")] == [f"tiny-{version}-py3-none-any.whl"]
    wheel(links, "more")
    (tmp_path / "more.txt").write_text("-c constraints.txt\nmore\n", encoding="ascii")
    both = call_module(wheelhouse, constraints=str(tmp_path / "constraints.txt"), further=[str(tmp_path / "more.txt")], **options)
    with tarfile.open(both["path"]) as tar:
        assert [name.split("-")[0] for name in tar.getnames()] == ["more", "pip", "tiny"]


def test_a_requirements_file_that_is_not_there(tmp_path: Path, call_module: CallModule) -> None:
    refused = call_module(wheelhouse, requirements=str(tmp_path / "tools.txt"), build_dir=str(tmp_path / "build"), python_version=HERE)
    assert refused["failed"] and refused["problem"] == f"{tmp_path / 'tools.txt'} cannot be read: No such file or directory."


def test_hosts_that_ask_at_the_same_time_wait_for_the_one_that_builds(links: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel(links, "tiny")
    asked: list[int] = []
    real = _artifact._pack_wheels

    def pack(wanted: bytes, constraints: bytes, target: Target, path: Path) -> None:
        asked.append(1)
        real(wanted, constraints, target, path)

    monkeypatch.setattr(_artifact, "_pack_wheels", pack)
    with concurrent.futures.ThreadPoolExecutor(4) as hosts:
        paths = {host.result() for host in [hosts.submit(_artifact.collect_wheels, b"tiny\n", Target(HERE), tmp_path / "build") for _number in range(4)]}
    assert len(paths) == len(asked) == 1


def test_the_same_wheels_give_the_same_bytes(links: Path, tmp_path: Path) -> None:
    wheel(links, "tiny")
    archive = tarball(tmp_path / "app.tar.gz", requirements__txt="tiny==1.0\n")
    one, two = (build_wheels(archive, "requirements.txt", Target(HERE), tmp_path / name) for name in ("one", "two"))
    assert one.name == two.name and one.read_bytes() == two.read_bytes()


def test_wheels_for_another_interpreter_and_platform(links: Path, tmp_path: Path) -> None:
    wheel(links, "tiny", tag="cp399-cp399-manylinux_2_28_x86_64")
    archive = tarball(tmp_path / "app.tar.gz", requirements__txt="tiny\n")
    build = tmp_path / "build"
    with pytest.raises(LastroError, match=rf"No wheel for Python {re.escape(HERE)} fits: tiny\."):
        build_wheels(archive, "requirements.txt", Target(HERE), build)
    other = build_wheels(archive, "requirements.txt", Target("3.99"), build)
    with tarfile.open(other) as tar:
        assert "tiny-1.0-cp399-cp399-manylinux_2_28_x86_64.whl" in tar.getnames()
    with pytest.raises(LastroError, match=r"No wheel for Python 3\.99 fits: tiny\."):
        build_wheels(archive, "requirements.txt", Target("3.99", ("musllinux_1_2_x86_64",)), build)


def test_a_requirement_without_a_wheel_is_named(links: Path, tmp_path: Path, call_module: CallModule) -> None:
    archive = tarball(tmp_path / "app.tar.gz", requirements__txt="lastro-none-such >= 1.5\n")
    refused = call_module(wheelhouse, archive=str(archive), build_dir=str(tmp_path / "build"), python_version=HERE)
    assert refused["failed"] and refused["missing"] == ["lastro-none-such>=1.5"]
    assert refused["problem"] == f"No wheel for Python {HERE} fits: lastro-none-such>=1.5."
    assert "PIP_FIND_LINKS" in refused["remedy"]["pt_BR"]
    assert list((tmp_path / "build").iterdir()) == []


def test_requirements_that_pip_cannot_read(links: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_RETRIES", "0")
    archive = tarball(tmp_path / "app.tar.gz", requirements__txt="-r https://ana:hunter@127.0.0.1:1/other.txt\n")
    with pytest.raises(LastroError, match="pip cannot download the wheels: ") as caught:
        build_wheels(archive, "requirements.txt", Target(HERE), tmp_path / "build")
    assert "hunter" not in str(caught.value)


def test_a_release_without_requirements(tmp_path: Path) -> None:
    archive = tarball(tmp_path / "app.tar.gz", a="1")
    with pytest.raises(LastroError, match=r"The release has no deploy/requirements\.txt") as caught:
        build_wheels(archive, "deploy/requirements.txt", Target(HERE), tmp_path / "build")
    assert "deploy_requirements" in caught.value.remedy.pt_BR


# --- ids and leftovers ------------------------------------------------------------------------------------------------


def test_release_id() -> None:
    made = _artifact.release_id("v1.2/rc-3", "abc", ["A=1\n", "{}"])
    assert re.fullmatch(r"v1\.2_rc_3-[0-9a-f]{7}", made)
    assert _artifact.release_id("v1.2/rc-3", "abc", ["A=1\n", "{}"]) == made
    others = [
        ("v1.2/rc-3", "abd", ["A=1\n", "{}"]),
        ("v1.2/rc-3", "abc", ["A=2\n", "{}"]),
        ("v1.2/rc-3", "abc", ["A=1\n", "[]"]),
        ("v1.2/rc-3", "abc", ["A=1\n{}"]),
    ]
    assert len({made, *(_artifact.release_id(*other) for other in others)}) == 5
