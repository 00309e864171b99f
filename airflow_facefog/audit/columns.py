"""Columns of the audit tables, one a line: name, type (``?`` = nullable), meaning. ``schema`` reads them."""

RUN = """
run_key text 32 hex digits: dag, run, list task, destination and recipe
generation integer 0, and one more for each plan made after a sealed one
dag_id text Airflow Dag, or `cli`
run_id text Airflow run id, or `cli__<utc>__<random>`
run_type text? Airflow run type
logical_date timestamp? Airflow logical date; absent for manual and asset-triggered runs
data_date text? day that partitions the audit (YYYY-MM-DD)
dag_version_id text? Airflow Dag version
destination text URI of the published data, without userinfo
dataset text dataset name in the destination
layout text? `named` or `content`: whether output keys hold source names
policy_name text name given in the policy
policy_hash text hash of the policy's decisions and pixels
policy_json json the whole policy, canonical JSON
recipe_hash text policy, model, key and fog code: equal recipe, equal bytes
detector text detector name
model_id text model name
model_version text model version
model_sha256 text hash of the weights, or what the remote side reports
key_id text first 8 hex digits that name the master key, or `none`
id_scheme text `hmac-sha256` or `sha256` (a plain hash is a membership oracle)
packages_json json versions of the packages that make the pixels
egress_json json? per host: calls, bytes, credits
status text `running`, `final`, `failed`, `superseded` or `erased`
listed integer items listed
published integer items whose anonymised image was published
quarantined integer items that this recipe refuses
failed integer items without a decision; tried again by the next run
skipped integer items already done under this recipe
detections integer clusters recorded
fogged integer clusters fogged
listed_at timestamp when the source was listed: the newest listing wins
started_at timestamp when the plan was made
finished_at timestamp? when the run was finalised
manifest_uri text? manifest of the sealed run
manifest_sha256 text? hash of that manifest
prev_manifest_sha256 text? hash of the manifest before it in the chain
"""

INTENT = """
run_key text run
generation integer generation
source_ref text listed item
image_id text raw bytes that were read
attempt_id text attempt (Airflow `ti.id`)
batch_id text batch
output_key text key in the destination
output_sha256 text hash of the bytes about to be published
created_at timestamp when the intent was written
"""

IMAGE = """
run_key text run
generation integer generation
source_ref text identity of the listed item: hash (or HMAC) of its URI
status text `published`, `quarantined`, `failed` or `skipped`
batch_id text batch
attempt_id text attempt (Airflow `ti.id`)
image_id text? identity of the raw bytes: hash (or HMAC); absent when the file could not be read
source_group text? folder of the item, hashed
source_etag text? version of the item as its store reports it
width integer? pixels, upright
height integer? pixels, upright
format text? source format
orientation_applied integer? EXIF orientation that was applied, 1 to 8 (1: none was needed)
reason text? why, from a closed list
error_class text? class of the error; never its message
output_uri text? published object
output_sha256 text? hash of its bytes
output_bytes integer? its size
n_detections integer clusters recorded
n_fogged integer clusters fogged
n_dropped integer detections beyond the cap per image, none of them fogged
detect_floor float? confidence from which the detector's list is complete, when that is above record_floor
verify_coverage float? share of fogged boxes inside the mask, 1.0 when right; NULL when nothing was found
verify_worst_score float? worst check divided by its limit, at most 1
refogged flag 1 when verify refused the first rendering and fill replaced it
irreversible flag? 0 when a linkable method (pixelate, blur) was used
encode_mode text? how the output was encoded, and what changed of depth or colour
outside_psnr float? dB outside the regions, capped at 99; NULL for lossless files
t_read_ms float? milliseconds to read; in a single pass also to decode
t_detect_ms float? milliseconds to detect
t_fog_ms float? milliseconds to fog, encode and verify
t_write_ms float? milliseconds to publish, shared by its micro-batch
try_number integer try of the task
duplicate_of text? source_ref of an earlier item with equal bytes
done_run_key text? skipped: the run that did it
committed_at timestamp? when the batch was committed
pixel_id text? HMAC of the upright decoded source pixels, when the policy asks for it (`record_pixel_id`)
leaf_idx integer? position of the row's salted leaf in the run's tree
"""

DETECTION = """
run_key text run
generation integer generation
source_ref text listed item
image_id text raw bytes
det_idx integer rank in a fixed order
detector text which detector saw it
class_name text class as the detector names it
confidence float best of the cluster, 0..1
threshold float the rule's min_confidence
x1 float best box, left
y1 float best box, top
x2 float best box, right (exclusive)
y2 float best box, bottom (exclusive)
n_members integer detections in the cluster
polygon json? outline as [[x, y], …]
action text `fogged`, `below_threshold` or `class_ignored`
reason text? why, from a closed list
method text? how it was fogged
params_hash text? hash of the rule's parameters
fx1 integer? region fogged, left
fy1 integer? region fogged, top
fx2 integer? region fogged, right (exclusive)
fy2 integer? region fogged, bottom (exclusive)
irreversible flag? 0 when the covered pixels influence the output
source text `model` or `human`
"""

SOURCE = """
source_ref text listed item
source_uri text its URI, without userinfo or query
bytes integer? size when listed
expires_at timestamp delete the row after this
"""

EGRESS = """
run_key text run
generation integer generation
source_ref text listed item
attempt_id text attempt
egress_idx integer number of this transfer within the attempt and item
image_id text raw bytes
kind text `inference` or `upload`
host text where it went
project text? named project of an upload
bytes integer bytes sent
sent_at timestamp when
"""

ERASURE = """
request_id text the request: 32 hex digits
run_key text run whose record was changed
generation integer generation
part text which part: `image`, `detection`, `intent` or `leaf`
reason text `erasure` or `expiry`
rows_removed integer rows that are gone
old_sha256 text hash of the part before
new_sha256 text? hash of the part that replaced it; absent when the whole part was removed
seq integer chain entry of the signed amendment
at timestamp when the amendment was chained
actor text? who asked, as the caller named them
"""
