"""Placeholder, replaced by the owner of the folder."""
