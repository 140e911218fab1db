"""Making a server: the three forms, and options as a mapping or as keywords."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import primacron as package
from primacron import HttpRequest, OptionError, Primacron, create_server, primacron
from primacron.config import FIELDS, Options, read_options
from tests.conftest import Serve
from tests.support.forms import IS_PLAIN
from tests.support.hearing import Hearing

FORMS = [Primacron, create_server, primacron]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_takes_options_as_mapping_and_as_keywords(form: Callable[..., Primacron]) -> None:
    for server in (
        form(None, {"namespace": "shop", "ping_interval": 5}),
        form(None, namespace="shop", ping_interval=5),
        form(namespace="shop", ping_interval=5),
        form(options={"namespace": "shop"}, ping_interval=5),
    ):
        assert isinstance(server, Primacron)
        assert (server.options.namespace, server.options.ping_interval) == ("shop", 5.0)


@pytest.mark.parametrize("form", FORMS)
def test_without_options_all_are_at_their_defaults(form: Callable[..., Primacron]) -> None:
    assert form().options == Options()
    assert form(None).options == Options()


@pytest.mark.parametrize("redis", ["localhost:6379", object(), package, False, 0])
def test_what_is_no_redis_is_refused_with_what_is(redis: object) -> None:
    with pytest.raises(OptionError, match="a URL"):
        Primacron(redis)


def test_options_that_are_no_mapping_are_refused() -> None:
    with pytest.raises(OptionError, match="expected a mapping"):
        Primacron(None, [("namespace", "shop")])  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["ping_intervall", "resume_window", "max_per_account", "message_rate", "drain"])
def test_an_unknown_option_is_refused_by_name_with_the_known_ones(name: str) -> None:
    with pytest.raises(OptionError, match=f"unknown option '{name}';.* known are .*ping_interval"):
        Primacron(None, {name: 1})


@pytest.mark.parametrize(
    ("name", "value", "takes"),
    [
        ("namespace", "", "a text of 1 to 128 characters"),
        ("namespace", 5, "a text of 1 to 128 characters"),
        ("endpoint", "stream", "a path that begins with /"),
        ("endpoint", "/a?b", "a path that begins with /"),
        ("redirect", "javascript:alert(1)", "an absolute URL or path"),
        ("redirect", "https://x/\r\nSet-Cookie: a", "an absolute URL or path"),
        ("port", 0, "1 to 65535"),
        ("port", "80", "1 to 65535"),
        ("transports", [], '"polling" and "websocket"'),
        ("transports", ["jsonp"], '"polling" and "websocket"'),
        ("protocols", [5], "a list of 4 and 3"),
        ("dialect", "primus", '"primacron" or "raw"'),
        ("data", lambda: None, "a type that msgspec can encode"),
        ("ping_interval", 0, "seconds above 0"),
        ("ping_timeout", -1, "seconds above 0"),
        ("ping_timeout", float("nan"), "seconds above 0"),
        ("ping_timeout", float("inf"), "seconds above 0"),
        ("ping_timeout", True, "seconds above 0"),
        ("ping_timeout", "20", "seconds above 0"),
        ("handler_timeout", 0, "None or a number of seconds"),
        ("max_payload", 0, "an integer from 1 to 2147483647"),
        ("max_payload", 1.5, "an integer from 1 to 2147483647"),
        ("inbox_limit", None, "an integer from 1 to 2147483647"),
        ("same_session", "both", '"replace" or "refuse"'),
        ("origins", "https://shop.example", "a list of"),
        ("origins", ["shop.example"], "scheme://host"),
        ("origins", ["https://shop.example/path"], "scheme://host"),
        ("trusted_proxies", "10.0.0.0/8", "a list of networks"),
        ("trusted_proxies", ["ten"], "a list of networks"),
        ("cookie", {"name": "io", "color": "red"}, "a mapping of name"),
        ("cookie", "a;b", "a mapping of name"),
        ("deflate", 1, "True or False"),
        ("gzip_threshold", 0, "None or an integer"),
        ("secret", "", "printable ASCII"),
        ("secret", ["good", ""], "printable ASCII"),
        ("secret", ["a b\n"], "printable ASCII"),
        ("control", "9000", "host:port"),
        ("control", ":9000", "host:port"),
        ("control", "localhost:x", "host:port"),
        ("max_connections", 0, "None or an integer"),
    ],
)
def test_a_wrong_value_is_refused_by_the_options_name_what_it_takes_and_what_came(
    name: str, value: Any, takes: str
) -> None:
    with pytest.raises(OptionError) as caught:
        Primacron(**{name: value})
    assert caught.value.option == name
    assert str(caught.value).startswith(f"option {name!r}: expected ")
    assert takes in str(caught.value)
    assert str(caught.value).endswith("got a value that is not shown" if name == "secret" else f"got {value!r}")


@pytest.mark.parametrize(
    ("given", "name", "value"),
    [
        ({"broadcast": "/put"}, "broadcast_path", "/put"),
        ({"endpoint": "/live"}, "endpoint", "/live/"),
        ({"transports": ["websocket"]}, "transports", ("websocket",)),
        ({"protocols": (4,)}, "protocols", (4,)),
        ({"ping_interval": 1}, "ping_interval", 1.0),
        ({"handler_timeout": None}, "handler_timeout", None),
        ({"secret": "s"}, "secret", ("s",)),
        ({"secret": ["new", "old"]}, "secret", ("new", "old")),
        ({"secret": None}, "secret", ()),
        ({"control": "[::1]:9000"}, "control", ("::1", 9000)),
        ({"origins": "*"}, "origins", "*"),
        ({"origins": ["https://A.example:443"]}, "origins", frozenset({"https://a.example"})),
    ],
)
def test_a_right_value_is_taken_in_its_normal_form(given: dict[str, Any], name: str, value: Any) -> None:
    assert getattr(read_options(given), name) == value


def test_an_option_and_its_other_name_together_are_refused() -> None:
    with pytest.raises(OptionError, match="once"):
        Primacron(broadcast="/a", broadcast_path="/b")


def test_every_option_says_what_it_takes_and_means_and_takes_its_own_default() -> None:
    for name, field in FIELDS.items():
        assert field.metadata["meaning"], name
        assert field.metadata["kind"].takes, name
        assert getattr(read_options({name: field.default} if name != "origins" else {}), name) == field.default


async def test_a_subclass_may_override_authorize_and_uuid(serve: Serve) -> None:
    class Shop(Primacron):
        async def authorize(self, request: HttpRequest) -> str:  # type: ignore[override]
            return request.query["account"].upper()

        def uuid(self, request: HttpRequest) -> str:  # type: ignore[override]
            return f"device-{request.query['device']}"

    server = Shop()
    opened = Hearing(server, "connection")
    await (await serve(server)).connect("account=ann&device=7")
    (session,) = await opened.next()
    assert (session.account, session.id) == ("ANN", "device-7")


def test_importing_tells_whether_the_codec_is_compiled() -> None:
    assert package.compiled is not IS_PLAIN
    assert package.__version__
