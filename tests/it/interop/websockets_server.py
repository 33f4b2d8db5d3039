"""Echoes what it is sent; some words are wishes."""

import asyncio
import sys

from websockets.asyncio.server import serve


async def handle(socket):
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
    remember(socket)


last = ""


def remember(socket):
    global last
    # Those who ask do not overwrite what they ask for.
    if socket.close_code != 1000:
        last = f"{socket.close_code} {socket.close_reason}"


async def main():
    port = int(sys.argv[1])
    server = serve(handle, "127.0.0.1", port, max_size=8 << 20, subprotocols=["chat.test"])
    async with server:
        await asyncio.get_running_loop().create_future()


asyncio.run(main())
