"""What was tried and what is champion: MLflow for people, a pointer file for the machines that serve.

The one idea: MLflow holds runs, versions and the alias `champion`; ``champions/<plant>.json`` repeats
the alias, written last and atomically, so that serving and `status` never import MLflow.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from cluster.files import write_atomically
from cluster.home import Home
from cluster.mlflow_client import mlflow_client, saying
from cluster.places import Place, placed
from cluster.stores import explained
from models.errors import InputError, NotFoundError
from models.source import checked_name

if TYPE_CHECKING:
    import pandas as pd

CHAMPION = "champion"  # the alias
_PARENT = "mlflow.parentRunId"
_NAME = "mlflow.runName"
_VERSION = "millwright.version"
_MOST_TAGS = 100  # MLflow's limits a batch
_MOST_METRICS = 1000


@dataclass(frozen=True)
class Champion:
    """``path`` is the bundle's folder, absolute, or where it is in an object store."""

    kind: str
    version: str
    path: Place
    dossier: str | None = None  # the name of the one that says why


def champion(home: Home, plant: str) -> Champion | None:
    """The plant's champion, or None before there is one. Raises InputError where the pointer is damaged."""
    path = _pointer(home, plant)
    try:
        found = json.loads(path.read_text("utf-8"))
        remote = "://" in found["path"]
        where = placed(found["path"], home.of(plant).keys) if remote else home.path / found["path"]
        dossier = found.get("dossier")
        return Champion(str(found["kind"]), str(found["version"]), where, None if dossier is None else str(dossier))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, OSError, RecursionError) as error:
        raise InputError(
            "Damaged pointer to the champion", expected="JSON with kind, version and path", found=str(error),
            where=path, do="Promote a version again",
        ) from error  # fmt: skip


def standing_champion(home: Home, plant: str) -> Champion:
    """The plant's champion. Raises NotFoundError for an unknown plant, or one without a model."""
    home.source(plant)
    found = champion(home, plant)
    if found is None:
        raise NotFoundError(
            "No model for this plant", expected="a champion", found="none", where=f"plant {plant}",
            do=f"Run `millwright tune --plants {plant}`",
        )  # fmt: skip
    return found


def bundle_folder(home: Home, plant: str, version: str) -> Place:
    return home.of(plant).bundles / checked_name(version, "version")


def register(
    home: Home, plant: str, *, version: str, kind: str, folder: Place, run_id: str | None, reason: str,
    dossier: str | None = None, verdict: str | None = None,
) -> Champion:  # fmt: skip
    """Make ``folder`` the champion: a model version, the alias, then the pointer. Again is no harm.

    ``dossier`` names what is written of it and ``verdict`` what the gate said: both go with the model version.
    """
    if not (folder / "manifest.json").is_file():
        raise InputError("Not a bundle", expected="a folder with manifest.json", found="none", where=folder)
    pointer, client = _pointer(home, plant), mlflow_client(home)
    tags = {_VERSION: version, "kind": kind, "reason": reason, "plant": plant}
    with saying("register the champion"):
        number = _version_number(client, plant, version)
        if number is None:
            made = client.create_model_version(plant, source=_uri(folder), run_id=run_id, tags=tags)
            number = made.version
        for key, value in {"reason": reason, "dossier": dossier, "verdict": verdict}.items():
            if value is not None:
                client.set_model_version_tag(plant, number, key, value)
        client.set_registered_model_alias(plant, CHAMPION, number)
    where = folder.resolve()
    if isinstance(where, Path) and where.is_relative_to(home.path):
        where = where.relative_to(home.path)
    found = {"kind": kind, "version": version, "path": str(where), "reason": reason}
    found |= {} if dossier is None else {"dossier": dossier}
    write_atomically(pointer, json.dumps(found, indent=1))
    return Champion(kind, version, folder.resolve(), dossier)


@dataclass(frozen=True)
class Step:
    """Metrics of one epoch, and when they were heard."""

    number: int
    metrics: Mapping[str, float]
    at_s: float


class Tracking:
    """Runs in MLflow. As a context it ends, as failed, every run that is still open when it is left."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._client = mlflow_client(home)
        self._experiments: dict[str, str] = {}
        self._open: set[str] = set()

    def __enter__(self) -> Tracking:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for run_id in sorted(self._open):
            self.end(run_id, ok=False)

    def start(
        self, experiment: str, name: str, *, parent: str | None = None, tags: Mapping[str, str] | None = None
    ) -> str:
        """Begin a run; ``parent`` is the run id of the study it belongs to. Returns its run id."""
        all_tags = {_NAME: name, **(tags or {})} | ({_PARENT: parent} if parent else {})
        with saying("start a run"):
            run = self._client.create_run(self._experiment(experiment), tags=all_tags)
        self._open.add(run.info.run_id)
        return str(run.info.run_id)

    def reopen(self, run_id: str) -> None:
        """Go on with a run of an earlier process. Raises MillwrightError where the registry does not have it."""
        with saying("go on with a run"):
            self._client.update_run(run_id, status="RUNNING")
        self._open.add(run_id)

    def log(
        self,
        run_id: str,
        *,
        params: Mapping[str, object] | None = None,
        metrics: Mapping[str, float] | None = None,
        tags: Mapping[str, str] | None = None,
        steps: Sequence[Step] = (),
    ) -> None:
        """Add to a run in one transaction, unless it is large. The caller chooses what is worth keeping."""
        from mlflow.entities import Metric, Param, RunTag

        values = [
            Metric(key, float(value), int(step.at_s * 1000), step.number)
            for step in (Step(0, metrics or {}, time.time()), *steps) for key, value in step.metrics.items()
        ]  # fmt: skip
        settings = [Param(key, str(value)) for key, value in (params or {}).items()]
        about = [RunTag(key, str(value)) for key, value in (tags or {}).items()]
        with saying("log to a run"):
            first = settings[:_MOST_TAGS]
            self._client.log_batch(run_id, metrics=values[:_MOST_METRICS], params=first, tags=about[:_MOST_TAGS])
            for start in range(_MOST_TAGS, len(settings), _MOST_TAGS):
                self._client.log_batch(run_id, params=settings[start : start + _MOST_TAGS])
            for start in range(_MOST_METRICS, len(values), _MOST_METRICS):
                self._client.log_batch(run_id, metrics=values[start : start + _MOST_METRICS])

    def keep(self, run_id: str, name: str, text: str) -> None:
        """A small file beside a run, among MLflow's artifacts."""
        with saying("keep a file of a run"):
            try:
                self._client.log_text(run_id, text, name)
            except ImportError as error:
                raise InputError(
                    "MLflow cannot write there", expected="the store's own client", found=f"no {error.name}",
                    where=self._home.artifacts, do="Install it (for s3://: `pip install 'millwright[s3]'`)",
                ) from error  # fmt: skip
            except Exception as error:  # what its clients raise has no class in common
                if type(error).__module__.partition(".")[0] not in ("botocore", "boto3", "s3transfer"):
                    raise
                raise explained(self._home.artifacts, error) from None

    def end(self, run_id: str, ok: bool = True) -> None:
        with saying("end a run"):
            self._client.set_terminated(run_id, status="FINISHED" if ok else "FAILED")
        self._open.discard(run_id)

    def _experiment(self, name: str) -> str:
        if name not in self._experiments:
            found = self._client.get_experiment_by_name(name)
            settings = self._home.settings
            named = settings.registry.artifacts or settings.storage.root or not settings.registry.uri
            where = _uri(self._home.artifacts) if named else None
            self._experiments[name] = (
                found.experiment_id if found else self._client.create_experiment(name, artifact_location=where)
            )
        return self._experiments[name]


def studies(home: Home, plant: str) -> pd.DataFrame:
    """The plant's trials, newest first: study, its id, trial, status, started, how it ended, settings, last metrics."""
    import pandas as pd

    home.of(plant)
    client = mlflow_client(home)
    runs = _runs(client, plant)
    names = {run.info.run_id: run.info.run_name for run in runs}
    rows = [
        {
            "study": names.get(run.data.tags[_PARENT], run.data.tags[_PARENT]),
            "study_id": run.data.tags.get("study"),
            "trial": run.info.run_name,
            "status": run.info.status,
            "started": pd.Timestamp(run.info.start_time, unit="ms", tz="UTC"),
            "state": run.data.tags.get("state"),
            "reason": run.data.tags.get("reason"),
            "data_version": run.data.tags.get("data_version"),
            **{key: _number(text) for key, text in run.data.params.items()},
            **run.data.metrics,
        }
        for run in runs
        if _PARENT in run.data.tags
    ]
    return pd.DataFrame(rows, columns=None if rows else ["study", "study_id", "trial", "status", "started"])


def _number(text: str) -> float | int | str:
    """A parameter as it was: MLflow keeps text."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _runs(client: Any, experiment: str) -> list[Any]:
    """Every run, newest first, page by page."""
    found = client.get_experiment_by_name(experiment)
    runs: list[Any] = []
    token: str | None = None
    while found:
        page = client.search_runs([found.experiment_id], order_by=["attributes.start_time DESC"], page_token=token)
        runs += page
        token = page.token
        if not token:
            break
    return runs


def _uri(place: Place) -> str:
    return place.resolve().as_uri() if isinstance(place, Path) else place.url


def _version_number(client: Any, plant: str, version: str) -> str | None:
    """MLflow's number of our version; makes the plant's registered model where there is none."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(plant)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    found = client.search_model_versions(f"name = '{plant}'")
    return next((str(v.version) for v in found if v.tags.get(_VERSION) == version), None)


def _pointer(home: Home, plant: str) -> Path:
    return home.of(plant).champion
