"""The circumstances of a measurement: the machine, the versions, the commit."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import msgspec

from benchmarks.processes import ROOT

PACKAGES: Final = (
    "primacron",
    "uvloop",
    "msgspec",
    "httptools",
    "redis",
    "python-engineio",
    "python-socketio",
    "uvicorn",
    "websockets",
    "picows",
)
MODULES: Final = (
    "engine.io",
    "socket.io",
    "socket.io-client",
    "@socket.io/redis-adapter",
    "@socket.io/redis-streams-adapter",
    "ioredis",
    "ws",
)
#: The paths that affect our figures.
SOURCES: Final = ("src", "benchmarks", "setup.py", "pyproject.toml")


def describe_machine() -> str:
    """Return the processor, the usable cores and the system, on one line."""
    model = re.search(r"^model name\s*: (.*)$", _text("/proc/cpuinfo"), re.MULTILINE)
    kind = model[1] if model else platform.machine()
    virtual = ", virtual" if re.search(r"^flags.*\bhypervisor\b", _text("/proc/cpuinfo"), re.MULTILINE) else ""
    return f"{kind}, {len(os.sched_getaffinity(0))} cores{virtual}, Linux {platform.release().split('-')[0]}"


def find_versions() -> dict[str, str]:
    """Return the version of everything involved."""
    found = {"Python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    found["Node.js"] = _first(r"v(\S+)", _output("node", "--version"))
    for module in MODULES:
        file = ROOT / "benchmarks" / "peers" / "node_modules" / module / "package.json"
        if file.exists():
            found[module] = str(msgspec.json.decode(file.read_bytes())["version"])
    found["nginx"] = _first(r"nginx/(\S+)", _output("nginx", "-v"))
    found["nchan"] = _first(r"(?:\d+:)?([\d.]+)", _output("dpkg-query", "-W", "-f", "${Version}", "libnginx-mod-nchan"))
    found["Redis"] = _first(r"v=([\d.]+)", _output("redis-server", "--version"))
    found["gcc"] = _first(r"([\d.]+)", _output("gcc", "-dumpfullversion"))
    found["OpenSSL"] = _first(r"OpenSSL (\S+)", _output("openssl", "version"))
    return {name: each for name, each in found.items() if each}


def describe_commit() -> str:
    """Return the measured commit, marked if its files have changed since."""
    commit = _output("git", "rev-parse", "--short=12", "HEAD").strip() or "unknown"
    changed = _output("git", "status", "--porcelain", "--", *SOURCES, ":!benchmarks/results.*").strip()
    return f"{commit}, changed since" if changed else commit


def _text(path: str) -> str:
    file = Path(path)
    return file.read_text() if file.exists() else ""


def _output(*command: str) -> str:
    """Return what a program prints, or nothing if it is not installed."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    except FileNotFoundError:
        return ""
    return done.stdout + done.stderr if done.returncode == 0 else ""


def _first(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    return found[1] if found else ""
