"""The servers under test: ours, and one file for each of the others."""
