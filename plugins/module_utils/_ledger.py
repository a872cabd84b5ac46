# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ledger: the releases of an app with their state, on the primary. PRIVATE to the collection."""

from __future__ import annotations

import dataclasses
import json
import typing as t
from pathlib import Path

from ._clock import Now, to_text, utc_now
from ._errors import LastroError, Text
from ._files import write_atomic, writing

STATES = ("unfinished", "good", "bad")


@dataclasses.dataclass(frozen=True)
class Release:
    """One entry. *revisions* are the database's Alembic heads while this release was last verified."""

    id: str
    version: str = ""
    sha256: str = ""
    state: str = "unfinished"
    run_id: str = ""
    revisions: tuple[str, ...] = ()
    recorded: str = ""
    verified: str = ""


@dataclasses.dataclass(frozen=True)
class Ledger:
    """All releases, oldest first, and the id of the live one."""

    releases: tuple[Release, ...] = ()
    live: str = ""

    def get(self, release_id: str) -> Release | None:
        """The entry with this id."""
        return next((release for release in self.releases if release.id == release_id), None)

    def last_good(self, *, besides: str = "") -> Release | None:
        """The release to go back to: the live one if it is good, else the one that was verified last."""
        good = [release for release in self.releases if release.state == "good" and release.id != besides]
        live = next((release for release in good if release.id == self.live), None)
        return live or max(good, key=lambda release: release.verified, default=None)

    def prunable(self, keep: int) -> tuple[str, ...]:
        """Releases that may be removed: only *keep* verified ones stay besides the live and the last good one.

        Bad and unfinished ones go once a good one was recorded after them, so that a failure's evidence outlives the failure.
        """
        last = self.last_good()
        pinned = {self.live, last.id if last else ""}
        good = sorted((release for release in self.releases if release.state == "good"), key=lambda release: release.verified, reverse=True)
        kept = pinned | {release.id for release in good[:keep]}
        newest = max((release.recorded for release in good), default="")
        return tuple(
            release.id
            for release in self.releases
            if release.id not in kept and (release.state == "good" or (release.state != "good" and release.recorded < newest))
        )


def load(path: Path) -> Ledger:
    """The ledger in *path*; an empty one where there is no file. Raises LastroError where it cannot be understood."""
    if not path.exists():
        return Ledger()
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        releases = tuple(Release(**{**entry, "revisions": tuple(entry.get("revisions", ()))}) for entry in content["releases"])
        return Ledger(releases=releases, live=content.get("live", ""))
    except (ValueError, TypeError, KeyError, AttributeError):
        raise LastroError(
            f"The ledger {path} is damaged, or a newer version of the collection wrote it.",
            remedy=Text(
                en="Run the newer version of the collection, or put the file back from a backup of that host.",
                pt_BR="Execute a versão mais nova da coleção, ou recupere o arquivo de um backup desse host.",
            ),
        ) from None


def save(path: Path, ledger: Ledger) -> None:
    """Write the ledger so that a crash leaves the old or the new one. Raises LastroError on a full or read-only disk."""
    with writing(path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomic(path, json.dumps(as_dict(ledger), indent=1).encode())


def as_dict(ledger: Ledger) -> dict[str, t.Any]:
    """The ledger as plain data."""
    return {"live": ledger.live, "releases": [{**dataclasses.asdict(release), "revisions": list(release.revisions)} for release in ledger.releases]}


def record(ledger: Ledger, release: Release, *, live: bool | None = None, now: Now = utc_now) -> Ledger:
    """A ledger in which *release* stands with its state; *live* says whether it serves (None leaves that alone).

    A good release keeps its state when a later run only stages it again, and what is known of a release stays where
    *release* does not say it. The same verification recorded twice changes nothing.
    """
    known = ledger.get(release.id)
    moment = to_text(now())
    state = known.state if known and known.state == "good" and release.state == "unfinished" else release.state
    entry = dataclasses.replace(
        release,
        state=state,
        recorded=known.recorded if known else moment,
        verified=known.verified if known else "",
        run_id=release.run_id or (known.run_id if known else ""),
        revisions=release.revisions or (known.revisions if known else ()),
        version=release.version or (known.version if known else ""),
        sha256=release.sha256 or (known.sha256 if known else ""),
    )
    if release.state == "good" and entry != known:
        entry = dataclasses.replace(entry, verified=moment)
    others = tuple(entry if one.id == release.id else one for one in ledger.releases)
    releases = others if known else (*others, entry)
    chosen = ledger.live if live is None else release.id if live else ledger.live if ledger.live != release.id else ""
    return Ledger(releases=releases, live=chosen)


def forget(ledger: Ledger, release_ids: t.Collection[str]) -> Ledger:
    """A ledger without these releases."""
    kept = tuple(release for release in ledger.releases if release.id not in release_ids)
    return Ledger(releases=kept, live="" if ledger.live in release_ids else ledger.live)


def answer(options: t.Mapping[str, t.Any], *, write: bool) -> dict[str, t.Any]:
    """The result of the module C(ledger). Raises LastroError."""
    path = Path(options["state_dir"]) / "ledger.json"
    before = after = load(path)
    if options["release"]:
        entry = Release(options["release"], options["version"], options["sha256"], options["state"], options["run_id"], tuple(options["revisions"]))
        after = record(before, entry, live=options["live"])
    after = forget(after, options["forget"])
    if after != before and write:
        save(path, after)
    last_good = after.last_good(besides=options["release"] or "")
    return {
        "changed": after != before,
        "diff": {"before": as_dict(before), "after": as_dict(after)},
        "last_good": dataclasses.asdict(last_good) if last_good else {},
        "prunable": list(after.prunable(options["keep"])),
        **as_dict(after),
    }


__all__ = ("STATES", "Ledger", "Release", "answer", "as_dict", "forget", "load", "record", "save")
