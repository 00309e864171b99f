"""A stand-in for Roboflow's servers on loopback: management API and inference server in one, with real predictions.

In a test (the fixture ``standin`` starts one per session and resets it per test)::

    def test_something(standin):
        standin.script("/faces/1", "status", status=429, retry_after=2, times=3)    # then good again
        standin.script("/faces/1", "status", status=404, after=5, times=None)       # retired after five good answers
        ...                                                                         # talk to standin.url
        assert [r.status for r in standin.requests("/faces/1")] == [429, 429, 429, 200]

From a shell, for another process or a demo: ``python tests/roboflow/standin --port 9001``; it prints its URL and a good key.
Every order of the **control endpoint** is a POST with a JSON body and answers JSON, 400 with ``{"error"}`` if misspelt:

==========================  =====================================================================================
``/_standin/script``        ``{"path": glob, "fault": kind, "method": "*", "times": 1 | null, "after": 0, …parameters}``
``/_standin/set``           settings by name, of the list below
``/_standin/retire``        ``{"model_id": "faces/1", "retired": true}``
``/_standin/training``      ``{"training_id": …, "status": "running" | "finished" | "failed" | …}``: hold a run there
``/_standin/requests``      every request so far (no bodies); ``/_standin/peak``: the most requests at one time
``/_standin/reset``         a fresh world, no script, no records; ends stalls
==========================  =====================================================================================

Faults and their parameters: ``standin.faults``. The first line of the script that fires for a request counts.

Settings, as attributes of ``StandIn``: ``sleep_s`` (None: look at the picture; a number: answer after so many seconds
without a detector, empty but for the echo model), ``clock_skew_s`` (of Date and of Retry-After dates), ``keep_bodies``.
Of ``StandIn.world``: ``require_key`` (False: a self-hosted server with a warm model), ``self_hosted`` (as that, and no
management API), ``header_auth`` (False: a server before 1.5, Bearer is not read), ``byte_limit`` (413 above),
``generating_polls``, ``export_polls``, ``queued_polls``, ``running_polls`` (looks until a state changes),
``training_outcome`` ("finished" or "failed"). ``world.keys`` maps a key to 200, 402, 403 or 423; others get 401.
``world.models``, ``world.projects`` and their versions, images and trainings may be changed and read freely.

Models: ``faces/1`` (embedded face detector behind "Stretch to" 640x640), ``faces/2`` (without), ``markers/1`` (painted
rectangles: magenta "face", red "license_plate", blue "red", green "green"; the third name is wrong on purpose: it is what
a swap of red and blue looks like), ``markers/2`` (stretched), ``outlines/1`` (polygons), ``echo/1`` (one box in the
middle whose confidence is the one that was asked for).
"""

from standin.exchange import Recorded
from standin.models import MARKER_BGR, Model, Seen
from standin.server import StandIn
from standin.world import GOOD_KEY, KEYS, WORKSPACE

__all__ = ["GOOD_KEY", "KEYS", "MARKER_BGR", "WORKSPACE", "Model", "Recorded", "Seen", "StandIn"]
