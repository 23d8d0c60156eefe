"""Lineage as OpenLineage events, written through the maintained client: a file a run, or HTTP.

The one idea: one file holds one run (`lineage/<time>-<verb>-<id>.jsonl`, one event a line), so that runs
side by side never write into each other's lines. Events name files, tables, versions and digests; they
hold no value of a sensor, no secret and no text of an error beyond what went wrong.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import attr
from openlineage.client import OpenLineageClient, event_v2
from openlineage.client.facet_v2 import (
    dataset_type_dataset,
    dataset_version_dataset,
    error_message_run,
    execution_parameters_run,
    input_statistics_input_dataset,
    job_type_job,
    output_statistics_output_dataset,
    parent_run,
    processing_engine_run,
    schema_dataset,
    source_code_location_job,
)
from openlineage.client.generated.base import DatasetFacet, RunFacet
from openlineage.client.transport import Transport
from openlineage.client.transport.file import FileConfig, FileTransport
from openlineage.client.uuid import generate_new_uuid

from cluster.report import Progress, code_version
from cluster.stores import SCHEMES
from models.errors import MillwrightError

if TYPE_CHECKING:
    from cluster.home import Home
    from cluster.lineage import Dataset, Run

KEY_VARIABLE = "MILLWRIGHT_LINEAGE_KEY"  # the receiver's API key
TIMEOUT_S = 5.0
_PRODUCER = "pkg:pypi/millwright"
_BASE = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunFacet"


@attr.define
class ConfigurationRunFacet(RunFacet):
    """Our own facet: the SHA-256 of every setting that the run had."""

    digest: str
    seconds: float | None = None

    @staticmethod
    def _get_schema() -> str:
        return _BASE


class Sender:
    """Tells of one run. Whatever fails here is noted once, and never raised."""

    def __init__(self, home: Home, run: Run, progress: Progress) -> None:
        self._home, self._run, self._progress = home, run, progress
        self._began = datetime.now(UTC)
        event_v2.set_producer(_PRODUCER)
        self._client: OpenLineageClient | None = None
        self._lost = False

    def start(self) -> None:
        self._send(event_v2.RunState.START, {})

    def complete(self, seconds: float) -> None:
        self._send(event_v2.RunState.COMPLETE, {}, seconds)

    def failed(self, error: BaseException, seconds: float) -> None:
        """FAIL, or ABORT where a person stopped it."""
        stopped = isinstance(error, KeyboardInterrupt)
        state = event_v2.RunState.ABORT if stopped else event_v2.RunState.FAIL
        facet = error_message_run.ErrorMessageRunFacet(message=_harmless(error), programmingLanguage="PYTHON")
        self._send(state, {} if stopped else {"errorMessage": facet}, seconds)

    def _send(self, state: event_v2.RunState, facets: dict[str, RunFacet], seconds: float | None = None) -> None:
        if self._lost:
            return
        try:
            self._client = self._client or OpenLineageClient(transport=self._transport())
            event = _event(self._home, self._run, state, facets, seconds)
            self._client.emit(event)
        except Exception as error:  # lineage is told beside the work: whatever it is, the work goes on
            self._lost = True
            self._progress.note(f"lineage of this run is not complete: {type(error).__name__}: {str(error)[:200]}")

    def _transport(self) -> Transport:
        settings = self._home.settings.lineage
        if settings.url is None:
            folder = self._home.path / "lineage"
            folder.mkdir(parents=True, exist_ok=True)
            name = f"{self._began:%Y%m%dT%H%M%S}-{self._run.verb.replace(' ', '-')}-{self._run.id[-12:]}.jsonl"
            return FileTransport(FileConfig(log_file_path=str(folder / name), append=True))
        from openlineage.client.transport.http import HttpConfig, HttpTransport

        key = os.environ.get(KEY_VARIABLE)
        wanted: dict[str, Any] = {"url": settings.url, "timeout": TIMEOUT_S, "retry": {"total": 1, "connect": 1}}
        return HttpTransport(
            HttpConfig.from_dict(wanted | ({"auth": {"type": "api_key", "apiKey": key}} if key else {}))
        )


def new_run_id() -> str:
    return str(generate_new_uuid())


def _event(
    home: Home, run: Run, state: event_v2.RunState, facets: dict[str, RunFacet], seconds: float | None
) -> event_v2.RunEvent:
    from cluster.verbs import VERBS

    namespace = home.settings.lineage.namespace
    target = VERBS[run.verb.split()[0]].target
    digest = hashlib.sha256(home.settings.model_dump_json().encode()).hexdigest()
    parameters = [
        execution_parameters_run.ExecutionParameter(key=k, value=v) for k, v in sorted(run.options.items())
    ]  # fmt: skip
    facets = facets | {
        "processing_engine": processing_engine_run.ProcessingEngineRunFacet(version=code_version(), name="Millwright"),
        "millwright_configuration": ConfigurationRunFacet(
            digest=digest, seconds=None if seconds is None else round(seconds, 3)
        ),
        "executionParameters": execution_parameters_run.ExecutionParametersRunFacet(parameters=parameters),
    }
    if run.parent is not None:
        facets["parent"] = parent_run.ParentRunFacet(
            run=parent_run.Run(runId=run.parent.id), job=parent_run.Job(namespace=namespace, name=run.parent.verb)
        )
    code = source_code_location_job.SourceCodeLocationJobFacet(
        type="pypi", url=f"{_PRODUCER}@{code_version()}#{target}", version=code_version()
    )
    kind = job_type_job.JobTypeJobFacet(processingType="BATCH", integration="MILLWRIGHT", jobType="VERB")
    return event_v2.RunEvent(
        eventTime=datetime.now(UTC).isoformat(timespec="milliseconds"), eventType=state, producer=_PRODUCER,
        run=event_v2.Run(runId=run.id, facets=facets),
        job=event_v2.Job(namespace=namespace, name=run.verb, facets={"sourceCodeLocation": code, "jobType": kind}),
        inputs=[_input(dataset) for dataset in run.inputs.values()],
        outputs=[_output(dataset) for dataset in run.outputs.values()],
    )  # fmt: skip


def _input(dataset: Dataset) -> event_v2.InputDataset:
    counted = _counts(dataset, input_statistics_input_dataset.InputStatisticsInputDatasetFacet)
    return event_v2.InputDataset(
        **_named(dataset), facets=_facets(dataset),
        inputFacets={"inputStatistics": counted} if counted else {},
    )  # fmt: skip


def _output(dataset: Dataset) -> event_v2.OutputDataset:
    counted = _counts(dataset, output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet)
    return event_v2.OutputDataset(
        **_named(dataset), facets=_facets(dataset),
        outputFacets={"outputStatistics": counted} if counted else {},
    )  # fmt: skip


def _named(dataset: Dataset) -> dict[str, str]:
    """OpenLineage's naming: an object's namespace is its bucket, a file's is ``file``."""
    parts = urlsplit(dataset.name)
    if parts.scheme in SCHEMES:
        return {"namespace": f"{parts.scheme}://{parts.netloc}", "name": parts.path.strip("/")}
    return {"namespace": "file", "name": dataset.name}


def _counts(dataset: Dataset, kind: Callable[..., Any]) -> Any:
    if dataset.rows is None and dataset.size_bytes is None:
        return None
    return kind(rowCount=dataset.rows, size=dataset.size_bytes, fileCount=dataset.files)


def _facets(dataset: Dataset) -> dict[str, DatasetFacet]:
    found: dict[str, DatasetFacet] = {
        "datasetType": dataset_type_dataset.DatasetTypeDatasetFacet(datasetType=dataset.kind)
    }
    if dataset.version is not None:
        found["version"] = dataset_version_dataset.DatasetVersionDatasetFacet(datasetVersion=dataset.version)
    if dataset.columns:
        fields = [schema_dataset.SchemaDatasetFacetFields(name=n, type=t) for n, t in dataset.columns]
        found["schema"] = schema_dataset.SchemaDatasetFacet(fields=fields)
    return found


def _harmless(error: BaseException) -> str:
    """What went wrong, without what was found: that may be a value out of a file."""
    cause = getattr(error, "cause", None)
    known = cause if isinstance(cause, MillwrightError) else error
    return known.what if isinstance(known, MillwrightError) else type(known).__name__
