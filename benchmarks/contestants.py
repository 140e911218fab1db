"""The contestants: how each is started, and what the load generator sends to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from benchmarks.processes import python

FOLDER: Final = Path(__file__).parent
BIN: Final = FOLDER / "bin"
FLOOR: Final = BIN / "floor"
LOAD: Final = BIN / "eioload"
CERTIFICATE: Final = BIN / "certificate.pem"

NEWS: Final = "hello broadcast payload"


@dataclass(frozen=True, slots=True)
class Speech:
    """What clients of a server send and receive; ``@`` is replaced with letters that pad a message to its size."""

    options: tuple[str, ...]
    message: str
    trigger: str
    news: str
    #: An event with one number: ``NAME`` is replaced with its name, ``0`` with the number.
    event: str = ""
    #: A message with numbers to decode, in place of ``NUMBERS``.
    numbers: str = "4[NUMBERS]"
    #: Of a message that asks to join a channel: the answer, the message that asks to leave, and the answer to that.
    answer: str = ""
    undo: str = ""
    undone: str = ""

    def write(self, name: str, number: int) -> str:
        """Return an event with a number."""
        return self.event.replace("NAME", name).replace("0", str(number))


@dataclass(frozen=True, slots=True)
class Contestant:
    """A server under test."""

    name: str
    title: str
    #: Returns the command for a port.
    command: Callable[[int], list[str]]
    speech: Speech
    #: Whether it echoes a message to its sender.
    echoes: bool = True
    #: Whether it supports polling and the upgrade from it.
    polling: bool = False
    #: Whether its command accepts a certificate file as a further argument.
    tls: bool = False
    #: Whether the polling handshake alone opens a session: Socket.IO has a second step.
    one_step: bool = False
    #: The command that runs clients of it that drop, without their ports: see ``load/README.md``.
    clients: tuple[str, ...] = ()
    #: Whether it takes part as a cluster; its command takes the port of Redis as a further argument.
    clustered: bool = False
    #: Whether its sessions can survive a drop.
    resumes: bool = False
    #: Whether it is too slow for more than one round and for the largest bursts.
    slow: bool = False


def _engine(path: str, query: str = "") -> tuple[str, ...]:
    return ("--path", path, *(("--query", query) if query else ()))


RAW: Final = Speech(_engine("/engine.io/"), "4@", "4b", f"4{NEWS}")
EVENTS: Final = Speech(
    _engine("/stream/", "account=a#"),
    '4{"event":"echo","args":["@"]}',
    '4{"event":"b","args":[]}',
    f'4{{"event":"news","args":["{NEWS}"]}}',
    '4{"event":"NAME","args":[0]}',
    '4{"event":"numbers","args":[[NUMBERS]]}',
)
SOCKET_IO: Final = Speech(
    (*_engine("/socket.io/"), "--hello", "40", "--greeting", "40{"),
    '42["echo","@"]',
    '42["b"]',
    f'42["news","{NEWS}"]',
)
PLAIN: Final = ("--protocol", "plain")


def _node(script: str) -> Callable[[int], list[str]]:
    return lambda port: ["node", str(FOLDER / "servers" / script), str(port)]


def _module(name: str) -> Callable[[int], list[str]]:
    return lambda port: python(f"benchmarks.servers.{name}", port)


FLOOR_IN_C: Final = Contestant("floor", "floor, in C", lambda port: [str(FLOOR), str(port)], RAW)
OURS: Final = Contestant("primacron", "Primacron", _module("ours"), EVENTS, polling=True, tls=True, one_step=True)
OURS_RAW: Final = Contestant(
    "primacron-raw",
    "Primacron, bare texts",
    lambda port: python("benchmarks.servers.ours", "--raw", port),
    Speech(_engine("/stream/", "account=a#"), RAW.message, RAW.trigger, RAW.news),
    polling=True,
    tls=True,
    one_step=True,
)
OURS_OUTER: Final = Contestant("primacron-asgi", "Primacron under uvicorn", _module("ours_outer"), EVENTS)
ENGINE_IO: Final = Contestant(
    "engine.io", "engine.io (Node)", _node("engine-io.cjs"), RAW, polling=True, tls=True, one_step=True
)
SOCKET_IO_NODE: Final = Contestant(
    "socket.io", "socket.io (Node)", _node("socket-io.cjs"), SOCKET_IO, polling=True, tls=True
)
PYTHON_ENGINEIO: Final = Contestant(
    "python-engineio",
    "python-engineio",
    _module("python_engineio"),
    RAW,
    polling=True,
    tls=True,
    one_step=True,
    slow=True,
)
PYTHON_SOCKETIO: Final = Contestant(
    "python-socketio",
    "python-socketio",
    _module("python_socketio"),
    SOCKET_IO,
    polling=True,
    tls=True,
    slow=True,
)
PICOWS: Final = Contestant("picows", "picows", _module("picows_echo"), Speech(PLAIN, "@", "b", NEWS), tls=True)
NCHAN: Final = Contestant(
    "nchan",
    "nchan (nginx)",
    _module("nchan"),
    Speech((*PLAIN, "--path", "/all"), "@", NEWS, NEWS),
    echoes=False,
)

#: All contestants, ours in one form only: bare texts differ from events merely in the cost per message.
ALL: Final = (
    FLOOR_IN_C,
    OURS,
    ENGINE_IO,
    SOCKET_IO_NODE,
    PYTHON_ENGINEIO,
    PYTHON_SOCKETIO,
    PICOWS,
    NCHAN,
)
BOTH_FORMS: Final = (FLOOR_IN_C, OURS, OURS_RAW, *ALL[2:])

SPEECH_OF_ROOMS: Final = Speech(
    (*_engine("/socket.io/", "account=a#"), "--hello", "40", "--greeting", "40{"),
    SOCKET_IO.message,
    SOCKET_IO.trigger,
    SOCKET_IO.news,
    '42["NAME",0]',
)

#: Contestants with channels: who connects is in as many rooms as the query says.
ROOMS: Final = "account=a#&rooms=1"
IN_ROOMS: Final = Speech(
    _engine("/stream/", ROOMS),
    '4{"join":"open:x","id":1}',
    '4{"event":"say","args":["room-0"]}',
    EVENTS.news,
    EVENTS.event,
    answer='4{"ack":1,"args":[{"channel":"open:x"}]}',
    undo='4{"leave":"open:x","id":2}',
    undone='4{"ack":2,"args":[]}',
)
OURS_CHANNELS: Final = Contestant("primacron", "Primacron", _module("ours_channels"), IN_ROOMS)
OURS_JOINED: Final = replace(
    OURS_CHANNELS,
    name="primacron-joined",
    title="Primacron, clients joined by themselves",
    speech=replace(
        IN_ROOMS,
        options=(*_engine("/stream/", "account=a#"), "--hello", IN_ROOMS.message, "--greeting", IN_ROOMS.answer),
        trigger='4{"event":"say","args":["open:x"]}',
        news=f'4{{"event":"news","args":["{NEWS}"],"channel":"open:x"}}',
    ),
)
OURS_KEPT: Final = replace(
    OURS_CHANNELS,
    name="primacron-kept",
    title="Primacron, with history",
    speech=replace(
        IN_ROOMS,
        options=_engine("/stream/", "account=a#&logs=1"),
        trigger='4{"event":"say","args":["kept:log-0"]}',
    ),
)
OURS_EVERYONE: Final = replace(
    OURS_CHANNELS,
    name="primacron-everyone",
    title="Primacron, to everyone",
    speech=replace(IN_ROOMS, trigger=EVENTS.trigger),
)
SOCKET_IO_ROOMS: Final = Contestant(
    "socket.io",
    "socket.io, rooms (Node)",
    _node("socket-io-rooms.cjs"),
    Speech(
        (*_engine("/socket.io/", ROOMS), "--hello", "40", "--greeting", "40{"),
        '421["join","open:x"]',
        '42["room"]',
        SOCKET_IO.news,
        answer="431[]",
        undo='422["leave","open:x"]',
        undone="432[]",
    ),
)
NCHAN_CHANNEL: Final = replace(
    NCHAN, title="nchan, a channel (nginx)", speech=replace(NCHAN.speech, options=(*PLAIN, "--path", "/channel/x"))
)

#: Contestants with a Redis between several servers; their commands take its port as a further argument.
OURS_CLUSTERED: Final = Contestant("primacron", "Primacron", _module("ours_clustered"), EVENTS, polling=True)
SOCKET_IO_CLUSTERED: Final = Contestant(
    "socket.io", "socket.io with its Redis adapter (Node)", _node("socket-io-redis.cjs"), SPEECH_OF_ROOMS
)
PYTHON_SOCKETIO_CLUSTERED: Final = Contestant(
    "python-socketio",
    "python-socketio with its Redis manager",
    _module("python_socketio_redis"),
    SPEECH_OF_ROOMS,
    slow=True,
)
CLUSTERED: Final = (OURS_CLUSTERED, SOCKET_IO_CLUSTERED, PYTHON_SOCKETIO_CLUSTERED)

#: Contestants that feed clients that drop; their clients are stock ones, but for Primacron's.
SOCKET_IO_CLIENTS: Final = ("node", str(FOLDER / "load" / "socket-io-clients.cjs"))
PRIMACRON_CLIENTS: Final = tuple(python("benchmarks.load.primacron_clients"))
OURS_FED: Final = Contestant(
    "primacron",
    "Primacron",
    _module("ours_feed"),
    EVENTS,
    clients=(*PRIMACRON_CLIENTS, "--resume"),
    resumes=True,
)
OURS_FORGETFUL: Final = replace(
    OURS_FED, name="primacron-new", title="Primacron, without `resume=1`", clients=PRIMACRON_CLIENTS, resumes=False
)
SOCKET_IO_FED: Final = Contestant(
    "socket.io",
    "socket.io with recovery, in memory (Node)",
    _node("socket-io-feed.cjs"),
    SOCKET_IO,
    clients=SOCKET_IO_CLIENTS,
    resumes=True,
)
SOCKET_IO_STREAMS: Final = replace(
    SOCKET_IO_FED, name="socket.io-streams", title="socket.io with recovery, Redis streams, 2 servers", clustered=True
)
PYTHON_SOCKETIO_FED: Final = Contestant(
    "python-socketio",
    "python-socketio",
    _module("python_socketio_feed"),
    SOCKET_IO,
    clients=tuple(python("benchmarks.load.python_socketio_clients")),
)
DROPPED: Final = (OURS_FORGETFUL, SOCKET_IO_FED, SOCKET_IO_STREAMS, PYTHON_SOCKETIO_FED)
