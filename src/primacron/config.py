"""
The options of a server: names, defaults, accepted values, meanings.

:class:`Options` is the only place where options are declared; the validation at
construction, the reference page and the command line are derived from it.
Durations are in seconds, sizes in bytes.
"""

from __future__ import annotations

import dataclasses
import inspect
import ipaddress
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, Literal, TypeAlias, cast

import msgspec
from msgspec import Meta

from primacron.errors import OptionError, UnknownOption
from primacron.natives import as_native
from primacron.origins import read_listed_origin

#: An application's own check: takes a page's origin, as sent by the browser, and the HttpRequest.
AllowOrigin: TypeAlias = Callable[[str, Any], bool]
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
_ADDRESSES: Final = (ipaddress.IPv4Network, ipaddress.IPv6Network, ipaddress.IPv4Address, ipaddress.IPv6Address)

# Not `$` at the end of patterns: it accepts a trailing newline.
_PATH: Final = r"^/[!-~]*\Z"
_URL: Final = r"^(/|https?://)[!-~]*\Z"
_HOST_AND_PORT: Final = re.compile(r"(?:\[([^\s/\[\]]*:[^\s/\[\]]*)\]|([^\s:/\[\]]+)):([0-9]{1,5})")
_COOKIE_PATH: Final = re.compile(r"/[!-:<-~]*")
#: A token of HTTP (RFC 9110, 5.6.2), as websocket subprotocol names must be.
TOKEN: Final = re.compile(r"[\w!#$%&'*+.^`|~-]+", re.ASCII)


class Cookie(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    Engine.IO's cookie: set with the answer to a polling handshake, its value is the sid.

    An attribute that is None is omitted; for ``SameSite=None`` use the text ``"None"``.
    """

    name: str = "io"
    path: str | None = "/"
    http_only: bool | None = True
    same_site: Literal["Lax", "Strict", "None"] | None = "Lax"
    secure: bool | None = False
    max_age: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None

    def header(self, sid: str) -> str:
        """Return the value of the Set-Cookie field."""
        parts = [f"{self.name}={sid}"]
        if self.path is not None:
            parts.append(f"Path={self.path}")
        if self.max_age is not None:
            parts.append(f"Max-Age={self.max_age}")
        if self.http_only:
            parts.append("HttpOnly")
        if self.same_site is not None:
            parts.append(f"SameSite={self.same_site}")
        if self.secure:
            parts.append("Secure")
        return "; ".join(parts)


@dataclasses.dataclass(frozen=True, slots=True)
class Kind:
    """What an option accepts, in words and as a function that converts or refuses a value."""

    takes: str
    convert: Callable[[Any], Any]


def _typed(takes: str, annotation: Any) -> Kind:
    return Kind(takes, lambda value: msgspec.convert(value, annotation))


def _network(value: Any) -> Network:
    if not isinstance(value, (str, *_ADDRESSES)):
        raise TypeError("a number or bytes would be taken for an address")
    return ipaddress.ip_network(value, strict=False)


def _networks(value: Any) -> tuple[Network, ...]:
    if isinstance(value, str):
        raise TypeError("a list is needed")
    return tuple(_network(item) for item in value)


def _origins(value: Any) -> str | frozenset[str] | AllowOrigin:
    if isinstance(value, str):
        if value not in ("same", "*"):
            raise TypeError("a list is needed")
        return value
    if callable(value):
        if inspect.iscoroutinefunction(value):
            raise TypeError("every request would have to wait for it")
        return cast("AllowOrigin", value)
    return frozenset(read_listed_origin(item) for item in value)


def _cookie(value: Any) -> Cookie | None:
    if value is None:
        return None
    if isinstance(value, str):
        value = {"name": value}
    if isinstance(value, Mapping):
        value = {key: as_native(field) for key, field in value.items()}
    cookie = msgspec.convert(value, Cookie)
    if not TOKEN.fullmatch(cookie.name) or (cookie.path is not None and not _COOKIE_PATH.fullmatch(cookie.path)):
        raise ValueError("not a cookie's name and path")
    return cookie


def _secrets(value: Any) -> tuple[str, ...]:
    if value is None or value == ():
        return ()
    found = (value,) if isinstance(value, str) else tuple(map(as_native, msgspec.convert(value, list[str])))
    if not found or not all(secret and secret.isascii() and secret.isprintable() for secret in found):
        raise ValueError("empty or not printable ASCII")
    return found


def _subprotocols(value: Any) -> tuple[str, ...] | None:
    if value is None:
        return None
    if isinstance(value, str):
        raise TypeError("a list is needed")
    names = tuple(as_native(name) for name in value)
    if not names or not all(isinstance(name, str) and TOKEN.fullmatch(name) for name in names):
        raise ValueError("empty, or not names of subprotocols")
    return names


def _control(value: Any) -> tuple[str, int] | None:
    if value is None:
        return None
    found = _HOST_AND_PORT.fullmatch(value)
    if found is None or int(found[3]) > 65535:
        raise ValueError("not host:port")
    return found[1] or found[2], int(found[3])


def _factory(value: Any) -> Any:
    """Accept any type for ``session.data`` that msgspec can encode and decode."""
    msgspec.json.schema_components((value,))
    return value


def _hook(value: Any) -> Any:
    if value is not None and not callable(value):
        raise TypeError("not a function")
    return value


def _path(value: Any) -> str:
    path: str = msgspec.convert(value, Annotated[str, Meta(pattern=_PATH)])
    if "?" in path or "#" in path:
        raise ValueError("not a path")
    return path


def _endpoint(value: Any) -> str:
    path = _path(value)
    return path if path.endswith("/") else path + "/"


_YEAR: Final = 31_536_000.0
#: The largest count and size: 31 bits, so that sums of several stay within what C can count.
MOST: Final = 2**31 - 1
TEXT: Final = _typed("a text of 1 to 128 characters", Annotated[str, Meta(min_length=1, max_length=128)])
FLAG: Final = _typed("True or False", bool)
SECONDS: Final = _typed("a number of seconds above 0", Annotated[float, Meta(gt=0, le=_YEAR)])
SECONDS_OR_NONE: Final = _typed("None or a number of seconds above 0", Annotated[float, Meta(gt=0, le=_YEAR)] | None)
COUNT: Final = _typed(f"an integer from 1 to {MOST}", Annotated[int, Meta(ge=1, le=MOST)])
COUNT_OR_NONE: Final = _typed(f"None or an integer from 1 to {MOST}", Annotated[int, Meta(ge=1, le=MOST)] | None)
PREFIX: Final = _typed("an integer from 1 to 128", Annotated[int, Meta(ge=1, le=128)])
PORT_OR_NONE: Final = _typed("None or an integer from 1 to 65535", Annotated[int, Meta(ge=1, le=65535)] | None)
URL_OR_NONE: Final = _typed("None or an absolute URL or path", Annotated[str, Meta(pattern=_URL)] | None)
TEXT_OR_NONE: Final = _typed("None or a text", Annotated[str, Meta(min_length=1)] | None)
PATH: Final = Kind("a path that begins with /", _path)
ENDPOINT: Final = Kind("a path that begins with /", _endpoint)
TRANSPORTS: Final = _typed(
    'a list of "polling" and "websocket"',
    Annotated[tuple[Literal["polling", "websocket"], ...], Meta(min_length=1)],
)
PROTOCOLS: Final = _typed("a list of 4 and 3", Annotated[tuple[Literal[4, 3], ...], Meta(min_length=1)])
DIALECT: Final = _typed('"primacron" or "raw"', Literal["primacron", "raw"])
SAME_SESSION: Final = _typed('"replace" or "refuse"', Literal["replace", "refuse"])
HOOK_OR_NONE: Final = Kind("None or a function", _hook)
WITHOUT_REDIS: Final = _typed('"accept" or "refuse"', Literal["accept", "refuse"])
DATA: Final = Kind("a type that msgspec can encode", _factory)
ORIGINS: Final = Kind(
    '"same", "*", a plain function of an origin and a request, or a list of scheme://host[:port]', _origins
)
NETWORKS: Final = Kind("a list of networks such as 10.0.0.0/8", _networks)
COOKIE: Final = Kind(
    "None, a name, or a mapping of name, path, http_only, same_site, secure, max_age, where None leaves an attribute"
    " out",
    _cookie,
)
SECRETS: Final = Kind("None, a text of printable ASCII or a list of them", _secrets)
SUBPROTOCOLS: Final = Kind('None or a list of names such as "chat.v1"', _subprotocols)
CONTROL: Final = Kind('None or "host:port"', _control)


# ruff: noqa: RUF009


def _option(default: Any, kind: Kind, meaning: str, *, is_secret: bool = False) -> Any:
    return dataclasses.field(default=default, repr=not is_secret, metadata={"kind": kind, "meaning": meaning})


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """All options of a server, as validated by :func:`read_options`."""

    namespace: str = _option("primacron", TEXT, "prefix of everything that servers share")
    endpoint: str = _option("/stream/", ENDPOINT, "path of the stream; exact, clients may leave the last slash out")
    broadcast_path: str = _option("/primacron/broadcast", PATH, "path of the PUT endpoint; `broadcast` is the same")
    redirect: str | None = _option(
        None, URL_OR_NONE, "where requests for other paths are sent: 301 for GET and HEAD, the 400 JSON else"
    )
    timeout: float = _option(
        900.0, SECONDS, "for which the servers keep what a gone session leaves behind: followers, where it went"
    )
    address: str | None = _option(None, TEXT_OR_NONE, "host shown to people, in `uri`; found when not given")
    port: int | None = _option(None, PORT_OR_NONE, "port shown to people, in `uri`; the bound one when not given")
    transports: tuple[str, ...] = _option(("polling", "websocket"), TRANSPORTS, "transports offered to clients")
    protocols: tuple[int, ...] = _option((4, 3), PROTOCOLS, "Engine.IO protocols offered to clients")
    dialect: str = _option("primacron", DIALECT, "how a message becomes an event; Primus clients are recognised")
    subprotocols: tuple[str, ...] | None = _option(
        None,
        SUBPROTOCOLS,
        "websocket subprotocols that clients may speak: of those that a client offers the first that is one of them is"
        " chosen, and without the option the first of all",
    )
    data: Any = _option(dict, DATA, "type of `session.data`, checked on assignment")
    enc_hook: Callable[[Any], Any] | None = _option(
        None, HOOK_OR_NONE, "turns what msgspec cannot encode into what it can; NotImplementedError leaves it"
    )
    ping_interval: float = _option(25.0, SECONDS, "between heartbeats")
    ping_timeout: float = _option(20.0, SECONDS, "for the answer to a heartbeat")
    upgrade_timeout: float = _option(10.0, SECONDS, "for an upgrade from polling to websocket")
    handshake_timeout: float = _option(5.0, SECONDS, "for `authorize`, `uuid` and registry together")
    validation_timeout: float = _option(5.0, SECONDS, "for an asynchronous validator")
    handler_timeout: float | None = _option(None, SECONDS_OR_NONE, "after which a handler is cancelled")
    threads: int = _option(32, COUNT, "handlers with `thread=True` that run at the same time; others wait for them")
    receipt_timeout: float = _option(5.0, SECONDS, "default deadline of a receipt from another server")
    call_timeout: float = _option(10.0, SECONDS, "default deadline of a client's acknowledgement")
    max_payload: int = _option(1_000_000, COUNT, "bytes of one POST body or websocket message; told to clients")
    max_packets: int | None = _option(None, COUNT_OR_NONE, "packets in one POST, which `max_payload` bounds anyway")
    max_args: int = _option(32, COUNT, "arguments of one event")
    max_name: int = _option(128, COUNT, "characters of an event's name")
    max_items: int = _option(10_000, COUNT, "elements of one event, nested ones included")
    max_header: int = _option(65_536, COUNT, "bytes of an HTTP head, of at most 100 fields")
    max_query: int = _option(8_192, COUNT, "bytes of the query of a request to the stream, of at most 100 parameters")
    header_timeout: float = _option(10.0, SECONDS, "for an HTTP head, and for a handshake of TLS")
    body_timeout: float = _option(30.0, SECONDS, "for an HTTP body")
    inbox_limit: int = _option(
        64, COUNT, "messages of one session waiting for their handler (and 256 kB), past which reading pauses"
    )
    outbox_limit: int = _option(1_048_576, COUNT, "bytes waiting for one client, past which it is closed")
    outbox_total: int = _option(268_435_456, COUNT, "bytes waiting for all clients, past which the largest are closed")
    input_total: int = _option(
        268_435_456,
        COUNT,
        "bytes of unfinished messages and requests of all clients, past which the largest are closed",
    )
    max_followers: int = _option(16, COUNT, "followers of one session")
    max_channels: int = _option(128, COUNT, "channels of one session")
    max_channel_name: int = _option(255, COUNT, "bytes of the name of a channel")
    presence_limit: int = _option(
        1_000, COUNT, "members of a channel, above which they are told their number in the place of who comes and goes"
    )
    presence_grace: float = _option(
        5.0, SECONDS, "for which a session may be away without the other members hearing it"
    )
    bad_messages: int = _option(16, COUNT, "refused messages in a row before a connection is closed")
    same_session: str = _option("replace", SAME_SESSION, "what a second connection with the same session id does")
    origins: str | frozenset[str] | AllowOrigin = _option(
        "same",
        ORIGINS,
        'pages that may connect: "same" is the same host and port as the request\'s Host, and the same scheme where'
        " that is known; in a list `https://*.shop.example` is every subdomain",
    )
    trusted_proxies: tuple[Network, ...] = _option(
        (), NETWORKS, "whose `Forwarded` and `X-Forwarded-*` fields are believed"
    )
    cookie: Cookie | None = _option(None, COOKIE, "Engine.IO's cookie, sent with a polling handshake")
    deflate: bool = _option(False, FLAG, "whether permessage-deflate is offered")
    gzip_threshold: int | None = _option(None, COUNT_OR_NONE, "bytes from which polling answers are compressed")
    secret: tuple[str, ...] = _option(
        (), SECRETS, "bearer of the control routes; a list allows rotation", is_secret=True
    )
    control: tuple[str, int] | None = _option(None, CONTROL, "a second address for the control routes")
    lease: float = _option(
        4.0, SECONDS, "after which a server that does not renew it counts as gone; it does every quarter of it"
    )
    probe: float = _option(1.0, SECONDS, "between probes of the link to the other servers, deaf after three")
    redis_timeout: float = _option(0.5, SECONDS, "for every Redis call")
    without_redis: str = _option("accept", WITHOUT_REDIS, "what becomes of new connections while Redis is away")
    max_connections: int | None = _option(
        None, COUNT_OR_NONE, "connections of this process, those included whose last packets wait for a poll"
    )
    max_per_address: int | None = _option(None, COUNT_OR_NONE, "connections from one address")
    handshakes_per_address: int | None = _option(None, COUNT_OR_NONE, "handshakes per second from one address")
    ipv6_prefix: int = _option(64, PREFIX, "bits of an IPv6 address that tell whose it is, for the limits per address")


#: Paths for operators, which no option moves.
LIVEZ: Final = "/primacron/livez"
READYZ: Final = "/primacron/readyz"

FIELDS: Final[Mapping[str, dataclasses.Field[Any]]] = {field.name: field for field in dataclasses.fields(Options)}
ALIASES: Final[Mapping[str, str]] = {"broadcast": "broadcast_path"}


class _Hidden:
    """Stands for a secret in error messages."""

    def __repr__(self) -> str:
        return "a value that is not shown"


def read_options(given: Mapping[str, object]) -> Options:
    """
    Validate options and return them.

    Raises:
        UnknownOption: if a name is not an option.
        OptionError: if an option does not accept its value.

    """
    values: dict[str, Any] = {}
    for name, value in given.items():
        target = ALIASES.get(name, name)
        if target not in FIELDS:
            raise UnknownOption(name, sorted(FIELDS))
        if target in values:
            raise OptionError(name, f"it once, not also as {target!r}", value)
        kind: Kind = FIELDS[target].metadata["kind"]
        try:
            values[target] = kind.convert(as_native(value))
        except (ValueError, TypeError, AttributeError):
            shown = value if FIELDS[target].repr else _Hidden()
            raise OptionError(name, kind.takes, shown) from None
    options = Options(**values)
    if options.broadcast_path in (options.endpoint, options.endpoint.rstrip("/"), LIVEZ, READYZ):
        raise OptionError("broadcast_path", "a path that nothing else has", options.broadcast_path)
    return options
