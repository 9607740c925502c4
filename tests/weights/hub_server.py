"""A small Hugging Face Hub on localhost: what its client asks when it downloads a file or commits to a repository."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Hub:
    """Repositories by name, each a list of commits (name -> content), and how to misbehave."""

    repos: dict[str, list[dict[str, bytes]]] = field(default_factory=dict)
    uploads: dict[str, bytes] = field(default_factory=dict)  # sha256 -> content
    truncate: int | None = None  # close the connection after so many bytes of a file,
    breaks: int = 1_000  # so many times
    corrupt: bool = False  # send other bytes than the stated hash
    refuse: int | None = None  # answer every request with this status
    requests: list[tuple[str, str]] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)  # first byte asked for, by every request for a file
    port: int = 0

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def commit(self, repo: str, files: dict[str, bytes]) -> str:
        commits = self.repos.setdefault(repo, [])
        commits.append({**(commits[-1] if commits else {}), **files})
        return self.revision(repo, len(commits) - 1)

    def revision(self, repo: str, index: int) -> str:
        return hashlib.sha1(f"{repo} {index}".encode(), usedforsecurity=False).hexdigest()

    def find(self, repo: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        commits = self.repos.get(repo, [])
        for index in reversed(range(len(commits))):
            if revision in ("main", self.revision(repo, index)):
                return self.revision(repo, index), commits[index]
        return None


def handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments: Any) -> None:
            pass

        def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def answer_json(self, value: Any) -> None:
            self.answer(200, json.dumps(value).encode(), Content_Type="application/json")

        def body(self) -> bytes:
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))

        def route(self) -> None:
            hub.requests.append((self.command, self.path))
            path = self.path.partition("?")[0].strip("/")
            if hub.refuse is not None:
                self.body()
                self.answer(hub.refuse)
            elif "/resolve/" in path:
                repo, _, rest = path.partition("/resolve/")
                revision, _, name = rest.partition("/")
                self.file(repo, revision, name)
            elif path == "api/repos/create":
                asked = json.loads(self.body())
                repo = f"{asked['organization']}/{asked['name']}"
                hub.repos.setdefault(repo, [{".gitattributes": b""}])  # its first commit
                self.answer_json({"url": f"{hub.endpoint}/{repo}", "name": repo, "id": repo})
            elif "/preupload/" in path:
                files = json.loads(self.body())["files"]
                modes = [("lfs" if f["path"].endswith(".safetensors") else "regular", f["path"]) for f in files]
                answers = [{"path": name, "uploadMode": mode, "shouldIgnore": False} for mode, name in modes]
                self.answer_json({"files": answers})
            elif path.endswith(".git/info/lfs/objects/batch"):
                objects = json.loads(self.body())["objects"]
                for wanted in objects:
                    wanted["actions"] = {"upload": {"href": f"{hub.endpoint}/upload/{wanted['oid']}", "header": {}}}
                self.answer_json({"transfer": "basic", "objects": objects})
            elif path.startswith("upload/"):
                content = self.body()
                if hashlib.sha256(content).hexdigest() == path.rpartition("/")[2]:
                    hub.uploads[path.rpartition("/")[2]] = content
                    self.answer(200)
                else:
                    self.answer(400)
            elif path == "api/validate-yaml":  # of a model card
                self.body()
                self.answer_json({"errors": [], "warnings": []})
            elif "/commit/" in path:
                self.receive_commit(path.removeprefix("api/models/").partition("/commit/")[0])
            else:  # what is known of a repository
                self.body()
                self.information("/".join(path.split("/")[2:4]), path.partition("/revision/")[2] or "main")

        def information(self, repo: str, revision: str) -> None:
            if (found := hub.find(repo, revision)) is None:
                return self.answer(404, X_Error_Code="RevisionNotFound" if repo in hub.repos else "RepoNotFound")
            commit, files = found
            self.answer_json({"id": repo, "sha": commit, "siblings": [{"rfilename": name} for name in files]})

        def receive_commit(self, repo: str) -> None:
            files = {}
            for line in self.body().splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
                elif entry["key"] == "lfsFile":
                    files[entry["value"]["path"]] = hub.uploads[entry["value"]["oid"]]
            oid = hub.commit(repo, files)
            url = f"{hub.endpoint}/{repo}/commit/{oid}"
            self.answer_json({"commitUrl": url, "commitOid": oid, "success": True, "pullRequestUrl": None})

        def file(self, repo: str, revision: str, name: str) -> None:
            if repo not in hub.repos:
                return self.answer(401, X_Error_Code="RepoNotFound")
            found = hub.find(repo, revision)
            if found is None:
                return self.answer(404, X_Error_Code="RevisionNotFound")
            commit, files = found
            if name not in files:
                return self.answer(404, X_Error_Code="EntryNotFound", X_Repo_Commit=commit)
            content = files[name]
            sent = bytes(reversed(content)) if hub.corrupt else content
            start = 0
            if (asked := self.headers.get("Range", "")).startswith("bytes="):
                start = int(asked[6:].partition("-")[0])
            hub.starts.append(start)
            self.send_response(206 if start else 200)
            self.send_header("X-Repo-Commit", commit)
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(len(sent) - start))
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(sent) - 1}/{len(sent)}")
            self.end_headers()
            if self.command == "GET":
                breaks = hub.truncate is not None and hub.breaks > 0
                self.wfile.write(sent[start:][: hub.truncate] if breaks else sent[start:])
                if breaks:
                    hub.breaks -= 1
                    self.wfile.flush()
                    self.close_connection = True
                    self.connection.shutdown(2)

        do_GET = do_HEAD = do_POST = do_PUT = route  # noqa: N815

    return Handler


class Running:
    """``with Running() as hub``: a Hub that listens until the block ends."""

    def __enter__(self) -> Hub:
        self.hub = Hub()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler(self.hub))
        self.server.daemon_threads = True
        self.hub.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self.hub

    def __exit__(self, *exception: object) -> None:
        self.server.shutdown()
        self.server.server_close()
