-- What airflow-facefog with schema version 1 created, as its SQLAlchemy compiled it for PostgreSQL. Never changes.

CREATE TABLE facefog_detection (
  run_key TEXT NOT NULL,
  generation BIGINT NOT NULL,
  source_ref TEXT NOT NULL,
  image_id TEXT NOT NULL,
  det_idx BIGINT NOT NULL,
  detector TEXT NOT NULL,
  class_name TEXT NOT NULL,
  confidence DOUBLE PRECISION NOT NULL,
  threshold DOUBLE PRECISION NOT NULL,
  x1 DOUBLE PRECISION NOT NULL,
  y1 DOUBLE PRECISION NOT NULL,
  x2 DOUBLE PRECISION NOT NULL,
  y2 DOUBLE PRECISION NOT NULL,
  n_members BIGINT NOT NULL,
  polygon TEXT,
  action TEXT NOT NULL,
  reason TEXT,
  method TEXT,
  params_hash TEXT,
  fx1 BIGINT,
  fy1 BIGINT,
  fx2 BIGINT,
  fy2 BIGINT,
  irreversible SMALLINT,
  source TEXT NOT NULL,
  PRIMARY KEY (run_key, generation, source_ref, det_idx)
);

CREATE TABLE facefog_egress (
  run_key TEXT NOT NULL,
  generation BIGINT NOT NULL,
  source_ref TEXT NOT NULL,
  attempt_id TEXT NOT NULL,
  egress_idx BIGINT NOT NULL,
  image_id TEXT NOT NULL,
  kind TEXT NOT NULL,
  host TEXT NOT NULL,
  project TEXT,
  bytes BIGINT NOT NULL,
  sent_at TEXT NOT NULL,
  PRIMARY KEY (run_key, generation, source_ref, attempt_id, egress_idx)
);

CREATE TABLE facefog_image (
  run_key TEXT NOT NULL,
  generation BIGINT NOT NULL,
  source_ref TEXT NOT NULL,
  status TEXT NOT NULL,
  batch_id TEXT NOT NULL,
  attempt_id TEXT NOT NULL,
  image_id TEXT,
  source_group TEXT,
  source_etag TEXT,
  width BIGINT,
  height BIGINT,
  format TEXT,
  orientation_applied BIGINT,
  reason TEXT,
  error_class TEXT,
  output_uri TEXT,
  output_sha256 TEXT,
  output_bytes BIGINT,
  n_detections BIGINT NOT NULL,
  n_fogged BIGINT NOT NULL,
  n_dropped BIGINT NOT NULL,
  detect_floor DOUBLE PRECISION,
  verify_coverage DOUBLE PRECISION,
  verify_worst_score DOUBLE PRECISION,
  refogged SMALLINT NOT NULL,
  irreversible SMALLINT,
  encode_mode TEXT,
  outside_psnr DOUBLE PRECISION,
  t_read_ms DOUBLE PRECISION,
  t_detect_ms DOUBLE PRECISION,
  t_fog_ms DOUBLE PRECISION,
  t_write_ms DOUBLE PRECISION,
  try_number BIGINT NOT NULL,
  duplicate_of TEXT,
  done_run_key TEXT,
  committed_at TEXT,
  PRIMARY KEY (run_key, generation, source_ref)
);

CREATE TABLE facefog_intent (
  run_key TEXT NOT NULL,
  generation BIGINT NOT NULL,
  source_ref TEXT NOT NULL,
  image_id TEXT NOT NULL,
  attempt_id TEXT NOT NULL,
  batch_id TEXT NOT NULL,
  output_key TEXT NOT NULL,
  output_sha256 TEXT NOT NULL,
  created_at TEXT NOT NULL,
  PRIMARY KEY (run_key, generation, source_ref, attempt_id, output_key)
);

CREATE TABLE facefog_run (
  run_key TEXT NOT NULL,
  generation BIGINT NOT NULL,
  dag_id TEXT NOT NULL,
  run_id TEXT NOT NULL,
  run_type TEXT,
  logical_date TEXT,
  data_date TEXT,
  dag_version_id TEXT,
  destination TEXT NOT NULL,
  dataset TEXT NOT NULL,
  layout TEXT,
  policy_name TEXT NOT NULL,
  policy_hash TEXT NOT NULL,
  policy_json TEXT NOT NULL,
  recipe_hash TEXT NOT NULL,
  detector TEXT NOT NULL,
  model_id TEXT NOT NULL,
  model_version TEXT NOT NULL,
  model_sha256 TEXT NOT NULL,
  key_id TEXT NOT NULL,
  id_scheme TEXT NOT NULL,
  packages_json TEXT NOT NULL,
  egress_json TEXT,
  status TEXT NOT NULL,
  listed BIGINT NOT NULL,
  published BIGINT NOT NULL,
  quarantined BIGINT NOT NULL,
  failed BIGINT NOT NULL,
  skipped BIGINT NOT NULL,
  detections BIGINT NOT NULL,
  fogged BIGINT NOT NULL,
  listed_at TEXT NOT NULL,
  started_at TEXT NOT NULL,
  finished_at TEXT,
  manifest_uri TEXT,
  manifest_sha256 TEXT,
  prev_manifest_sha256 TEXT,
  PRIMARY KEY (run_key, generation)
);

CREATE TABLE facefog_schema (
  version INTEGER NOT NULL,
  PRIMARY KEY (version)
);

CREATE TABLE facefog_source (
  source_ref TEXT NOT NULL,
  source_uri TEXT NOT NULL,
  bytes BIGINT,
  expires_at TEXT NOT NULL,
  PRIMARY KEY (source_ref)
);

CREATE INDEX facefog_detection_by_image ON facefog_detection (image_id);

CREATE INDEX facefog_image_by_image ON facefog_image (image_id);

INSERT INTO facefog_schema (version) VALUES (1);
