"""A small Zenodo on localhost: a record of files, which can be made to misbehave."""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

Form = Literal["today", "before 2023", "InvenioRDM"]


@dataclass
class Zenodo:
    """A record, and what goes wrong with it.

    form: of the record's JSON. answers: status and headers of the next requests for a file, before it is sent. truncate:
    close the connection after so many bytes of a file, ``breaks`` times. corrupt: how many times other bytes are sent.
    listings: how many times half the record is sent. links: said of files, instead of the true ones. go_on: what the
    second half of a file waits for.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    form: Form = "today"
    ranges: bool = True
    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    truncate: int | None = None
    breaks: int = 1_000
    corrupt: int = 0
    listings: int = 0
    sizes: dict[str, int] = field(default_factory=dict)
    links: dict[str, str] | None = None
    go_on: threading.Event | None = None
    requests: list[str] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    port: int = 0

    @property
    def api(self) -> str:
        return f"http://127.0.0.1:{self.port}/api/records"

    def record(self, number: str) -> dict[str, Any]:
        entries = []
        for name, content in self.files.items():
            here = f"{self.api}/{number}/files/{name}"
            links = {
                "today": {"self": f"{here}/content"},
                "before 2023": {"self": f"http://127.0.0.1:{self.port}/api/files/8f-bucket/{name}"},
                "InvenioRDM": {"self": here, "content": f"{here}/content"},
            }[self.form]
            md5 = hashlib.md5(content).hexdigest()
            size = self.sizes.get(name, len(content))
            entries.append({"key": name, "size": size, "checksum": f"md5:{md5}", "links": self.links or links})
        files = {"entries": {entry["key"]: entry for entry in entries}} if self.form == "InvenioRDM" else entries
        return {"id": int(number), "metadata": {"title": "HEAR"}, "files": files}


def handler(zenodo: Zenodo) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments: Any) -> None:
            pass

        def answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            zenodo.requests.append(self.path)
            parts = self.path.strip("/").split("/")
            if parts[:2] == ["api", "records"] and len(parts) == 3:
                body = json.dumps(zenodo.record(parts[2])).encode()
                if zenodo.listings > 0:
                    zenodo.listings -= 1
                    body = body[: len(body) // 2]
                self.answer(200, body)
            elif parts[:2] == ["api", "files"]:
                self.file(parts[-1])
            elif parts[-1] == "content":
                self.file(parts[-2])
            else:  # a file's description: no archive
                self.answer(200, b"{}")

        def file(self, name: str) -> None:
            if zenodo.answers:
                status, headers = zenodo.answers.pop(0)
                return self.answer(status, b"not now", headers)
            content = zenodo.files[name]
            if zenodo.corrupt > 0:
                zenodo.corrupt -= 1
                content = bytes(reversed(content))
            start = 0
            if zenodo.ranges and (asked := self.headers.get("Range", "")).startswith("bytes="):
                start = int(asked[6:].partition("-")[0])
                if start >= len(content):
                    return self.answer(416)
            zenodo.starts.append(start)
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(content) - start))
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.end_headers()
            breaking = zenodo.truncate is not None and zenodo.breaks > 0
            sent = content[start:][: zenodo.truncate] if breaking else content[start:]
            half = len(sent) // 2
            self.wfile.write(sent[:half])
            if zenodo.go_on:
                zenodo.go_on.wait()
            self.wfile.write(sent[half:])
            if breaking:
                zenodo.breaks -= 1
                self.close_connection = True
                self.connection.shutdown(2)

    return Handler


class Running:
    """``with Running() as zenodo``: it listens until the block ends."""

    def __enter__(self) -> Zenodo:
        self.zenodo = Zenodo()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler(self.zenodo))
        self.server.daemon_threads = True
        self.zenodo.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self.zenodo

    def __exit__(self, *exception: object) -> None:
        self.server.shutdown()
        self.server.server_close()
