"""Questions about images: what was published, what is visible now, what was refused."""

from __future__ import annotations

from airflow_facefog.audit.questions.view import view

PUBLISHED = (
    view(
        "image_history",
        "What happened to an image in every run?",
        "image_id source_ref run_key generation dag_id run_id policy_name policy_hash detector model_id model_version status "
        "reason n_detections n_fogged output_uri output_sha256 attempt_id try_number duplicate_of done_run_key committed_at",
        """
select i.image_id, i.source_ref, i.run_key, i.generation, r.dag_id, r.run_id, r.policy_name, r.policy_hash, r.detector,
 r.model_id, r.model_version, i.status, i.reason, i.n_detections, i.n_fogged, i.output_uri, i.output_sha256, i.attempt_id,
 i.try_number, i.duplicate_of, i.done_run_key, i.committed_at
from facefog_image i join facefog_run r on r.run_key = i.run_key and r.generation = i.generation
""",
    ),
    view(
        "item_state",
        "What is the newest word about each listed item? The newest listing wins; `shown_run_key` holds its published row.",
        "destination dataset source_ref image_id run_key generation listed_at status reason shown_run_key committed_at",
        """
select q.destination, q.dataset, q.source_ref, q.image_id, q.run_key, q.generation, q.listed_at, q.status, q.reason,
 case when q.status = 'skipped' then q.done_run_key when q.status = 'published' then q.run_key end as shown_run_key,
 q.committed_at
from (
 select r.destination, r.dataset, i.source_ref, i.image_id, i.run_key, i.generation, r.listed_at, i.status, i.reason,
  i.done_run_key, i.committed_at,
  row_number() over (partition by r.destination, r.dataset, i.source_ref
   order by r.listed_at desc, i.generation desc, i.run_key desc) as place
 from facefog_image i join facefog_run r on r.run_key = i.run_key and r.generation = i.generation
) q where q.place = 1
""",
    ),
    view(
        "current",
        "What is published now, with policy and model? `mirror` runs may have withdrawn more: the snapshot decides.",
        "destination dataset source_ref image_id output_uri output_sha256 output_bytes n_detections n_fogged run_key generation "
        "dag_id run_id policy_name policy_hash recipe_hash detector model_id model_version committed_at seen_listed_at",
        """
select s.destination, s.dataset, s.source_ref, p.image_id, p.output_uri, p.output_sha256, p.output_bytes, p.n_detections,
 p.n_fogged, p.run_key, p.generation, r.dag_id, r.run_id, r.policy_name, r.policy_hash, r.recipe_hash, r.detector,
 r.model_id, r.model_version, p.committed_at, s.listed_at as seen_listed_at
from facefog_v_item_state s
join facefog_image p on p.run_key = s.shown_run_key and p.source_ref = s.source_ref and p.status = 'published'
join facefog_run r on r.run_key = p.run_key and r.generation = p.generation
where not exists (select 1 from facefog_image q where q.run_key = p.run_key and q.source_ref = p.source_ref
 and q.status = 'published' and q.generation > p.generation)
""",
    ),
    view(
        "published_by_day",
        "What was published on which day (UTC), how much of it without any detection?",
        "day destination dataset published zero_detections detections fogged output_bytes",
        """
select substr(i.committed_at, 1, 10) as day, r.destination, r.dataset, count(*) as published,
 sum(case when i.n_detections = 0 then 1 else 0 end) as zero_detections, sum(i.n_detections) as detections,
 sum(i.n_fogged) as fogged, sum(i.output_bytes) as output_bytes
from facefog_image i join facefog_run r on r.run_key = i.run_key and r.generation = i.generation
where i.status = 'published' group by substr(i.committed_at, 1, 10), r.destination, r.dataset
""",
    ),
    view(
        "zero_detections",
        "How large is the share of published images without any detection, by run and folder? It drifts when a camera or "
        "model goes blind.",
        "run_key generation dag_id run_id destination dataset day source_group published zero_detections zero_ratio",
        """
select r.run_key, r.generation, r.dag_id, r.run_id, r.destination, r.dataset, substr(r.listed_at, 1, 10) as day,
 i.source_group, count(*) as published, sum(case when i.n_detections = 0 then 1 else 0 end) as zero_detections,
 cast(sum(case when i.n_detections = 0 then 1 else 0 end) as double precision) / count(*) as zero_ratio
from facefog_image i join facefog_run r on r.run_key = i.run_key and r.generation = i.generation
where i.status = 'published'
group by r.run_key, r.generation, r.dag_id, r.run_id, r.destination, r.dataset, substr(r.listed_at, 1, 10), i.source_group
""",
    ),
    view(
        "stale_policy",
        "Which images are published under another policy than the newest run of their dataset?",
        "destination dataset source_ref image_id run_key generation policy_name policy_hash newest_policy_hash committed_at",
        """
select c.destination, c.dataset, c.source_ref, c.image_id, c.run_key, c.generation, c.policy_name, c.policy_hash,
 n.policy_hash as newest_policy_hash, c.committed_at
from facefog_v_current c join (
 select destination, dataset, policy_hash, row_number() over (partition by destination, dataset
  order by listed_at desc, generation desc, run_key desc) as place
 from facefog_run where status <> 'failed'
) n on n.destination = c.destination and n.dataset = c.dataset and n.place = 1
where c.policy_hash <> n.policy_hash
""",
    ),
    view(
        "conflicting_outputs",
        "Which images gave different bytes under one recipe? Equal input, policy, model and key must give equal bytes.",
        "image_id recipe_hash outputs publications",
        """
select i.image_id, r.recipe_hash, count(distinct i.output_sha256) as outputs, count(*) as publications
from facefog_image i join facefog_run r on r.run_key = i.run_key and r.generation = i.generation
where i.status = 'published' group by i.image_id, r.recipe_hash having count(distinct i.output_sha256) > 1
""",
    ),
    view(
        "inconsistent_images",
        "Which rows contradict themselves: published without object or verification, skipped without a run that did it?",
        "run_key generation source_ref image_id status problem",
        """
select q.run_key, q.generation, q.source_ref, q.image_id, q.status, q.problem
from (
 select run_key, generation, source_ref, image_id, status, case
  when status not in ('published', 'quarantined', 'failed', 'skipped') then 'unknown_status'
  when status = 'published' and (output_uri is null or output_sha256 is null or output_bytes is null)
   then 'published_without_object'
  when status = 'published' and image_id is null then 'published_without_image_id'
  when status = 'published' and n_fogged > 0 and verify_coverage is null then 'published_unverified'
  when status = 'published' and (verify_coverage < 1 or verify_worst_score > 1) then 'published_though_verify_failed'
  when status = 'published' and n_fogged > n_detections then 'more_fogged_than_detected'
  when status <> 'published' and (output_uri is not null or output_sha256 is not null) then 'refused_with_object'
  when status = 'skipped' and done_run_key is null then 'skipped_without_run'
  when status in ('quarantined', 'failed') and reason is null then 'refused_without_reason' end as problem
 from facefog_image
) q where q.problem is not null
""",
    ),
    view(
        "image_counts",
        "For which images do the detection rows differ from the counts on the image? Runs whose detections expired are left out.",
        "run_key generation source_ref image_id n_detections detection_rows n_fogged fogged_rows",
        """
select i.run_key, i.generation, i.source_ref, i.image_id, i.n_detections, coalesce(d.detection_rows, 0) as detection_rows,
 i.n_fogged, coalesce(d.fogged_rows, 0) as fogged_rows
from facefog_image i left join (
 select run_key, generation, source_ref, count(*) as detection_rows,
  sum(case when action = 'fogged' then 1 else 0 end) as fogged_rows
 from facefog_detection group by run_key, generation, source_ref
) d on d.run_key = i.run_key and d.generation = i.generation and d.source_ref = i.source_ref
where (i.n_detections <> coalesce(d.detection_rows, 0) or i.n_fogged <> coalesce(d.fogged_rows, 0))
 and not exists (select 1 from facefog_erasure e where e.run_key = i.run_key and e.generation = i.generation
  and e.part = 'detection' and e.reason = 'expiry')
""",
    ),
    view(
        "verify_coverage",
        "How well was fog verified, by run: images with nothing to cover, fully covered, not fully covered, and the worst score?",
        "run_key generation published nothing_found fully_covered not_covered worst_score refogged",
        """
select run_key, generation, count(*) as published, sum(case when verify_coverage is null then 1 else 0 end) as nothing_found,
 sum(case when verify_coverage >= 1 then 1 else 0 end) as fully_covered,
 sum(case when verify_coverage < 1 then 1 else 0 end) as not_covered, max(verify_worst_score) as worst_score,
 sum(refogged) as refogged
from facefog_image where status = 'published' group by run_key, generation
""",
    ),
)

REFUSED = (
    view(
        "refusals",
        "Why were images quarantined or failed, by run?",
        "run_key generation dag_id run_id status reason error_class images",
        """
select r.run_key, r.generation, r.dag_id, r.run_id, i.status, i.reason, i.error_class, count(*) as images
from facefog_image i join facefog_run r on r.run_key = i.run_key and r.generation = i.generation
where i.status in ('quarantined', 'failed')
group by r.run_key, r.generation, r.dag_id, r.run_id, i.status, i.reason, i.error_class
""",
    ),
    view(
        "open_quarantine",
        "Which items were refused by the newest run that listed them, and wait for a decision?",
        "destination dataset source_ref image_id run_key generation status reason committed_at",
        """
select destination, dataset, source_ref, image_id, run_key, generation, status, reason, committed_at
from facefog_v_item_state where status in ('quarantined', 'failed')
""",
    ),
    view(
        "withdrawn",
        "Which items were published once and withdrawn since, because a newer run refused them?",
        "destination dataset source_ref image_id status reason withdrawn_by_run_key withdrawn_at published_run_key output_sha256",
        """
select s.destination, s.dataset, s.source_ref, s.image_id, s.status, s.reason, s.run_key as withdrawn_by_run_key,
 s.committed_at as withdrawn_at, p.run_key as published_run_key, p.output_sha256
from facefog_v_item_state s
join facefog_image p on p.source_ref = s.source_ref and p.status = 'published'
join facefog_run r on r.run_key = p.run_key and r.generation = p.generation and r.destination = s.destination
 and r.dataset = s.dataset
where s.status in ('quarantined', 'failed')
""",
    ),
    view(
        "skipped",
        "Which items were skipped, and which run had done them?",
        "run_key generation source_ref image_id done_run_key done_generation output_sha256 done_at",
        """
select i.run_key, i.generation, i.source_ref, i.image_id, i.done_run_key, p.generation as done_generation,
 p.output_sha256, p.committed_at as done_at
from facefog_image i left join facefog_image p on p.run_key = i.done_run_key and p.source_ref = i.source_ref
 and p.status = 'published'
where i.status = 'skipped'
""",
    ),
    view(
        "duplicates",
        "Which items had the same bytes as an earlier item of their run?",
        "run_key generation source_ref duplicate_of image_id status output_sha256",
        """
select run_key, generation, source_ref, duplicate_of, image_id, status, output_sha256
from facefog_image where duplicate_of is not null
""",
    ),
    view(
        "refogged",
        "For which published images did verification refuse the first rendering, so that a fill replaced it?",
        "run_key generation source_ref image_id encode_mode verify_worst_score output_sha256 committed_at",
        """
select run_key, generation, source_ref, image_id, encode_mode, verify_worst_score, output_sha256, committed_at
from facefog_image where status = 'published' and refogged = 1
""",
    ),
    view(
        "truncated",
        "For which images is the detector's list incomplete: cut at the cap, or complete only above a floor?",
        "run_key generation source_ref image_id status n_detections n_dropped detect_floor",
        """
select run_key, generation, source_ref, image_id, status, n_detections, n_dropped, detect_floor
from facefog_image where n_dropped > 0 or detect_floor is not null
""",
    ),
)
