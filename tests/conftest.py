"""One thread to each worker: pytest-xdist has one a core, and more threads than cores only wait for each other."""

import os

if os.environ.get("PYTEST_XDIST_WORKER"):
    # Before torch and NumPy are imported, and for the processes that tests start.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
