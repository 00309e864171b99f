"""Questions about detections: what was seen, what was fogged, and whether anything slipped through."""

from __future__ import annotations

from airflow_facefog.audit.questions.view import view

DETECTIONS = (
    view(
        "decisions",
        "Which model and threshold decided about an image, and what was done to each detection?",
        "image_id source_ref run_key generation det_idx detector model_id model_version policy_hash class_name confidence "
        "threshold action reason method irreversible source x1 y1 x2 y2 fx1 fy1 fx2 fy2",
        """
select d.image_id, d.source_ref, d.run_key, d.generation, d.det_idx, d.detector, r.model_id, r.model_version, r.policy_hash,
 d.class_name, d.confidence, d.threshold, d.action, d.reason, d.method, d.irreversible, d.source, d.x1, d.y1, d.x2, d.y2,
 d.fx1, d.fy1, d.fx2, d.fy2
from facefog_detection d join facefog_run r on r.run_key = d.run_key and r.generation = d.generation
""",
    ),
    view(
        "published_unfogged",
        "Which detections of published images were left visible, and by which decision?",
        "run_key generation source_ref image_id det_idx class_name confidence threshold action output_uri",
        """
select i.run_key, i.generation, i.source_ref, i.image_id, d.det_idx, d.class_name, d.confidence, d.threshold, d.action,
 i.output_uri
from facefog_image i join facefog_detection d on d.run_key = i.run_key and d.generation = i.generation
 and d.source_ref = i.source_ref
where i.status = 'published' and d.action <> 'fogged'
""",
    ),
    view(
        "leaks",
        "Which detections of published images should have been fogged and, by their own row, were not? Must be empty.",
        "run_key generation source_ref image_id det_idx class_name confidence threshold action problem",
        """
select q.run_key, q.generation, q.source_ref, q.image_id, q.det_idx, q.class_name, q.confidence, q.threshold, q.action, q.problem
from (
 select i.run_key, i.generation, i.source_ref, i.image_id, d.det_idx, d.class_name, d.confidence, d.threshold, d.action, case
  when d.action not in ('fogged', 'below_threshold', 'class_ignored') then 'unknown_action'
  when d.action = 'below_threshold' and d.confidence >= d.threshold then 'above_threshold_not_fogged'
  when d.action <> 'fogged' then null
  when d.fx1 is null or d.fy1 is null or d.fx2 is null or d.fy2 is null or d.method is null then 'fogged_without_region'
  when d.fx2 <= d.fx1 or d.fy2 <= d.fy1 then 'region_is_empty'
  when d.fx1 < 0 or d.fy1 < 0 or d.fx2 > i.width or d.fy2 > i.height then 'region_outside_image'
  when d.polygon is null and ((d.x1 >= 0 and d.fx1 > d.x1) or (d.y1 >= 0 and d.fy1 > d.y1)
   or (d.x2 <= i.width and d.fx2 < d.x2) or (d.y2 <= i.height and d.fy2 < d.y2)) then 'region_misses_box' end as problem
 from facefog_image i join facefog_detection d on d.run_key = i.run_key and d.generation = i.generation
  and d.source_ref = i.source_ref
 where i.status = 'published'
) q where q.problem is not null
""",
    ),
    view(
        "near_threshold",
        "Which detections were decided within 0.05 of the threshold?",
        "run_key generation source_ref image_id det_idx class_name confidence threshold action",
        """
select run_key, generation, source_ref, image_id, det_idx, class_name, confidence, threshold, action
from facefog_detection where confidence >= threshold - 0.05 and confidence <= threshold + 0.05
""",
    ),
    view(
        "lowest_confidence",
        "How sure was the detector of the weakest region that it made us fog, for each published image?",
        "run_key generation source_ref image_id lowest_confidence threshold fogged",
        """
select i.run_key, i.generation, i.source_ref, i.image_id, min(d.confidence) as lowest_confidence,
 min(d.threshold) as threshold, count(*) as fogged
from facefog_image i join facefog_detection d on d.run_key = i.run_key and d.generation = i.generation
 and d.source_ref = i.source_ref
where i.status = 'published' and d.action = 'fogged'
group by i.run_key, i.generation, i.source_ref, i.image_id
""",
    ),
    view(
        "detector_stats",
        "How often did each detector see each class, how sure was it, and how much of that was fogged?",
        "policy_name policy_hash model_id model_version detector class_name detections avg_confidence fogged fogged_ratio",
        """
select r.policy_name, r.policy_hash, r.model_id, r.model_version, d.detector, d.class_name, count(*) as detections,
 avg(d.confidence) as avg_confidence, sum(case when d.action = 'fogged' then 1 else 0 end) as fogged,
 cast(sum(case when d.action = 'fogged' then 1 else 0 end) as double precision) / count(*) as fogged_ratio
from facefog_detection d join facefog_run r on r.run_key = d.run_key and r.generation = d.generation
group by r.policy_name, r.policy_hash, r.model_id, r.model_version, d.detector, d.class_name
""",
    ),
    view(
        "methods",
        "Which methods fogged how many regions in each run? `irreversible` 0: the covered pixels can be linked to the source.",
        "run_key generation method irreversible reason regions images",
        """
select run_key, generation, method, irreversible, reason, count(*) as regions, count(distinct source_ref) as images
from facefog_detection where action = 'fogged' group by run_key, generation, method, irreversible, reason
""",
    ),
    view(
        "linkable",
        "Which published images hold a region whose pixels can be linked to the source (pixelate, blur)?",
        "run_key generation source_ref image_id output_uri output_sha256 committed_at",
        """
select run_key, generation, source_ref, image_id, output_uri, output_sha256, committed_at
from facefog_image where status = 'published' and irreversible = 0
""",
    ),
    view(
        "human_regions",
        "Which regions did a person draw or change?",
        "run_key generation source_ref image_id det_idx class_name action method reason x1 y1 x2 y2",
        """
select run_key, generation, source_ref, image_id, det_idx, class_name, action, method, reason, x1, y1, x2, y2
from facefog_detection where source = 'human'
""",
    ),
)
