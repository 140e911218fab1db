"""What the pages about topics claim of their blocks; see :mod:`tests.docs.claims`."""

from __future__ import annotations

from typing import Any, Final

from tests.docs.blocks import NAMED
from tests.docs.claims import claim
from tests.docs.stage import Scene, run_node
from tests.support.engine import Client, Events

#: Added to the client of the page about the wire: its first connection is lost, its second one tells.
LOST: Final = """
let opened = 0;
stream.listeners.set("open", () => {
  if (++opened === 1) HOW;
  else stream.call("add", 2, 3).then((sum) => { console.log(`back, ${sum}`); process.exit(); });
});
"""


async def ask(events: Events, event: str, *args: Any, id: int = 1) -> Any:
    """Send an event that wants an answer, and return the next message."""
    await events.emit(event, *args, id=id)
    return await events.receive()


@claim("sessions-life")
async def a_session_has_data_tasks_and_one_end(scene: Scene) -> None:
    async with scene.client() as client:
        ann = await client.connect("account=ann")
        await ann.emit("bid", 100, id=1)
        await ann.emit("bid", 200, id=2)
        messages = [await ann.receive() for _ in range(4)]
        assert [each for each in messages if "ack" in each] == [{"ack": 1, "args": [1]}, {"ack": 2, "args": [2]}]
        hint = {"event": "hint", "args": ["nobody has outbid you yet"]}
        assert [each for each in messages if "event" in each] == [hint, hint]
        await ann.socket.send("1")
        assert await ann.receive_close() == (1000, "client close")
    await scene.program.wait_for(r"ann came from 127\.0\.0\.1\nann left after 2 bids: client close")


@claim("sessions-same")
async def the_newer_of_two_connections_with_one_session_id_stays(scene: Scene) -> None:
    async with scene.client() as client:
        older = await client.connect("account=ann&device=phone")
        newer = await client.connect("account=ann&device=phone")
        assert await older.receive_close() == (4500, "replaced")
        await client.connect("account=ben&device=phone")  # of another account: another session
        await newer.close()
        await scene.program.wait_for("phone left: transport close")
    told = sorted(line for line in scene.program.printed.splitlines() if line.startswith("phone"))
    assert told == ["phone came"] * 3 + ["phone left: replaced", "phone left: transport close"]


@claim("validation-types")
async def types_decide_what_is_accepted(scene: Scene) -> None:
    async with scene.client() as client:
        ann = await client.connect("account=ann")
        await ann.emit("bid", {"lot": "7", "cents": 5}, id=2)
        assert f"{str(await ann.socket.receive())[1:]}\n" == NAMED["validation-answer"].text
        assert (await ask(ann, "bid", {"lot": "7", "cents": 100}))["args"] == ["open bid on 7"]
        for wrong in ({"lot": "7", "cents": 100.0}, {"lot": "", "cents": 100}, {"lot": "7", "cents": 100, "more": 1}):
            assert (await ask(ann, "bid", wrong))["error"]["type"] == "validation"
        assert (await ask(ann, "watch", "7", "8", "9"))["args"] == [3]
        assert (await ask(ann, "watch"))["error"]["message"] == "Expected `array` of length 1 to 32, got 0"


@claim("validation-function")
async def a_function_accepts_refuses_and_replaces(scene: Scene) -> None:
    async with scene.client() as client:
        ann = await client.connect("account=ann")
        assert await ask(ann, "order", "pears", 20) == {"event": "ordered", "args": ["pears", 12]}
        assert await ann.receive() == {"ack": 1, "args": []}
        assert (await ask(ann, "order", "plums", 1))["error"]["message"] == "no such lot"
        assert (await ask(ann, "order", "pears", 0))["error"]["message"] == "Failed to validate the data"
        assert (await ask(ann, "order", "pears", "1"))["error"]["path"] == "$[1]"


@claim("receipts-call")
async def a_client_is_asked_and_may_answer_in_every_way(scene: Scene) -> None:
    refusal = {"type": "client", "message": "too much"}
    async with scene.client() as client:
        ann = await client.connect("account=ann")
        for answer, outcome in (
            ({"args": [900]}, "ordered for 900"),
            ({"args": ["x"]}, "not ordered: what is that?"),
            ({"error": refusal}, "not ordered: too much"),
            (None, "no answer, not ordered"),
        ):
            question = await ask(ann, "order", "pears")
            assert (question["event"], question["args"]) == ("confirm", ["pears"])
            if answer is not None:
                await ann.send({"ack": question["id"], **answer})
            assert await ann.receive() == {"ack": 1, "args": [outcome]}


@claim("events")
async def listeners_hear_of_clients_and_of_errors(scene: Scene) -> None:
    await scene.program.wait_for("ready")
    async with scene.client() as client:
        ann = await client.connect("account=ann")
        await scene.program.wait_for("ann came\nthe first one is here")
        await ann.emit("nothing")
        await scene.program.wait_for("UnknownEvent of ann: no validator for the event 'nothing'")
        await scene.program.wait_for("error::validation: no validator for the event 'nothing' .*ann/")
        await scene.get("/stream/?EIO=4&transport=polling")
        await scene.program.wait_for(r"AccountRefused of 127\.0\.0\.1: account is missing")
        await ann.close()
        await client.connect("account=ben")
        await scene.program.wait_for("ann left: transport close(?s:.*)ben came")
    assert scene.program.printed.count("the first one") == 1


@claim("events-counters")
async def counters_are_shown_to_who_knows_the_secret(scene: Scene) -> None:
    assert (await scene.get("/counters")).status == 401
    async with scene.client() as client:
        ann = await client.connect("account=ann")
        await ask(ann, "ping")
        await ask(ann, "nothing")
        found = await scene.get("/counters", {"Authorization": "Bearer in earnest: from your configuration"})
    counted = {"messages": 2, "now": 1, "error::refused": 1, "sessions_opened": 1, "error::validation": 1}
    assert {name: number for name, number in found.json().items() if number} == counted


@claim("wire-server")
async def the_client_of_the_page_and_its_talk_by_polling_are_true(scene: Scene) -> None:
    text = NAMED["wire-client"].text
    assert await run_node(text, scene.port) == NAMED["wire-output"].text
    for how in ("stream.socket.terminate()", "stream.patience = 50"):
        assert await run_node(text + LOST.replace("HOW", how), scene.port) == "back, 5\n"
    async with scene.client() as client:
        await _replay(client, NAMED["wire-polling"].text)
        told = await (await client.connect("account=ann&resume=1")).receive()
        assert told["event"] == "session"
        assert [set(each) for each in told["args"]] == [{"account", "session", "recovered"}]


async def _replay(client: Client, talk: str) -> None:
    """Send the requests of a page, a line each, and compare the answers."""
    lines = talk.splitlines()
    sid = ""
    for request, response in zip(lines[::2], lines[1::2], strict=True):
        method, target, *body = request.split(maxsplit=2)
        status, expected = response.split(maxsplit=1)
        data = body[0].encode() if body else None
        answer = await client.fetch(method, target.replace("SID", sid), None, data)
        sid = sid or answer.text.split('"')[3]
        assert (str(answer.status), answer.text.replace(sid, "SID")) == (status, expected.replace(sid, "SID"))
