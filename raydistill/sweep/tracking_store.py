"""Where MLflow keeps the runs of sweeps: its address, the default file, and whether it answers.

Everything is asked through MLflow's own client, so that its environment variables (user name and password,
certificates, proxies) mean here what they mean elsewhere.
"""

import contextlib
import importlib.util
import itertools
import logging
import os
import re
import secrets
import sqlite3
import sys
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

from mlflow.exceptions import MlflowException, RestException
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.tracking import MlflowClient
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from raydistill.errors import StoreError, say_notice, without_passwords
from raydistill.records import locks
from raydistill.sweep import DEFAULTS

FILE = "mlflow.db"
"""Name of the default tracking store in a results folder."""
ARTIFACTS = "mlartifacts"
"""Folder of its artifacts, beside it."""
ERRORS = (MlflowException, SQLAlchemyError, sqlite3.Error, OSError)
"""What MLflow raises where a tracking store cannot be used."""
_DATABRICKS = "dbruntime"
_ASK_SEC = 15
"""Seconds that a tracking store may take to answer `probe`."""
_SQLITE = "sqlite:///"
_CONNECTION = re.compile(
    r"\[Errno -?\d+\] [\w ,.-]+|Read timed out|CERTIFICATE_VERIFY_FAILED[^'\")]*|\[SSL[^'\")]*|timed out"
)
"""The reason in what the HTTP library says of a server that it cannot reach."""
_TRY_LATER = (408, 429)
"""Statuses of HTTP below 500 that say nothing about the request."""


class NotATrackingServer(StoreError):
    """A server answers at the address, but it is none of MLflow, or wants another password."""


def quieten() -> None:
    """Has MLflow say nothing on its own: what fails is raised, and said once.

    And has it not look for Databricks' package anew at every request, a third of what a request costs.
    """
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    if _DATABRICKS not in sys.modules and importlib.util.find_spec(_DATABRICKS) is None:
        sys.modules[_DATABRICKS] = None  # type: ignore[assignment]  # so an import fails at once


def default_uri(results: Path) -> str:
    """Tracking URI of a results folder where none is given: an sqlite file in it."""
    return _uri_of(results / FILE)


def _uri_of(file: Path) -> str:
    """The address of an sqlite file, whatever is in its path."""
    quoted = f"{_SQLITE}{file}".replace("%", "%25").replace("?", "%3F")
    # before version 2.1 SQLAlchemy took a path as it is
    return quoted if sqlite_file(quoted) == file else f"{_SQLITE}{file}"


def require_known_scheme(uri: str | None) -> None:
    """Raises StoreError where `uri` is no address of a tracking store. Nothing is asked. None: no address."""
    if uri is None:
        return
    try:
        scheme = urllib.parse.urlsplit(uri).scheme
        if scheme and not uri.startswith(("http:", "https:", "sqlite:")):
            MlflowClient(uri)
    except (ValueError, MlflowException) as error:
        raise StoreError(
            f"--mlflow {uri}: no address of a tracking store ({first_line(error)}); "
            "give http(s)://HOST:PORT, sqlite:///FILE or another address that MLflow takes"
        ) from None
    if not scheme:
        raise StoreError(f"--mlflow {uri}: without a scheme; give http(s)://HOST:PORT or sqlite:///FILE")


def probe(uri: str, experiment: str) -> None:
    """Asks a tracking store what a sweep in that experiment will ask, without writing to it.

    Raises:
        StoreError: it cannot be used: it does not answer, is locked, has another schema, or wants a password;
            or the experiment was deleted there.
    """
    require_known_scheme(uri)
    try:
        if (path := sqlite_file(uri)) is not None:
            if not os.access(path if path.exists() else path.parent, os.W_OK):
                raise PermissionError(f"{path} cannot be written")
            if not path.exists() or is_half_made(path):
                return  # the sweep makes it
            with contextlib.closing(sqlite3.connect(path, timeout=_ASK_SEC)) as connection:
                connection.execute("BEGIN IMMEDIATE")  # takes the lock of a writer and gives it back
                connection.rollback()
        with answers_soon():
            client = MlflowClient(uri)
            client.search_experiments(max_results=1)
            find_experiment(client, experiment)
    except ERRORS as error:
        raise unusable(uri, error) from error


def find_experiment(client: MlflowClient, name: str) -> str | None:
    """The id of an experiment; None: there is none of that name. Raises StoreError where it was deleted."""
    if (found := client.get_experiment_by_name(name)) is None:
        return None
    if found.lifecycle_stage == "deleted":
        raise StoreError(
            f"--experiment {name}: deleted in MLflow; restore it with `mlflow experiments restore "
            f"--experiment-id {found.experiment_id}`, or give another --experiment"
        )
    return str(found.experiment_id)


def unusable(uri: str, error: Exception) -> StoreError:
    """The error that says why the tracking store at `uri` cannot be used."""
    message = f"--mlflow {uri}: the tracking store cannot be used: {first_line(error)}"
    status = error.get_http_status_code() if isinstance(error, MlflowException) else 500
    if isinstance(error, RestException) and "error_code" not in error.json:
        status = 404  # whoever answered knows nothing of MLflow's errors
    if uri.startswith("http") and 400 <= status < 500 and status not in _TRY_LATER:
        return NotATrackingServer(
            f"{message}; a server answers there: is it MLflow's, and are MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD right?"
        )
    return StoreError(message)


def first_line(error: Exception) -> str:
    """The first line of an error, without passwords and at most 300 characters long.

    Where a server could not be reached it says only that and the reason.
    """
    lines = str(error).strip().splitlines() or [type(error).__name__]
    line = without_passwords(lines[0])
    if "failed with exception" in line and (found := _CONNECTION.search(line)):
        return f"it cannot be reached: {found[0]}"
    return line[:300]


@contextlib.contextmanager
def answers_soon() -> Iterator[None]:
    """Inside, MLflow asks a server once and waits a few seconds, unless the user has set its variables."""
    ours = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": str(_ASK_SEC)}
    before = {name: os.environ[name] for name in ours if os.environ[name] == DEFAULTS[name]}
    os.environ.update({name: ours[name] for name in before})
    try:
        yield
    finally:
        os.environ.update(before)


# ---- the default store -------------------------------------------------------------------------------------


def sqlite_file(uri: str) -> Path | None:
    """The file of an sqlite URI; None: it is another kind of URI."""
    return Path(make_url(uri).database or "") if uri.startswith(_SQLITE) else None


def make_file(file: Path, artifacts: Path) -> None:
    """Makes an sqlite tracking store where there is none, or only a part of one.

    MLflow makes its tables in some thirty steps, and cannot go on with what a kill has left of them. So they
    are made in a file beside it, which is renamed.

    Args:
        file: the store.
        artifacts: folder of the artifacts of its experiment "Default".

    Raises:
        StoreError: the folder cannot be written.
    """
    try:
        with locks.locked(file.with_suffix(".lock"), what="the tracking store", wait=True):
            for left in file.parent.glob(f".{file.name}-*"):
                left.unlink()  # whoever made it is dead: this process has the lock
            if not file.exists() or is_half_made(file):
                _make(file, artifacts)
    except ERRORS as error:
        raise StoreError(f"{file}: cannot be made: {first_line(error)}") from error


def set_aside_if_moved(file: Path, experiment: str, artifacts: Path) -> None:
    """Renames the sqlite file of a results folder that was moved or copied, with a notice.

    MLflow has the places of the files that it keeps in its tables, and no way to change them. So what it
    shows is built anew from the ledger.

    Args:
        file: the store; of any other place than beside `artifacts` nothing is done.
        experiment: whose artifacts count.
        artifacts: where they are kept now.
    """
    if file.parent != artifacts.parent or not file.exists():
        return
    try:
        with locks.locked(file.with_suffix(".lock"), what="the tracking store", wait=True):
            before = _folder_of_artifacts(file, experiment)
            # another results folder's sweep may have made the file: then its folder is there, and none here
            if before is None or _are_same(before, artifacts) or (before.exists() and not artifacts.exists()):
                return
            names = (file.with_stem(f"{file.stem}-moved-{number}") for number in itertools.count(1))
            aside = next(path for path in names if not path.exists())
            for journal in file.parent.glob(f"{file.name}-*"):
                journal.rename(aside.with_name(journal.name.replace(file.name, aside.name, 1)))
            file.rename(aside)
    except OSError as error:
        raise StoreError(f"{file}: cannot be renamed: {first_line(error)}") from error
    say_notice(
        f"{file} was made in {before.parent}, and names files there. It is {aside.name} now, and a new one "
        f"is made of the ledger; each other sweep by: raydistill track {file.parent}/sweeps/NAME"
    )


def _folder_of_artifacts(file: Path, experiment: str) -> Path | None:
    """Where an experiment in an sqlite file keeps its artifacts; None: not known, or somewhere that a person
    has chosen.
    """
    try:
        with contextlib.closing(sqlite3.connect(file, timeout=_ASK_SEC)) as connection:
            query = "SELECT artifact_location FROM experiments WHERE name = ?"
            found = connection.execute(query, (experiment,)).fetchone()
    except sqlite3.Error:
        return None
    parts = urllib.parse.urlsplit(str(found[0] if found else ""))
    folder = Path(urllib.parse.unquote(parts.path))
    return folder if parts.scheme == "file" and folder.name == ARTIFACTS else None


def _are_same(one: Path, other: Path) -> bool:
    """Whether two paths are of one folder, through whatever links they lead to it."""
    return one == other or (one.exists() and other.exists() and one.samefile(other))


def _make(file: Path, artifacts: Path) -> None:
    new = file.with_name(f".{file.name}-{secrets.token_hex(4)}")
    try:
        SqlAlchemyStore(_uri_of(new), artifacts.as_uri()).engine.dispose()
        with new.open("rb") as written:
            os.fsync(written.fileno())
        for journal in file.parent.glob(f"{file.name}-*"):
            journal.unlink()  # of the half-made file
        new.replace(file)
    finally:
        new.unlink(missing_ok=True)


def forget_connections(uri: str) -> None:
    """Has MLflow open an sqlite file again, which may have been put in the place of the one it knows."""
    if uri.startswith(_SQLITE):
        SqlAlchemyStore._get_or_create_engine(uri).dispose()


def identity(uri: str) -> tuple[int, int] | None:
    """What stays the same while an sqlite file is the same one; None: it is gone, or no such URI."""
    if (file := sqlite_file(uri)) is None or not file.exists():
        return None
    status = file.stat()
    return status.st_dev, status.st_ino


def is_half_made(file: Path) -> bool:
    """Whether MLflow was ended while it made this sqlite file: it has neither an experiment nor a run.

    A finished one has the experiment "Default". False, too, where the file is damaged or locked.
    """
    try:
        with contextlib.closing(sqlite3.connect(file, timeout=_ASK_SEC)) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
            return not any(
                connection.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone()
                for table in ("experiments", "runs")
                if table in tables
            )
    except sqlite3.Error:
        return False


def require_tracking_server(uri: str | None, experiment: str, artifacts: Path) -> None:
    """Opens the experiment, or makes it, where `uri` is the address of a server.

    Raises NotATrackingServer where that will not change by itself. A server that does not answer may do so
    later: nothing is raised then.
    """
    if uri is not None and uri.startswith("http"):
        with answers_soon():
            try:
                open_experiment(uri, experiment, artifacts)
            except NotATrackingServer:
                raise
            except StoreError:
                pass  # `sweep.tracker` says it, and tries again


def open_experiment(uri: str, experiment: str, artifacts: Path) -> tuple[MlflowClient, str]:
    """A client of the tracking store, and the id of the experiment, which is made where it is missing.

    Args:
        uri: tracking URI of a server or a database.
        experiment: its name.
        artifacts: folder of its artifacts where the store is an sqlite file.

    Raises:
        StoreError: the tracking store cannot be used, or the experiment was deleted there.
    """
    quieten()
    if (file := sqlite_file(uri)) is not None:
        set_aside_if_moved(file, experiment, artifacts)
        make_file(file, artifacts)
        forget_connections(uri)
    try:
        client = MlflowClient(uri)
        if (experiment_id := find_experiment(client, experiment)) is None:
            location = None if file is None else artifacts.as_uri()
            experiment_id = str(client.create_experiment(experiment, artifact_location=location))
        client.set_experiment_tag(experiment_id, "mlflow.experimentKind", "custom_model_development")
    except ERRORS as error:
        raise unusable(uri, error) from error
    return client, experiment_id
