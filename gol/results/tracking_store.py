"""Access to an MLflow tracking store: names, a lock, patience and one-line errors.

One file lock serialises all processes that write to the same sqlite file: MLflow 3.17 fails when
several create it at once, and a sqlite transaction that turns from reading to writing while
another one commits fails without waiting.
"""

import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit
from urllib.request import url2pathname

from gol.errors import UserError, without_secrets

if TYPE_CHECKING:
    from mlflow import MlflowClient

_SQLITE = "sqlite:///"
_INTERFACE = "http://127.0.0.1:5000"  # where `mlflow ui` answers
_LOCK_SECONDS = 600
_ATTEMPTS = 6
_Result = TypeVar("_Result")


def connect(uri: str) -> "MlflowClient":
    """An MLflow client that neither phones home nor prints."""
    # Training machines may have no way out, and nobody asked for usage statistics.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")  # 14 s; MLflow's own is minutes
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    from mlflow import MlflowClient

    # MLflow logs each migration of a new database, and a traceback with each database error.
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return MlflowClient(uri)


def tracking_uri(store: str | Path) -> str:
    """Turns a path or URI into a URI; paths of sqlite files become absolute.

    Raises:
        UserError: it is a folder.
    """
    text = str(store)
    if text.startswith("file:") or ("://" not in text and Path(text).is_dir()):
        raise UserError(
            f"{store}: MLflow no longer keeps runs in a folder;"
            " allowed: a sqlite file such as mlflow.db, or the URI of an MLflow server"
        )
    if "://" in text and not text.startswith(_SQLITE):
        return text
    return _SQLITE + str(Path(text.removeprefix(_SQLITE)).resolve())


def sqlite_path(uri: str) -> Path | None:
    """The database file that a URI names; None for a server."""
    return Path(uri.removeprefix(_SQLITE)) if uri.startswith(_SQLITE) else None


def tracking_page(uri: str, experiment_id: str) -> str:
    """The address of an experiment's list of runs in MLflow's interface, the highest AP first.

    Args:
        uri: of a server, or of a sqlite file, whose interface ``mlflow ui`` serves.
        experiment_id: MLflow's.
    """
    # The interface opens on its view for language models unless the address says otherwise, and
    # folds runs below their parents unless it sorts by a metric.
    view = "workflowType=machine_learning&orderByKey=metrics.%60segm_AP%60&orderByAsc=false"
    server = _INTERFACE if sqlite_path(uri) else without_secrets(uri).rstrip("/")
    return f"{server}/#/experiments/{experiment_id}/runs?{view}"


def tracking_lock(uri: str) -> AbstractContextManager:
    """Context that admits one process at a time to a sqlite file; a server needs none."""
    path = sqlite_path(uri)
    if path is None:
        return nullcontext()
    from filelock import FileLock

    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path.with_name(f".{path.name}.lock"), timeout=_LOCK_SECONDS)


def follow_move(path: Path) -> None:
    """Tells a sqlite file that was moved with its folder ``mlartifacts`` where that is now."""
    folder = path.parent.resolve() / "mlartifacts"
    with closing(sqlite3.connect(path)) as store, store:
        for key, name, before in store.execute(
            "select experiment_id, name, artifact_location from experiments"
        ).fetchall():
            now = (folder / name).as_uri()
            same_name = before.rpartition("/")[2] == now.rpartition("/")[2]
            if not (same_name and _is_gone(before) and (folder / name).is_dir()):
                continue
            store.execute(
                "update experiments set artifact_location = ? where experiment_id = ?", (now, key)
            )
            store.execute(
                "update runs set artifact_uri = ? || substr(artifact_uri, ?)"
                " where experiment_id = ? and substr(artifact_uri, 1, ?) = ?",
                (now, len(before) + 1, key, len(before) + 1, f"{before}/"),
            )


def _is_gone(location: str) -> bool:
    """Whether a folder of this machine is not there any more."""
    path = Path(url2pathname(urlsplit(location).path))
    return location.startswith("file:") and not path.exists()


def patiently(action: Callable[[], _Result]) -> _Result:
    """Runs an idempotent action again while another program, say the interface, is writing."""
    for attempt in range(_ATTEMPTS - 1):
        try:
            return action()
        except Exception as error:
            if "database is locked" not in str(error):
                raise
            time.sleep(0.2 * 2**attempt)
    return action()


@contextmanager
def tracking_errors(uri: str) -> Iterator[None]:
    """Turns what MLflow, its database and the disk raise into one line."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        from filelock import Timeout
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        expected = (MlflowException, SQLAlchemyError, sqlite3.Error, OSError, Timeout)
        if not isinstance(error, expected):
            raise
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"MLflow store {uri}: {reason}") from error
