"""Facts as OpenLineage objects. Imports the client at module level: import it only where the provider is known to be.

Names follow the OpenLineage naming conventions (``file`` + path, ``s3://bucket`` + key). Our own run facet is
``facefog_anonymisation``; its schema is ``facefog_anonymisation.schema.json`` beside this file.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import attr
from airflow.providers.openlineage.extractors import OperatorLineage
from openlineage.client.event_v2 import InputDataset, OutputDataset
from openlineage.client.facet_v2 import (
    RunFacet,
    column_lineage_dataset,
    data_quality_assertions_dataset,
    dataset_version_dataset,
    input_statistics_input_dataset,
    output_statistics_output_dataset,
)

from airflow_facefog import __version__
from airflow_facefog.operators.lineage import Facts
from airflow_facefog.publish.dataset import DEFAULT

PRODUCER = f"urn:airflow-facefog:{__version__}"
SCHEMA = "urn:airflow-facefog:openlineage:1-0-0:FacefogAnonymisationRunFacet.json#/$defs/FacefogAnonymisationRunFacet"
RUN_FACET = "facefog_anonymisation"


@attr.define
class FacefogAnonymisationRunFacet(RunFacet):
    """What made the run's images what they are, and which seal says so. Hashes and counts only."""

    policyHash: str  # noqa: N815  the spec wants camelCase
    recipeHash: str  # noqa: N815
    modelSha256: str  # noqa: N815
    counts: dict[str, int]
    manifestSha256: str  # noqa: N815
    chainHead: str  # noqa: N815
    signed: bool

    @staticmethod
    def _get_schema() -> str:
        return SCHEMA


def operator_lineage(facts: Facts) -> OperatorLineage[Any, Any]:
    """The source root in, the dataset out, and our run facet."""
    return OperatorLineage(
        inputs=[_source(facts)],
        outputs=[_clean(facts)],
        run_facets={
            RUN_FACET: FacefogAnonymisationRunFacet(
                policyHash=facts.policy_hash, recipeHash=facts.recipe_hash, modelSha256=facts.model_sha256,
                counts=dict(facts.counts), manifestSha256=facts.manifest_sha256, chainHead=facts.chain_head,
                signed=facts.signed, producer=PRODUCER,
            )
        },
    )  # fmt: skip


def dataset_name(uri: str) -> tuple[str, str]:
    """(namespace, name) of a place: ``file`` and the path, else ``scheme://authority`` and the key (``/``: all of it)."""
    parts = urlsplit(uri)
    if parts.scheme == "file":
        return "file", parts.path or "/"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}", parts.path.strip("/") or "/"


def _source(facts: Facts) -> InputDataset:
    namespace, name = dataset_name(facts.source)
    listed = facts.counts["listed"]
    return InputDataset(
        namespace=namespace,
        name=name,
        inputFacets={
            "inputStatistics": input_statistics_input_dataset.InputStatisticsInputDatasetFacet(
                rowCount=listed, fileCount=listed, producer=PRODUCER
            ),
            "dataQualityAssertions": data_quality_assertions_dataset.DataQualityAssertionsDatasetFacet(
                assertions=_assertions(facts), producer=PRODUCER
            ),
        },
    )


def _assertions(facts: Facts) -> list[data_quality_assertions_dataset.Assertion]:
    """What the gate held before anything was sealed: a run that breaks one of them emits no lineage at all."""
    counts = facts.counts
    bad = counts["quarantined"] + counts["failed"]
    share = bad / counts["listed"] if counts["listed"] else 0.0
    ends = sum(counts[name] for name in ("published", "quarantined", "failed", "skipped"))
    return [
        _assertion("every_listed_image_has_one_status", ends == counts["listed"], counts["listed"], ends),
        _assertion("quarantined_share_within_limit", share <= facts.max_quarantined, facts.max_quarantined, share),
    ]


def _assertion(name: str, success: bool, expected: float, actual: float) -> data_quality_assertions_dataset.Assertion:
    return data_quality_assertions_dataset.Assertion(
        assertion=name, success=success, severity="error", expected=str(expected), actual=str(actual)
    )


def _clean(facts: Facts) -> OutputDataset:
    namespace, name = dataset_name(facts.destination)
    own = "" if facts.dataset == DEFAULT else f"/_facefog/datasets/{facts.dataset}"
    statistics = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(
        rowCount=facts.counts["published"], size=facts.bytes, fileCount=facts.objects, producer=PRODUCER
    )
    version = dataset_version_dataset.DatasetVersionDatasetFacet(
        datasetVersion=str(facts.snapshot_seq or 0), producer=PRODUCER
    )
    return OutputDataset(
        namespace=namespace,
        name=name.rstrip("/") + own or "/",
        facets={"columnLineage": _column_lineage(facts), "version": version},
        outputFacets={"outputStatistics": statistics},
    )


def _column_lineage(facts: Facts) -> column_lineage_dataset.ColumnLineageDatasetFacet:
    """The pixels come from the source's pixels; fogging masks what the policy selects of what was detected."""
    namespace, name = dataset_name(facts.source)
    fogging = column_lineage_dataset.Transformation(
        type="DIRECT", subtype="TRANSFORMATION", masking=True,
        description="recorded detections that the policy selects are covered; all metadata is removed",
    )  # fmt: skip
    image = column_lineage_dataset.InputField(namespace=namespace, name=name, field="image", transformations=[fogging])
    return column_lineage_dataset.ColumnLineageDatasetFacet(
        fields={"image": column_lineage_dataset.Fields(inputFields=[image])}, producer=PRODUCER
    )
