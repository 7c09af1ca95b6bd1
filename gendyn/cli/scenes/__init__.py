"""The scenes that ``gendyn demo`` shows; a new one joins by a line in :data:`SCENES`."""

from gendyn.cli.scenes.flashing_ratchet import FLASHING_RATCHET
from gendyn.cli.scenes.half_a_recording import HALF_A_RECORDING
from gendyn.cli.scenes.noise_dial import NOISE_DIAL
from gendyn.cli.scenes.populations import POPULATIONS
from gendyn.cli.scenes.predator_and_prey import PREDATOR_AND_PREY
from gendyn.cli.scenes.rough_volatility import ROUGH_VOLATILITY
from gendyn.cli.scenes.scene import Scene, Stage

__all__ = ["SCENES", "Scene", "Stage"]

SCENES: dict[str, Scene] = {
    "populations": POPULATIONS,
    "noise-dial": NOISE_DIAL,
    "flashing-ratchet": FLASHING_RATCHET,
    "predator-and-prey": PREDATOR_AND_PREY,
    "half-a-recording": HALF_A_RECORDING,
    "rough-volatility": ROUGH_VOLATILITY,
}
"""Scenes by name, the default first."""
