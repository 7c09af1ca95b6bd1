"""The command line: ``gendyn demo | fit | sample | evaluate | leave-one-out | simulate | info``."""

from gendyn.cli.app import main, run

__all__ = ["main", "run"]
