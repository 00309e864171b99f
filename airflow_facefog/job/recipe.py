"""Do detector, policy and key go together, and which recipe do they make?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_facefog.core.errors import PolicyError
from airflow_facefog.core.policy import FogPolicy, recipe_hash
from airflow_facefog.core.regions import FOG_VERSION

if TYPE_CHECKING:
    from airflow_facefog.core.detector import Detector, DetectorInfo
    from airflow_facefog.core.keys import KeyRing
    from airflow_facefog.detectors.roboflow.access import AccessOpener


def plan_recipe(
    detector: Any, policy: FogPolicy, keys: KeyRing, open_access: AccessOpener | None = None
) -> tuple[DetectorInfo, str]:
    """As ``resolve_recipe``, for the plan step: also refuse what would silently protect nobody.

    Raises PolicyError for a rule of a class that no detector emits and for a detector without a canary.
    """
    found = _resolve(detector, policy, open_access)
    recipe = _recipe(found.info, policy, keys)
    check_classes(policy, found.info)
    check_canaries(policy, found)
    return found.info, recipe


def resolve_recipe(
    detector: Any, policy: FogPolicy, keys: KeyRing, open_access: AccessOpener | None = None
) -> tuple[DetectorInfo, str]:
    """Check that this process may and can run the recipe; return the detector's info and the recipe hash.

    Raises PolicyError for remote inference that is not allowed and for a missing master key that the policy needs.
    """
    info = _resolve(detector, policy, open_access).info
    return info, _recipe(info, policy, keys)


def _resolve(detector: Any, policy: FogPolicy, open_access: AccessOpener | None) -> Detector:
    from airflow_facefog.detectors import resolve

    return resolve(detector, open_access, policy.allow_remote_inference)


def _recipe(info: DetectorInfo, policy: FogPolicy, keys: KeyRing) -> str:
    if info.remote_host is not None and not policy.allow_remote_inference:
        raise PolicyError(
            f"detector {info.name!r} sends pictures to {info.remote_host}; if the people in them may be shown to that "
            "host, write `allow_remote_inference: true` in the policy"
        )
    if policy.needs_key and not keys.keyed:
        raise PolicyError(
            "this policy needs a master key (require_key, record_pixel_id, pixelate or blur); make one with `facefog keys new`"
        )
    return recipe_hash(policy.policy_hash(), info.fingerprint, keys.key_id, FOG_VERSION)


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


def check_canaries(policy: FogPolicy, detector: Detector) -> None:
    """Raise PolicyError for a detector without a canary that the policy does not accept: nobody would see it go blind."""
    from airflow_facefog.detectors.canary import without_canary

    names = [] if policy.accept_no_canary else without_canary(detector)
    if names:
        raise PolicyError(
            f"detector {names[0]!r} has no canary: if it went blind, every image would be published as one without "
            'detections; give it a picture with a known answer, `"canary": {"picture": "known.png", "class_name": "face"}` in '
            "the detector spec (a method `canary()` in your own detector), or write `accept_no_canary: true` in the policy"
        )
