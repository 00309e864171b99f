"""What Dag parsing refuses and what it makes: no run, no database."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG, Asset, AssetAlias, task
from airflow.serialization.serialized_objects import DagSerialization

from airflow_facefog.core.errors import ConfigurationError, FogError, PolicyError
from airflow_facefog.core.policy import FogPolicy
from airflow_facefog.operators import FogImagesOperator
from airflow_facefog.operators.border import FogRetryPolicy
from airflow_facefog.task_groups import fog_images

PLACES: dict[str, Any] = {"source": "/lake/raw", "destination": "/lake/clean", "audit": "/lake/audit"}


def _group(**kwargs: Any) -> tuple[DAG, Any]:
    with DAG("parsed", schedule=None) as dag:
        group = fog_images(**{**PLACES, **kwargs})
    return dag, group


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        ({"policy": {"ruels": {}}}, PolicyError, "unknown setting 'ruels'"),
        ({"policy": {"rules": {"plate": {"method": "blur"}}}}, PolicyError, "readable"),
        ({"policy": "no_such_policy.yaml"}, PolicyError, "not beside the Dag"),
        ({"policy": "/etc/policy.yaml"}, PolicyError, "relative to the Dag"),
        ({"policy": "policy.toml"}, PolicyError, "not a .yaml"),
        ({"detector": "teapot"}, ConfigurationError, "unknown detector"),
        ({"detector": None}, ConfigurationError, "no detector configured"),
        ({"source": "s3://key:secret@bucket/raw"}, ConfigurationError, "credentials"),
        ({"destination": "simplecache::s3://bucket/clean"}, ConfigurationError, "chained"),
        ({"audit": " "}, ConfigurationError, "empty"),
        ({"source": "photos/raw"}, ConfigurationError, "relative"),
        ({"destination": "file://photos/clean"}, ConfigurationError, "relative"),
        ({"audit": "file://conn@/audit"}, ConfigurationError, "relative"),
    ],
)
def test_known_mistakes_break_the_dag_import(wrong: dict[str, Any], error: type[FogError], says: str) -> None:
    """A mistake that no template can heal shows in the Dag list, before any run; credentials never reach the database."""
    with pytest.raises(error, match=says) as caught:
        _group(**wrong)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "policy",
    [
        {"rules": {"face": {"min_confidence": "{{ params.threshold }}"}}},
        {"ruels": "{% if x %}y{% endif %}"},
        FogPolicy(name="{{ not a template }}"),
        None,
    ],
)
def test_templated_policies_wait_for_the_run(policy: Any) -> None:
    """What holds Jinja is judged after rendering; a FogPolicy has judged itself."""
    _group(policy=policy)


def test_policy_file_is_found_beside_the_dag_and_checked(tmp_path: Path) -> None:
    """The file is looked for where Airflow's templates are, and a wrong setting in it breaks the import."""
    (tmp_path / "good.yaml").write_text("rules: {face: {method: fill}}")
    (tmp_path / "bad.yaml").write_text("rules: {face: {method: smear}}")
    with DAG("searching", schedule=None, template_searchpath=[str(tmp_path)]):
        fog_images("good", **PLACES, policy="good.yaml")
        with pytest.raises(PolicyError, match="method"):
            fog_images("bad", **PLACES, policy="bad.yaml")


def test_policy_after_rendering_is_validated() -> None:
    """The text of a rendered file that is no YAML, or a wrong policy, is a PolicyError that quotes nothing."""
    from airflow_facefog.operators.policies import rendered_policy

    assert rendered_policy("rules: {face: {min_confidence: 0.3}}").rules["face"].min_confidence == 0.3
    with pytest.raises(PolicyError, match="line 2"):
        rendered_policy("rules:\n  - [")
    with pytest.raises(PolicyError, match="mapping of settings"):
        rendered_policy("just text")


@pytest.mark.parametrize("staged", [False, True])
def test_every_task_retries(staged: bool) -> None:
    """Airflow's default is no retry, and a default in __init__ does not reach mapped tasks: each gets it explicitly."""
    dag, _ = _group(staged=staged, retries=4, retry_delay=timedelta(seconds=7))
    assert len(dag.tasks) == (4 if staged else 3)
    for each in dag.tasks:
        assert each.retries == 4
        assert each.retry_delay == timedelta(seconds=7)
        assert isinstance(_of(each, "retry_policy"), FogRetryPolicy)


def _of(task: Any, name: str) -> Any:
    return task.partial_kwargs[name] if hasattr(task, "partial_kwargs") else getattr(task, name)


@pytest.mark.parametrize("staged", [False, True])
def test_batches_are_bounded_and_named_by_number(staged: bool) -> None:
    """One batch of a run at a time, in the given pool; the label in the UI holds no name of an image."""
    dag, _ = _group(staged=staged, pool="cpu", publish_pool="one")
    batches = [task for task in dag.tasks if task.task_id.rpartition(".")[2] in ("fog", "detect")]
    assert len(batches) == (2 if staged else 1)
    assert dag.get_task("fog_images.publish").pool == "one"
    for each in batches:
        assert _of(each, "pool") == "cpu"
        assert _of(each, "max_active_tis_per_dagrun") == 1
        assert _of(each, "map_index_template") == "batch {{ ti.map_index }}"


@pytest.mark.parametrize("staged", [False, True])
def test_publish_is_the_only_leaf_and_runs_whatever_batches_do(staged: bool) -> None:
    """The gate decides the run: it sees failed batches, and nothing after it can hide that it failed."""
    dag, group = _group(staged=staged)
    assert [leaf.task_id for leaf in dag.leaves] == ["fog_images.publish"]
    publish = dag.get_task("fog_images.publish")
    assert publish.trigger_rule == "all_done_min_one_success"
    assert "fog_images.list_images" in publish.upstream_task_ids
    assert any(name.endswith("fog") for name in publish.upstream_task_ids)
    assert group.output.operator.task_id == "fog_images.publish"


@pytest.mark.parametrize(
    ("audit", "given", "conn_id"),
    [
        ("s3://lake_audit@bucket/audit", None, "lake_audit"),
        ("s3://lake_audit@bucket/{{ ds }}", None, "lake_audit"),
        ("s3://bucket/audit", None, None),
        ("{{ var.value.audit }}", "lake_audit", "lake_audit"),
        ("/lake/me@home/audit", None, None),
    ],
)
def test_batches_know_the_audit_connection(audit: str, given: str | None, conn_id: str | None) -> None:
    """URIs in XCom name no connection, so the factory hands its name to every task that opens the audit."""
    dag, _ = _group(audit=audit, audit_conn_id=given)
    for name in ("fog", "publish"):
        task = dag.get_task(f"fog_images.{name}")
        assert _of(task, "audit_conn_id") == conn_id


def test_outlets_are_on_publish_alone() -> None:
    """An event means "published": no other task may announce the asset."""
    dag, _ = _group(outlets=[Asset("clean")], asset_alias="clean_of_the_day")
    announcing = {task.task_id: [o.name for o in _of(task, "outlets")] for task in dag.tasks if _has_outlets(task)}
    assert announcing == {"fog_images.publish": ["clean", "clean_of_the_day"]}
    assert isinstance(dag.get_task("fog_images.publish").outlets[1], AssetAlias)


def test_places_may_be_paths() -> None:
    """A ``Path`` is what it says."""
    dag, _ = _group(source=Path("/lake/raw"), audit=Path("/lake/audit"))
    assert set(dag.task_ids) == {"fog_images.list_images", "fog_images.fog", "fog_images.publish"}


def test_one_outlet_needs_no_list() -> None:
    """A single asset is meant as it is written."""
    dag, _ = _group(outlets=Asset("clean"))
    assert dag.get_task("fog_images.publish").outlets == [Asset("clean")]


def test_task_fog_survives_serialisation() -> None:
    """The decorated task keeps its retries in the scheduler's view of the Dag, also when it is mapped."""
    with DAG("decorated", schedule=None) as dag:

        @task.fog(destination="/lake/clean", audit="/lake/audit")
        def named(folder: str) -> list[str]:
            return [folder]

        named("/lake/raw/a.jpg")
        named.override(task_id="mapped").expand(folder=["/lake/raw/a.jpg"])
    back = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(dag))
    assert [back.get_task(name).retries for name in ("named", "mapped")] == [2, 2]


def _has_outlets(task: Any) -> bool:
    return bool(task.partial_kwargs.get("outlets") if hasattr(task, "partial_kwargs") else task.outlets)


@pytest.mark.parametrize("staged", [False, True])
def test_dag_survives_serialisation(staged: bool) -> None:
    """The scheduler sees the serialised Dag: same tasks, edges, mapping and retries."""
    dag, _ = _group(staged=staged, policy=FogPolicy(name="p"), outlets=[Asset("clean")])
    back = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(dag))
    assert set(back.task_ids) == set(dag.task_ids)
    for each in dag.tasks:
        assert back.get_task(each.task_id).downstream_task_ids == each.downstream_task_ids
        assert back.get_task(each.task_id).retries == each.retries == 2


def test_serialised_dag_is_stable() -> None:
    """Parsing twice gives the same bytes, or every parse would make a new Dag version."""
    texts = {json.dumps(DagSerialization.to_dict(_group(policy=FogPolicy())[0]), sort_keys=True) for _ in range(2)}
    assert len(texts) == 1


def test_mapped_instance_keeps_its_retries() -> None:
    """What a worker runs is the unmapped operator: it must carry the retries of the partial."""
    dag, _ = _group(retries=3)
    mapped = dag.get_task("fog_images.fog")
    operator = mapped.unmap({"plan": "p", "batch": "b", "n": 1})
    assert isinstance(operator, FogImagesOperator)
    assert operator.retries == 3
    assert isinstance(operator.retry_policy, FogRetryPolicy)
