# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The strategy systemd: one unit for each process and slot, and one for each dead-man timer.

A slot has a file of its own instead of being an instance of a template: the two slots run different releases with different environment
files, commands and limits, so that nothing would be left for a template to say.

What runs was started from the file that is there: a file changes only while its unit is stopped, and a start loads it first. A unit is
linked into the boot once it runs, and out of it before it is stopped.
PRIVATE to the collection: may change at any time.
"""

from __future__ import annotations

import dataclasses
import re
import sys
import typing as t
from pathlib import Path

from . import _log_errors, _process
from ._argspec import ArgumentSpec, Options
from ._errors import LastroError, Text
from ._files import fsync_directory, writing
from ._process import Diff, Entry, Finished, Machine, Process, one_line
from ._slots import SLOTS
from ._systemd_unit import COMMENT, LIMITS, WANTED_BY, check_environment, limits_from, timer_text, unit_text

UNITS = Path("/etc/systemd/system")
SETTLE_SECONDS = 1.0
"""How long a process must have run to count as running."""

POLL_SECONDS = 0.1
LOG_LINES = 2000
PROPERTIES = "Id,LoadState,ActiveState,SubState,MainPID,NeedDaemonReload,ExecMainCode,ExecMainStatus"
ENDED_BY = {"1": "it ended with exit status {}", "2": "signal {} ended it", "3": "signal {} ended it"}
STATES = {"active": "RUNNING", "reloading": "RUNNING", "activating": "STARTING", "deactivating": "STOPPING", "failed": "FATAL", "inactive": "STOPPED"}
"""The names that every strategy gives to what systemd calls so."""

_UNREACHABLE = re.compile(r"not been booted with systemd|^Failed to (connect to|get D-Bus)", re.MULTILINE)

Result = dict[str, t.Any]


def argument_spec() -> ArgumentSpec:
    """The options of the module."""
    limits: Options = {name: {"type": "str"} for name in LIMITS}
    own: Options = {"limits": {"type": "dict", "options": limits}, "writable": {"type": "list", "elements": "path", "default": []}}
    return _process.argument_spec(_STATES).merge(ArgumentSpec(own))


# What systemd is asked.


@dataclasses.dataclass(frozen=True)
class Seen:
    """What systemd says of a unit."""

    properties: t.Mapping[str, str]

    @property
    def state(self) -> str:
        """The name that every strategy gives to it; "" where systemd knows no such unit."""
        active = self.properties.get("ActiveState", "inactive")
        if active == "inactive" and self.properties.get("LoadState", "not-found") == "not-found":
            return ""
        if self.properties.get("SubState", "").startswith("auto-restart"):
            return "BACKOFF"
        return STATES.get(active, active.upper())

    @property
    def pid(self) -> str:
        """Its main process."""
        return self.properties.get("MainPID", "0")

    @property
    def stale(self) -> bool:
        """Whether its file changed since systemd read it."""
        return self.properties.get("NeedDaemonReload") == "yes"

    @property
    def reason(self) -> str:
        """Why it does not run."""
        code, status, active = (self.properties.get(name, "") for name in ("ExecMainCode", "ExecMainStatus", "ActiveState"))
        if active == "inactive" or (code, status) == ("1", "0"):  # of the former systemd may not know any more how it ended
            return "it ended without an error"
        return ENDED_BY[code].format(status) if code in ENDED_BY else active


@dataclasses.dataclass(frozen=True)
class Control:
    """systemctl and the units' files."""

    units: Path
    machine: Machine

    def file(self, program: str) -> Path:
        """The file of a unit."""
        return self.units / f"{program}.service"

    def link(self, program: str) -> Path:
        """What starts a unit at boot, as ``systemctl enable`` makes it."""
        return self.units / f"{WANTED_BY}.wants" / f"{program}.service"

    def ask(self, *arguments: str) -> Finished:
        """Run systemctl. Raises LastroError where systemd does not answer."""
        finished = self.machine.run(("systemctl", *arguments))
        if finished.code == _process.NOT_STARTED or (finished.code and _UNREACHABLE.search(finished.output)):
            raise LastroError(
                f"systemd does not answer on this host: {one_line(finished.output)}.",
                remedy=Text(
                    en="Deploy to a host that systemd has booted, or set deploy_strategy: supervisor, and run the command again.",
                    pt_BR="Faça o deploy em um host iniciado pelo systemd, ou defina deploy_strategy: supervisor, e execute o comando de novo.",
                ),
            )
        return finished

    def call(self, *arguments: str) -> None:
        """Have systemctl do it. Raises LastroError where it does not."""
        finished = self.ask(*arguments)
        if finished.code:
            raise LastroError(
                f"systemctl {' '.join(arguments)} failed: {one_line(finished.output) or f'exit status {finished.code}'}.",
                remedy=Text(
                    en="Remove the cause that is named (deploy as root, or with ansible_become=true), and run the command again.",
                    pt_BR="Elimine a causa indicada (faça o deploy como root, ou com ansible_become=true) e execute o comando de novo.",
                ),
            )

    def look(self, *programs: str) -> dict[str, Seen]:
        """What systemd says of units. Raises LastroError."""
        if not programs:
            return {}
        finished = self.ask("show", f"--property={PROPERTIES}", *(f"{program}.service" for program in programs))
        blocks = (dict(line.split("=", 1) for line in block.splitlines() if "=" in line) for block in finished.output.split("\n\n"))
        return {block["Id"].removesuffix(".service"): Seen(block) for block in blocks if "Id" in block}

    def settle(self, program: str) -> tuple[Seen, bool]:
        """What systemd says of a unit once it has run for SETTLE_SECONDS without a break, or does not; whether it has."""
        first = seen = self.look(program).get(program, Seen({}))
        until = self.machine.monotonic() + SETTLE_SECONDS
        while seen.state == "RUNNING" and seen.pid == first.pid:
            if self.machine.monotonic() >= until:
                return seen, True
            self.machine.world.sleep(POLL_SECONDS)
            seen = self.look(program).get(program, Seen({}))
        return seen, False

    def log(self, program: str, since: float) -> str:
        """What a unit wrote since then, and what systemd wrote about it."""
        self.machine.run(("journalctl", "--sync"))
        asked = ("journalctl", f"--unit={program}.service", f"--since=@{int(since)}", f"--lines={LOG_LINES}", "--output=cat", "--quiet", "--no-pager")
        return self.machine.run(asked).output

    def errors(self, programs: t.Sequence[str], since: float, pattern: re.Pattern[str]) -> int:
        """The lines that units wrote since then and that match. Raises LastroError where the journal cannot be read: no data is no zero."""
        if not programs:
            return 0
        self.machine.run(("journalctl", "--sync"))
        units = [f"--unit={program}.service" for program in programs]
        # The journal finds them itself (a noisy log is no burden here); exit status 1 means that it found none.
        grep = (f"--grep={pattern.pattern}", "--case-sensitive=true")
        finished = self.machine.run(("journalctl", *units, f"--since=@{int(since)}", *grep, "--output=cat", "--quiet", "--no-pager"))
        if finished.code not in (0, 1):
            raise LastroError(
                f"journalctl cannot look for errors: {one_line(finished.output) or f'exit status {finished.code}'}.",
                remedy=Text(
                    en="Let the deploying user read the journal (ansible_become=true, or the group systemd-journal).",
                    pt_BR="Permita que o usuário do deploy leia o journal (ansible_become=true, ou o grupo systemd-journal).",
                ),
            )
        return sum(1 for line in finished.output.splitlines() if pattern.search(line))

    def enable(self, program: str, *, wanted: bool) -> None:
        """Have a unit start at boot, or not. systemctl would load every unit anew after it. Raises LastroError."""
        link = self.link(program)
        if wanted == link.is_symlink():
            return
        with writing(link):
            if wanted:
                link.parent.mkdir(mode=0o755, exist_ok=True)
                link.symlink_to(self.file(program))
            else:
                link.unlink()
            fsync_directory(link.parent)

    def forget(self, program: str, *, loaded: bool) -> None:
        """Stop a unit gracefully and remove what is left of it. Raises LastroError."""
        self.enable(program, wanted=False)
        if loaded:
            self.call("stop", f"{program}.service")
            self.ask("reset-failed", f"{program}.service")  # one that had to be killed has failed; any other is not known any more
        _process.remove(self.file(program))
        self.call("daemon-reload")


# What is decided, and done.


@dataclasses.dataclass(frozen=True)
class Plan:
    """What changes for one unit: its file from *before* to *after*, and its *state* and *enabled* to what *after* asks for."""

    program: str
    before: Entry | None
    after: Entry | None
    state: str
    enabled: bool

    @property
    def describes(self) -> bool:
        """Whether the file changes."""
        return self.before != self.after

    @property
    def moves(self) -> bool:
        """Whether the unit has to start or to stop, whatever the file says."""
        return self.state != "RUNNING" if self.after else self.state not in ("", "STOPPED")

    @property
    def links(self) -> bool:
        """Whether it changes what starts at boot."""
        return self.enabled != bool(self.after)

    @property
    def changes(self) -> bool:
        """Whether anything does."""
        return self.describes or self.moves or self.links

    def diff(self) -> list[Diff]:
        """The file, the state, and what happens at boot."""
        wanted, found = ("RUNNING" if self.after else "unknown"), self.state or "unknown"
        states: Diff = {"before": {self.program: found}, "after": {self.program: wanted}}
        boot: Diff = {"before": {"enabled": self.enabled}, "after": {"enabled": bool(self.after)}}
        return [*([_process.difference(self.before, self.after)] if self.describes else []), *([states] if self.moves else []), *([boot] if self.links else [])]


def _plan(program: str, after: Entry | None, seen: Seen, control: Control) -> Plan:
    return Plan(program, _process.look(control.file(program)), after, seen.state, control.link(program).is_symlink())


def prepared(options: t.Mapping[str, t.Any], control: Control, *, write: bool) -> Result:
    """Have the directories and the dead-man timer; {changed, diff}."""
    del control
    state_dir = Path(options["state_dir"])
    own = [Entry(state_dir / "bin", 0o755), Entry(state_dir / "timers", 0o700), *_process.own_programs(state_dir, sys.executable, "dead_man")]
    return _process.prepare(own, write=write)


def started(options: t.Mapping[str, t.Any], control: Control, *, write: bool) -> Result:
    """Have a process of a release running; {changed, diff, program}. Raises LastroError with the end of its log where it does not run."""
    process = _process.process_from(options)
    wanted = Entry(control.file(process.program), 0o644, unit_text(process, limits_from(options), options["writable"]))
    check_environment(process, needed=write)
    seen = control.look(process.program).get(process.program, Seen({}))
    plan = _plan(process.program, wanted, seen, control)
    if write and (plan.describes or plan.moves):
        _bring_up(plan, control, process, stale=seen.stale)
    if write:
        control.enable(process.program, wanted=True)
    return {"changed": plan.changes, "diff": plan.diff(), "program": process.program}


def _bring_up(plan: Plan, control: Control, process: Process, *, stale: bool) -> None:
    """Raises LastroError where it does not run."""
    unit = f"{plan.program}.service"
    if plan.state not in ("", "STOPPED"):
        control.call("stop", unit)  # by the seconds of the file that it was started with
        control.ask("reset-failed", unit)  # an operator's earlier tries do not count
    _process.put(plan.after, plan.before)
    if plan.describes or stale:
        control.call("daemon-reload")
    since = control.machine.world.clock()
    finished = control.ask("start", unit)
    seen, runs = control.settle(plan.program)
    if finished.code == 0 and runs:
        return
    control.enable(plan.program, wanted=False)
    control.ask("stop", unit)  # systemd would try again
    reason = seen.reason if "Job for" in finished.output or not finished.code else one_line(finished.output)
    raise _process.died(process, reason, f"journalctl -u {plan.program}", _process.cleaned(control.log(plan.program, since), process.environment_file))


def stopped(options: t.Mapping[str, t.Any], control: Control, *, write: bool) -> Result:
    """Stop what runs in a slot and forget it; {changed, diff, program}. Raises LastroError."""
    program = _process.program_name(options["app"], options["process"], options["slot"])
    seen = control.look(program).get(program, Seen({}))
    plan = _plan(program, None, seen, control)
    if write and plan.changes:
        control.forget(program, loaded=bool(seen.state))
    return {"changed": plan.changes, "diff": plan.diff(), "program": program}


def armed(options: t.Mapping[str, t.Any], control: Control, *, write: bool) -> Result:
    """Set a dead-man timer, or move it; {changed, diff, program}. Raises LastroError, also for the timer of another run.

    It is a unit that waits, not a transient timer: that one would be gone after a reboot, and could not be moved by who renews a deadline.
    """
    program = _process.timer_program(options)
    wanted = Entry(control.file(program), 0o644, timer_text(options["app"], Path(options["state_dir"]), options["timer"]))
    # First the deadline: a program without one ends at once.
    moved = _process.set_timer(options, control.machine.world, write=write)
    before = _process.look(wanted.path)
    if write:
        _process.put(wanted, before)
        if before != wanted or control.look(program).get(program, Seen({})).stale:
            control.call("daemon-reload")
        control.enable(program, wanted=True)
        # One that has just fired may still be on its way out: a start would not start it again.
        control.call("restart", f"{program}.service")
    return {"changed": True, "diff": [moved, *([_process.difference(before, wanted)] if before != wanted else [])], "program": program}


def disarmed(options: t.Mapping[str, t.Any], control: Control, *, write: bool) -> Result:
    """Take a dead-man timer back; {changed, diff, program, timer}. The timer of another run is left alone. Raises LastroError."""
    program = _process.timer_program(options)
    told = _process.take_timer_back(options, control.machine.world, write=write)
    before = _process.look(control.file(program)) if told["disarmed"] else None
    if write and before:
        control.forget(program, loaded=True)
    diff = [_process.difference(before, None)] if before else []
    return {"changed": told["changed"] or before is not None, "diff": diff, "program": program, "timer": told}


_STATES: dict[str, t.Callable[..., Result]] = {"prepared": prepared, "started": started, "stopped": stopped, "armed": armed, "disarmed": disarmed}


def run(options: t.Mapping[str, t.Any], machine: Machine, *, write: bool, units: Path = UNITS) -> Result:
    """The result of the module C(systemd) for its options. Raises LastroError."""
    return _STATES[options["state"]](options, Control(units, machine), write=write)


def info(options: t.Mapping[str, t.Any], machine: Machine, *, units: Path = UNITS) -> Result:
    """{programs, log_positions, log_errors}: the result of the module C(systemd_info). Raises LastroError."""
    app, processes = options["app"], options["processes"]
    described = _process.headers(units, app, ".service", COMMENT)
    named = {_process.program_name(app, name, slot) for name in processes for slot in SLOTS}
    named |= {_process.program_name(app, header["process"], header["slot"]) for header in described}
    control = Control(units, machine)
    states = {program: seen.state for program, seen in control.look(*sorted(named)).items() if seen.state}
    after, pattern = options["errors_after"], _log_errors.compiled(options["error_pattern"])
    counted = _process.programs_of(described, options["errors_of"]) if after is not None else []
    return {
        "programs": _process.programs(app, processes, states, described),
        "log_positions": {"since": machine.world.clock()},
        "log_errors": control.errors(counted, after["since"], pattern) if counted else 0,
    }


def answer(options: t.Mapping[str, t.Any], *, write: bool) -> dict[str, t.Any]:
    """The result of the module C(systemd). Raises LastroError."""
    return run(options, _process.this_machine(), write=write)


__all__ = ("UNITS", "Plan", "answer", "argument_spec", "info", "run")
