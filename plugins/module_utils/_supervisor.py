# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The strategy supervisor: one program of supervisor for each process and slot, and one for each dead-man timer.

supervisor does what its files say once ``supervisorctl update`` has told it to look. A stop is therefore: take the file away and tell it;
the group that it has loaded carries stopwaitsecs, so its own stop is the graceful one.
PRIVATE to the collection: may change at any time.
"""

from __future__ import annotations

import dataclasses
import re
import shlex
import typing as t
from pathlib import Path

from . import _log_errors, _process
from ._argspec import ArgumentSpec, Options
from ._errors import LastroError, Text
from ._process import Diff, Entry, Finished, Machine, Process, one_line
from ._slots import SLOTS

COMMENT = ";"
POLL_SECONDS = 0.1
GRACE_SECONDS = 30
"""How long a program may be on its way beyond the seconds that its stop may take."""

MOVING = ("STARTING", "STOPPING")
ENDED = ("STOPPED", "EXITED", "FATAL")

_UNREACHABLE = re.compile(r"^\w+://.* (no such file|refused connection)$|<class '(FileNotFound|ConnectionRefused|Permission)Error'>", re.MULTILINE)

Result = dict[str, t.Any]


@dataclasses.dataclass(frozen=True)
class Server:
    """Where supervisor is, as ``deploy_supervisor`` says."""

    config_dir: Path
    ctl: tuple[str, ...]
    log_dir: Path
    python: str
    path: str

    def file(self, program: str) -> Path:
        """The file of a program."""
        return self.config_dir / f"{program}.conf"


def server_argument_spec() -> ArgumentSpec:
    """The options of the doc fragment C(supervisor)."""
    server: Options = {
        "config_dir": {"type": "path", "default": "/etc/supervisor/conf.d"},
        "ctl": {"type": "list", "elements": "str", "default": ["supervisorctl"]},
        "log_dir": {"type": "path"},
        "python": {"type": "str", "default": "/usr/bin/env python3"},
        "path": {"type": "str", "default": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
    }
    return ArgumentSpec({"app": {"type": "str", "required": True}, "server": {"type": "dict", "options": server, "apply_defaults": True}})


def argument_spec() -> ArgumentSpec:
    """The options of the module."""
    return _process.argument_spec(_STATES).merge(server_argument_spec())


def server_from(options: t.Mapping[str, t.Any]) -> Server:
    """The server that a module's options describe."""
    server = options["server"]
    log_dir = server["log_dir"] or f"{options.get('state_dir') or ''}/log"
    return Server(Path(server["config_dir"]), tuple(server["ctl"]), Path(log_dir), server["python"], server["path"])


# What stands in the files.


def program_text(server: Server, process: Process, state_dir: Path) -> str:
    """The file of a process. Raises LastroError for a command that supervisor would cut."""
    variables = [f"{name}={value}" for name, value in process.variables(server.path).items()]
    launcher = [str(state_dir / "bin" / "environment_file.py"), str(process.environment_file), "/usr/bin/env", *variables]
    lines = [
        process.header(COMMENT),
        f"{COMMENT} Written by lastro.deploy. The variables come from the environment file when the process starts: no secret stands here.",
        f"[program:{process.program}]",
        f"command={escape(f'{join(launcher)} {command_text(process)}')}",
        f"directory={escape(str(process.directory))}",
        *([f"user={process.user}"] if process.user else []),
        "autostart=true",
        "autorestart=true",
        "startsecs=1",
        "startretries=3",
        "stopsignal=TERM",
        f"stopwaitsecs={process.stop_seconds}",
        "killasgroup=true",
        "redirect_stderr=true",
        f"stdout_logfile={escape(str(log_file(server, process)))}",
        "stdout_logfile_maxbytes=10MB",
        "stdout_logfile_backups=3",
    ]
    return "\n".join(lines) + "\n"


def timer_text(server: Server, program: str, state_dir: Path, name: str) -> str:
    """The file of a dead-man timer."""
    lines = [
        f"{COMMENT} Written by lastro.deploy: puts our change back on this host when nobody confirms it in time.",
        f"[program:{program}]",
        f"command={escape(join([str(state_dir / 'bin' / 'dead_man.py'), 'run', str(state_dir / 'timers'), name]))}",
        "directory=/",
        "autostart=true",
        "autorestart=unexpected",
        "exitcodes=0",
        "startsecs=0",
        "redirect_stderr=true",
        f"stdout_logfile={escape(str(server.log_dir))}/timer-{name}.log",
        "stdout_logfile_maxbytes=1MB",
        "stdout_logfile_backups=1",
    ]
    return "\n".join(lines) + "\n"


def log_file(server: Server, process: Process) -> Path:
    """Where supervisor keeps what a process writes."""
    return server.log_dir / f"{process.program}.log"


def escape(text: str) -> str:
    """*text* as a value of a file of supervisor, which replaces %(name)s."""
    return text.replace("%", "%%")


def join(arguments: t.Iterable[str]) -> str:
    """Arguments as one line that is split as a shell would.

    In a file of supervisor a space and ; or # begin a comment, quoted or not: '' between them takes that away.
    """
    return re.sub(r"(\s)([;#])", r"\1''\2", shlex.join(arguments))


def command_text(process: Process) -> str:
    """The command as one line. Raises LastroError where supervisor would read another one."""
    placed = process.placed()
    text = placed if isinstance(placed, str) else join(placed)
    reason = ""
    if re.search(r"[\r\n]|\s[;#]", text):
        reason = "has a line break, or a ; or # after a space"
    elif isinstance(placed, str):
        try:
            shlex.split(placed)
        except ValueError:
            reason = "has a quotation mark or backslash too many"
    if reason:
        raise LastroError(
            f"The command of the process {process.name} {reason}.",
            remedy=Text(en="Write the command as a list of arguments.", pt_BR="Escreva o comando como uma lista de argumentos."),
        )
    return text


# What supervisor is asked.


@dataclasses.dataclass(frozen=True)
class Control:
    """supervisorctl."""

    ctl: tuple[str, ...]
    machine: Machine

    def call(self, *arguments: str) -> Finished:
        """Run it. Raises LastroError where supervisord does not answer."""
        finished = self.machine.run((*self.ctl, *arguments))
        if finished.code == _process.NOT_STARTED or _UNREACHABLE.search(finished.output):
            raise LastroError(
                f"supervisor does not answer on this host: {one_line(finished.output)}.",
                remedy=Text(
                    en="Start it (systemctl start supervisor), or correct deploy_supervisor.ctl or the user that runs it, and run the command again.",
                    pt_BR="Inicie-o (systemctl start supervisor), ou corrija deploy_supervisor.ctl ou o usuário que o executa, e execute o comando de novo.",
                ),
            )
        return finished

    def lines(self) -> dict[str, str]:
        """What it says of each program, as "STATE description". Raises LastroError."""
        finished = self.call("status")
        if finished.code not in {0, 3}:  # 3: something does not run
            raise refused("status", finished)
        split = (line.split(maxsplit=1) for line in finished.output.splitlines())
        return {parts[0]: parts[1].strip() for parts in split if len(parts) > 1}

    def update(self, program: str, *, file: Path | None) -> bool:
        """Have it do what its files say of one program; whether that changed anything. Waits for a stop.

        Raises LastroError, also where it does not see *file*, which describes the program.
        """
        finished = self.call("update", program)
        if finished.code and "no such group" in finished.output:
            if file is None:
                return False
            raise LastroError(
                f"supervisor does not see {file}.",
                remedy=Text(
                    en="Let deploy_supervisor.config_dir be the directory of the [include] in supervisor's configuration, and run the command again.",
                    pt_BR="Faça deploy_supervisor.config_dir ser o diretório do [include] na configuração do supervisor e execute o comando de novo.",
                ),
            )
        if finished.code:
            raise refused(f"update {program}", finished)
        return "process group" in finished.output

    def settle(self, program: str, seconds: float) -> str:
        """What it says of a program that is on its way nowhere any more, for at most *seconds*."""
        until = self.machine.monotonic() + seconds
        while (line := self.lines().get(program, "")).startswith(MOVING) and self.machine.monotonic() < until:
            self.machine.world.sleep(POLL_SECONDS)
        return line


def refused(what: str, finished: Finished) -> LastroError:
    """The error of a call that supervisor did not do."""
    return LastroError(
        f"supervisorctl {what} failed: {one_line(finished.output) or f'exit status {finished.code}'}.",
        remedy=Text(
            en="Remove the cause that is named (supervisord's own log says more), and run the command again.",
            pt_BR="Elimine a causa indicada (o log do próprio supervisord diz mais) e execute o comando de novo.",
        ),
    )


def state_of(line: str) -> str:
    """The state in what supervisor says of a program; "" where it knows none."""
    return line.split(maxsplit=1)[0] if line else ""


# What is decided, and done.


@dataclasses.dataclass(frozen=True)
class Plan:
    """What changes for one program: its file from *before* to *after*, its state from *state* to what *after* asks for."""

    program: str
    before: Entry | None
    after: Entry | None
    state: str

    @property
    def describes(self) -> bool:
        """Whether the file changes."""
        return self.before != self.after

    @property
    def moves(self) -> bool:
        """Whether the program has to start or to stop, whatever the file says."""
        return self.state in ("", *ENDED) if self.after else bool(self.state)

    @property
    def changes(self) -> bool:
        """Whether anything does."""
        return self.describes or self.moves

    def diff(self) -> list[Diff]:
        """The file, and the state."""
        states = {"before": {self.program: self.state or "unknown"}, "after": {self.program: "RUNNING" if self.after else "unknown"}}
        return [*([_process.difference(self.before, self.after)] if self.describes else []), *([states] if self.moves else [])]

    def put(self) -> None:
        """Have the file as it shall be."""
        _process.put(self.after, self.before)

    def take_back(self) -> None:
        """Have the file as it was."""
        _process.put(self.before, self.after)


def prepared(options: t.Mapping[str, t.Any], server: Server, machine: Machine, *, write: bool) -> Result:
    """Have directories and programs of our own; {changed, diff}."""
    del machine
    state_dir = Path(options["state_dir"])
    return _process.prepare([*_process.directories(state_dir, server.log_dir), *_process.own_programs(state_dir, server.python)], write=write)


def started(options: t.Mapping[str, t.Any], server: Server, machine: Machine, *, write: bool) -> Result:
    """Have a process of a release running; {changed, diff, program}. Raises LastroError with the end of its log where it does not run."""
    process = _process.process_from(options)
    file = server.file(process.program)
    wanted = Entry(file, 0o644, program_text(server, process, Path(options["state_dir"])))
    control = Control(server.ctl, machine)
    line = control.lines().get(process.program, "")
    plan = Plan(process.program, _process.look(file), wanted, state_of(line))
    changed = plan.changes
    if write:
        changed |= _bring_up(plan, control, process, log_file(server, process))
    return {"changed": changed, "diff": plan.diff(), "program": process.program}


def _bring_up(plan: Plan, control: Control, process: Process, log: Path) -> bool:
    """Whether supervisor had anything to change. Raises LastroError."""
    plan.put()
    try:
        updated = control.update(plan.program, file=plan.after.path if plan.after else None)
    except LastroError:
        plan.take_back()  # a file that supervisor has not taken must not start anything later
        raise
    line = plan.state
    if updated or line != "RUNNING":
        line = control.settle(plan.program, process.stop_seconds + GRACE_SECONDS)
    if not updated and state_of(line) in ENDED:
        finished = control.call("start", plan.program)
        line = one_line(finished.output) if finished.code else "RUNNING"
    if state_of(line) != "RUNNING":
        control.call("stop", plan.program)  # supervisor would try again
        raise _process.not_running(process, one_line(line), log)
    return updated


def stopped(options: t.Mapping[str, t.Any], server: Server, machine: Machine, *, write: bool) -> Result:
    """Stop what runs in a slot and forget it; {changed, diff, program}. Raises LastroError."""
    program = _process.program_name(options["app"], options["process"], options["slot"])
    control = Control(server.ctl, machine)
    state = state_of(control.lines().get(program, ""))
    plan = Plan(program, _process.look(server.file(program)), None, state)
    if write and plan.changes:
        plan.put()
        control.update(program, file=None)
    return {"changed": plan.changes, "diff": plan.diff(), "program": program}


def armed(options: t.Mapping[str, t.Any], server: Server, machine: Machine, *, write: bool) -> Result:
    """Set a dead-man timer, or move it; {changed, diff, program}. Raises LastroError, also for the timer of another run."""
    program = _process.timer_program(options)
    wanted = Entry(server.file(program), 0o644, timer_text(server, program, Path(options["state_dir"]), options["timer"]))
    # First the deadline: a program without one ends at once.
    moved = _process.set_timer(options, machine.world, write=write)
    before = _process.look(wanted.path)
    if write:
        _process.put(wanted, before)
        control = Control(server.ctl, machine)
        if not control.update(program, file=wanted.path) and (finished := control.call("start", program)).code:
            raise refused(f"start {program}", finished)
    return {"changed": True, "diff": [moved, *([_process.difference(before, wanted)] if before != wanted else [])], "program": program}


def disarmed(options: t.Mapping[str, t.Any], server: Server, machine: Machine, *, write: bool) -> Result:
    """Take a dead-man timer back; {changed, diff, program, timer}. The timer of another run is left alone. Raises LastroError."""
    program = _process.timer_program(options)
    told = _process.take_timer_back(options, machine.world, write=write)
    before = _process.look(server.file(program)) if told["disarmed"] else None
    changed = told["changed"] or before is not None
    if write and told["disarmed"]:
        _process.remove(server.file(program))
        changed |= Control(server.ctl, machine).update(program, file=None)
    return {"changed": changed, "diff": [_process.difference(before, None)] if before else [], "program": program, "timer": told}


_STATES: dict[str, t.Callable[..., Result]] = {"prepared": prepared, "started": started, "stopped": stopped, "armed": armed, "disarmed": disarmed}


def run(options: t.Mapping[str, t.Any], machine: Machine, *, write: bool) -> Result:
    """The result of the module C(supervisor) for its options. Raises LastroError."""
    return _STATES[options["state"]](options, server_from(options), machine, write=write)


def info(options: t.Mapping[str, t.Any], machine: Machine) -> Result:
    """{programs, log_positions, log_errors}: the result of the module C(supervisor_info). Raises LastroError."""
    server = server_from(options)
    states = {program: state_of(line) for program, line in Control(server.ctl, machine).lines().items()}
    described = _process.headers(server.config_dir, options["app"], ".conf", COMMENT)
    app, after = options["app"], options["errors_after"]
    programs = [_process.program_name(app, name, slot) for name in options["processes"] for slot in SLOTS]
    logs = {program: server.log_dir / f"{program}.log" for program in programs}
    pattern = _log_errors.compiled(options["error_pattern"])
    counted = [program for program in _process.programs_of(described, options["errors_of"]) if after is not None and program in logs]
    return {
        "programs": _process.programs(app, options["processes"], states, described),
        "log_positions": {program: _log_errors.position(log) for program, log in logs.items()},
        "log_errors": sum(_log_errors.count_after(logs[program], after.get(program, {}), pattern) for program in counted),
    }


def answer(options: t.Mapping[str, t.Any], *, write: bool) -> dict[str, t.Any]:
    """The result of the module C(supervisor). Raises LastroError."""
    return run(options, _process.this_machine(), write=write)


def answer_info(options: t.Mapping[str, t.Any], *, write: bool) -> dict[str, t.Any]:
    """The result of the module C(supervisor_info), which only reads, whatever *write*. Raises LastroError."""
    return {"changed": False, **info(options, _process.this_machine())}


__all__ = ("Plan", "Server", "answer", "answer_info", "argument_spec", "info", "program_text", "run", "server_argument_spec", "timer_text")
