"""Echoes what it is sent; some words are wishes."""

import asyncio
import sys

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosedError


async def handle(socket):
    try:
        await converse(socket)
    except ConnectionClosedError:
        pass
    # Those who ask do not overwrite what they ask for.
    if socket.close_code != 1000:
        global last
        last = f"{socket.close_code} {socket.close_reason}"


async def converse(socket):
    async for message in socket:
        if message == "close, please":
            await socket.close(4002, "as you wish")
        elif message == "ping me":
            latency = await (await socket.ping(b"are you there"))
            await socket.send("you are there" if latency >= 0 else "no")
        elif message == "which code did the last one close with":
            await socket.send(last)
        else:
            await socket.send(message)


last = ""


def choose(_, offered):
    return "chat.test" if "chat.test" in offered else None


async def main():
    port = int(sys.argv[1])
    server = serve(handle, "127.0.0.1", port, max_size=8 << 20, select_subprotocol=choose)
    async with server:
        await asyncio.get_running_loop().create_future()


asyncio.run(main())
