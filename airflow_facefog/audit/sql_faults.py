"""Database errors as ours. Foreign messages quote URLs, statements and values, so only the class of the error is told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from airflow_facefog.core.errors import ConfigurationError, FogError, StoreError

REACH = (
    "the SQL audit's URL or driver is wrong; check the connection (PostgreSQL: install airflow-facefog[postgres], "
    "postgresql+psycopg://…)"
)


@contextmanager
def sql_faults(verb: str) -> Iterator[None]:
    """Raise StoreError for what may pass (unreachable, locked, a conflict), ConfigurationError for what a person must change.

    ValueError and our own errors go through.
    """
    from sqlalchemy import exc

    try:
        yield
    except (FogError, ValueError):
        raise
    except (exc.ArgumentError, exc.NoSuchModuleError, ImportError):
        raise ConfigurationError(REACH) from None
    except (exc.OperationalError, exc.InterfaceError, exc.IntegrityError, exc.TimeoutError) as error:
        raise StoreError(
            f"cannot {verb} in the SQL audit: {_name(error)}; retry when the database is reachable"
        ) from None
    except exc.SQLAlchemyError as error:
        raise ConfigurationError(
            f"cannot {verb} in the SQL audit: {_name(error)}; check the database's tables and permissions"
        ) from None


def _name(error: Exception) -> str:
    return type(getattr(error, "orig", None) or error).__name__
