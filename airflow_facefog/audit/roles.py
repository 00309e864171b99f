"""The script that makes a read-only role for the SQL audit on PostgreSQL."""

from __future__ import annotations

import re

from airflow_facefog.audit.schema import SOURCE, TABLES
from airflow_facefog.audit.sql_tables import VERSION_TABLE
from airflow_facefog.audit.views import VIEWS
from airflow_facefog.core.errors import ConfigurationError

READER = "facefog_reader"
RESTRICTED = (SOURCE.name,)
"""Tables that name files: not for readers of the audit."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,62}")
"""Narrower than PostgreSQL, which lets a name hold anything: names go into a script that a superuser may run."""

SCRIPT = """\
-- Read-only role for the facefog audit. Run it as the owner of the tables, after `facefog audit migrate`:
--   facefog audit role | psql --set ON_ERROR_STOP=1 --dbname …
BEGIN;
DO $facefog$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = '{name}') THEN
    CREATE ROLE "{name}" NOLOGIN;
  END IF;
END
$facefog$;
GRANT USAGE ON SCHEMA "{schema}" TO "{name}";
GRANT SELECT ON
  {readable}
  TO "{name}";
-- Views are replaced when a release changes them, and new ones come. This also reaches whatever else the owner creates in
-- the schema later: give the audit a schema of its own.
ALTER DEFAULT PRIVILEGES IN SCHEMA "{schema}" GRANT SELECT ON TABLES TO "{name}";
-- Source names stay with the owner.
REVOKE ALL ON {restricted} FROM PUBLIC, "{name}";
COMMIT;
-- It has no login of its own. Give it to people: GRANT "{name}" TO …;
"""


def role_script(name: str = READER, schema: str = "public") -> str:
    """SQL for psql: role ``name`` may read all audit tables and views in ``schema``, except source names.

    Idempotent; fails as a whole when a table or view is missing. Raises ConfigurationError for a name that is not
    letters, digits, ``_`` and ``-``, or that PostgreSQL keeps for itself.
    """
    for what, value in (("role", name), ("schema", schema)):
        reserved = what == "role" and (value.lower().startswith("pg_") or value.lower() in ("public", "none"))
        if not _NAME.fullmatch(value) or reserved:
            raise ConfigurationError(
                f"{value[:64]!r} cannot be the name of a {what}; use at most 63 letters, digits, _ and -, not pg_…"
            )
    tables = [VERSION_TABLE, *(table for table in TABLES if table not in RESTRICTED), *(view.name for view in VIEWS)]
    return SCRIPT.format(
        name=name, schema=schema, readable=_listed(schema, tables), restricted=_listed(schema, RESTRICTED)
    )


def _listed(schema: str, names: list[str] | tuple[str, ...]) -> str:
    return ",\n  ".join(f'"{schema}"."{name}"' for name in names)
