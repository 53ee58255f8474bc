"""Procedural street scenes with exact labels; see ``scenes``."""

from featherseg.data.streets.scenes import Box, Streets

__all__ = ["Box", "Streets"]
