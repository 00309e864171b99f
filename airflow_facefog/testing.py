"""Contract tests for extensions: subclass one in your own test suite and give its fixtures.

    class TestMyDetector(DetectorContract):
        @pytest.fixture
        def detector(self):
            return MyDetector()

pytest and numpy load inside the tests, so importing this module costs nothing. Each contract stands on its own: the
detector's is below, those of other protocols follow it.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from airflow_facefog.core.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from airflow_facefog.audit.sql import SqlSink
    from airflow_facefog.core.detector import Detector
    from airflow_facefog.core.records import Detection

# --- Detector ----------------------------------------------------------------------------------------------------------

FLOOR = 0.10


def contract_pictures() -> dict[str, Any]:
    """Small pictures (h, w, 3) uint8 BGR, read-only, that every detector must answer or refuse without crashing."""
    import numpy as np

    from airflow_facefog.detectors.canary import bundled

    rng = np.random.default_rng(20261123)
    portrait = bundled().picture
    pictures = {
        "portrait": portrait,
        "gray": np.repeat(portrait.mean(axis=2, keepdims=True).astype(np.uint8), 3, axis=2),
        "noise": rng.integers(0, 256, (90, 160, 3), np.uint8),
        "flat": np.full((64, 48, 3), 128, np.uint8),
        "one pixel": np.zeros((1, 1, 3), np.uint8),
        "strip": np.tile(portrait[:16], (1, 8, 1)),
        "line": rng.integers(0, 256, (1, 500, 3), np.uint8),
    }
    for picture in pictures.values():
        picture.setflags(write=False)
    return pictures


def ask(detector: Detector, picture: Any, floor: float = FLOOR) -> Sequence[Detection] | str:
    """Return the detector's answer as a list, or why it refused this picture."""
    try:
        return list(detector.detect(picture, floor))
    except ImageError as error:
        return f"refused: {error.reason}"


class DetectorContract:
    """What every detector must hold. Subclass it and define a fixture ``detector``."""

    def test_same_pixels_same_answer(self, detector: Detector) -> None:
        """A retry must publish the same bytes, so a detector answers the same pixels in the same way and order."""
        for name, picture in contract_pictures().items():
            assert ask(detector, picture) == ask(detector, picture.copy()), name

    def test_threads_get_the_same_answers(self, detector: Detector) -> None:
        """Eight threads share one detector and each gets the answer that one caller gets."""
        pictures = list(contract_pictures().values())
        alone = [ask(detector, picture) for picture in pictures]
        with ThreadPoolExecutor(8) as pool:
            together = list(pool.map(lambda picture: ask(detector, picture), pictures * 3))
        assert together == alone * 3

    def test_boxes_lie_on_the_grid_inside_the_frame(self, detector: Detector) -> None:
        """Boxes are on the 1/64-px grid and within the picture, polygons too."""
        for name, picture in contract_pictures().items():
            height, width = picture.shape[:2]
            for detection in _answers(detector, picture):
                x1, y1, x2, y2 = detection.xyxy
                assert detection == detection.on_grid(), name
                assert x1 >= 0, name
                assert y1 >= 0, name
                assert x2 <= width, name
                assert y2 <= height, name

    def test_floor_is_respected_and_hides_nothing_else(self, detector: Detector) -> None:
        """A higher floor gives exactly the detections of a lower floor that reach it."""
        for name, picture in contract_pictures().items():
            low, high = _answers(detector, picture, FLOOR), _answers(detector, picture, 0.5)
            assert all(detection.confidence >= FLOOR for detection in low), name
            assert high == [detection for detection in low if detection.confidence >= 0.5], name

    def test_only_its_own_classes(self, detector: Detector) -> None:
        """A detector that lists its classes emits no other: the policy check at plan time relies on it."""
        classes = detector.info.classes
        for picture in contract_pictures().values():
            found = {detection.class_name for detection in _answers(detector, picture)}
            assert classes is None or found <= set(classes)

    def test_info_is_complete_and_stable(self, detector: Detector) -> None:
        """Identity does not change by looking at pictures, and its fingerprint is not empty."""
        before = detector.info
        ask(detector, contract_pictures()["portrait"])
        assert detector.info == before
        assert before.name
        assert before.fingerprint

    def test_the_picture_is_left_alone(self, detector: Detector) -> None:
        """Pixels are read only: a detector draws nothing into the picture that is fogged later."""
        picture = contract_pictures()["portrait"].copy()
        before = picture.copy()
        ask(detector, picture)
        assert (picture == before).all()


def _answers(detector: Detector, picture: Any, floor: float = FLOOR) -> list[Detection]:
    answer = ask(detector, picture, floor)
    return [] if isinstance(answer, str) else list(answer)


# --- Audit sink --------------------------------------------------------------------------------------------------------


def contract_run(
    run_key: str = "contract", images: int = 2, **changes: Any
) -> tuple[dict[str, Any], list[Any], list[Any]]:
    """A final run as ``write_run`` takes it: run row, image rows, and one detection row for each image."""
    from airflow_facefog.audit.schema import DETECTION, IMAGE, RUN

    samples = {
        "text": "t",
        "json": "{}",
        "timestamp": "2026-01-01T00:00:00+00:00",
        "integer": 1,
        "flag": 1,
        "float": 0.5,
    }
    key = {"run_key": run_key, "generation": 0}

    def row(columns: Sequence[Any], **own: Any) -> dict[str, Any]:
        return {column.name: samples[column.type] for column in columns} | key | own

    run = row(RUN.columns, status="final", manifest_sha256="m1") | changes
    image_rows = [row(IMAGE.columns, source_ref=f"s{n}") for n in range(images)]
    return run, image_rows, [row(DETECTION.columns, source_ref=f"s{n}", det_idx=0) for n in range(images)]


class AuditSinkContract:
    """What every place must hold that takes runs as ``SqlSink.write_run`` does.

    Define fixtures ``sink`` (empty) and ``read_rows`` (table name → list of row mappings).
    """

    def test_a_run_arrives_whole(self, sink: SqlSink, read_rows: Callable[[str], Sequence[Mapping[str, Any]]]) -> None:
        """Every value of every row is there, and the write says that it wrote."""
        run, images, detections = contract_run()
        assert sink.write_run(run, images, detections) is True
        assert [dict(row) for row in read_rows("facefog_run")] == [run]
        assert sorted((dict(row) for row in read_rows("facefog_image")), key=_by_source) == images
        assert sorted((dict(row) for row in read_rows("facefog_detection")), key=_by_source) == detections

    def test_the_first_writer_of_a_sealed_run_stays(
        self, sink: SqlSink, read_rows: Callable[[str], Sequence[Mapping[str, Any]]]
    ) -> None:
        """Writing a sealed run again changes nothing and says so; neither does a late failure of the same run."""
        run, images, detections = contract_run()
        sink.write_run(run, images, detections)
        assert sink.write_run(run, images[:1], []) is False
        assert sink.write_run({**run, "status": "failed", "manifest_sha256": None}, [], []) is False
        assert len(read_rows("facefog_image")) == len(images)
        assert [row["status"] for row in read_rows("facefog_run")] == ["final"]

    def test_a_failed_run_gives_way(
        self, sink: SqlSink, read_rows: Callable[[str], Sequence[Mapping[str, Any]]]
    ) -> None:
        """The row that a failed gate left is replaced when the run is finalised."""
        run, images, detections = contract_run()
        sink.write_run({**run, "status": "failed", "manifest_sha256": None}, [], [])
        assert sink.write_run(run, images, detections) is True
        assert [row["status"] for row in read_rows("facefog_run")] == ["final"]

    def test_all_or_nothing(self, sink: SqlSink, read_rows: Callable[[str], Sequence[Mapping[str, Any]]]) -> None:
        """A row that cannot be written leaves nothing of its run behind, and other runs as they were."""
        sink.write_run(*contract_run("before"))
        run, images, detections = contract_run("broken")
        refused = False
        try:
            sink.write_run(run, [*images, {**images[0], "source_ref": None}], detections)
        except Exception:
            refused = True
        assert refused
        assert {row["run_key"] for name in ("facefog_run", "facefog_image") for row in read_rows(name)} == {"before"}


def _by_source(row: Mapping[str, Any]) -> str:
    return str(row["source_ref"])
