"""Questions about runs: what they did, whether they add up, how they hang together."""

from __future__ import annotations

from airflow_facefog.audit.questions.view import view

RUNS = (
    view(
        "run_summary",
        "What did each run do? `superseded`: a later generation of the same run was sealed.",
        "run_key generation dag_id run_id data_date destination dataset policy_name policy_hash model_id model_version status "
        "listed published quarantined failed skipped detections fogged listed_at finished_at images_held zero_detections "
        "refogged linkable output_bytes",
        """
select r.run_key, r.generation, r.dag_id, r.run_id, r.data_date, r.destination, r.dataset, r.policy_name, r.policy_hash,
 r.model_id, r.model_version,
 case when r.status = 'final' and exists (select 1 from facefog_run n
  where n.run_key = r.run_key and n.generation > r.generation and n.status = 'final') then 'superseded'
  else r.status end as status,
 r.listed, r.published, r.quarantined, r.failed, r.skipped, r.detections, r.fogged, r.listed_at, r.finished_at,
 coalesce(x.images_held, 0) as images_held, coalesce(x.zero_detections, 0) as zero_detections,
 coalesce(x.refogged, 0) as refogged, coalesce(x.linkable, 0) as linkable, coalesce(x.output_bytes, 0) as output_bytes
from facefog_run r left join (
 select run_key, generation, count(*) as images_held,
  sum(case when status = 'published' and n_detections = 0 then 1 else 0 end) as zero_detections,
  sum(refogged) as refogged, sum(case when irreversible = 0 then 1 else 0 end) as linkable,
  sum(case when status = 'published' then output_bytes else 0 end) as output_bytes
 from facefog_image group by run_key, generation
) x on x.run_key = r.run_key and x.generation = r.generation
""",
    ),
    view(
        "failed_runs",
        "Which runs were refused or never finished, and were not finished since?",
        "run_key generation dag_id run_id destination dataset policy_name status listed listed_at",
        """
select r.run_key, r.generation, r.dag_id, r.run_id, r.destination, r.dataset, r.policy_name, r.status, r.listed, r.listed_at
from facefog_run r
where r.status in ('failed', 'running') and not exists (
 select 1 from facefog_run n where n.run_key = r.run_key and n.generation >= r.generation and n.status = 'final')
""",
    ),
    view(
        "recipes",
        "Under which policies, models and keys were images processed, and when? Start of a recall.",
        "policy_name policy_hash detector model_id model_version model_sha256 key_id id_scheme runs listed published "
        "detections fogged first_listed_at last_listed_at",
        """
select policy_name, policy_hash, detector, model_id, model_version, model_sha256, key_id, id_scheme, count(*) as runs,
 sum(listed) as listed, sum(published) as published, sum(detections) as detections, sum(fogged) as fogged,
 min(listed_at) as first_listed_at, max(listed_at) as last_listed_at
from facefog_run where status <> 'failed'
group by policy_name, policy_hash, detector, model_id, model_version, model_sha256, key_id, id_scheme
""",
    ),
    view(
        "integrity",
        "In which runs do the recorded counts differ from the rows that are held, erased and expired ones counted in?",
        "run_key generation listed accounted images removed_images detections detections_on_images detection_rows "
        "removed_detections fogged fogged_rows",
        """
select q.run_key, q.generation, q.listed, q.accounted, q.images, q.removed_images, q.detections, q.detections_on_images,
 q.detection_rows, q.removed_detections, q.fogged, q.fogged_rows
from (
 select r.run_key, r.generation, r.listed, r.published + r.quarantined + r.failed + r.skipped as accounted,
  coalesce(x.images, 0) as images, coalesce(e.removed_images, 0) as removed_images,
  r.detections, coalesce(x.detections, 0) as detections_on_images, coalesce(y.detections, 0) as detection_rows,
  coalesce(e.removed_detections, 0) as removed_detections, r.fogged, coalesce(y.fogged, 0) as fogged_rows,
  r.published, coalesce(x.published, 0) as published_rows
 from facefog_run r
 left join (select run_key, generation, count(*) as images, sum(n_detections) as detections,
   sum(case when status = 'published' then 1 else 0 end) as published
  from facefog_image group by run_key, generation) x on x.run_key = r.run_key and x.generation = r.generation
 left join (select run_key, generation, count(*) as detections, sum(case when action = 'fogged' then 1 else 0 end) as fogged
  from facefog_detection group by run_key, generation) y on y.run_key = r.run_key and y.generation = r.generation
 left join (select run_key, generation, sum(case when part = 'image' then rows_removed else 0 end) as removed_images,
   sum(case when part = 'detection' then rows_removed else 0 end) as removed_detections
  from facefog_erasure group by run_key, generation) e on e.run_key = r.run_key and e.generation = r.generation
 where r.status in ('final', 'superseded', 'erased')
) q
where q.listed <> q.accounted or q.listed <> q.images + q.removed_images
 or q.detections <> q.detection_rows + q.removed_detections
 or (q.removed_images = 0 and q.published <> q.published_rows)
 or (q.removed_detections = 0 and q.fogged <> q.fogged_rows)
 or (q.removed_images = 0 and q.detections <> q.detections_on_images)
""",
    ),
    view(
        "chain_gaps",
        "Which sealed runs do not name the manifest before them? A hint: `facefog audit verify` is what proves the chain.",
        "run_key generation listed_at finished_at manifest_sha256 prev_manifest_sha256 problem",
        """
select q.run_key, q.generation, q.listed_at, q.finished_at, q.manifest_sha256, q.prev_manifest_sha256, q.problem
from (
 select r.run_key, r.generation, r.listed_at, r.finished_at, r.manifest_sha256, r.prev_manifest_sha256,
  case when r.manifest_sha256 is null then 'no_manifest'
   when r.prev_manifest_sha256 is null and exists (select 1 from facefog_run o
    where o.status = 'final' and o.finished_at < r.finished_at) then 'names_no_previous'
   when r.prev_manifest_sha256 is not null and not exists (select 1 from facefog_run o
    where o.manifest_sha256 = r.prev_manifest_sha256) then 'previous_is_not_here' end as problem
 from facefog_run r where r.status = 'final'
) q where q.problem is not null
""",
    ),
    view(
        "timings",
        "How long did images take in each run (median, 95 %, slowest; ms), and how many needed another try?",
        "run_key generation images p50_ms p95_ms max_ms retried",
        """
select q.run_key, q.generation, count(*) as images, max(case when q.share <= 0.5 then q.total_ms end) as p50_ms,
 max(case when q.share <= 0.95 then q.total_ms end) as p95_ms, max(q.total_ms) as max_ms,
 sum(case when q.try_number > 1 then 1 else 0 end) as retried
from (
 select t.run_key, t.generation, t.total_ms, t.try_number,
  cume_dist() over (partition by t.run_key, t.generation order by t.total_ms) as share
 from (
  select run_key, generation, try_number, t_read_ms + t_detect_ms + t_fog_ms + t_write_ms as total_ms
  from facefog_image where status = 'published' and t_read_ms is not null and t_detect_ms is not null
   and t_fog_ms is not null and t_write_ms is not null
 ) t
) q group by q.run_key, q.generation
""",
    ),
)
