"""The report as one self-contained HTML page: no script, no request, no picture; light, dark and print.

Every value is escaped; characters of a key that do not print (controls, direction marks) are shown as their numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from airflow_facefog.publish.prove.model import WORST_FIRST, Class
from airflow_facefog.publish.prove.page_style import STYLE

ROWS = 200
"""Findings of one class that are shown."""

MEANING: Mapping[Class, str] = {
    Class.PROVEN: "Its bytes were recorded before they were published. Not decoded.",
    Class.RECORD: "Bookkeeping of facefog, as its snapshots name it.",
    Class.IGNORED: "Left out on request: not read, nothing is said about it.",
    Class.RAW_MATCH: "A raw image that the audit knows, by its bytes or by its decoded pixels.",
    Class.RAW_DERIVED: "Like a published picture outside of its fogged regions, and unlike it inside: made from the raw one.",
    Class.TAMPERED: "A recorded key, or bookkeeping, with other bytes than were recorded.",
    Class.ORPHAN: "Nothing in the record explains it.",
    Class.MISSING: "The newest snapshot shows it, and it is not there.",
}

TITLES: Mapping[Class, str] = {
    Class.PROVEN: "Proven", Class.RECORD: "Bookkeeping", Class.IGNORED: "Ignored", Class.RAW_MATCH: "Raw match",
    Class.RAW_DERIVED: "Raw derived", Class.TAMPERED: "Tampered", Class.ORPHAN: "Orphan", Class.MISSING: "Missing",
}  # fmt: skip

ORDER = (*WORST_FIRST, Class.PROVEN, Class.RECORD, Class.IGNORED)

TRUST = {
    "pinned": "checked with the public key that was given",
    "audit": "checked with the keys that lie in the audit: this shows consistency, not who signed",
    "none": "nobody signed: whoever can write the audit could have written all of it",
}

CLAIMS = (
    ("Proven", "A proven object has exactly the bytes that a run recorded, before it published them, as the verified output "
               "of a redaction. It says nothing about faces that the detector did not find."),
    ("Not proven", "Every other object. Raw match and raw derived are recognised, not guessed from names; but a crop, a strong "
                   "edit or a picture of another audit is not recognised and ends as an orphan."),
    ("Raw derived", "Rests on likeness. A photo of the same scene, taken from the same place, is also like a published one "
                    "outside of its regions; so is the same picture fogged by runs that this audit does not know. Look at each."),
    ("Versions", "What was listed is what a reader of the store sees now. Older versions and deleted markers of a versioned "
                 "bucket are not walked."),
)  # fmt: skip


def render(report: Mapping[str, Any]) -> str:
    """The page for a report as ``report.document`` makes it."""
    title = "Proven" if report["clean"] else "Not proven"
    body = "".join((_verdict(report), _classes(report), _findings(report), _facts(report), _claims(), _notes(report)))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><meta name="referrer" content="no-referrer">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{title}: store proof, facefog</title><style>{STYLE}</style></head>"
        f"<body><main>{body}</main><footer>airflow-facefog {_text(report['version'])} &middot; {_time(report['at'])} "
        f"&middot; {_text(report['restricted'])}</footer></body></html>\n"
    )


def _verdict(report: Mapping[str, Any]) -> str:
    wrong = sum(report["classes"][cls.value]["objects"] for cls in WORST_FIRST)
    if report["clean"]:
        headline = "Every object is accounted for"
        text = (
            f"All {report['objects']:,} objects in this store are recorded outputs or bookkeeping; nothing is missing."
        )
        if report["classes"][Class.IGNORED.value]["objects"]:
            text = f"All {report['objects']:,} objects are recorded outputs, bookkeeping or left out on request."
        if not report["missing_checked"]:
            text = text.replace("; nothing is missing", "")
    elif report["raw"]:
        headline = f"{_objects(report['raw'], 'object')} with raw pixels"
        text = f"{_objects(wrong, 'finding')} among {report['objects']:,} objects. Take the raw ones out of the store first."
    elif wrong:
        headline = f"{_objects(wrong, 'finding')}"
        text = f"Among {report['objects']:,} objects some are not recorded outputs, were changed or are missing."
    else:
        headline, text = (
            "The proof does not stand",
            "Nothing wrong was found in the store, but see the record and the notes.",
        )
    if not report["record"]["verified"]:
        text += f" The audit itself does not verify ({_objects(report['record']['errors'], 'error')}): no class is reliable."
    state = "ok" if report["clean"] else "bad"
    mark = "&#10003;" if report["clean"] else "&#10007;"
    word = "Proven" if report["clean"] else "Not proven"
    return (
        f'<header class="{state}"><p class="word"><span class="mark" aria-hidden="true">{mark}</span>{word}</p>'
        f'<h1>{headline}</h1><p>{text}</p><p class="where">{_key(report["store"])}<br>held against {_key(report["audit"])}'
        f"<br>{_time(report['at'])}</p></header>"
    )


def _classes(report: Mapping[str, Any]) -> str:
    most = max(1, *(entry["objects"] for entry in report["classes"].values()))
    rows = "".join(_class_row(report, cls, most) for cls in ORDER)
    states = ", ".join(f"{count:,} {name}" for name, count in report["states"].items() if count)
    renamed = f"; {report['renamed']:,} under another key than the recorded one" if report["renamed"] else ""
    return (
        '<section aria-labelledby="classes"><h2 id="classes">Objects by class</h2><div class="wide"><table><thead><tr>'
        '<th scope="col">Class</th><th scope="col" class="n">Objects</th><th scope="col" class="bar">'
        '<span class="sr">Share</span></th><th scope="col" class="n">Size</th><th scope="col">Meaning</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
        + (f"<p>Of the proven objects: {states}{renamed}.</p>" if states else "")
        + "</section>"
    )


def _class_row(report: Mapping[str, Any], cls: Class, most: int) -> str:
    entry = report["classes"][cls.value]
    count = entry["objects"]
    bad = cls in WORST_FIRST
    style = "zero" if not count else "bad" if bad else "ok"
    name = f'<a href="#{cls.value}">{TITLES[cls]}</a>' if bad and count else TITLES[cls]
    share = max(1, round(100 * count / most)) if count else 0
    return (
        f'<tr class="{style}"><th scope="row">{name}</th><td class="n">{count:,}</td>'
        f'<td class="bar"><div style="width:{share}%"></div></td><td class="n">{_size(entry["bytes"])}</td>'
        f"<td>{MEANING[cls]}</td></tr>"
    )


def _findings(report: Mapping[str, Any]) -> str:
    found = report["findings"]
    return "".join(
        _finding_table(cls, report["classes"][cls.value]["objects"], [f for f in found if f["class"] == cls.value])
        for cls in WORST_FIRST
        if report["classes"][cls.value]["objects"]
    )


def _finding_table(cls: Class, count: int, found: Sequence[Mapping[str, Any]]) -> str:
    rows = "".join(_finding_row(finding) for finding in found[:ROWS])
    hidden = count - min(len(found), ROWS)
    more = (
        f"<p>{hidden:,} more: see the Parquet report (<code>--parquet</code>), one row per object.</p>"
        if hidden
        else ""
    )
    return (
        f'<section aria-labelledby="{cls.value}"><h2 id="{cls.value}">{TITLES[cls]} <span class="count">{count:,}</span>'
        f'</h2><p>{MEANING[cls]}</p><div class="wide"><table class="list"><thead><tr><th scope="col">Object</th>'
        '<th scope="col">What was found</th><th scope="col">Kind</th><th scope="col" class="n">Size</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div>{more}</section>"
    )


def _finding_row(finding: Mapping[str, Any]) -> str:
    lines = [_text(finding["detail"])]
    if finding.get("matched_key"):
        lines.append(f'<span class="soft">recorded object</span> {_key(finding["matched_key"])}')
    if finding.get("run_key"):
        lines.append(f'<span class="soft">run</span> <code>{_text(finding["run_key"])}/{finding["generation"]}</code>')
    if finding.get("matched_source_ref"):
        lines.append(
            f'<span class="soft">source_ref</span> <code>{_text(finding["matched_source_ref"][:16])}&hellip;</code>'
        )
    digest = f'<br><code class="soft">sha256 {finding["sha256"][:16]}&hellip;</code>' if finding.get("sha256") else ""
    flag = ' <span class="flag">raw</span>' if finding.get("raw") else ""
    return (
        f"<tr><td>{_key(finding['key'])}{flag}{digest}</td><td>{'<br>'.join(lines)}</td>"
        f'<td>{_text(finding.get("kind", ""))}</td><td class="n">{_size(finding.get("size", 0))}</td></tr>'
    )


def _facts(report: Mapping[str, Any]) -> str:
    record = report["record"]
    seqs = ", ".join(f"{_text(d['dataset'])} at snapshot {d['snapshot_seq'] or 'none'}" for d in report["datasets"])
    amended = ", ".join(f"{_objects(count, 'request')} of {reason}" for reason, count in report["amendments"].items())
    facts = {
        "Audit head": f"<code>{_text(record['head'])}</code>" if record["entries"] else "no chain: sealed by an older release",
        "Record": (f"verifies: {_objects(record['runs'], 'sealed run')}" if record["verified"] else
                   f"does not verify: {_objects(record['errors'], 'error')}, run <code>facefog audit verify</code>"),
        "Signatures": f"{_text(record['signed'])} of {_objects(record['entries'], 'chain entry', 'chain entries')}; "
                      f"{TRUST.get(record['trust'], '')}",
        "Raw images by bytes": _text(report["raw_check"]),
        "Missing objects": f"looked for: {seqs}" if report["missing_checked"] and seqs else "not looked for: no snapshot here",
        "Amendments": amended or "none",
        "Left out on request": ", ".join(_key(glob) for glob in report["ignore"]) or "nothing",
        "Time taken": f"{report['seconds']:,.1f} s for {_size(report['bytes'])}",
    }  # fmt: skip
    rows = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts.items())
    errors = "".join(f"<li>{_key(f['object'])}: {_text(f['detail'])}</li>" for f in record["findings"])
    return (
        f'<section aria-labelledby="facts"><h2 id="facts">What it rests on</h2><dl>{rows}</dl>'
        + (f"<h3>Faults of the record</h3><ul>{errors}</ul>" if errors else "")
        + "</section>"
    )


def _claims() -> str:
    rows = "".join(f"<div><dt>{name}</dt><dd>{text}</dd></div>" for name, text in CLAIMS)
    return (
        f'<section aria-labelledby="claims"><h2 id="claims">What it proves, and what not</h2><dl>{rows}</dl></section>'
    )


def _notes(report: Mapping[str, Any]) -> str:
    items = "".join(f"<li>{_text(note)}</li>" for note in _first(report["notes"]))
    return f'<section aria-labelledby="notes"><h2 id="notes">Notes</h2><ul>{items}</ul></section>' if items else ""


def _first(notes: Sequence[str]) -> Iterator[str]:
    yield from notes[:50]


def _text(value: object) -> str:
    return escape("".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in str(value)))


def _key(value: object) -> str:
    return f'<bdi class="key">{_text(value)}</bdi>'


def _time(iso: str) -> str:
    return f'<time datetime="{_text(iso)}">{_text(iso.replace("T", " ").replace("+00:00", " UTC"))}</time>'


def _objects(count: int, one: str, many: str = "") -> str:
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def _size(count: int) -> str:
    if count < 1000:
        return f"{count} B"
    size = float(count)
    for unit in ("kB", "MB", "GB", "TB"):
        size /= 1000
        if size < 1000 or unit == "TB":
            break
    return f"{size:,.1f} {unit}" if size < 10 else f"{size:,.0f} {unit}"
