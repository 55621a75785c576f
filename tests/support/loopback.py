"""A web server on this machine whose files can be cut off, slow, silent, wrong or somewhere else."""

import contextlib
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server(ThreadingHTTPServer):
    """``files[path]`` answers a request for ``path``; ``requests`` lists (path, Range) as they came."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files = {}
        self.requests = []
        self.closing = threading.Event()

    def add(self, path, answer):
        self.files[path] = answer
        return f"http://127.0.0.1:{self.server_port}{path}"

    def handle_error(self, request, client_address):
        """The client may leave whenever it likes."""


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests.append((self.path, self.headers.get("Range")))
        self.server.files[self.path](self)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def running():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()


def file(content, ranges=True, cut=None, pieces=None, pause=0.0, stall=None, content_type="application/gzip"):
    """An answer: ``content``, ended after ``cut`` bytes, silent after ``stall``, or slow in ``pieces``."""

    def answer(handler):
        asked = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range") or "")
        start = int(asked[1]) if asked and ranges else 0
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        handler.send_header("Content-Type", content_type)
        handler.send_header("Content-Length", str(len(content) - start))
        handler.end_headers()
        body = content[start:]
        if cut is not None:
            handler.wfile.write(body[:cut])
        elif stall is not None:
            handler.wfile.write(body[:stall])
            handler.server.closing.wait(20)
        elif pieces:
            for at in range(0, len(body), pieces):
                handler.wfile.write(body[at : at + pieces])
                time.sleep(pause)
        else:
            handler.wfile.write(body)

    return answer


def silent(handler):
    handler.server.closing.wait(20)


def status(code, **headers):
    def answer(handler):
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer
