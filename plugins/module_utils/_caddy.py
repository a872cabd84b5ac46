# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Caddy in front of an app: its site file, its admin API, its reload. PRIVATE to the collection."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import http.client
import json
import os
import socket
import subprocess
import tempfile
import time
import typing as t
from pathlib import Path
from urllib.parse import urlsplit

from . import _proxy_flags
from ._clock import Now, utc_now
from ._errors import LastroError, Text
from ._files import writing
from ._proxy_flags import Change, Flags, Wanted

POLL_SECONDS = 0.1
ADMIN_SECONDS = 30.0
PROGRAM_SECONDS = 300.0
ANSWER_LIMIT = 16 * 1024 * 1024
SAID_LIMIT = 4000

BACK_AGAIN = Text("The site before it is in place again.", "O site anterior está no lugar de novo.")
READ_IT = Text(
    "Read what Caddy says and mend deploy_site or the other sites.",
    "Leia o que o Caddy diz e corrija deploy_site ou os outros sites.",
)
ADMIN = Text(
    "Start Caddy, or correct deploy_caddy.admin: http://127.0.0.1:2019, or unix//path/of/socket.",
    "Inicie o Caddy, ou corrija deploy_caddy.admin: http://127.0.0.1:2019, ou unix//caminho/do/socket.",
)

Params = t.Mapping[str, t.Any]
Result = dict[str, t.Any]


@dataclasses.dataclass(frozen=True)
class Finished:
    """How a program ended, and what it said."""

    status: int
    said: str


@dataclasses.dataclass(frozen=True)
class World:
    """What the backend asks of the outside; *ask* gets the admin API's address and a path, and returns status and body."""

    run: t.Callable[[t.Sequence[str]], Finished]
    ask: t.Callable[[str, str], tuple[int, bytes]]
    clock: t.Callable[[], float]
    sleep: t.Callable[[float], None]
    now: Now


@dataclasses.dataclass(frozen=True)
class SitePlan:
    """What becomes of the site. *told* is the note of what Caddy was told; *before* is the site to put back, None where there was none."""

    path: Path
    site: tuple[Change, ...]
    told: tuple[Change, ...]
    before: bytes | None

    @property
    def tell(self) -> bool:
        """Whether Caddy has to reload: also where a run ended between the file and the reload."""
        return bool(self.site or self.told)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("127.0.0.1", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket's path."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def run_program(command: t.Sequence[str]) -> Finished:
    """Run an argument list to its end; ``~`` and variables of the environment in it are replaced, as Ansible's command does."""
    words = [os.path.expandvars(os.path.expanduser(word)) for word in command]  # noqa: PTH111 - a word need not be a path, which pathlib would normalise
    try:
        # A backend knows no AnsibleModule, so there is no run_command here.
        finished = subprocess.run(  # pylint: disable=ansible-bad-function
            words, capture_output=True, stdin=subprocess.DEVNULL, timeout=PROGRAM_SECONDS, check=False
        )
    except (OSError, IndexError) as error:
        return Finished(127, f"{words[0] if words else 'an empty command'} does not start: {getattr(error, 'strerror', None) or error}")
    except subprocess.TimeoutExpired:
        return Finished(124, f"{words[0]} has not ended within {PROGRAM_SECONDS:g} s")
    said = (finished.stderr.strip() or finished.stdout.strip()).decode("utf-8", errors="replace")
    return Finished(finished.returncode, said[-SAID_LIMIT:] or f"exit status {finished.returncode}")


def _connection(admin: str) -> tuple[http.client.HTTPConnection, str]:
    # An admin API on a unix socket is written as Caddy writes it, its mode included: unix//run/caddy.sock|0220
    if admin.startswith("unix/"):
        return _UnixConnection(admin.removeprefix("unix/").partition("|")[0], ADMIN_SECONDS), ""
    parts = urlsplit(admin)
    kinds = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}
    if parts.scheme not in kinds or not parts.hostname:
        raise ValueError("it is no address of an admin API")
    return kinds[parts.scheme](parts.hostname, parts.port, timeout=ADMIN_SECONDS), parts.path.rstrip("/")


def ask_admin(admin: str, path: str) -> tuple[int, bytes]:
    """Status and body of a GET, asked directly, with no proxy of the environment. Raises OSError, HTTPException, ValueError."""
    connection, prefix = _connection(admin)
    with contextlib.closing(connection):
        # On a unix socket Caddy 2.6 refuses every other host than the empty one.
        connection.request("GET", prefix + path, headers={"Host": ""} if isinstance(connection, _UnixConnection) else {})
        answer = connection.getresponse()
        return answer.status, answer.read(ANSWER_LIMIT)


def real_world() -> World:
    """Programs, network and clocks of this machine."""
    return World(run_program, ask_admin, time.monotonic, time.sleep, utc_now)


def upstreams(admin: str, ask: t.Callable[[str, str], tuple[int, bytes]]) -> dict[str, int]:
    """The requests in flight of each upstream that Caddy has, by address. Raises LastroError where it does not say: no answer is no zero."""
    shown = _without_user(admin)
    try:
        status, body = ask(admin, "/reverse_proxy/upstreams")
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise LastroError(f"Caddy's admin API at {shown} does not answer: {reason}.", remedy=ADMIN) from error
    counts: dict[str, int] = {}
    try:
        if status != http.client.OK:
            raise ValueError(status)
        for one in json.loads(body) or ():
            counts[str(one["address"])] = counts.get(str(one["address"]), 0) + int(one["num_requests"])
    except (ValueError, LookupError, TypeError) as error:
        raise LastroError(f"Caddy's admin API at {shown} answers {status} and no list of upstreams.", remedy=ADMIN) from error
    return counts


def _without_user(admin: str) -> str:
    scheme, separator, rest = admin.partition("://")
    return scheme + separator + rest.rpartition("@")[2]


def drain(admin: str, addresses: t.Iterable[str], seconds: float, world: World) -> int:
    """Wait until *addresses* have no request in flight, or *seconds* are over. Returns how many are left. Raises LastroError."""
    wanted = set(addresses)
    deadline = world.clock() + seconds
    while True:
        left = sum(count for address, count in upstreams(admin, world.ask).items() if address in wanted)
        if not left or world.clock() >= deadline:
            return left
        world.sleep(POLL_SECONDS)


def slot_addresses(listed: t.Iterable[Params]) -> list[str]:
    """Address and port of both slots of each host."""
    return [f"{one['address']}:{one['ports'][slot]}" for one in listed for slot in ("blue", "green")]


def obey(command: t.Sequence[str], world: World, but: str = "") -> None:
    """Run one of Caddy's commands. Raises LastroError with what it says, after *but*."""
    finished = world.run(command)
    if finished.status:
        raise LastroError(but + finished.said, remedy=READ_IT)


def validate(command: t.Sequence[str], site: bytes, world: World) -> None:
    """Let Caddy check a site. Raises LastroError with what it says."""
    with writing(Path(tempfile.gettempdir())), tempfile.TemporaryDirectory(prefix="lastro-caddy-") as directory:
        path = Path(directory) / "site.caddy"
        path.write_bytes(site)
        obey([*command, str(path)], world)


def plan_site(flags: Flags, path: Path, content: bytes) -> SitePlan:
    """Compare the site and the note of what Caddy was told with *content*. Raises LastroError."""
    note = hashlib.sha256(content).hexdigest().encode() + b"\n"
    before = _proxy_flags.look(path)
    site = _proxy_flags.plan([Wanted(path, "file", 0o644, content)], lambda _wanted: before)
    told = _proxy_flags.plan([Wanted(flags.configured, "file", 0o644, note, silent=True)], _proxy_flags.see)
    return SitePlan(path, tuple(site), tuple(told), before.content if before.there else None)


def have_site(planned: SitePlan, caddy: Params, loopback: t.Sequence[str], world: World) -> None:
    """Write the site once Caddy has checked it, and tell Caddy. Raises LastroError."""
    for change in planned.site:
        content = change.wanted.content or b""
        if not change.found.there or content != change.found.content:
            validate(caddy["validate"], content, world)
    _proxy_flags.act(planned.site)
    obey(caddy["reload"], world)
    known = upstreams(caddy["admin"], world.ask)
    if not known.keys() >= set(loopback):
        directory = caddy["config_dir"]
        raise LastroError(
            f"Caddy was reloaded and does not serve {planned.path}.",
            remedy=Text(
                f"Have this line in the main Caddyfile: import {directory}/*.caddy",
                f"Inclua esta linha no Caddyfile principal: import {directory}/*.caddy",
            ),
        )
    _proxy_flags.act(planned.told)


def put_back(planned: SitePlan) -> None:
    """The site that was there, or none. Raises LastroError."""
    before = Wanted(planned.path, "absent") if planned.before is None else Wanted(planned.path, "file", 0o644, planned.before)
    _proxy_flags.apply([before], write=True)


def refused(app: str, error: LastroError) -> LastroError:
    """What the operator reads once the site before it is back."""
    remedy = Text(*(f"{back} {next_step}" for back, next_step in zip(BACK_AGAIN, error.remedy, strict=True)))
    return LastroError(f"Caddy does not take the site of {app}: {error.message}", remedy=remedy, **error.facts)


def let_testers_pass(flags: Flags, path: Path, *, write: bool) -> Result:
    """Only the token in the file *path* passes. One that is no good shuts its predecessor out, and is refused: LastroError."""
    token = _proxy_flags.read_token(path)
    result = _proxy_flags.apply(_proxy_flags.want_testers(flags, token, _proxy_flags.names_of_testers(flags)), write=write)
    if not _proxy_flags.token_is_good(token):
        raise LastroError(
            f"{path} must hold 32 to 128 letters, digits, - or _.",
            remedy=Text(
                "Write such a token there, or remove the file on the primary host: the next deploy makes one.",
                "Grave um token assim nesse arquivo, ou remova o arquivo no host primário: o próximo deploy cria um.",
            ),
        )
    return result


def configure(params: Params, flags: Flags, world: World, *, write: bool) -> Result:
    """Directories, usual pages, testers, and the site with Caddy serving it. Raises LastroError."""
    caddy = params["caddy"]
    directories = [
        Wanted(flags.pages, "directory", 0o755),
        # Caddy looks names up there; nobody else may list them.
        Wanted(flags.testers, "directory", 0o711),
        Wanted(Path(caddy["config_dir"]), "directory", 0o755),
    ]
    done = [_proxy_flags.apply([*directories, *_proxy_flags.want_pages(flags, "default", params["pages"])], write=write)]
    if params["tester_token_file"]:
        done.append(let_testers_pass(flags, Path(params["tester_token_file"]), write=write))
    planned = plan_site(flags, Path(caddy["config_dir"]) / f"{params['app']}.caddy", params["site"].encode())
    if planned.tell and write:
        try:
            have_site(planned, caddy, [f"127.0.0.1:{one['loopback_port']}" for one in params["upstreams"]], world)
        except LastroError as error:
            put_back(planned)
            raise refused(params["app"], error) from error
    return {
        "changed": planned.tell or any(one["changed"] for one in done),
        "diff": [entry for one in done for entry in one["diff"]] + _proxy_flags.diff(planned.site),
        "reloaded": planned.tell,
    }


def close_door(params: Params, flags: Flags, world: World, *, write: bool) -> Result:
    """Maintenance on; then the requests in flight come to their end. Raises LastroError."""
    words = _proxy_flags.Words(params["run_id"], params["by"], params["reason"], params["until"])
    since = world.now().strftime("%Y-%m-%dT%H:%M:%SZ")
    found = _proxy_flags.look_at_flag(flags)
    wanted = _proxy_flags.want_closed(flags, found, words, params["pages"], since=since, force=params["force"])
    result = _proxy_flags.apply(wanted, write=write)
    return {**result, "in_flight": drain(params["caddy"]["admin"], slot_addresses(params["upstreams"]), params["seconds"] if write else 0, world)}


def open_door(params: Params, flags: Flags, *, write: bool) -> Result:
    """Maintenance off, unless it is somebody else's. Raises LastroError."""
    found = _proxy_flags.look_at_flag(flags)
    staying = _proxy_flags.stays(found, params["run_id"], force=params["force"])
    result = _proxy_flags.apply([] if staying else _proxy_flags.want_open(flags), write=write)
    return {**result, "maintenance": _proxy_flags.maintenance(found) if staying else {}}


def run(params: Params, world: World, *, write: bool) -> Result:
    """What the module ``caddy`` does for its option *state*. Raises LastroError."""
    flags = Flags(Path(params["state_dir"] or "") / "proxy")
    state = params["state"]
    if state == "configured":
        return configure(params, flags, world, write=write)
    if state == "switched":
        return _proxy_flags.apply(_proxy_flags.want_slot(flags, params["host"], params["slot"]), write=write)
    if state == "maintenance_on":
        return close_door(params, flags, world, write=write)
    if state == "maintenance_off":
        return open_door(params, flags, write=write)
    if state == "drained":
        return {"changed": False, "in_flight": drain(params["caddy"]["admin"], [params["address"]], params["seconds"] if write else 0, world)}
    if write:
        obey(params["caddy"]["reload"], world, "Caddy does not reload: ")
    return {"changed": True, "reloaded": True}


def answer(options: t.Mapping[str, t.Any], *, write: bool) -> dict[str, t.Any]:
    """The result of the module C(caddy). Raises LastroError."""
    return run(options, real_world(), write=write)


__all__ = ("Finished", "World", "answer", "ask_admin", "drain", "plan_site", "real_world", "run", "run_program", "upstreams")
