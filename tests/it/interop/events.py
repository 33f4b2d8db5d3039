"""Server-sent events, each of which waits until somebody says that the one before has arrived."""

import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

EVENTS = 5
arrived = {}
changed = threading.Condition()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        _, _, what, stream, *rest = self.path.split("/")
        if what == "arrived":
            with changed:
                arrived[stream] = int(rest[0])
                changed.notify_all()
            self.send_response(200)
            self.send_header("Content-Length", "8")
            self.end_headers()
            self.wfile.write(b"so be it")
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for event in range(1, EVENTS + 1):
            self.chunk(b"data: event %d\n\n" % event)
            with changed:
                if not changed.wait_for(lambda: arrived.get(stream) == event, timeout=20):
                    return
        self.chunk(b"")

    def chunk(self, data):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def log_message(self, *_):
        pass


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
