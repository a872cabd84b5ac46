# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""rclone as a child of ours: a directory of an off-site store, listed, written and read, each call bounded in time.

PRIVATE to the collection: may change at any time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import select
import shutil
import sys
import time
import typing as t
from pathlib import Path

from ._backup_programs import Program, running
from ._errors import LastroError, Text
from ._progress import Progress, silent

NO_SUCH_DIRECTORY = 3
NO_SUCH_FILE = 4
CHUNK = 1 << 20
_LOOK_SECONDS = 0.25
_NOISE = re.compile(r"RequestID: [^,]*, HostID: [^,]*, |Attempt \d+/\d+ (?:failed|succeeded) with \d+ errors and: ")
_REFUSED = re.compile(r"\b40[13]\b|Forbidden|AccessDenied|SignatureDoesNotMatch|InvalidAccessKeyId|Unauthorized|unable to authenticate|EmptyStaticCreds", re.I)
_COMMON = ("--use-json-log", "--log-level", "NOTICE", "--retries", "1", "--low-level-retries", "3", "--contimeout", "15s")
# A bucket that is misspelled is an error, and a large file is not hashed before its first byte leaves: we hash what comes back.
_SETTINGS = {"RCLONE_S3_NO_CHECK_BUCKET": "true", "RCLONE_S3_DISABLE_CHECKSUM": "true", "RCLONE_INPLACE": "true"}

CREDENTIALS_REMEDY = Text(
    en="Correct the credentials in upload.config, or the rights that the store gives them (list, read, write, delete below upload.path).",
    pt_BR="Corrija as credenciais em upload.config, ou os direitos que o armazenamento dá a elas (listar, ler, gravar e apagar abaixo de upload.path).",
)
STORE_REMEDY = Text(
    en="See that the store answers from this host and that upload.remote, upload.path and upload.config name it.",
    pt_BR="Verifique se o armazenamento responde a partir deste host e se upload.remote, upload.path e upload.config o indicam.",
)


@dataclasses.dataclass(frozen=True)
class Store:
    """A directory *path* of rclone's remote *remote*; *config* are the remote's settings, {} where rclone.conf on the host has them.

    *timeout* is how many seconds may pass without a byte.
    """

    program: str
    remote: str
    path: str
    config: t.Mapping[str, str] = dataclasses.field(repr=False)
    timeout: int

    def at(self, name: str = "") -> str:
        """The directory, or a file in it, as rclone writes it."""
        return f"{self.remote}:{self.path}" + (f"/{name}" if name else "")

    def environment(self) -> dict[str, str]:
        """What the child gets: our own environment, but no other remote's settings where *config* has this one's."""
        own = {name: value for name, value in os.environ.items() if not name.startswith("RCLONE_CONFIG") or not self.config}
        settings = {f"RCLONE_CONFIG_{self.remote.upper()}_{name.upper()}": value for name, value in self.config.items()}
        return {**_SETTINGS, **own, **({"RCLONE_CONFIG": os.devnull} if settings else {}), **settings}

    def secrets(self) -> set[str]:
        """What nobody may see."""
        return secrets_in(self.config)

    def redact(self, text: str) -> str:
        """*text* without the secrets among the settings."""
        for secret in sorted(self.secrets(), key=len, reverse=True):
            text = text.replace(secret, "********")
        return text


_ORDINARY = frozenset(
    {"type", "provider", "region", "endpoint", "location_constraint", "location", "acl", "storage_class", "env_auth", "no_check_bucket", "force_path_style"}
    | {"chunk_size", "upload_concurrency", "host", "port", "user", "vendor", "url", "remote", "server_side_encryption", "bucket_policy_only", "shell_type"}
)
"""Settings whose values are words that a log may show."""


def secrets_in(config: t.Mapping[str, str]) -> set[str]:
    """The values of *config* that nobody may see: all whose setting is not known to be harmless."""
    return {value for name, value in config.items() if name.lower() not in _ORDINARY and value not in ("true", "false", "")}


def ordinary_in(config: t.Mapping[str, str]) -> set[str]:
    """The other values: were they censored too, no message could say "s3" any more."""
    return {*config.values()} - secrets_in(config)


def find_program(wanted: str | None) -> str:
    """The path of rclone: *wanted*, else beside the interpreter (the tool environment has it), else in PATH. Raises LastroError."""
    beside = Path(sys.executable).with_name("rclone")
    found = wanted if wanted and os.access(wanted, os.X_OK) else None if wanted else str(beside) if os.access(beside, os.X_OK) else shutil.which("rclone")
    if found:
        return found
    raise LastroError(
        f"There is no rclone at {wanted}." if wanted else "There is no rclone on this host, and an upload needs it.",
        remedy=Text(
            en="Run the playbook tool_environment once more, which brings rclone where deploy_backup.upload is set, or name one in upload.rclone.",
            pt_BR="Execute de novo o playbook tool_environment, que traz o rclone quando deploy_backup.upload existe, ou indique um em upload.rclone.",
        ),
    )


def files(store: Store) -> dict[str, int]:
    """Name and size in bytes of each file of the directory; {} where there is no such directory. Raises LastroError."""
    return _listed(store) or {}


def check(store: Store) -> None:
    """Raises LastroError where the store does not let us in, or has no bucket of that name. A missing directory is made by the first upload."""
    if _listed(store) is None and _features(store).get("BucketBased"):
        raise LastroError(f"{store.at()}: the store has no such bucket.", remedy=STORE_REMEDY)


def _listed(store: Store) -> dict[str, int] | None:
    told = bytearray()
    arguments = ["lsjson", "--files-only", "--no-modtime", "--no-mimetype", store.at()]
    if _call(store, arguments, consume=told.extend, missing=(NO_SUCH_DIRECTORY,)) == NO_SUCH_DIRECTORY:
        return None
    return {one["Name"]: int(one["Size"]) for one in json.loads(bytes(told))}


def moves(store: Store) -> bool:
    """Whether the store can give a file another name. Raises LastroError."""
    return bool(_features(store).get("Move"))


def _features(store: Store) -> dict[str, t.Any]:
    told = bytearray()
    _call(store, ["backend", "features", store.at()], consume=told.extend)
    return dict(json.loads(bytes(told))["Features"])


def put(store: Store, source: Path, name: str, *, progress: Progress = silent) -> None:
    """Write the file *source* to *name*, whatever is there. Raises LastroError."""
    total = source.stat().st_size
    arguments = ["copyto", "--ignore-times", "--stats", "1s", "--stats-log-level", "NOTICE", str(source), store.at(name)]
    _call(store, arguments, moved=lambda done: progress(min(done, total), total, "bytes"))


def read(store: Store, name: str, size: int, *, progress: Progress = silent) -> tuple[str, int]:
    """SHA-256 (hex) and size of what the store gives back for *name*, of which *size* bytes are expected. Raises LastroError."""
    digest, done = hashlib.sha256(), 0

    def consume(data: bytes) -> None:
        nonlocal done
        digest.update(data)
        done += len(data)
        progress(done, max(size, done), "bytes")

    _call(store, ["cat", store.at(name)], consume=consume, missing=(NO_SUCH_DIRECTORY, NO_SUCH_FILE))
    return digest.hexdigest(), done


def rename(store: Store, name: str, final: str) -> None:
    """Give a file its name. Raises LastroError."""
    _call(store, ["moveto", store.at(name), store.at(final)])


def delete(store: Store, name: str) -> None:
    """Remove a file, if it is there. Raises LastroError."""
    _call(store, ["deletefile", store.at(name)], missing=(NO_SUCH_DIRECTORY, NO_SUCH_FILE))


def fetch(store: Store, suffix: str, directory: Path) -> None:
    """Copy the files of the store that end with *suffix* to *directory*. Raises LastroError."""
    _call(store, ["copy", "--max-depth", "1", "--include", f"/*{suffix}", store.at(), str(directory)], missing=(NO_SUCH_DIRECTORY,))


def _call(
    store: Store,
    arguments: t.Sequence[str],
    *,
    consume: t.Callable[[bytes], object] = len,
    moved: t.Callable[[int], object] = int,
    missing: t.Collection[int] = (),
) -> int:
    """Run rclone to its end; its exit status, 0 or one of *missing*. Raises LastroError, also where nothing has moved for too long."""
    command = [store.program, *arguments, *_COMMON, "--timeout", f"{store.timeout}s"]
    try:
        with running("rclone", command, store.environment(), writes=True) as program:
            log = Log(program.errors)
            stalled = _pump(program, log, consume, moved, store.timeout)
            status = -1 if stalled else program.wait()
            log.read()
    except OSError as error:
        raise LastroError(f"{store.program} could not be run: {error.strerror}.", remedy=STORE_REMEDY) from error
    if status == 0 or status in missing:
        return status
    said = store.redact(_NOISE.sub("", log.complaint)) or (f"exit status {status}" if status >= 0 else f"ended by signal {-status}")
    if stalled:
        said = f"no byte has moved for {store.timeout} s, so it was stopped" + (f" (rclone's last words: {said})" if log.complaint else "")
    raise LastroError(f"{store.at()}: {said.rstrip('.')}.", remedy=CREDENTIALS_REMEDY if _REFUSED.search(said) else STORE_REMEDY)


def _pump(program: Program, log: Log, consume: t.Callable[[bytes], object], moved: t.Callable[[int], object], timeout: float) -> bool:
    """Hand on its output until that ends; True where for *timeout* seconds there was none and its count of bytes stood still."""
    source = program.source.fileno()
    last, count = time.monotonic(), 0
    while time.monotonic() - last < timeout:
        if select.select([source], [], [], _LOOK_SECONDS)[0]:
            data = os.read(source, CHUNK)
            if not data:
                return False
            consume(data)
            last = time.monotonic()
        log.read()
        if log.bytes != count:
            last, count = time.monotonic(), log.bytes
            moved(count)
    return True


class Log:
    """What rclone says on its error output, one JSON object a line: how many *bytes* it has moved, and the last *complaint*."""

    def __init__(self, stream: t.IO[bytes]) -> None:
        self._stream = stream
        self._offset = 0
        self.bytes = 0
        self.complaint = ""

    def read(self) -> None:
        """Take in what was added."""
        # pread: the child writes through the same file description, whose position is its own.
        while data := os.pread(self._stream.fileno(), CHUNK, self._offset):
            whole = data.rpartition(b"\n")[0]
            if not whole:
                return
            self._offset += len(whole) + 1
            for line in whole.splitlines():
                self._line(line)

    def _line(self, line: bytes) -> None:
        record: object = None
        with contextlib.suppress(ValueError):
            record = json.loads(line)
        if not isinstance(record, dict):
            self.complaint = line.decode(errors="replace").strip() or self.complaint
        elif isinstance(record.get("stats"), dict):
            self.bytes = int(record["stats"].get("bytes", 0))
        elif record.get("level") in ("error", "critical", "fatal") or str(record.get("msg", "")).startswith("Failed"):
            self.complaint = " ".join(str(record.get("msg", "")).split())[:1000]


__all__ = (
    "Log",
    "Store",
    "check",
    "delete",
    "fetch",
    "files",
    "find_program",
    "moves",
    "ordinary_in",
    "put",
    "read",
    "rename",
    "secrets_in",
)
