"""Generates the parts of the documentation that the code itself can provide."""
