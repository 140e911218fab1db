"""Runs the auction: ``python -m examples.auction [--port 8080] [--host 127.0.0.1] [--silence 8]``."""

from __future__ import annotations

import argparse
import sys

from examples.auction.server import create


def main() -> None:
    """Run the auction until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m examples.auction", description="A live auction to play with.")
    parser.add_argument("--port", type=int, default=8080, help="0 for a free one (default: %(default)s)")
    parser.add_argument("--host", default="127.0.0.1", help="(default: %(default)s)")
    parser.add_argument("--silence", type=float, default=8.0, help="seconds; three of them sell a lot (default: 8)")
    given = parser.parse_args()
    server = create(given.silence)
    server.on("listening", lambda: print(f"The auction is open: {server.uri}/ (best in two windows)", flush=True))
    try:
        server.run(given.port, given.host)
    except OSError as error:
        sys.exit(
            f"{error.strerror or error}. Is something else there? Try `make demo PORT=8081`, or --port 0 for a free one"
        )


if __name__ == "__main__":
    main()
