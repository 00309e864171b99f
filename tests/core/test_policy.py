"""The policy: what is refused, with which advice; what changes its hash and what does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from airflow_facefog.core.errors import PolicyError
from airflow_facefog.core.policy import Family, FogPolicy, Method, class_family, load_policy, recipe_hash


@pytest.mark.parametrize(
    ("policy", "advice"),
    [
        ({"rule": {}}, "unknown setting 'rule'; valid here: accept_high_threshold"),
        ({"rules": {"face": {"mehod": "fog"}}}, "valid here: margin, method, min_confidence, shape"),
        ({"rules": {"face": {"margin": {"left": 1}}}}, "valid here: bottom, sides, top"),
        ({"limits": {"max_mp": 3}}, "valid here: max_bytes, max_pixels"),
        ({"output": {"fmt": "png"}}, "valid here: format, quality"),
        ({"rules": {"face": {"method": "blur"}}}, "accept_linkable: true"),
        ({"rules": {"face": {"method": "pixelate"}}}, "accept_linkable: true"),
        ({"rules": {"plate": {"method": "pixelate"}}, "accept_linkable": True}, "use fog or fill"),
        ({"rules": {"id_card": {"method": "blur"}}, "accept_linkable": True}, "use fog or fill"),
        ({"rules": {"person": {"method": "blur"}}, "accept_linkable": True}, "use fog or fill"),
        ({"other_rule": {"method": "blur"}, "accept_linkable": True}, "use fog or fill"),
        (
            {"rules": {"face": {"method": "blur"}}, "accept_linkable": True, "frame_sequence": True},
            "averaging frames",
        ),
        ({"rules": {"face": {"margin": {"sides": 0}}}}, "accept_small_margins: true"),
        ({"rules": {"face": {"margin": {"top": 0.34}}}}, "top 0.35"),
        ({"rules": {"maskedFace": {"margin": {"bottom": 0.2}}}}, "bottom 0.25"),
        ({"rules": {"plate": {"margin": {"bottom": 0.1}}}}, "bottom 0.15"),
        ({"other_rule": {"margin": {"sides": 0.19}}}, "rule 'other_rule': margin .*sides 0.2"),
        ({"rules": {"face": {"min_confidence": 0.9}}}, "accept_high_threshold: true"),
        ({"rules": {"face": {"min_confidence": 0.05}}}, "record_floor: 0.05"),
        ({"rules": {"Face": {}, "face": {}}}, "casefolded"),
        ({"output": {"quality": 20}}, "greater than or equal to 50"),
        ({"rules": {"face": {"min_confidence": float("nan")}}}, "finite"),
        ({"other_classes": "skip"}, "'fog' or 'ignore'"),
        (["face"], "not a list"),
    ],
)
def test_unsafe_and_misspelt_settings_are_refused_with_advice(policy: Any, advice: str) -> None:
    """Each refusal says what would be right."""
    with pytest.raises(PolicyError, match="(?s)" + advice.replace("(", r"\(")):
        load_policy(policy)


def test_refusals_do_not_echo_what_was_written() -> None:
    """A secret pasted into the wrong field does not come back in the error."""
    with pytest.raises(PolicyError) as caught:
        load_policy({"output": {"quality": "hunter2hunter2"}, "hunter3": 1, "max_quarantined": "hunter2hunter2"})
    assert "hunter2" not in str(caught.value)


def test_yaml_files_are_read_and_their_mistakes_located(tmp_path: Path) -> None:
    """A policy file works; a broken one names the line; a missing one says so."""
    good = tmp_path / "policy.yaml"
    good.write_text("name: street\nrules:\n  Face: {method: fill}\nother_classes: ignore\n")
    policy = load_policy(good)
    assert policy.rules["face"].method is Method.FILL
    good.write_text("name: [\n")
    with pytest.raises(PolicyError, match="not valid YAML near line"):
        load_policy(str(good))
    with pytest.raises(PolicyError, match="cannot be read"):
        load_policy(tmp_path / "none.yaml")


def test_a_policy_is_frozen() -> None:
    """What was validated cannot be changed afterwards."""
    with pytest.raises(ValidationError):
        FogPolicy().record_floor = 0.9  # type: ignore[misc]


@pytest.mark.parametrize(
    "change",
    [
        {"name": "another"}, {"allow_remote_inference": True}, {"max_quarantined": 0.9}, {"require_key": True},
        {"accept_high_threshold": True}, {"accept_small_margins": True}, {"accept_no_canary": True}, {"on_bad_image": "fail"},
        {"record_pixel_id": True},
    ],
)  # fmt: skip
def test_what_decides_no_pixel_leaves_the_hash(change: dict[str, Any]) -> None:
    """Names, gate limits and permissions redo no work."""
    assert load_policy(change).policy_hash() == FogPolicy().policy_hash()


@pytest.mark.parametrize(
    "change",
    [
        {"rules": {"face": {"min_confidence": 0.3}}}, {"rules": {"face": {"method": "fill"}}}, {"rules": {}},
        {"rules": {"face": {"shape": "ellipse"}}}, {"rules": {"face": {"margin": {"top": 0.5}}}},
        {"other_classes": "ignore"}, {"other_rule": {"method": "fill"}}, {"fill_color": [0, 0, 0]},
        {"record_floor": 0.2}, {"output": {"quality": 90}}, {"limits": {"max_pixels": 5}}, {"max_recorded": 5},
    ],
)  # fmt: skip
def test_what_decides_pixels_or_rows_changes_the_hash(change: dict[str, Any]) -> None:
    """Another decision is another recipe."""
    assert load_policy(change).policy_hash() != FogPolicy().policy_hash()


def test_a_policy_survives_its_own_json() -> None:
    """The frozen policy in a plan is the same policy."""
    policy = load_policy(
        {"rules": {"Plate": {"min_confidence": 0.4, "margin": {"sides": 0.5}}}, "other_classes": "ignore"}
    )
    again = load_policy(policy.canonical())
    assert again == policy
    assert again.policy_hash() == policy.policy_hash()


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("license_plate", Family.PLATE), ("License-Plate", Family.PLATE), ("LP", Family.PLATE), ("FACE_FEMALE", Family.FACE),
        ("head", Family.FACE), ("text region", Family.TEXT), ("signature", Family.TEXT), ("person", Family.OTHER),
        ("help", Family.OTHER), ("maskedFace", Family.FACE), ("face1", Family.FACE), ("FACEFront", Family.FACE),
        ("two faces", Family.FACE), ("surface", Family.OTHER), ("interface", Family.OTHER), ("typeface", Family.OTHER),
        ("license", Family.PLATE), ("licence", Family.PLATE), ("registration", Family.PLATE), ("vehicle-number", Family.PLATE),
        ("vehicleNumber", Family.PLATE), ("number_plate", Family.PLATE), ("Nummernschild", Family.PLATE),
        ("KFZ-Kennzeichen", Family.PLATE), ("lp_front", Family.PLATE), ("license_holder_face", Family.FACE),
    ],
)  # fmt: skip
def test_class_families(name: str, family: Family) -> None:
    """Class names as models write them find their family."""
    assert class_family(name) is family


@pytest.mark.parametrize(
    ("margin", "name", "effective"),
    [
        (None, "face", (0.2, 0.35, 0.25)), ({"sides": 0.3}, "face", (0.3, 0.35, 0.25)), ({}, "plate", (0.1, 0.15, 0.15)),
        ({"top": 0.5, "bottom": 0.6}, "dog", (0.2, 0.5, 0.6)), ({"sides": 0.3}, "license_plate", (0.3, 0.15, 0.15)),
    ],
)  # fmt: skip
def test_margins_not_given_are_those_of_the_kind_of_class(
    margin: dict[str, float] | None, name: str, effective: tuple[float, ...]
) -> None:
    """Raising one side leaves the others where they were, also after a round through a plan."""
    policy = load_policy({"rules": {name: {"margin": margin}}})
    for same in (policy, load_policy(policy.canonical())):
        assert same.rules[name].margin_for(name) == effective


def test_small_margins_can_be_accepted() -> None:
    """With the line they are used as written."""
    none = {"sides": 0, "top": 0, "bottom": 0}
    policy = load_policy({"rules": {"face": {"margin": none}}, "accept_small_margins": True})
    assert policy.rules["face"].margin_for("face") == (0, 0, 0)
    assert policy.policy_hash() != FogPolicy().policy_hash()


@given(st.text(max_size=20))
def test_no_class_is_forgotten(name: str) -> None:
    """Under the default policy every class name whatsoever has a rule."""
    assert FogPolicy().rule_for(name) is not None


def test_unlisted_classes_can_be_ignored_only_by_writing_it() -> None:
    """``other_classes: ignore`` leaves exactly the unlisted ones without a rule."""
    policy = load_policy({"rules": {"face": {}}, "other_classes": "ignore"})
    assert policy.rule_for("FACE") is not None
    assert policy.rule_for("plate") is None


def test_the_schema_names_every_setting() -> None:
    """The exported JSON schema is the policy's own."""
    assert set(FogPolicy.model_json_schema()["properties"]) == set(FogPolicy.model_fields)


def test_every_part_of_a_recipe_counts() -> None:
    """Policy, model, key and fog version each change the recipe; shifting text between them does too."""
    base = ("p", "m", "k", "1")
    hashes = {recipe_hash(*base)}
    hashes |= {recipe_hash(*(part + "x" if i == j else part for j, part in enumerate(base))) for i in range(4)}
    assert len(hashes) == 5
    assert recipe_hash("ab", "c", "k", "1") != recipe_hash("a", "bc", "k", "1")
