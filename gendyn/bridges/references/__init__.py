"""What a bridge is nearest to: references that are given, by name, from a function, or as they come."""

from gendyn.bridges.references.fixed import DriftReference

__all__ = ["DriftReference"]
