"""Public data sets by name, read from the folder that the environment variable ``GENDYN_DATA`` names.

Nothing is downloaded and nothing is shipped: these files belong to those who published them. A set that is not there
is a sentence: what it is, who published it, which file to put where. Three real recordings come with matplotlib, and
are there without any folder.
"""

from gendyn.datasets.library import TimeScale, available, load, table

__all__ = ["TimeScale", "available", "load", "table"]
