"""One case of a client, by its name; says `ok` when everything was as it should be."""

import asyncio
import ssl
import sys

from websockets.asyncio.client import connect as connect_to
from websockets.exceptions import ConnectionClosed, InvalidStatus


def connect(path="/app/echo", **options):
    context = ssl.create_default_context(cafile=sys.argv[2])
    return connect_to(
        f"wss://api.test:8443{path}",
        host="127.0.0.1",
        port=8443,
        ssl=context,
        max_size=8 << 20,
        proxy=None,
        **options,
    )


async def text_and_binary():
    async with connect() as socket:
        for message in ["", "hello", "grüße ✓", b"", b"\x00\xff" * 100, "x" * 125, "x" * 126, "x" * 65536]:
            await socket.send(message)
            assert await socket.recv() == message


async def fragments():
    async with connect(compression=None) as socket:
        await socket.send(["in ", "three ", "parts"])
        assert await socket.recv() == "in three parts"

        async def slowly():
            for part in [b"a", b"", b"b" * 70000, b"c"]:
                yield part
                await asyncio.sleep(0.01)

        await socket.send(slowly())
        assert await socket.recv() == b"a" + b"b" * 70000 + b"c"


async def pings_both_ways():
    async with connect() as socket:
        for payload in [b"", b"x" * 125]:
            await asyncio.wait_for(await socket.ping(payload), 10)
        await socket.send("ping me")
        assert await socket.recv() == "you are there"
        await socket.pong(b"nobody asked")
        await socket.send("still here")
        assert await socket.recv() == "still here"


async def a_megabyte_both_ways():
    async with connect(compression=None) as socket:
        message = bytes(range(256)) * 4096
        for _ in range(4):
            await socket.send(message)
        for _ in range(4):
            assert await socket.recv() == message


async def subprotocol_and_compression():
    async with connect(subprotocols=["other", "chat.test"]) as socket:
        assert socket.subprotocol == "chat.test", socket.subprotocol
        assert "permessage-deflate" in socket.response.headers["Sec-WebSocket-Extensions"]
        await socket.send("again and again " * 1000)
        assert await socket.recv() == "again and again " * 1000


async def the_client_closes_with_a_code():
    async with connect() as socket:
        await socket.close(4001, "enough")
        assert socket.close_code == 4001
    async with connect() as socket:
        for _ in range(100):
            await socket.send("which code did the last one close with")
            if (said := await socket.recv()) == "4001 enough":
                return
            await asyncio.sleep(0.05)
        raise AssertionError(said)


async def the_server_closes_with_a_code():
    async with connect() as socket:
        await socket.send("close, please")
        try:
            await socket.recv()
        except ConnectionClosed as closed:
            assert (closed.rcvd.code, closed.rcvd.reason) == (4002, "as you wish"), closed
            return
    raise AssertionError("it was not closed")


async def many_at_once():
    async def one(number):
        async with connect() as socket:
            for turn in range(10):
                await socket.send(f"{number} {turn}")
                assert await socket.recv() == f"{number} {turn}"

    await asyncio.gather(*(one(number) for number in range(50)))


async def a_plain_request_beside_it():
    try:
        async with connect(additional_headers={"Sec-WebSocket-Version": "7"}):
            raise AssertionError("there are two versions")
    except InvalidStatus as refused:
        assert 400 <= refused.response.status_code < 500, refused.response.status_code


async def refused():
    try:
        async with connect("/guarded/echo"):
            raise AssertionError("it was let in")
    except InvalidStatus as refused:
        print(refused.response.status_code)


async def until_cut():
    headers = {"Authorization": f"Bearer {sys.argv[3]}"}
    async with connect("/guarded/echo", additional_headers=headers) as socket:
        await socket.send("hello")
        assert await socket.recv() == "hello"
        print("connected")
        try:
            await asyncio.wait_for(socket.recv(), 20)
        except ConnectionClosed:
            print("cut")


asyncio.run(globals()[sys.argv[1]]())
print("ok")
