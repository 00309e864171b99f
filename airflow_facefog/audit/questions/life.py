"""Questions about the record itself: intents, what left the house, what is kept too long, what was erased."""

from __future__ import annotations

from airflow_facefog.audit.questions.view import view

LIFE = (
    view(
        "unfinished_intents",
        "Which recorded intents have no image row with their bytes? Crash residue in sealed runs.",
        "run_key generation source_ref image_id attempt_id output_key output_sha256 created_at",
        """
select n.run_key, n.generation, n.source_ref, n.image_id, n.attempt_id, n.output_key, n.output_sha256, n.created_at
from facefog_intent n left join facefog_image i on i.run_key = n.run_key and i.generation = n.generation
 and i.source_ref = n.source_ref and i.output_sha256 = n.output_sha256
where i.source_ref is null
 and not exists (select 1 from facefog_erasure e where e.run_key = n.run_key and e.generation = n.generation and e.part = 'image'
  and e.reason = 'expiry')
""",
    ),
    view(
        "published_without_intent",
        "Which published objects have no intent with exactly their sha256 before them? Must be empty.",
        "run_key generation source_ref image_id output_uri output_sha256 committed_at",
        """
select i.run_key, i.generation, i.source_ref, i.image_id, i.output_uri, i.output_sha256, i.committed_at
from facefog_image i left join facefog_intent n on n.run_key = i.run_key and n.generation = i.generation
 and n.source_ref = i.source_ref and n.output_sha256 = i.output_sha256
where i.status = 'published' and n.source_ref is null
 and not exists (select 1 from facefog_erasure e where e.run_key = i.run_key and e.generation = i.generation and e.part = 'intent'
  and e.reason = 'expiry')
""",
    ),
    view(
        "egress_by_host",
        "To which hosts did raw images go, how many and when?",
        "kind host project transfers images bytes first_sent_at last_sent_at",
        """
select kind, host, project, count(*) as transfers, count(distinct image_id) as images, sum(bytes) as bytes,
 min(sent_at) as first_sent_at, max(sent_at) as last_sent_at
from facefog_egress group by kind, host, project
""",
    ),
    view(
        "retention",
        "How many source names are kept, and when do they fall due?",
        "expires_on sources bytes",
        """
select substr(expires_at, 1, 10) as expires_on, count(*) as sources, sum(bytes) as bytes
from facefog_source group by substr(expires_at, 1, 10)
""",
    ),
    view(
        "erasures",
        "Which erasures and expiries changed the record, and how many rows are gone?",
        "request_id reason actor first_at last_at runs parts rows_removed",
        """
select q.request_id, q.reason, q.actor, min(q.changed_at) as first_at, max(q.changed_at) as last_at,
 count(distinct q.run_id) as runs, count(*) as parts, sum(q.rows_removed) as rows_removed
from (
 select e.request_id, e.reason, e.actor, e."at" as changed_at, e.run_key || '/' || cast(e.generation as text) as run_id,
  e.rows_removed
 from facefog_erasure e
) q group by q.request_id, q.reason, q.actor
""",
    ),
)
