"""A gRPC server whose messages are plain bytes; the method says what it does with them."""

import signal
import sys
import threading
from concurrent import futures

import grpc

cancelled = threading.Event()


def unary(request, context):
    return b"echo " + request


def client_streams(requests, context):
    return b"+".join(requests)


def server_streams(request, context):
    for number in range(int(request)):
        yield b"message %d" % number


def both_stream(requests, context):
    for request in requests:
        yield b"echo " + request


def status_only(request, context):
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "wörds with ümlauts, 100 %")


def status_after_messages(request, context):
    yield b"one"
    yield b"two"
    context.set_trailing_metadata([("why", "so"), ("raw-bin", b"\x00\xff")])
    context.abort(grpc.StatusCode.DATA_LOSS, "the rest is lost")


def metadata(request, context):
    told = dict(context.invocation_metadata())
    context.send_initial_metadata([("first", told["asked"]), ("first-bin", told["asked-bin"])])
    context.set_trailing_metadata([("last", told["asked"]), ("last-bin", told["asked-bin"])])
    return b"done"


def hangs(request, context):
    if not context.add_callback(cancelled.set):
        cancelled.set()
    cancelled.wait(20)
    return b"too late"


def was_cancelled(request, context):
    said = b"yes" if cancelled.wait(10) else b"no"
    cancelled.clear()
    return said


def deadline_left(request, context):
    return b"%d" % (context.time_remaining() or -1)


UNARY_UNARY = [unary, status_only, metadata, hangs, was_cancelled, deadline_left]
UNARY_STREAM = [server_streams, status_after_messages]

handlers = {
    **{f.__name__: grpc.unary_unary_rpc_method_handler(f) for f in UNARY_UNARY},
    **{f.__name__: grpc.unary_stream_rpc_method_handler(f) for f in UNARY_STREAM},
    "client_streams": grpc.stream_unary_rpc_method_handler(client_streams),
    "both_stream": grpc.stream_stream_rpc_method_handler(both_stream),
}

options = [("grpc.max_receive_message_length", 32 << 20), ("grpc.max_send_message_length", 32 << 20)]
server = grpc.server(futures.ThreadPoolExecutor(128), options=options)
server.add_generic_rpc_handlers(
    [grpc.method_handlers_generic_handler(name, handlers) for name in ("bench.Echo", "guarded.Echo")]
)
server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}")
server.start()
ended = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: ended.set())
ended.wait()
server.stop(grace=5).wait()
