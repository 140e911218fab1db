"""Applications to read, and to run with ``python -m examples.<name>``."""
