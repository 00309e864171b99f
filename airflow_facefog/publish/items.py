"""From audit rows to the rows that consumers see, as columns: a run may publish millions of images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_facefog.publish.parts import PUBLISHED, PublishedItem, item_schema

if TYPE_CHECKING:
    from airflow_facefog.publish.store import Store


def items_of(images: Any, item_ids: Any, dest: Store) -> tuple[Any, Any, Any]:
    """Rows of ``facefog_image`` → (published items, withdrawn item_ids, skipped item_ids) for ``commit_snapshot``.

    ``images``: a ``pyarrow.Table``; ``item_ids``: ``KeyRing.item_id`` of its rows, in their order. The published items
    are a table, the others columns.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    status = images["status"]
    refused = pc.is_in(status, value_set=pa.array(["quarantined", "failed"]))
    shown = pc.equal(status, PUBLISHED)
    rows = images.select(["output_uri", "output_sha256", "output_bytes", "width", "height"]).filter(shown)
    found = keys(rows["output_uri"], dest)
    columns = [
        pc.filter(item_ids, shown), found, rows["output_sha256"], rows["output_bytes"], formats(found), rows["width"],
        rows["height"], paths(found),
    ]  # fmt: skip
    published = pa.Table.from_arrays(columns, names=list(PublishedItem.__slots__)).cast(item_schema())
    return published, pc.filter(item_ids, refused), pc.filter(item_ids, pc.equal(status, "skipped"))


def keys(uris: Any, dest: Store) -> Any:
    """Keys below the destination; a URI from elsewhere stays as it is."""
    import pyarrow.compute as pc

    prefix = dest.uri("x").removesuffix("x")
    return pc.if_else(pc.starts_with(uris, prefix), pc.utf8_slice_codeunits(uris, len(prefix)), uris)


def formats(keys: Any) -> Any:
    """``layout.output_format`` of each key of a column; there are only a few endings."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from airflow_facefog.publish.layout import output_format

    endings = pc.replace_substring_regex(keys, r"^(?s:.*)\.", ".").combine_chunks().dictionary_encode()
    known = pa.array([output_format(ending) for ending in endings.dictionary.to_pylist()], type=pa.string())
    return known.take(endings.indices)


def paths(keys: Any) -> Any:
    """``layout.source_path`` of each key of a column; only names with an escape need a look one by one."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from airflow_facefog.publish.layout import source_path

    plain = pc.extract_regex(keys, r"^data/(?P<path>.*)\.(?:[0-9a-f]{64}|[0-9a-f]{12})\.[a-z0-9]{1,8}$")
    paths = pc.struct_field(plain, "path").cast(pa.string())
    escaped = pc.match_substring(keys, "%").combine_chunks()
    decoded = pa.array([source_path(key) for key in keys.filter(escaped).to_pylist()], type=pa.string())
    return pc.replace_with_mask(paths.combine_chunks(), escaped, decoded)
