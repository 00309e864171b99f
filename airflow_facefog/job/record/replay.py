"""Replay one image's recorded detections through another policy: what would change, or why the record cannot tell.

The record holds one row per *cluster*: its best box, its number of members, its action and region. What follows from that:

* A cluster of one member is the detection itself. An image whose deciding clusters are all of that kind is decided anew
  by ``core.regions.decide``: exact.
* Of a larger cluster the other members are lost. It stays as it is under a threshold that is not higher (clusters grow from
  the most confident member down, so what comes later changes nothing that came before) and goes when its best member
  falls below. Under a higher threshold its hull may shrink, under other margins its region moves by an unknown hull.
* Below the old ``record_floor``, above a cap or below a detector's own floor nothing was recorded.

A verdict is ``changed`` only for certain, ``unchanged`` only for certain; everything between is ``undecided``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from airflow_facefog.core.policy import FogPolicy, Method, Shape
from airflow_facefog.core.records import Action, Detection
from airflow_facefog.core.regions import Decision, decide, with_fill
from airflow_facefog.job.record.replay_bounds import Counts, Row, best_box, bounded, selected


class Verdict(StrEnum):
    """What another policy means for a published image."""

    CHANGED = "changed"
    UNDECIDED = "undecided"
    UNCHANGED = "unchanged"


class Doubt(StrEnum):
    """Why the record cannot tell (``undecided``), and what beside clusters changes (``output``, ``limits``)."""

    RECORD_FLOOR = "record_floor"
    DETECT_FLOOR = "detect_floor"
    DROPPED = "dropped"
    MEMBERS = "members"
    OUTPUT = "output"
    LIMITS = "limits"
    NO_KEY = "no_key"
    UNKNOWN_CLASS = "unknown_class"
    HUMAN = "human"
    RECORDED_OTHERWISE = "recorded_otherwise"
    ROWS_MISSING = "rows_missing"
    OLD_POLICY = "old_policy"
    NO_RECORD = "no_record"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One image under the new policy. The numbers count clusters that were or would be fogged; with a doubt, at least."""

    newly_fogged: int = 0
    no_longer_fogged: int = 0
    other_method: int = 0
    other_region: int = 0
    unchanged: int = 0
    other_file: bool = False
    doubts: tuple[Doubt, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """Certain changes first."""
        changes = (self.newly_fogged, self.no_longer_fogged, self.other_method, self.other_region, self.other_file)
        if any(changes):
            return Verdict.CHANGED
        return Verdict.UNDECIDED if self.doubts else Verdict.UNCHANGED


def replay(image: Row, rows: Sequence[Row], old: FogPolicy, new: FogPolicy, *, keyed: bool) -> Outcome:
    """Replay the ``facefog_detection`` ``rows`` of a published ``image`` (``facefog_image``) made by ``old`` through ``new``.

    ``keyed``: whether the run had a master key. Detector, key and package are taken to stay what they were.
    """
    if image["n_detections"] != len(rows):
        return Outcome(doubts=(Doubt.ROWS_MISSING,))
    doubts = list(_doubts(image, rows, old, new, keyed))
    other_file = _other_file(image, new) if new.output != old.output else False
    if new.output != old.output and not other_file:
        doubts.append(Doubt.OUTPUT)
    other_file |= image["width"] * image["height"] > new.limits.max_pixels
    deciding = [row for row in rows if row["action"] == Action.FOGGED or selected(row, new)]
    exact = all(row["n_members"] == 1 for row in deciding)
    counts, doubtful = (_exact if exact else bounded)(image, deciding, old, new)
    if doubtful:
        doubts.append(Doubt.RECORDED_OTHERWISE if exact else Doubt.MEMBERS)
    return Outcome(**counts, other_file=other_file, doubts=tuple(doubts))


def _doubts(image: Row, rows: Sequence[Row], old: FogPolicy, new: FogPolicy, keyed: bool) -> Iterator[Doubt]:
    """What the record as a whole cannot tell."""
    lowest = _newly_from(old, new)
    if lowest < old.record_floor:
        yield Doubt.RECORD_FLOOR
    if image["detect_floor"] is not None and lowest < image["detect_floor"]:
        yield Doubt.DETECT_FLOOR
    if image["n_dropped"] and lowest <= _dropped_below(rows, old):
        yield Doubt.DROPPED
    if new.limits.max_bytes < old.limits.max_bytes:
        yield Doubt.LIMITS
    if not keyed and any(rule.method.linkable for rule in (*new.rules.values(), new.other_rule)):
        yield Doubt.NO_KEY
    if any(row["source"] != "model" for row in rows):
        yield Doubt.HUMAN


def _newly_from(old: FogPolicy, new: FogPolicy) -> float:
    """The lowest confidence at which some class is fogged anew; above 1 when none is."""
    unlisted = ""
    found = [2.0]
    for name in {*old.rules, *new.rules, unlisted}:
        was, will = old.rule_for(name), new.rule_for(name)
        if will is not None and (was is None or will.min_confidence < was.min_confidence):
            found.append(will.min_confidence)
    return min(found)


def _dropped_below(rows: Sequence[Row], old: FogPolicy) -> float:
    """No dropped cluster was more confident than this: the cap drops the least confident of those not fogged."""
    if len(rows) < old.max_recorded:
        return old.record_floor
    return min((row["confidence"] for row in rows if row["action"] != Action.FOGGED), default=1.0)


def _other_file(image: Row, new: FogPolicy) -> bool:
    """Whether the output would be another format for certain."""
    from airflow_facefog.publish.layout import output_format

    return new.output.format not in ("source", output_format(image["output_uri"]))


def _detection(row: Row) -> Detection:
    polygon = None if row["polygon"] is None else tuple((x, y) for x, y in json.loads(row["polygon"]))
    box = (row["x1"], row["y1"], row["x2"], row["y2"])
    human = row["source"] == "human"
    return Detection(box, row["confidence"], row["class_name"], 0, polygon, row["detector"], human)


def _exact(image: Row, rows: Sequence[Row], old: FogPolicy, new: FogPolicy) -> tuple[Counts, bool]:
    """Decide the detections themselves under both policies; True: the old decisions are not the recorded ones."""
    seen = [_detection(row) for row in rows]
    size = image["width"], image["height"]
    decided = decide(seen, old, *size, keyed=True)
    was = {_name(d): d for d in (with_fill(decided) if image["refogged"] else decided).fogged}
    recorded = {_row_name(row): row for row in rows if row["action"] == Action.FOGGED}
    if was.keys() != recorded.keys() or any(not _same_record(was[name], row) for name, row in recorded.items()):
        return {}, True
    before = {_name(d): d for d in decided.fogged}
    after = {_name(d): d for d in decide(seen, new, *size, keyed=True).fogged}
    fill = new.fill_color != old.fill_color
    counts: Counts = {
        "newly_fogged": len(after.keys() - before.keys()),
        "no_longer_fogged": len(before.keys() - after.keys()),
    }
    for name in before.keys() & after.keys():
        filled = bool(image["refogged"]) or before[name].method is Method.FILL
        kind = _difference(before[name], after[name], fill and filled)
        counts[kind] = counts.get(kind, 0) + 1
    return counts, False


def _name(decision: Decision) -> tuple[object, ...]:
    return decision.class_name.casefold(), decision.xyxy, decision.confidence, decision.detector


def _row_name(row: Row) -> tuple[object, ...]:
    return row["class_name"].casefold(), best_box(row), row["confidence"], row["detector"]


def _same_record(decision: Decision, row: Row) -> bool:
    region = (row["fx1"], row["fy1"], row["fx2"], row["fy2"])
    return (decision.method, decision.region, decision.params_hash) == (row["method"], region, row["params_hash"])


def _difference(before: Decision, after: Decision, other_fill: bool) -> str:
    if before.method is not after.method or other_fill:
        return "other_method"
    return "unchanged" if _same_mask(before, after) else "other_region"


def _same_mask(before: Decision, after: Decision) -> bool:
    if before.region != after.region:
        return False
    if before.shape is after.shape is Shape.BOX:
        return True
    from airflow_facefog.core.fog.masks import mask_of

    return bool((mask_of(before).grid == mask_of(after).grid).all())
