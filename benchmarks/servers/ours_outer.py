"""Benchmark server: Primacron under uvicorn."""

from __future__ import annotations

from benchmarks.servers.ours import make_events
from benchmarks.servers.outer import serve

if __name__ == "__main__":
    serve(make_events().asgi, __doc__)
