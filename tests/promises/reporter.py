"""What the servers of a scene have in common: they write down what happens, and answer what is asked of them."""

from __future__ import annotations

import asyncio
import json
import os
import time
from typing import Any, Final

from primacron import HttpRequest, Primacron
from primacron.cluster.cluster import Cluster
from primacron.cluster.link import LinkBack, LinkLost
from primacron.testing.promises import AnyRecord, Trouble, Witness, encode_record
from tests.promises.view import view_of

#: Seconds by which the event loop may be late before that counts as standing still.
LATE: Final = 0.5
#: Errors that tell more than that a client was turned away.
NOTED: Final = frozenset({"error::bus", "error::handler"})


class Reporter:
    """Writes down what happens at a server, in the files that it is given."""

    def __init__(self, server: Primacron, given: dict[str, Any]) -> None:
        self._server = server
        self._log, self._notes = (
            os.open(given[name], os.O_WRONLY | os.O_APPEND | os.O_CREAT) for name in ("log", "notes")
        )
        self._errors: list[tuple[str, str]] = []
        server.on("error::*", self._erred)
        server.get("/state")(self._state)
        server.get("/view")(self._view)

    def write(self, record: AnyRecord) -> None:
        """Append a record to the log, in one piece."""
        os.write(self._log, encode_record(record))

    def note(self, text: str, *, shakes: bool = False) -> None:
        """Tell whoever reads the story of the run; what ``shakes`` may keep servers from reaching each other."""
        line = json.dumps([time.monotonic(), f"{self._server.node.id}: {text}", shakes])
        os.write(self._notes, line.encode() + b"\n")

    async def watch(self) -> None:
        """Write down when this process stood still, whoever made it."""
        while self._server.is_started:
            before = time.monotonic()
            await asyncio.sleep(0.1)
            if time.monotonic() - before > LATE:
                self.write(Trouble(before, time.monotonic(), self._server.node.id))
                self.note(f"its event loop stood still for {time.monotonic() - before:.1f} s", shakes=True)

    def show_sessions(self, witness: Witness) -> None:
        """Let others ask which sessions are here."""

        @self._server.get("/holds")
        def holds(request: HttpRequest) -> bytes:
            return encode_record(witness.holds())

    def _erred(self, error: Exception, _: Any) -> None:
        self._errors.append((getattr(error, "event", None) or "error::handler", str(error)))
        if self._errors[-1][0] in NOTED:
            self.note(": ".join(self._errors[-1]), shakes=isinstance(error, LinkLost | LinkBack))

    def _state(self, request: HttpRequest) -> str:
        """Tell what the server has seen."""
        cluster = self._server.node.cluster
        assert isinstance(cluster, Cluster)
        leases = {node: cluster.lives(node) for node in cluster.others()}
        return json.dumps(
            {
                "node": self._server.node.id,
                "others": sorted(node for node, lease in leases.items() if lease is not None and not lease.deaf),
                "unready": self._server.unready(),
                "errors": self._errors,
            }
        )

    def _view(self, request: HttpRequest) -> str:
        """Tell how the server sees the others."""
        return json.dumps(view_of(self._server))
