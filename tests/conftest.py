"""What holds for all tests: one thread to each worker, and random numbers that no other test has drawn from."""

import os

import pytest

if os.environ.get("PYTEST_XDIST_WORKER"):
    # One thread to each: pytest-xdist has one worker a core, and more threads than cores only wait for each other.
    # Before torch and NumPy are imported, and for the processes that tests start.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

_STATES: dict[str, dict] = {}


@pytest.fixture(autouse=True)
def numbers_of_its_own(request):
    """Set the generator ``RNG`` of a test's module back, so that a test does not depend on those before it."""
    module = getattr(request.node, "module", None)
    generator = getattr(getattr(module, "RNG", None), "bit_generator", None)
    if generator is not None:
        generator.state = _STATES.setdefault(module.__name__, generator.state)
