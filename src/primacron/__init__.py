"""Primacron: a real-time server with an Engine.IO endpoint, sessions by account and mandatory validation."""

from primacron import plain  # noqa: F401 (must come before the compiled modules)
from primacron.application import Primacron, create_server, primacron
from primacron.cluster.errors import BackendUnavailable
from primacron.cluster.link import LinkBack, LinkLost
from primacron.contract.validation import Transformed
from primacron.errors import (
    CallError,
    CallRefused,
    CallTimedOut,
    NotListening,
    OptionError,
    PrimacronError,
    ReceiptNotRequested,
    Refused,
    RegistrationError,
    SessionGone,
    SessionMoved,
    SessionUnreachable,
    WrongLoop,
    WrongThread,
)
from primacron.features.channels.members import Member, Members
from primacron.features.channels.pages import ChannelMessage, HistoryPage
from primacron.positions import Position
from primacron.problems import Context
from primacron.receipts import Delivery, Reach, Receipt
from primacron.routing.targets import CallResult, SessionInfo
from primacron.sessions.session import Session
from primacron.standalone.frames import COMPILED as compiled  # noqa: N811
from primacron.version import VERSION as __version__  # noqa: N811
from primacron.web import HttpRequest, HttpResponse

__all__ = [
    "BackendUnavailable",
    "CallError",
    "CallRefused",
    "CallResult",
    "CallTimedOut",
    "ChannelMessage",
    "Context",
    "Delivery",
    "HistoryPage",
    "HttpRequest",
    "HttpResponse",
    "LinkBack",
    "LinkLost",
    "Member",
    "Members",
    "NotListening",
    "OptionError",
    "Position",
    "Primacron",
    "PrimacronError",
    "Reach",
    "Receipt",
    "ReceiptNotRequested",
    "Refused",
    "RegistrationError",
    "Session",
    "SessionGone",
    "SessionInfo",
    "SessionMoved",
    "SessionUnreachable",
    "Transformed",
    "WrongLoop",
    "WrongThread",
    "__version__",
    "compiled",
    "create_server",
    "primacron",
]
