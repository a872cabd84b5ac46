# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files for which a proxy looks at each request: the slot of each host, maintenance with its pages, testers. PRIVATE to the collection.

What shall be is a list of ``Wanted``. ``plan`` compares it with what stands there; the same plan feeds check mode, diff and ``act``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import stat
import typing as t
from pathlib import Path

from ._errors import LastroError, Text
from ._files import make_directory, remove, write_atomic, writing

FIELDS = ("run_id", "by", "since", "message", "until")
FLAG_LIMIT = 64 * 1024
"""How much of a flag is read: a human may have made it of anything."""
PAGES = ("html", "json")

Kind = t.Literal["absent", "dangling", "file", "directory", "other"]
"""A link counts as what it leads to, as the proxy sees it; one that leads nowhere is dangling, a pipe or a device is other."""

_TOKEN = re.compile("[0-9A-Za-z_-]{32,128}")
_STRING = r'("(?:[^"\\\x00-\x1f]|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*")'


@dataclasses.dataclass(frozen=True)
class Flags:
    """The paths in the directory of flags, C(proxy) in the host's state directory."""

    directory: Path

    @property
    def maintenance(self) -> Path:
        """Users are shut out while it is there."""
        return self.directory / "maintenance.flag"

    @property
    def configured(self) -> Path:
        """The hash of the site that the proxy was last told of."""
        return self.directory / "configured"

    @property
    def pages(self) -> Path:
        """What users read during maintenance."""
        return self.directory / "pages"

    @property
    def testers(self) -> Path:
        """A file for each token that passes."""
        return self.directory / "testers"

    def green(self, host: str) -> Path:
        """The green slot of *host* serves while it is there."""
        return self.directory / f"{host}.green"


@dataclasses.dataclass(frozen=True)
class Found:
    """What stands at a path now."""

    kind: Kind = "absent"
    mode: int = 0
    content: bytes = dataclasses.field(default=b"", repr=False)

    @property
    def there(self) -> bool:
        """Whether the proxy finds a file."""
        return self.kind in ("file", "other")


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What shall stand at a path. Without *content* the file's presence alone counts. The name of a *secret* one is never told."""

    path: Path = dataclasses.field(repr=False)
    kind: t.Literal["absent", "file", "directory"]
    mode: int = 0
    content: bytes | None = dataclasses.field(default=None, repr=False)
    secret: bool = False
    silent: bool = False
    """Not worth a place in the diff."""

    @property
    def shown(self) -> Path:
        """The path that messages may name."""
        return self.path.parent if self.secret else self.path


@dataclasses.dataclass(frozen=True)
class Change:
    """One step of a plan."""

    wanted: Wanted
    found: Found


@dataclasses.dataclass(frozen=True)
class Words:
    """Who switches maintenance on, and what users read."""

    run_id: str
    by: str
    message: str
    until: str


def flag_fields(content: bytes) -> dict[str, str]:
    """What a flag says; fields that it does not say, or not as a string, are left out."""
    text = content.decode("utf-8", errors="replace")
    matches = {name: re.search(rf'"{name}":\s*{_STRING}', text) for name in FIELDS}
    # Half of a surrogate pair is no character that could be written anywhere.
    return {name: json.loads(match[1]).encode("utf-8", "replace").decode() for name, match in matches.items() if match}


def maintenance(found: Found) -> dict[str, t.Any]:
    """Empty, or C(on) with what the flag says."""
    return {"on": True, **flag_fields(found.content)} if found.there else {}


def want_slot(flags: Flags, host: str, slot: str) -> list[Wanted]:
    """The flag of one host. Presence alone counts, and making or removing it is one step: a request sees the old slot or the new one."""
    return [Wanted(flags.green(host), "file", 0o644) if slot == "green" else Wanted(flags.green(host), "absent")]


def want_pages(flags: Flags, name: str, pages: t.Mapping[str, str]) -> list[Wanted]:
    """The pages C(current) or C(default)."""
    return [Wanted(flags.pages / f"{name}.{kind}", "file", 0o644, pages[kind].encode()) for kind in PAGES]


def want_closed(flags: Flags, found: Found, words: Words, pages: t.Mapping[str, str], *, since: str, force: bool) -> list[Wanted]:
    """Maintenance on, its pages first. One that somebody else switched on keeps its own words; it shuts the door just as well.

    One that changes hands keeps its beginning: nobody came in since.
    """
    if found.there and not force:
        return []
    began = flag_fields(found.content).get("since") or since
    flag = {"run_id": words.run_id, "by": words.by, "message": words.message, "until": words.until, "since": began}
    return [*want_pages(flags, "current", pages), Wanted(flags.maintenance, "file", 0o644, json.dumps(flag).encode())]


def stays(found: Found, run_id: str, *, force: bool) -> bool:
    """Whether maintenance is on and not of this run."""
    return found.there and flag_fields(found.content).get("run_id", "") != run_id and not force


def want_open(flags: Flags) -> list[Wanted]:
    """Maintenance off. The flag goes first: while it is there, the pages are shown."""
    return [Wanted(flags.maintenance, "absent"), *(Wanted(flags.pages / f"current.{kind}", "absent") for kind in PAGES)]


def token_is_good(token: str) -> bool:
    """Whether *token* is a file name, and too long to be guessed."""
    return _TOKEN.fullmatch(token) is not None


def want_testers(flags: Flags, token: str, present: t.Iterable[str]) -> list[Wanted]:
    """*token* passes and no other; where it is no good one, nobody does."""
    others = [Wanted(flags.testers / name, "absent", secret=True) for name in sorted(present) if name != token]
    return [*others, Wanted(flags.testers / token, "file", 0o444, secret=True)] if token_is_good(token) else others


def needed(wanted: Wanted, found: Found) -> bool:
    """Whether anything has to change. Raises LastroError where a directory stands in a file's place, or a file in a directory's."""
    if (wanted.kind == "directory") is not (found.kind == "directory") and found.kind not in ("absent", "dangling"):
        raise LastroError(
            f"{wanted.shown} {'holds' if wanted.secret else 'is'} a directory where a file belongs."
            if found.kind == "directory"
            else f"{wanted.shown} is no directory.",
            remedy=Text("Move away what stands there.", "Retire de lá o que está nesse lugar."),
        )
    if wanted.kind == "absent":
        return found.kind != "absent"
    if found.kind in ("absent", "dangling") or found.mode != wanted.mode:
        return True
    return wanted.content is not None and wanted.content != found.content


def plan(wanted: t.Iterable[Wanted], see: t.Callable[[Wanted], Found]) -> list[Change]:
    """The steps that are needed, in the order of *wanted*. Raises LastroError."""
    seen = [Change(one, see(one)) for one in wanted]
    return [change for change in seen if needed(change.wanted, change.found)]


def diff(changes: t.Iterable[Change]) -> list[dict[str, str]]:
    """The plan as Ansible shows it."""
    return [
        {
            "before_header": str(change.wanted.path),
            "after_header": str(change.wanted.path),
            "before": _describe(change.found.kind, change.found.mode, change.found.content if change.wanted.content is not None else None),
            "after": _describe(change.wanted.kind, change.wanted.mode, change.wanted.content),
        }
        for change in changes
        if not (change.wanted.secret or change.wanted.silent)
    ]


def _describe(kind: str, mode: int, content: bytes | None) -> str:
    if kind in ("absent", "dangling"):
        return ""
    return f"{kind} {mode:04o}\n" + (content or b"").decode("utf-8", errors="replace")


@contextlib.contextmanager
def reading(shown: Path) -> t.Iterator[None]:
    """Raises LastroError that names *shown* where what is read inside cannot be."""
    try:
        yield
    except OSError as error:
        raise LastroError(
            f"{shown} cannot be read: {error.strerror or error}.",
            remedy=Text(
                "Correct its owner and mode, or let the deploy become root there.", "Corrija o dono e o modo, ou deixe o deploy se tornar root nesse host."
            ),
        ) from error


def look(path: Path, *, shown: Path | None = None, limit: int = -1) -> Found:
    """What stands at *path*, with up to *limit* bytes of it. Raises LastroError, which names *shown*."""
    with reading(shown or path):
        try:
            status = path.stat()
        except FileNotFoundError:
            return Found("dangling" if path.is_symlink() else "absent")
        mode = stat.S_IMODE(status.st_mode)
        if not stat.S_ISREG(status.st_mode):
            return Found("directory" if stat.S_ISDIR(status.st_mode) else "other", mode)
        with path.open("rb") as stream:
            return Found("file", mode, stream.read(limit))


def see(wanted: Wanted) -> Found:
    """What stands where *wanted* shall be; its content only where that counts."""
    return look(wanted.path, shown=wanted.shown, limit=-1 if wanted.content is not None else 0)


def look_at_flag(flags: Flags) -> Found:
    """The maintenance flag. Raises LastroError where it is a directory, for which no proxy looks."""
    found = look(flags.maintenance, limit=FLAG_LIMIT)
    needed(Wanted(flags.maintenance, "absent"), found)
    return found


def read(flags: Flags, hosts: t.Iterable[str]) -> dict[str, t.Any]:
    """What the flags say: {maintenance, slots}. Raises LastroError."""
    slots = {host: "green" if look(flags.green(host), limit=0).there else "blue" for host in hosts}
    return {"maintenance": maintenance(look_at_flag(flags)), "slots": slots}


def read_token(path: Path) -> str:
    """The token in a file, without white space around it. Raises LastroError where there is no such file."""
    with reading(path), path.open("rb") as stream:
        return stream.read(4096).decode("utf-8", errors="replace").strip()


def names_of_testers(flags: Flags) -> list[str]:
    """The tokens that pass now; directories are none."""
    with reading(flags.testers):
        try:
            return [entry.name for entry in os.scandir(flags.testers) if not entry.is_dir()]
        except FileNotFoundError:
            return []


def act(changes: t.Iterable[Change]) -> None:
    """Do what was planned. Raises LastroError that names what cannot be written."""
    for change in changes:
        wanted = change.wanted
        with writing(wanted.shown):
            if wanted.kind == "directory":
                make_directory(wanted.path, wanted.mode)
            elif wanted.kind == "absent":
                remove(wanted.path)
            elif wanted.content is None and change.found.there:
                wanted.path.chmod(wanted.mode)
            else:
                write_atomic(wanted.path, wanted.content or b"", mode=wanted.mode)


def apply(wanted: t.Iterable[Wanted], *, write: bool) -> dict[str, t.Any]:
    """Plan, act unless *write* is false, and tell: {changed, diff}. Raises LastroError."""
    changes = plan(wanted, see)
    if write:
        act(changes)
    return {"changed": bool(changes), "diff": diff(changes)}


def answer(options: t.Mapping[str, t.Any], *, write: bool) -> dict[str, t.Any]:
    """The result of the module C(caddy_info), which only reads, whatever *write*. Raises LastroError."""
    return {"changed": False, **read(Flags(Path(options["state_dir"]) / "proxy"), options["hosts"])}


__all__ = (
    "Change",
    "Flags",
    "Found",
    "Wanted",
    "Words",
    "act",
    "answer",
    "apply",
    "diff",
    "flag_fields",
    "look",
    "look_at_flag",
    "maintenance",
    "names_of_testers",
    "needed",
    "plan",
    "read",
    "read_token",
    "see",
    "stays",
    "token_is_good",
    "want_closed",
    "want_open",
    "want_pages",
    "want_slot",
    "want_testers",
)
