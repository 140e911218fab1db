"""The backend on Redis: one server, a Redis Cluster, or Sentinel."""
