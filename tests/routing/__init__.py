"""Sending, whoever it is for."""
