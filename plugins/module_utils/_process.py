# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every strategy shares: a process of a release in a slot, its names and its command; the files that a host needs; timers.

PRIVATE to the collection: may change at any time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import hashlib
import inspect
import json
import subprocess
import time
import types
import typing as t
from pathlib import Path

from . import _dead_man, _environment_file, _files, _log_tail
from ._argspec import ArgumentSpec
from ._errors import LastroError, Text
from ._files import make_directory, write_atomic, writing
from ._slots import SLOTS

STOP_SECONDS = 30
DRAIN_SECONDS = 300
NOT_STARTED = 127
"""The exit status that a shell gives to a program that it cannot start."""

Command: t.TypeAlias = "str | tuple[str, ...]"
Diff = dict[str, t.Any]
Programs = dict[str, dict[str, t.Any]]
"""What runs on a host: "web-blue" -> {state, release, port}."""


class Finished(t.NamedTuple):
    """A program that has ended: its exit status, and what it wrote to both outputs."""

    code: int
    output: str


@dataclasses.dataclass(frozen=True)
class Machine:
    """What a strategy asks of the host: programs, and the passing of time."""

    run: t.Callable[[t.Sequence[str]], Finished]
    monotonic: t.Callable[[], float]
    world: _dead_man.World


def run_command(arguments: t.Sequence[str]) -> Finished:
    """Run a program to its end. One that cannot be started has the exit status 127."""
    try:
        # A backend knows no AnsibleModule, so there is no run_command here.
        finished = subprocess.run(  # pylint: disable=ansible-bad-function
            list(arguments), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False
        )
    except OSError as error:
        return Finished(NOT_STARTED, f"{arguments[0] if arguments else ''}: {error.strerror}")
    return Finished(finished.returncode, finished.stdout)


def this_machine() -> Machine:
    """The host that this runs on."""
    return Machine(run_command, time.monotonic, _dead_man.World(time.time, time.sleep, _dead_man.answers))


@dataclasses.dataclass(frozen=True)
class Process:
    """A process of a release, in one of its slots."""

    app: str
    name: str
    slot: str
    release: str
    port: int
    root: Path
    command: Command
    bind_address: str = "127.0.0.1"
    stop_seconds: int = STOP_SECONDS
    user: str = ""

    @property
    def program(self) -> str:
        """Its name in the process manager."""
        return program_name(self.app, self.name, self.slot)

    @property
    def directory(self) -> Path:
        """The directory of its release."""
        return self.root / "releases" / self.release

    @property
    def environment_file(self) -> Path:
        """The variables of its release."""
        return self.root / "env" / f"{self.release}.env"

    def placed(self) -> Command:
        """The command with the values of this slot and release in it."""
        return self._place(self.command) if isinstance(self.command, str) else tuple(map(self._place, self.command))

    def _place(self, text: str) -> str:
        values = {"bind": f"{self.bind_address}:{self.port}", "port": str(self.port), "release_dir": str(self.directory), "release": self.release}
        for name, value in values.items():
            text = text.replace(f"{{{name}}}", value)
        return text

    def variables(self, path: str) -> dict[str, str]:
        """What the slot itself sets, whatever the environment file says. *path* is the host's own PATH."""
        return {"PATH": f"{self.directory}/venv/bin:{path}", "PORT": str(self.port), "DEPLOY_RELEASE": self.release}

    def header(self, comment: str) -> str:
        """The line that tells what a file of the process manager describes; ``read_header`` reads it."""
        told = {"app": self.app, "process": self.name, "slot": self.slot, "release": self.release, "port": self.port}
        return f"{comment} lastro: {json.dumps(told)}"


def argument_spec(states: t.Iterable[str]) -> ArgumentSpec:
    """The options that the module of every strategy has."""
    return ArgumentSpec(
        options={
            "app": {"type": "str", "required": True},
            "state": {"type": "str", "required": True, "choices": list(states)},
            "state_dir": {"type": "path"},
            "root": {"type": "path"},
            "process": {"type": "str"},
            "slot": {"type": "str", "choices": list(SLOTS)},
            "release": {"type": "str"},
            "port": {"type": "int", "default": 0},
            "command": {"type": "raw"},
            "bind_address": {"type": "str", "default": "127.0.0.1"},
            "stop": {"type": "str"},
            "stop_seconds": {"type": "int"},
            "user": {"type": "str"},
            "timer": {"type": "str"},
            "run_id": {"type": "str"},
            "seconds": {"type": "int"},
            "revert": {"type": "list", "elements": "dict"},
            "dead_runs": {"type": "list", "elements": "str", "default": []},
        },
        required_if=(
            ("state", "prepared", ("state_dir",)),
            ("state", "started", ("state_dir", "root", "process", "slot", "release", "command")),
            ("state", "stopped", ("process", "slot")),
            ("state", "armed", ("state_dir", "timer", "run_id", "seconds", "revert")),
            ("state", "disarmed", ("state_dir", "timer", "run_id")),
        ),
    )


def process_from(options: t.Mapping[str, t.Any]) -> Process:
    """The process that a module's options describe. Raises LastroError where the command is neither a text nor a list."""
    return Process(
        app=options["app"],
        name=options["process"],
        slot=options["slot"],
        release=options["release"],
        port=options["port"],
        root=Path(options["root"]),
        command=command_from(options["command"]),
        bind_address=options["bind_address"],
        stop_seconds=stop_seconds(options["stop"], options["stop_seconds"]),
        user=options["user"] or "",
    )


def command_from(value: object) -> Command:
    """A command as the profile has it. Raises LastroError."""
    if isinstance(value, str) and value.strip():
        return value
    if isinstance(value, list) and value and not any(isinstance(one, (list, dict)) or one is None for one in value):
        return tuple(map(str, value))
    raise LastroError(
        f"command is {type(value).__name__ if value else 'empty'}.",
        remedy=Text(en="Write the command as a text or as a list of arguments.", pt_BR="Escreva o comando como um texto ou como uma lista de argumentos."),
    )


def stop_seconds(stop: str | None, seconds: int | None) -> int:
    """The seconds between SIGTERM and SIGKILL: those of the profile, else by the kind of stop."""
    if seconds is not None:
        return seconds
    return DRAIN_SECONDS if stop == "drain" else STOP_SECONDS


def program_name(app: str, process: str, slot: str) -> str:
    """The name of a process in the process manager."""
    return f"{app}-{process}-{slot}"


def read_header(text: str, comment: str) -> dict[str, t.Any]:
    """What ``Process.header`` wrote into a file with *text*; {} where there is no such line, or somebody damaged it."""
    start = f"{comment} lastro: "
    for line in text.splitlines():
        if line.startswith(start):
            with contextlib.suppress(ValueError):
                found = json.loads(line.removeprefix(start))
                if isinstance(found, dict) and {"app", "process", "slot", "release", "port"} <= found.keys():
                    return found
    return {}


def headers(directory: Path, app: str, suffix: str, comment: str) -> list[dict[str, t.Any]]:
    """What the process manager's files of *app*, APP-...SUFFIX in *directory*, say of themselves. Raises LastroError."""
    with reading(directory):
        names = sorted(path.name for path in directory.iterdir() if path.match(f"{glob.escape(app)}-*{suffix}"))
    found = [look(directory / name) for name in names]
    return [header for entry in found if entry and (header := read_header(entry.content or "", comment)) and header["app"] == app]


def programs(app: str, processes: t.Iterable[str], states: t.Mapping[str, str], headers: t.Iterable[t.Mapping[str, t.Any]]) -> Programs:
    """What runs here, of what the process manager (*states* by program) and its files (*headers*) say together.

    A program that the manager still has without a file (a stop that was cut short) counts, with release "", so that the next stop ends it.
    """
    found: Programs = {}
    for process in processes:
        for slot in SLOTS:
            if (program := program_name(app, process, slot)) in states:
                found[f"{process}-{slot}"] = {"state": states[program], "release": "", "port": 0}
    for header in headers:
        if header["app"] == app:
            state = states.get(program_name(app, header["process"], header["slot"]), "STOPPED")
            found[f"{header['process']}-{header['slot']}"] = {"state": state, "release": header["release"], "port": header["port"]}
    return found


def programs_of(headers: t.Iterable[t.Mapping[str, t.Any]], release: str) -> list[str]:
    """The programs of a release, from what the process manager's files say of themselves."""
    return [program_name(header["app"], header["process"], header["slot"]) for header in headers if header["release"] == release]


@dataclasses.dataclass(frozen=True)
class Entry:
    """A file, or (*content* None) a directory, as it is or as it shall be."""

    path: Path
    mode: int
    content: str | None = None

    def shape(self) -> dict[str, str]:
        """The entry in a diff, without its content."""
        return {"mode": f"{self.mode:04o}"} | ({} if self.content is None else {"sha256": hashlib.sha256(self.content.encode()).hexdigest()})


def look(path: Path) -> Entry | None:
    """What is at *path*; None where nothing is. Raises LastroError where it cannot be read."""
    with reading(path):
        try:
            mode = path.stat().st_mode & 0o7777
            return Entry(path, mode, None if path.is_dir() else path.read_text(encoding="utf-8", errors="replace"))
        except FileNotFoundError:
            return None


def place(entry: Entry) -> None:
    """Make it so. Missing directories above a directory get its mode. Raises LastroError."""
    with writing(entry.path):
        if entry.content is not None:
            write_atomic(entry.path, entry.content.encode(), mode=entry.mode)
        else:
            make_directory(entry.path, entry.mode)


def put(wanted: Entry | None, instead_of: Entry | None) -> None:
    """Have *wanted* where *instead_of* is. Raises LastroError."""
    if wanted and wanted != instead_of:
        place(wanted)
    elif instead_of and not wanted:
        remove(instead_of.path)


def remove(path: Path) -> None:
    """Remove a file, if it is there. Raises LastroError."""
    with writing(path):
        _files.remove(path)


@contextlib.contextmanager
def reading(path: Path) -> t.Iterator[None]:
    """Raises LastroError that names *path* where the work inside may not read it."""
    try:
        yield
    except OSError as error:
        raise LastroError(
            f"{path} cannot be read: {error.strerror or error}.",
            remedy=Text(
                en="Correct the path in the profile, or the owner and mode on the host, and run the command again.",
                pt_BR="Corrija o caminho no perfil, ou o dono e o modo no host, e execute o comando de novo.",
            ),
        ) from error


def difference(before: Entry | None, after: Entry | None) -> Diff:
    """The diff of one file."""
    path = (before or after or Entry(Path(), 0)).path
    return {
        "before_header": f"{path} ({before.mode:04o})" if before else f"{path} (absent)",
        "before": (before and before.content) or "",
        "after_header": f"{path} ({after.mode:04o})" if after else f"{path} (absent)",
        "after": (after and after.content) or "",
    }


def directories(state_dir: Path, log_dir: Path) -> list[Entry]:
    """The directories of our programs, of timers and of logs."""
    return [Entry(state_dir / "bin", 0o755), Entry(state_dir / "timers", 0o700), Entry(log_dir, 0o750)]


OWN_PROGRAMS: dict[str, types.ModuleType] = {"environment_file": _environment_file, "dead_man": _dead_man, "log_tail": _log_tail}


def own_programs(state_dir: Path, python: str, *names: str) -> list[Entry]:
    """The launcher, the dead-man timer and the log reader (or *names* of them): the backends themselves, behind the name of their interpreter."""
    sources = {name: OWN_PROGRAMS[name] for name in names or OWN_PROGRAMS}
    return [Entry(state_dir / "bin" / f"{name}.py", 0o755, f"#!{python}\n{inspect.getsource(module).rstrip()}\n") for name, module in sources.items()]


def prepare(wanted: t.Iterable[Entry], *, write: bool) -> dict[str, t.Any]:
    """Have every entry as it shall be; {changed, diff}. Raises LastroError."""
    found = [(entry, look(entry.path)) for entry in wanted]
    missing = [(entry, before) for entry, before in found if entry != before]
    if write:
        for entry, _before in missing:
            place(entry)
    return {
        "changed": bool(missing),
        "diff": {
            "before": {str(entry.path): before.shape() if before else "absent" for entry, before in missing},
            "after": {str(entry.path): entry.shape() for entry, _before in missing},
        },
    }


def not_running(process: Process, state: str, log: Path) -> LastroError:
    """The error of a process that does not run, with the end of its log."""
    return died(process, state, str(log), clean_tail(log, process.environment_file))


def died(process: Process, state: str, log: str, tail: str) -> LastroError:
    """The error of a process that does not run. *log* says where its output is, *tail* is the end of that."""
    return LastroError(
        f"{process.program} ({process.release}) does not run: {state.rstrip('.') or 'unknown'}.\n{log} ends with:\n{tail or '(nothing)'}",
        remedy=Text(
            en="Read the log, mend the release or its environment, and deploy again.",
            pt_BR="Leia o log, corrija a versão ou o ambiente dela e faça o deploy de novo.",
        ),
        program=process.program,
    )


def clean_tail(log: Path, environment_file: Path) -> str:
    """The end of a log without the values of *environment_file*; "" where one of them cannot be read."""
    try:
        return cleaned(_log_tail.last_lines(str(log), _log_tail.BYTES), environment_file)
    except OSError:
        return ""


def cleaned(text: str, environment_file: Path) -> str:
    """The end of *text* without the values of *environment_file*; "" where these cannot be read, since then nothing can be kept back."""
    try:
        variables = _environment_file.read(str(environment_file))
    except (OSError, ValueError):
        return ""
    # Cut after the redaction: a value of several lines must not be cut in two before.
    shown = _log_tail.redact(text, {name: value for name, value in variables.items() if name != "PATH"})
    return "\n".join(shown.splitlines()[-_log_tail.LINES :])


def one_line(text: str) -> str:
    """The text of a message."""
    return " ".join(text.split()).rstrip(".")


def timer_of(options: t.Mapping[str, t.Any]) -> _dead_man.Timer:
    """The timer that a module's options name."""
    return _dead_man.Timer(Path(options["state_dir"]) / "timers", options["timer"])


def timer_program(options: t.Mapping[str, t.Any]) -> str:
    """The name of a timer in the process manager."""
    return f"{options['app']}-timer-{options['timer']}"


def set_timer(options: t.Mapping[str, t.Any], world: _dead_man.World, *, write: bool) -> Diff:
    """Set the deadline, or move it; the diff. Raises LastroError where another run's timer has not run out."""
    timer = timer_of(options)
    spec = {name: options[name] for name in ("run_id", "revert", "dead_runs")}
    before = (_dead_man.read_record(timer.spec) or {}).get("run_id", "")
    with writing(timer.directory):
        told = _dead_man.arm(timer, spec, options["seconds"], world, write=write)
    if not told["armed"]:
        raise LastroError(
            f"The timer {timer.name} belongs to the run {told['run_id']} and runs out in {told['seconds_left']} s.",
            remedy=Text(
                en="Wait until it has run out, or let the next deploy take over what that run left.",
                pt_BR="Espere o prazo dele acabar, ou deixe o próximo deploy assumir o que aquela execução deixou.",
            ),
        )
    return {"before": {"timer": timer.name, "run_id": before}, "after": {"timer": timer.name, "run_id": told["run_id"], "seconds": options["seconds"]}}


def take_timer_back(options: t.Mapping[str, t.Any], world: _dead_man.World, *, write: bool) -> dict[str, t.Any]:
    """{disarmed, run_id, fired, changed}, as ``_dead_man.disarm`` tells. Raises LastroError."""
    timer = timer_of(options)
    with writing(timer.directory):
        return _dead_man.disarm(timer, options["run_id"], world, *options["dead_runs"], write=write)


__all__ = (
    "Command",
    "Diff",
    "Entry",
    "Finished",
    "Machine",
    "Process",
    "Programs",
    "argument_spec",
    "cleaned",
    "died",
    "difference",
    "directories",
    "headers",
    "look",
    "not_running",
    "one_line",
    "own_programs",
    "place",
    "prepare",
    "process_from",
    "program_name",
    "programs",
    "put",
    "read_header",
    "reading",
    "remove",
    "set_timer",
    "stop_seconds",
    "take_timer_back",
    "this_machine",
    "timer_of",
    "timer_program",
)
