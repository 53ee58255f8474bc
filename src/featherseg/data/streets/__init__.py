"""Procedural street scenes with exact labels; see ``scenes``."""

from featherseg.data.streets.scenes import Box, SceneVehicle, Streets

__all__ = ["Box", "SceneVehicle", "Streets"]
