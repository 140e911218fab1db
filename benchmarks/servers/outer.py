"""uvicorn on uvloop, which serves the ASGI contestants."""

from __future__ import annotations

import argparse
from typing import Any

import uvicorn


def serve(application: Any, description: str | None) -> None:
    """Serve an ASGI application on the command line's port until a signal arrives."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("port", type=int)
    parser.add_argument("file", nargs="?", help="a file with a certificate and its key")
    args = parser.parse_args()
    uvicorn.run(
        application,
        host="127.0.0.1",
        port=args.port,
        loop="uvloop",
        http="httptools",
        backlog=4096,
        log_level="warning",
        access_log=False,
        ssl_certfile=args.file,
        ssl_keyfile=args.file,
    )
