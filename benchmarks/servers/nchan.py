"""Benchmark server: nchan, a module of nginx: one channel for all, and channels by name; subscribers may publish."""

from __future__ import annotations

import argparse
import os
import resource
from pathlib import Path
from typing import Final

MODULE: Final = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")

CONFIGURATION: Final = """
load_module {module};
daemon off;
worker_processes 1;
pid {folder}/pid;
error_log stderr error;
events {{
    worker_connections {files};
    multi_accept on;
}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    nchan_shared_memory_size 128M;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        nchan_message_buffer_length 100;
        nchan_subscriber_first_message newest;
        nchan_websocket_ping_interval 25;
        location = /all {{
            nchan_pubsub websocket;
            nchan_channel_id all;
        }}
        location ~ ^/channel/(\\w+)$ {{
            nchan_pubsub websocket;
            nchan_channel_id $1;
        }}
    }}
}}
"""


def main() -> None:
    """Exec nginx."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    args = parser.parse_args()
    folder = Path(__file__).parent.parent / "bin" / "nchan"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "nginx.conf"
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    file.write_text(CONFIGURATION.format(module=MODULE, folder=folder, port=args.port, files=files))
    os.execvp("nginx", ["nginx", "-e", "stderr", "-p", str(folder), "-c", str(file)])


if __name__ == "__main__":
    main()
