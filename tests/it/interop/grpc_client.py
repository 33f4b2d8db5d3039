"""One case of a gRPC client, by its name; says `ok` when everything was as it should be."""

import sys
import threading
from concurrent import futures

import grpc

PATIENCE = 20

with open(sys.argv[2], "rb") as file:
    credentials = grpc.ssl_channel_credentials(file.read())
channel = grpc.secure_channel(
    "127.0.0.1:8443",
    credentials,
    options=[
        ("grpc.ssl_target_name_override", "api.test"),
        ("grpc.default_authority", "api.test"),
        ("grpc.enable_http_proxy", 0),
        # What fails is to be seen.
        ("grpc.enable_retries", 0),
        ("grpc.max_receive_message_length", 32 << 20),
        ("grpc.max_send_message_length", 32 << 20),
    ],
)


def call(kind, method, service="bench.Echo"):
    return getattr(channel, kind)(f"/{service}/{method}")


def fails(run):
    try:
        run()
    except grpc.RpcError as error:
        return error
    raise AssertionError("it did not fail")


def unary():
    for payload in [b"", b"hello", b"\x00" * 10000]:
        assert call("unary_unary", "unary")(payload, timeout=PATIENCE) == b"echo " + payload


def client_streams():
    parts = [b"%d" % n for n in range(200)]
    assert call("stream_unary", "client_streams")(iter(parts), timeout=PATIENCE) == b"+".join(parts)


def server_streams():
    for count in [0, 1, 500]:
        answer = list(call("unary_stream", "server_streams")(b"%d" % count, timeout=PATIENCE))
        assert answer == [b"message %d" % n for n in range(count)], answer


def both_stream():
    parts = [b"%d" % n for n in range(500)]
    answer = list(call("stream_stream", "both_stream")(iter(parts), timeout=PATIENCE))
    assert answer == [b"echo " + part for part in parts]


def in_turns():
    """Every message waits for the answer to the one before: nothing may be held back on the way."""
    turn = threading.Semaphore(1)

    def ask():
        for number in range(50):
            assert turn.acquire(timeout=PATIENCE)
            yield b"%d" % number

    answers = call("stream_stream", "both_stream")(ask(), timeout=PATIENCE)
    for number, answer in enumerate(answers):
        assert answer == b"echo %d" % number
        turn.release()
    assert number == 49


def status_only():
    error = fails(lambda: call("unary_unary", "status_only")(b"", timeout=PATIENCE))
    assert error.code() == grpc.StatusCode.FAILED_PRECONDITION, error
    assert error.details() == "wörds with ümlauts, 100 %", error.details()


def status_after_messages():
    answers = call("unary_stream", "status_after_messages")(b"", timeout=PATIENCE)
    assert next(answers) == b"one" and next(answers) == b"two"
    error = fails(lambda: next(answers))
    assert (error.code(), error.details()) == (grpc.StatusCode.DATA_LOSS, "the rest is lost"), error
    trailing = dict(answers.trailing_metadata())
    assert trailing["why"] == "so" and trailing["raw-bin"] == b"\x00\xff", trailing


def metadata():
    asked = [("asked", "something"), ("asked-bin", bytes(range(256)))]
    method = call("unary_unary", "metadata")
    answer, told = method.with_call(b"", metadata=asked, timeout=PATIENCE)
    assert answer == b"done"
    first, last = dict(told.initial_metadata()), dict(told.trailing_metadata())
    assert first["first"] == "something" and first["first-bin"] == bytes(range(256)), first
    assert last["last"] == "something" and last["last-bin"] == bytes(range(256)), last


def not_implemented():
    error = fails(lambda: call("unary_unary", "nothing_like_it")(b"", timeout=PATIENCE))
    assert error.code() == grpc.StatusCode.UNIMPLEMENTED, error


def deadline():
    left = int(call("unary_unary", "deadline_left")(b"", timeout=PATIENCE))
    assert PATIENCE - 5 <= left <= PATIENCE, left
    error = fails(lambda: call("unary_unary", "hangs")(b"", timeout=0.5))
    assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED, error
    assert call("unary_unary", "was_cancelled")(b"", timeout=PATIENCE) == b"yes"


def cancelled():
    running = call("unary_unary", "hangs").future(b"", timeout=PATIENCE)
    # The server knows of it once it has answered something that came later.
    call("unary_unary", "unary")(b"", timeout=PATIENCE)
    running.cancel()
    assert call("unary_unary", "was_cancelled")(b"", timeout=PATIENCE) == b"yes"


def megabytes():
    payload = bytes(range(256)) * (4 << 12)
    assert call("unary_unary", "unary")(payload, timeout=PATIENCE) == b"echo " + payload
    parts = [payload[: 1 << 20]] * 8
    answers = list(call("stream_stream", "both_stream")(iter(parts), timeout=PATIENCE))
    assert answers == [b"echo " + part for part in parts]


def compressed():
    payload = b"again and again " * 10000
    method = call("unary_unary", "unary")
    answer = method(payload, timeout=PATIENCE, compression=grpc.Compression.Gzip)
    assert answer == b"echo " + payload


def many_at_once():
    method = call("unary_unary", "unary")
    with futures.ThreadPoolExecutor(100) as pool:
        asked = [b"%d" % n for n in range(1000)]
        answers = list(pool.map(lambda payload: method(payload, timeout=PATIENCE), asked))
    assert answers == [b"echo " + payload for payload in asked]


def slow_reader():
    """One call whose answer nobody reads holds up no other."""
    unread = call("unary_unary", "unary")
    stream = call("unary_stream", "server_streams")(b"200000", timeout=PATIENCE)
    assert next(stream) == b"message 0"
    for number in range(50):
        assert unread(b"%d" % number, timeout=PATIENCE) == b"echo %d" % number
    stream.cancel()


def unauthenticated():
    method = call("unary_unary", "unary", "guarded.Echo")
    error = fails(lambda: method(b"", timeout=PATIENCE))
    assert error.code() == grpc.StatusCode.UNAUTHENTICATED, error


globals()[sys.argv[1]]()
channel.close()
print("ok")
