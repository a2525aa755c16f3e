"""Distances on a sphere of the Earth's mean radius: at most 0.6 % off the ellipsoid's."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from serving.collections.types import GeoPoint

__all__ = ["EARTH_RADIUS_M", "within_radius"]

EARTH_RADIUS_M = 6_371_008.8
"""Mean radius of the Earth in metres (IUGG)."""
_SLACK_DEG = 1e-6


def within_radius(
    latitudes_deg: NDArray[np.float64], longitudes_deg: NDArray[np.float64], centre: GeoPoint, radius_m: float
) -> NDArray[np.bool_]:
    """Says which places lie within a distance of a centre, by the haversine formula.

    Args:
        latitudes_deg: `[n]`, in [-90, 90].
        longitudes_deg: `[n]`, in [-180, 180].
        centre: Where the distance is measured from.
        radius_m: Greatest distance over the surface in metres, inclusive; greater than 0.

    Returns:
        `[n]`.
    """
    inside = np.zeros(len(latitudes_deg), dtype=np.bool_)
    angle = min(radius_m / EARTH_RADIUS_M, np.pi)
    # Most places are ruled out by their latitude alone, which costs no trigonometry.
    near = np.flatnonzero(np.abs(latitudes_deg - centre.latitude_deg) <= np.degrees(angle) + _SLACK_DEG)
    latitudes, longitudes = np.radians(latitudes_deg[near]), np.radians(longitudes_deg[near])
    latitude, longitude = np.radians(centre.latitude_deg), np.radians(centre.longitude_deg)
    haversine = np.sin((latitudes - latitude) / 2) ** 2
    haversine += np.cos(latitude) * np.cos(latitudes) * np.sin((longitudes - longitude) / 2) ** 2
    inside[near] = 2 * np.arcsin(np.sqrt(np.minimum(haversine, 1))) <= angle
    return inside
