"""``make demo``: the example Dag in real Airflow on sample photos, or on ``SOURCE=dir``; then what came out of it.

Everything lies in build/demo. Originals are drawn on the contact sheet for the bundled public-domain photos only, or with
``DEMO_SHOW_RAW=1`` into a folder that only you may read.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from contact_sheet import Card, draw_sheet
from rich.console import Console
from rich.table import Table
from rich.text import Text
from samples import SAMPLES, write_samples

from airflow_facefog.cli.app import run as facefog
from airflow_facefog.cli.published import RunImages, newest_run
from airflow_facefog.job.model import Place
from airflow_facefog.keyfile import find_or_create_key
from airflow_facefog.signing_keyfile import create_signing_key

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / "build" / "demo"
LAKE = HOME / "lake"
LOG = HOME / "airflow.log"
DAG_FILE, DAG_ID = ROOT / "dags" / "fog_photos.py", "fog_photos"
MOST_ROWS = 50
STYLES = {"published": "green", "skipped": "cyan", "quarantined": "yellow", "failed": "red"}
SIGNING_KEY = HOME / "signing.key"
AUDIT, CLEAN = "build/demo/lake/audit", "build/demo/lake/clean"
VERIFIER = ["--public-key", "build/demo/signing.key.pub"]
QUESTIONS = (
    ["audit", "report", "detector-stats", "--audit", AUDIT],
    ["audit", "verify", AUDIT, "--deep", *VERIFIER],
    ["prove", CLEAN, "--audit", AUDIT, *VERIFIER, "--html", "build/demo/proof.html"],
)

console = Console(highlight=False)


def main() -> int:
    parser = argparse.ArgumentParser(description="Run the example Dag on sample photos or your own.")
    parser.add_argument("--source", type=Path, help="a folder of your own photos; they stay where they are")
    source = parser.parse_args().source
    prepare(source)
    console.print(f"Running the Dag {DAG_ID} in Airflow, about half a minute (log: {shown(LOG)})", soft_wrap=True)
    started = time.monotonic()
    code = run_dag()
    console.print(f"The Dag run {'succeeded' if code == 0 else 'FAILED'} after {time.monotonic() - started:.0f} s.\n")
    try:
        run = newest_run(Place.parse(str(LAKE / "clean")))
    except Exception as error:
        console.print(f"Nothing was committed ({type(error).__name__}): {error}. See {shown(LOG)}.")
        return 1
    print_table(run)
    sheet = make_sheet(run, source)
    print_places(sheet)
    return code


def prepare(source: Path | None) -> None:
    """A new lake: ``raw`` is filled with the samples or points to the user's folder, which is only read."""
    if source is not None and not source.expanduser().is_dir():
        sys.exit(f"SOURCE={source} is not a folder")
    for old in (LAKE, HOME / "sheet", HOME / "sheet-with-originals"):
        shutil.rmtree(old, ignore_errors=True)
    LAKE.mkdir(parents=True)
    if source is None:
        write_samples(LAKE / "raw")
    else:
        (LAKE / "raw").symlink_to(source.expanduser().resolve(), target_is_directory=True)


def run_dag() -> int:
    """Run the example Dag as an Airflow of its own would: no setting of the user's Airflow is used."""
    own = {
        "AIRFLOW_HOME": str(HOME / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAG_FILE.parent),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW_VAR_FACEFOG_LAKE": str(LAKE),
    }
    key = find_or_create_key(apart_from=[str(LAKE)])
    if key.created:
        console.print(
            f"Made a master key in {key.path}, readable by you alone. Keep a copy: other keys make other ids."
        )
    own["AIRFLOW_CONN_FACEFOG_KEY"] = json.dumps({"conn_type": "generic", "password": key.master.hex()})
    own["AIRFLOW_CONN_FACEFOG_SIGNING_KEY"] = json.dumps({"conn_type": "generic", "password": signing_key()})
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW_", "_AIRFLOW"))}
    with LOG.open("wb") as log:
        command = [sys.executable, str(Path(__file__).with_name("in_airflow.py")), str(DAG_FILE), DAG_ID]
        return subprocess.run(
            command, env={**kept, **own}, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False
        ).returncode


def signing_key() -> str:
    """The demo's own signing key, made once: it lies beside the lake, not among the user's keys."""
    if not SIGNING_KEY.exists():
        create_signing_key(SIGNING_KEY)
    return SIGNING_KEY.read_text()


def print_table(run: RunImages) -> None:
    table = Table(title=f"run {run.run_key} ({run.state})", title_justify="left")
    for heading in ("image", "status", "reason"):
        table.add_column(heading, overflow="fold")
    for heading in ("seen", "fogged"):
        table.add_column(heading, justify="right")
    for row in run.images[:MOST_ROWS]:
        status = Text(row["status"], style=STYLES[row["status"]])
        table.add_row(Text(name(row)), status, row["reason"] or "", str(row["n_detections"]), str(row["n_fogged"]))
    console.print(table)
    if len(run.images) > MOST_ROWS:
        console.print(f"… and {len(run.images) - MOST_ROWS} more")
    counts = Counter(row["status"] for row in run.images)
    console.print(f"{len(run.images)} images: " + ", ".join(f"{n} {status}" for status, n in counts.items()))
    console.print(
        "seen: what the detector reported above the record floor; fogged: regions the policy covered. The built-in detector "
        "knows faces, not plates, and it misses some: look before you trust.\n",
        style="dim",
    )


def make_sheet(run: RunImages, source: Path | None) -> Path:
    private = source is not None and os.environ.get("DEMO_SHOW_RAW") == "1"
    raw = source is None or private
    path = HOME / ("sheet-with-originals" if private else "sheet") / "contact_sheet.png"
    heading = "before and after" if raw else "published images"
    draw_sheet(
        [card(row, raw=raw) for row in run.images], path, f"airflow_facefog: {heading}", raw=raw, private=private
    )
    return path


def card(row: dict[str, Any], *, raw: bool) -> Card:
    about = next((f"{sample.about}; " for sample in SAMPLES if sample.name == name(row)), "")
    refused = "" if row["output_uri"] else f"{row['status']}: {row['reason']}"
    regions = row["n_fogged"]
    note = refused or f"{about}{regions} region{'' if regions == 1 else 's'} fogged"
    return Card(
        title=name(row), note=note, refused=refused,
        after=Path(row["output_uri"].removeprefix("file://")) if row["output_uri"] else None,
        before=LAKE / "raw" / name(row) if raw else None,
    )  # fmt: skip


def name(row: dict[str, Any]) -> str:
    """Path below ``raw``."""
    return str(row["source_uri"]).removeprefix(f"file://{LAKE}/raw/")


def print_places(sheet: Path) -> None:
    console.print(f"fogged images   {shown(LAKE / 'clean' / 'data')}")
    console.print(f"audit           {shown(LAKE / 'audit')}")
    who = " (originals on it: only you may read it)" if "originals" in sheet.parent.name else ""
    console.print(f"contact sheet   {shown(sheet)}{who}\n")
    console.print("Ask the audit (from this folder; docs/auditors-guide.md goes on from here):\n")
    os.chdir(ROOT)
    for words in QUESTIONS:
        console.print(f".venv/bin/facefog {shlex.join(words)}", style="bold", soft_wrap=True)
        sys.stdout.flush()
        facefog(words)
    console.print("proof for people  build/demo/proof.html")


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


if __name__ == "__main__":
    sys.exit(main())
