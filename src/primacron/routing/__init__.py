"""Routing of sends across the cluster: to whom (audience), what (acts), how (options), and by which path."""
