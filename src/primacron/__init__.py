"""Primacron: a real-time server with an Engine.IO endpoint, sessions by account and forced validation."""

from primacron.application import Primacron, create_server, primacron
from primacron.contract.validation import Transformed
from primacron.errors import (
    CallError,
    CallRefused,
    CallTimedOut,
    OptionError,
    PrimacronError,
    ReceiptNotRequested,
    Refused,
    RegistrationError,
    SessionGone,
    WrongThread,
)
from primacron.handlers import Context
from primacron.receipts import Delivery, Reach, Receipt
from primacron.sessions.session import Session
from primacron.standalone.frames import COMPILED as compiled  # noqa: N811
from primacron.version import VERSION as __version__  # noqa: N811
from primacron.web import HttpRequest, HttpResponse

__all__ = [
    "CallError",
    "CallRefused",
    "CallTimedOut",
    "Context",
    "Delivery",
    "HttpRequest",
    "HttpResponse",
    "OptionError",
    "Primacron",
    "PrimacronError",
    "Reach",
    "Receipt",
    "ReceiptNotRequested",
    "Refused",
    "RegistrationError",
    "Session",
    "SessionGone",
    "Transformed",
    "WrongThread",
    "__version__",
    "compiled",
    "create_server",
    "primacron",
]
