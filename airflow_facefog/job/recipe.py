"""Do detector, policy and key go together, and which recipe do they make?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_facefog.core.errors import PolicyError
from airflow_facefog.core.policy import FogPolicy, recipe_hash
from airflow_facefog.core.regions import FOG_VERSION

if TYPE_CHECKING:
    from airflow_facefog.core.detector import DetectorInfo
    from airflow_facefog.core.keys import KeyRing
    from airflow_facefog.detectors.roboflow.access import AccessOpener


def resolve_recipe(
    detector: Any, policy: FogPolicy, keys: KeyRing, open_access: AccessOpener | None = None
) -> tuple[DetectorInfo, str]:
    """Check that this process may and can run the recipe; return the detector's info and the recipe hash.

    Raises PolicyError for remote inference that is not allowed and for a missing master key that the policy needs.
    """
    from airflow_facefog.detectors import resolve

    info = resolve(detector, open_access, policy.allow_remote_inference).info
    if info.remote_host is not None and not policy.allow_remote_inference:
        raise PolicyError(
            f"detector {info.name!r} sends pictures to {info.remote_host}; if the people in them may be shown to that "
            "host, write `allow_remote_inference: true` in the policy"
        )
    if policy.needs_key and not keys.keyed:
        raise PolicyError(
            "this policy needs a master key (require_key, pixelate or blur); make one with `facefog keys new`"
        )
    return info, recipe_hash(policy.policy_hash(), info.fingerprint, keys.key_id, FOG_VERSION)


def check_classes(policy: FogPolicy, info: DetectorInfo) -> None:
    """Raise PolicyError for a rule of a class that no configured detector can emit: it would protect nobody.

    For the plan step alone: a policy read back from a plan no longer tells the default rules from written ones.
    """
    if info.classes is None or "rules" not in policy.model_fields_set:
        return
    strangers = sorted(set(policy.rules) - {name.casefold() for name in info.classes})
    if strangers:
        raise PolicyError(
            f"rule {strangers[0]!r}: no configured detector emits this class; it emits: {', '.join(info.classes)}"
        )
