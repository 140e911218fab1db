"""Routing of HTTP requests by path."""
