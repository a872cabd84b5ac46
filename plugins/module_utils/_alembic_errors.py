# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be wrong with an application's migrations, with the remedy in both languages. PRIVATE to the collection."""

from __future__ import annotations

import signal
import typing as t

from ._errors import LastroError, Text

if t.TYPE_CHECKING:
    from ._alembic_child import Message, Project

TRACEBACK = 3
"""Ansible's verbosity from which on the traceback of the application's code is shown."""
_REMEDIES = {
    "alembic_missing": Text(
        en="Install alembic and sqlalchemy in the release's virtual environment, or name the application's own interpreter in python.",
        pt_BR="Instale alembic e sqlalchemy no ambiente virtual do release, ou indique em python o interpretador da própria aplicação.",
    ),
    "alembic_old": Text(en="Require alembic 1.10 or newer in the application.", pt_BR="Exija alembic 1.10 ou mais novo na aplicação."),
    "config": Text(
        en="Correct script_location (and version_locations) in the configuration file; `alembic heads` must work in that directory.",
        pt_BR="Corrija script_location (e version_locations) no arquivo de configuração; `alembic heads` precisa funcionar nesse diretório.",
    ),
    "revision_files": Text(
        en="Correct that revision file; `alembic heads` must work in the release before it is deployed.",
        pt_BR="Corrija esse arquivo de revisão; `alembic heads` precisa funcionar no release antes do deploy.",
    ),
    "revision": Text(
        en="Name a revision that `alembic history` of this release lists, or deploy the release that has it.",
        pt_BR="Indique uma revisão que o `alembic history` deste release liste, ou faça o deploy do release que a contém.",
    ),
    "env": Text(
        en="Correct env.py or what it imports, and give it the variables that it reads; `alembic current` must work in that directory.",
        pt_BR="Corrija o env.py ou o que ele importa, e forneça as variáveis que ele lê; `alembic current` precisa funcionar nesse diretório.",
    ),
    "flask_app": Text(
        en="Name the application as `flask --app` takes it (module, module:app or module:factory()), seen from chdir.",
        pt_BR="Indique a aplicação como o `flask --app` a recebe (module, module:app ou module:factory()), a partir de chdir.",
    ),
    "flask_context": Text(
        en="Name the Flask application in flask_app: this env.py needs its context.",
        pt_BR="Indique a aplicação Flask em flask_app: este env.py precisa do contexto dela.",
    ),
    "models": Text(
        en="Set target_metadata in env.py to the application's metadata, and bring the database to head first; `alembic check` must work there.",
        pt_BR="Defina target_metadata no env.py com o metadata da aplicação, e leve antes o banco ao head; `alembic check` precisa funcionar ali.",
    ),
    "connect": Text(
        en="Have env.py connect with the URL in sqlalchemy.url or in the variable that url_variable names; the module itself reached that database.",
        pt_BR="Faça o env.py conectar com a URL de sqlalchemy.url ou da variável indicada em url_variable; o próprio módulo alcançou esse banco.",
    ),
    "dialect": Text(en="Have env.py connect to the PostgreSQL database that was named.", pt_BR="Faça o env.py conectar ao banco PostgreSQL indicado."),
    "settings": Text(
        en="Connect to PostgreSQL itself, not to a pooler that drops session settings, and leave the timeouts to this module.",
        pt_BR="Conecte ao próprio PostgreSQL, não a um pooler que descarta configurações de sessão, e deixe os timeouts com este módulo.",
    ),
    "migration": Text(
        en="Correct the revision's code. What it did was rolled back; earlier revisions of this run stay.",
        pt_BR="Corrija o código da revisão. O que ela fez foi desfeito; as revisões anteriores desta execução permanecem.",
    ),
    "database": Text(
        en="Correct the revision, or the data that it cannot handle. Its transaction was rolled back; earlier revisions of this run stay.",
        pt_BR="Corrija a revisão, ou os dados que ela não trata. A transação dela foi desfeita; as revisões anteriores desta execução permanecem.",
    ),
    "55P03": Text(
        en="End the sessions in blockers (or wait for them), then run again; or raise lock_timeout or retries.",
        pt_BR="Encerre as sessões em blockers (ou espere por elas) e execute de novo; ou aumente lock_timeout ou retries.",
    ),
    "57014": Text(
        en="Raise statement_timeout, or make the revision's statement smaller (batches, a concurrent index).",
        pt_BR="Aumente statement_timeout, ou torne menor o comando da revisão (lotes, índice concorrente).",
    ),
}
_SENTENCES = {
    "alembic_missing": "The interpreter {python} cannot import Alembic: {message}.",
    "alembic_old": "The interpreter {python} has an Alembic that is too old: {message}",
    "config": "Alembic cannot use {config}: {message}",
    "revision_files": "A revision file cannot be loaded: {message}",
    "revision": "Alembic does not know what is asked for: {message}",
    "env": "env.py failed: {message}",
    "flask_app": "The Flask application cannot be loaded: {message}",
    "flask_context": "env.py needs the context of a Flask application: {message}",
    "models": "The models cannot be compared: {message}",
    "connect": "env.py cannot connect: {message}",
    "dialect": "The migrations are not for PostgreSQL: {message}",
    "settings": "The session's limits are not in force: {message}",
    "migration": "Revision {revision} failed: {message}",
    "database": "Revision {revision} failed: {message}",
}
_NAMED = {"55P03": "a lock was not available in time", "40P01": "a deadlock was found", "57014": "a statement took longer than its limit"}


def child_error(message: Message, project: Project) -> LastroError:
    """The error for what the child answered; its secrets are out already. ``facts``: C(code), C(sqlstate), C(revision), C(traceback_tail)."""
    code, state, revision = message["code"], message["sqlstate"], message["revision"]
    sentence = _SENTENCES[code] if revision or code not in ("database", "migration") else _SENTENCES["env"]
    text = f"{_NAMED[state]} ({message['message']})" if state in _NAMED else message["message"]
    return LastroError(
        sentence.format(python=project.python, config=project.config, revision=revision, message=text),
        remedy=_REMEDIES["55P03" if state == "40P01" else state if state in _REMEDIES else code],
        code=code,
        sqlstate=state,
        revision=revision,
        traceback_tail=message["traceback_tail"],
    )


def as_result(error: LastroError, verbosity: int) -> dict[str, t.Any]:
    """The failure as a return value; the traceback is for whoever asks for it with C(-vvv)."""
    return {name: value for name, value in error.as_result().items() if name != "traceback_tail" or verbosity >= TRACEBACK}


def interpreter_missing(python: str, error: OSError) -> LastroError:
    """The application's interpreter cannot be started."""
    return LastroError(
        f"The interpreter {python} cannot be started: {error.strerror}.",
        remedy=Text(
            en="Name the interpreter of the release's virtual environment in python; stage the release first.",
            pt_BR="Indique em python o interpretador do ambiente virtual do release; prepare o release antes.",
        ),
        code="python",
    )


def nothing_at(option: str, path: str) -> LastroError:
    """A directory or file that an option names is not there."""
    return LastroError(
        f"{option}: there is no {path}.",
        remedy=Text(
            en="Name the release's directory in chdir and its Alembic configuration file, seen from there, in config.",
            pt_BR="Indique o diretório do release em chdir e o arquivo de configuração do Alembic, visto dali, em config.",
        ),
        code=option,
    )


def ended(status: int, python: str) -> LastroError:
    """The child ended without an answer."""
    how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
    return LastroError(
        f"The process that ran Alembic under {python} {how} before it was done.",
        remedy=Text(
            en="Run again: the revision that it was in was rolled back. Check the memory of the host, and that python is a Python interpreter.",
            pt_BR="Execute de novo: a revisão em andamento foi desfeita. Verifique a memória do host e se python é um interpretador Python.",
        ),
        code="ended",
    )


def deadline_passed(seconds: float, what: str) -> LastroError:
    """The total time is over."""
    return LastroError(
        f"The deadline of {seconds:g} s passed while {what}; the process and its database session were ended.",
        remedy=Text(
            en="See blockers and applied, then run again, with a longer deadline if the work needs it.",
            pt_BR="Veja blockers e applied e execute de novo, com um deadline maior se o trabalho precisar.",
        ),
        code="deadline",
    )


def bad_option(option: str, problem: str) -> LastroError:
    """An option's value makes no sense."""
    return LastroError(
        f"{option}: {problem}.",
        remedy=Text(
            en=f"Correct {option}; the module's documentation says which values it takes.",
            pt_BR=f"Corrija {option}; a documentação do módulo diz quais valores ela aceita.",
        ),
        code="option",
    )


def several_heads(heads: t.Sequence[str]) -> LastroError:
    """The release has more than one head."""
    return LastroError(
        f"The release has {len(heads)} Alembic heads: {', '.join(heads)}.",
        remedy=Text(
            en="Join them with `alembic merge heads` in the application, or name one in revision.",
            pt_BR="Una-os com `alembic merge heads` na aplicação, ou indique um em revision.",
        ),
        code="multiple_heads",
        heads=list(heads),
    )


def database_ahead(unknown: t.Sequence[str]) -> LastroError:
    """The database is at revisions that the release does not have."""
    return LastroError(
        f"The database is at {', '.join(unknown)}, which this release does not know.",
        remedy=Text(
            en="Deploy a release that has this revision, or downgrade with the files of the release that added it.",
            pt_BR="Faça o deploy de um release que tenha essa revisão, ou faça o downgrade com os arquivos do release que a criou.",
        ),
        code="database_ahead",
        unknown=list(unknown),
    )


def misplaced(revisions: t.Sequence[str], contracting: str) -> LastroError:
    """Expanding revisions stand behind a contracting one."""
    return LastroError(
        f"Expanding revision {', '.join(revisions)} stands behind contracting revision {contracting}.",
        remedy=Text(
            en="Split the release so that the contracting revision comes last, or migrate with phase any inside a maintenance.",
            pt_BR="Divida o release para que a revisão de contração fique por último, ou migre com phase any dentro de uma manutenção.",
        ),
        code="misplaced",
        misplaced=list(revisions),
    )


def expand_first(revisions: t.Sequence[str]) -> LastroError:
    """The contract phase was asked for while expanding revisions are pending."""
    return LastroError(
        f"Expanding revision {', '.join(revisions)} is still pending.",
        remedy=Text(en="Run with phase expand first, then with phase contract.", pt_BR="Execute primeiro com phase expand, depois com phase contract."),
        code="expand_first",
    )


def irreversible(revisions: t.Sequence[str]) -> LastroError:
    """A downgrade that undoes nothing."""
    return LastroError(
        f"Revision {', '.join(revisions)} has no downgrade that undoes it.",
        remedy=Text(
            en="Write its downgrade(), or restore a backup; a downgrade over it would only change the recorded number.",
            pt_BR="Escreva o downgrade() dela, ou restaure um backup; um downgrade sobre ela só mudaria o número registrado.",
        ),
        code="irreversible",
    )


def data_loss(losses: t.Sequence[t.Mapping[str, str]]) -> LastroError:
    """A downgrade that would remove data."""
    return LastroError(
        "The downgrade would lose data: " + "; ".join(f"{loss['revision']}: {loss['what']}" for loss in losses) + ".",
        remedy=Text(
            en="Save what is in there, or say accept_loss: true; keeping the schema and only the code going back is often enough.",
            pt_BR="Salve o que está ali, ou use accept_loss: true; muitas vezes basta manter o esquema e voltar só o código.",
        ),
        code="data_loss",
        losses=[dict(loss) for loss in losses],
    )


_UNFIT = {
    "standby": (
        "PostgreSQL at {where} is a standby: it replays another server and takes no changes.",
        Text(en="Name the primary server in the database URL.", pt_BR="Indique na URL do banco o servidor primário."),
    ),
    "read_only": (
        "Sessions at {where} are read-only (default_transaction_read_only).",
        Text(
            en="Connect with a role, and to a database, that may change the schema; ALTER ROLE or ALTER DATABASE ... RESET default_transaction_read_only.",
            pt_BR="Conecte com um papel, e a um banco, que possam mudar o esquema; ALTER ROLE ou ALTER DATABASE ... RESET default_transaction_read_only.",
        ),
    ),
    "pooler": (
        "Between here and PostgreSQL at {where} stands a pooler in transaction mode: timeouts and locks of a session mean nothing there.",
        Text(
            en="Give the migration the address of PostgreSQL itself (or of a pool in session mode).",
            pt_BR="Dê à migração o endereço do próprio PostgreSQL (ou de um pool em modo session).",
        ),
    ),
}


def unfit(code: str, where: str) -> LastroError:
    """The server, as it is reached, cannot take a migration: C(standby), C(read_only) or C(pooler)."""
    sentence, remedy = _UNFIT[code]
    return LastroError(sentence.format(where=where), remedy=remedy, code=code)


def session_failed(where: str, reason: str) -> LastroError:
    """PostgreSQL refused a question of ours, or went away while it was asked."""
    return LastroError(
        f"PostgreSQL at {where} did not answer a question about its tables: {reason}",
        remedy=Text(
            en="See that the server runs and that the role may read the catalog and the tables, then run again.",
            pt_BR="Verifique se o servidor está no ar e se o papel pode ler o catálogo e as tabelas, e execute de novo.",
        ),
        code="session",
    )


def denied(findings: t.Sequence[str], facts: t.Mapping[str, t.Any]) -> LastroError:
    """Findings that C(lint.deny) refuses; *facts* is everything that was found."""
    return LastroError(
        "Refused by lint.deny: " + "; ".join(findings) + ".",
        remedy=Text(
            en="See safe_way in findings; or, where somebody has looked at it, put revision:rule into lint.allow.",
            pt_BR="Veja safe_way em findings; ou, se alguém já conferiu, ponha revisão:regra em lint.allow.",
        ),
        **{**facts, "code": "denied"},
    )


def old_transactions(sessions: t.Sequence[str], age: float, *, waited: float) -> LastroError:
    """Transactions that would be in the way."""
    return LastroError(
        f"Transactions older than {age:g} s are open{f' after {waited:g} s' if waited else ''}: " + "; ".join(sessions[:3]) + ".",
        remedy=Text(
            en="End them, or have blockers.action wait for them; blockers lists them all.",
            pt_BR="Encerre-as, ou faça blockers.action esperar por elas; blockers lista todas.",
        ),
        code="blockers",
    )


def not_there(expected: t.Sequence[str], after: t.Sequence[str]) -> LastroError:
    """Alembic ended well and the database disagrees."""
    return LastroError(
        f"Alembic ended at {', '.join(expected) or 'base'} but the database is at {', '.join(after) or 'base'}.",
        remedy=Text(
            en="Have env.py commit what it begins: a statement before context.configure() opens a transaction that nobody commits.",
            pt_BR="Faça o env.py confirmar o que inicia: um comando antes de context.configure() abre uma transação que ninguém confirma.",
        ),
        code="not_there",
    )


__all__ = (
    "as_result",
    "bad_option",
    "child_error",
    "data_loss",
    "database_ahead",
    "deadline_passed",
    "denied",
    "ended",
    "expand_first",
    "interpreter_missing",
    "irreversible",
    "misplaced",
    "not_there",
    "nothing_at",
    "old_transactions",
    "session_failed",
    "several_heads",
    "unfit",
)
