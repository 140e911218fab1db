"""Long-polling requests that reached the wrong node: another one has their connection."""

from __future__ import annotations

from primacron.errors import BadRequest, PayloadTooLarge, PrimacronError
from primacron.node import Node
from primacron.node.forwarding import Outcome
from primacron.transports.connecting import refusal
from primacron.web import Body, Exchange, HttpResponse, demand_plain_body


def forward(node: Node, exchange: Exchange, sid: str) -> None:
    """
    Have a request answered by the node that holds its connection.

    Raises:
        BadRequest: if its method is neither GET nor POST.
        UnsupportedEncoding: if its body is compressed.

    """
    method = exchange.request.method
    if method == "GET":
        _send(node, exchange, sid, b"")
    elif method == "POST":
        demand_plain_body(exchange.request)
        exchange.receive(node.options.max_payload, lambda body: _send(node, exchange, sid, body))
    else:
        raise BadRequest(f"method {method}")


def _send(node: Node, exchange: Exchange, sid: str, body: Body) -> None:
    forwarder = node.forwarder

    def done(outcome: Outcome) -> None:
        exchange.on_abort = None
        if isinstance(outcome, HttpResponse):
            exchange.respond(_last(outcome) if forwarder.is_ending else outcome)
        elif outcome is None:
            exchange.abort()
        else:
            exchange.respond(refusal(node, exchange.request, outcome))

    if isinstance(body, PayloadTooLarge):
        done(body)
        return
    if forwarder.has_left:
        done(None)
        return
    try:
        forwarded = forwarder.send(exchange.request, sid, body, done)
    except PrimacronError as error:
        done(error)
    else:
        if not forwarded.is_over:
            exchange.on_abort = forwarded.abort


def _last(response: HttpResponse) -> HttpResponse:
    """Return the response with ``Connection: close``, so that the client or proxy opens a new connection next."""
    return HttpResponse(response.status, response.body, (*response.headers, (b"Connection", b"close")))
