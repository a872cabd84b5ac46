# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Starts C(_alembic_shim) under the application's interpreter and talks with it. PRIVATE to the collection."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import json
import os
import re
import select
import signal
import subprocess
import time
import typing as t
from pathlib import Path
from urllib.parse import urlsplit

from . import _environment_file, _postgres
from ._alembic_errors import child_error, ended, interpreter_missing, nothing_at

if t.TYPE_CHECKING:
    from . import _alembic_shim, _alembic_shim_script, _alembic_shim_session, _alembic_shim_trace  # noqa: F401 - so that Ansible sends the files along; they run elsewhere

    Message = _alembic_shim.Message
    OnEvent = t.Callable[[Message], None]
    Tick = t.Callable[[], None]

PACKAGE = "lastro_alembic"
SOURCES = ("_alembic_shim_trace", "_alembic_shim_session", "_alembic_shim_script", "_alembic_shim")
SECRET_NAME = re.compile(r"pass|secret|key|token|url|dsn|salt|cred|auth|private", re.IGNORECASE)
TICK = 0.05
"""Seconds between two looks at a running migration: short enough to see who blocks it within the shortest sensible lock_timeout."""
PATIENCE = 2.0
LAUNCHER = """
import json, os, sys, types
requests, results = (os.fdopen(int(number), mode) for number, mode in zip(sys.argv[1:], ("rb", "wb")))
for pipe in (requests, results):
    os.set_inheritable(pipe.fileno(), False)
package, sources = json.loads(requests.readline())
sys.modules[package] = types.ModuleType(package)
sys.modules[package].__path__ = []
for name, file, source in sources:
    module = sys.modules[package + "." + name] = types.ModuleType(package + "." + name)
    module.__package__, module.__file__ = package, file
    exec(compile(source, file, "exec"), module.__dict__)
module.serve(requests, results)
"""


@dataclasses.dataclass(frozen=True)
class Project:
    """An application's migrations and the database they go to. ``repr`` shows no secret."""

    chdir: Path
    config: str
    python: str
    settings: _postgres.ConnectionSettings
    url: str = dataclasses.field(repr=False)
    variables: t.Mapping[str, str] = dataclasses.field(repr=False)
    flask_app: str = ""
    x_args: tuple[str, ...] = dataclasses.field(default=(), repr=False)
    version_table: str = ""
    version_table_schema: str = ""

    @classmethod
    def from_params(cls, params: t.Mapping[str, t.Any]) -> Project:
        """From the options of a module. Raises LastroError where the directory or the configuration is not there."""
        settings = _postgres.settings_from_params(params)
        variables = _environment_file.read(params["environment_file"]) if params.get("environment_file") else {}
        url = params.get("database_url") or variables.get(params["url_variable"]) or settings.url()
        variables = {**variables, **{name: str(value) for name, value in (params.get("environment") or {}).items()}, params["url_variable"]: url}
        chdir = Path(params["chdir"])
        if not chdir.is_dir():
            raise nothing_at("chdir", str(chdir))
        if not (chdir / params["config"]).is_file():
            raise nothing_at("config", str(chdir / params["config"]))
        return cls(
            chdir=chdir,
            config=params["config"],
            python=params["python"],
            settings=settings,
            url=url,
            variables=variables,
            x_args=tuple(params["x_args"]),
            **{name: params[name] for name in ("flask_app", "version_table", "version_table_schema")},
        )

    def request(self) -> Message:
        """What the shim needs to load the application's migrations. It holds the URL."""
        names = ("config", "url", "flask_app", "version_table", "version_table_schema")
        return {**{name: getattr(self, name) for name in names}, "x_args": list(self.x_args)}

    def with_url(self, url: str) -> Project:
        """The same application, with the driver that it names, beside another database."""
        url = url.replace("postgresql:", self.url.partition("://")[0] + ":", 1)
        variables = {name: url if value == self.url else value for name, value in self.variables.items()}
        return dataclasses.replace(self, url=url, settings=_postgres.parse_url(url), variables=variables)

    def environment(self) -> dict[str, str]:
        """The child's environment: ours without what belongs to another Python or another database, and the application's."""
        inherited = {name: value for name, value in os.environ.items() if name not in ("PYTHONHOME", "PYTHONPATH") and not name.startswith("PG")}
        return {**inherited, "PYTHONDONTWRITEBYTECODE": "1", **self.variables}

    def redact(self, text: str) -> str:
        """*text* without the password in any spelling and without the values of variables that look secret."""
        secrets = {value for name, value in self.variables.items() if SECRET_NAME.search(name) and len(value) >= 6}
        with contextlib.suppress(ValueError):
            secrets.add(urlsplit(self.url).password or "")
        for secret in sorted(secrets | {self.url} - {""}, key=len, reverse=True):
            if secret:
                text = text.replace(secret.replace("%", "%%"), "********").replace(secret, "********")
        return _postgres.redact(text, self.settings)


class Child:
    """The running shim. One request at a time; it dies with this process, since its request pipe ends then."""

    def __init__(self, project: Project, process: subprocess.Popen[bytes], requests: int, results: int) -> None:
        self.project = project
        self.process = process
        self._requests = requests
        self._results = results
        self._rest = b""

    @classmethod
    @contextlib.contextmanager
    def start(cls, project: Project) -> t.Iterator[Child]:
        """Start the shim; at the end it is gone, whatever happened. Raises LastroError where the interpreter cannot start."""
        from_us, to_child = os.pipe()
        to_us, from_child = os.pipe()
        # What the two pipes mean to the child stands in argv; the program itself, and everything secret, comes through them.
        command = [project.python, "-c", LAUNCHER, str(from_us), str(from_child)]
        with contextlib.ExitStack() as stack:
            stack.callback(os.close, to_us)
            stack.callback(os.close, to_child)
            try:
                # A backend knows no AnsibleModule, so there is no run_command here.
                process = subprocess.Popen(  # pylint: disable=ansible-bad-function
                    command,
                    cwd=project.chdir,
                    env=project.environment(),
                    pass_fds=(from_us, from_child),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )
            except OSError as error:
                raise interpreter_missing(project.python, error) from None
            finally:
                os.close(from_us)
                os.close(from_child)
            child = cls(project, process, to_child, to_us)
            try:
                child._send([PACKAGE, [_source(name) for name in SOURCES]])
                yield child
            finally:
                child.close()

    def close(self) -> None:
        """Let the child end by itself for a moment, then end it."""
        self._send({"op": "end"})
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=PATIENCE)
        self.kill()

    def kill(self) -> None:
        """End the child and all that it started."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def ask(self, request: Message, *, until: float, on_event: OnEvent | None = None, tick: Tick | None = None) -> Message:
        """The answer to *request*. Events on the way go to *on_event*; *tick* is called several times a second.

        Raises TimeoutError at *until* (of the monotonic clock), LastroError for the child's own errors and for its death.
        """
        self._send(request)
        while True:
            for message in self._messages(until):
                if message["event"] == "answer":
                    answer: Message = message["answer"]
                    return answer
                if message["event"] == "error":
                    raise child_error(self._without_secrets(message), self.project)
                if on_event:
                    on_event(message)
            if tick:
                tick()

    def _send(self, message: t.Any) -> None:  # noqa: ANN401 - JSON
        left = json.dumps(message).encode() + b"\n"
        with contextlib.suppress(BrokenPipeError):  # its end is heard of on the other pipe
            while left:
                left = left[os.write(self._requests, left) :]

    def _messages(self, until: float) -> list[Message]:
        left = until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        if not select.select([self._results], [], [], min(TICK, left))[0]:
            return []
        chunk = os.read(self._results, 1 << 16)
        if not chunk:
            raise ended(self.process.wait(), self.project.python)
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        return [json.loads(line) for line in lines]

    def _without_secrets(self, message: Message) -> Message:
        redact = self.project.redact
        return {**message, "message": redact(message["message"]), "traceback_tail": [redact(line) for line in message["traceback_tail"]]}


def _source(name: str) -> tuple[str, str, str]:
    """Name, file and text of a neighbour of this file, which may stand in a zip archive."""
    spec = importlib.util.find_spec(f"{__package__}.{name}")
    source = getattr(spec.loader, "get_source")(spec.name) if spec else None  # noqa: B009 - not every loader has it, those of files and archives do
    if spec is None or source is None:
        raise RuntimeError(f"{name} did not come along with this module")
    return name, spec.origin or name, source


__all__ = ("Child", "Project")
