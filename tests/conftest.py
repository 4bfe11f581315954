"""Runs before any test module imports torch."""

import os

# Waiting threads sleep: spinning ones slow the browser and the servers that tests start beside them.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
