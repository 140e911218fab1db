"""Several servers under faults, and whether they keep what they promise."""
