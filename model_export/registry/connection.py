"""The way to MLflow: a tracking server, or a file of one's own; and no word to anybody else."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from model_export.registry.error import RegistryError

if TYPE_CHECKING:
    from mlflow import MlflowClient

EMBEDDED = "sqlite:///mlruns/mlflow.db"
_FILE = "sqlite:///"
# MLflow reads them when it is loaded. Since 3.2 it would else report to its makers, and keep an id on disk.
_SILENCE = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
# Its own patience with an absent server is four minutes.
_SETTINGS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


@dataclass(frozen=True, slots=True)
class Connection:
    """An MLflow that can be asked.

    Attributes
    ----------
    uri : str
        Where it is.
    artifacts : Path or None
        The folder of all artifacts; None where a server decides.
    """

    client: "MlflowClient"
    uri: str
    artifacts: Path | None


@contextmanager
def asked(uri: str) -> Iterator[None]:
    """Turn what MLflow complains of into a `RegistryError`."""
    from mlflow.exceptions import MlflowException  # noqa: PLC0415
    from requests.exceptions import RequestException  # noqa: PLC0415
    from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415

    try:
        yield
    except MlflowException as error:
        if isinstance(error.__context__, RequestException):
            raise RegistryError(
                f"MLflow at {uri} cannot be reached ({_deepest(error)}): see that it is up, or name "
                "another by --tracking-uri or MLFLOW_TRACKING_URI"
            ) from error
        if error.error_code in ("UNAUTHENTICATED", "PERMISSION_DENIED", "CUSTOMER_UNAUTHORIZED"):
            raise RegistryError(
                f"MLflow at {uri} does not let this account do that ({_line(error)}): set "
                "MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, to "
                "those of one that may"
            ) from error
        raise RegistryError(f"MLflow at {uri}: {_line(error)}") from error
    except SQLAlchemyError as error:
        raise RegistryError(f"MLflow at {uri}: {_deepest(error)}") from error
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        raise RegistryError(f"MLflow at {uri}: {place}{error.strerror or error}") from error


def connect(uri: str | None, *, make: bool = False) -> Connection:
    """Return the MLflow at an address, or that of MLFLOW_TRACKING_URI, or the one in a file here.

    Parameters
    ----------
    uri
        ``http://`` or ``https://`` of a tracking server; or ``sqlite:///FILE``, with its artifacts beside it.
    make
        Whether to make a file that is not there.

    Raises
    ------
    RegistryError
        If the address is another, or nobody is there.
    """
    uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or EMBEDDED
    address, artifacts = uri, None
    if uri.startswith(_FILE) and uri != _FILE:
        file = Path(uri.removeprefix(_FILE)).absolute()
        _see(file, uri, make)
        # MLflow keeps what it has opened by its name, whatever the folder.
        address, artifacts = f"{_FILE}{file}", file.parent / "artifacts"
    elif not _is_server(uri):
        raise RegistryError(
            f"{_public(uri)} is not an address of MLflow: give http://HOST:PORT or https://HOST:PORT of a "
            "tracking server, without name and password, or sqlite:///FILE for a registry of one's own"
        )
    os.environ.update(_SILENCE)
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    from mlflow import MlflowClient  # noqa: PLC0415

    with asked(uri):
        client = MlflowClient(address, address)
        client.search_registered_models(max_results=1)
    return Connection(client, uri, artifacts)


def _see(file: Path, uri: str, make: bool) -> None:
    """See that a registry's file is there, or may be made."""
    if file.is_file():
        return
    if not make:
        raise RegistryError(
            f"there is no registry {uri} here: `forest-export MODEL --track` begins one, and --tracking-uri "
            "or MLFLOW_TRACKING_URI names another"
        )
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RegistryError(f"{error.filename}: {error.strerror}: no registry can be made there") from error


def _is_server(uri: str) -> bool:
    try:
        parts = urlsplit(uri)
        right = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    # What is in an address is also in messages and in the registry.
    return right and not parts.username and not parts.query and not parts.fragment and uri.isprintable()


def _public(uri: str) -> str:
    """Return an address as messages may show it."""
    scheme, mark, rest = uri.partition("?")[0].partition("://")
    return repr(f"{scheme}{mark}{rest.rpartition('@')[2]}")


def _line(error: Exception) -> str:
    """Return what an error comes to, in one line."""
    found = str(error) or repr(error)
    if "\n" in found or "Background on this error" in found:
        found = _deepest(error)
    return found.splitlines()[0]


def _deepest(error: BaseException) -> str:
    while error.__context__ is not None:
        error = error.__context__
    return str(error) or repr(error)
