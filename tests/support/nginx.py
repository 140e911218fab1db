"""Debian's nginx as a round-robin proxy for local servers, per request."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

DEADLINE = 20.0

_CONFIGURATION = """
daemon off;
pid {folder}/pid;
error_log stderr notice;
events {{
    worker_connections 8192;
}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    map $http_upgrade $connection_upgrade {{
        default upgrade;
        ""      "";
    }}
    upstream servers {{
        {servers}
        keepalive 256;
    }}
    upstream home {{
        server 127.0.0.1:{home};
        keepalive 256;
    }}
    map $arg_sid $upstream {{
        default servers;
        ""      home;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            proxy_pass http://{upstream};
            proxy_next_upstream {repeats};
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
            proxy_set_header Host $http_host;
            proxy_read_timeout 90s;
            client_max_body_size 1m;
        }}
    }}
}}
"""


class Nginx:
    """A running nginx, on a ``port`` of its own."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self._process = process
        self.port = port

    def reload(self) -> None:
        """Start new worker processes, as after a configuration change; the old ones finish their requests."""
        self._process.send_signal(signal.SIGHUP)


@asynccontextmanager
async def round_robin(ports: Sequence[int], home: int | None = None) -> AsyncIterator[int]:
    """Run nginx in front of ports, and yield its own port; ``home`` as in :func:`nginx_before`."""
    async with nginx_before(ports, home) as nginx:
        yield nginx.port


@asynccontextmanager
async def nginx_before(ports: Sequence[int], home: int | None = None) -> AsyncIterator[Nginx]:
    """
    Run nginx in front of ports.

    With a ``home``, that port alone receives handshakes, POSTs are retried as GETs are
    when a server terminates before its response, and no server is taken out of rotation.
    """
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    assert program is not None, "scripts/install-debian nginx"
    with socket.create_server(("127.0.0.1", 0)) as probe:
        own = int(probe.getsockname()[1])
    with tempfile.TemporaryDirectory(prefix="nginx-") as folder:
        _configure(Path(folder), own, ports, home)
        process = await asyncio.create_subprocess_exec(
            *(program, "-p", folder, "-c", "nginx.conf", "-e", "stderr"), stderr=asyncio.subprocess.PIPE
        )
        assert process.stderr is not None
        draining: asyncio.Task[bytes] | None = None
        try:
            async with asyncio.timeout(DEADLINE):
                while b"start worker processes" not in (line := await process.stderr.readline()):
                    assert line, "nginx ended"
            # nginx would block once its log fills the pipe.
            draining = asyncio.create_task(process.stderr.read())
            yield Nginx(process, own)
        finally:
            process.terminate()
            if draining is not None:
                await draining
            await process.wait()


def _configure(folder: Path, port: int, ports: Sequence[int], home: int | None) -> None:
    """Write the configuration file."""
    fails = "" if home is None else " max_fails=0"
    text = _CONFIGURATION.format(
        folder=folder,
        servers=" ".join(f"server 127.0.0.1:{other}{fails};" for other in ports),
        port=port,
        home=ports[0] if home is None else home,
        upstream="servers" if home is None else "$upstream",
        repeats="error timeout" if home is None else "error timeout non_idempotent",
    )
    folder.joinpath("nginx.conf").write_text(text)
