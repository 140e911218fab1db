"""Debian's nginx in front of servers of this machine, which it takes in turn, for each request another one."""

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
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            proxy_pass http://servers;
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
    """Runs in front of ports, on ``port`` of its own."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self._process = process
        self.port = port

    def reload(self) -> None:
        """Let new processes take over, as after a change of what it is to do; the old ones end what they have."""
        self._process.send_signal(signal.SIGHUP)


@asynccontextmanager
async def round_robin(ports: Sequence[int]) -> AsyncIterator[int]:
    """Run nginx in front of ports, and return its own port."""
    async with nginx_before(ports) as nginx:
        yield nginx.port


@asynccontextmanager
async def nginx_before(ports: Sequence[int]) -> AsyncIterator[Nginx]:
    """Run nginx in front of ports."""
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    assert program is not None, "scripts/install-debian nginx"
    with socket.create_server(("127.0.0.1", 0)) as probe:
        own = int(probe.getsockname()[1])
    with tempfile.TemporaryDirectory(prefix="nginx-") as folder:
        _configure(Path(folder), own, ports)
        process = await asyncio.create_subprocess_exec(
            *(program, "-p", folder, "-c", "nginx.conf", "-e", "stderr"), stderr=asyncio.subprocess.PIPE
        )
        assert process.stderr is not None
        draining: asyncio.Task[bytes] | None = None
        try:
            async with asyncio.timeout(DEADLINE):
                while b"start worker processes" not in (line := await process.stderr.readline()):
                    assert line, "nginx ended"
            # It would stand still once its complaints fill the pipe.
            draining = asyncio.create_task(process.stderr.read())
            yield Nginx(process, own)
        finally:
            process.terminate()
            if draining is not None:
                await draining
            await process.wait()


def _configure(folder: Path, port: int, ports: Sequence[int]) -> None:
    """Write what nginx is to do."""
    servers = " ".join(f"server 127.0.0.1:{other};" for other in ports)
    folder.joinpath("nginx.conf").write_text(_CONFIGURATION.format(folder=folder, servers=servers, port=port))
