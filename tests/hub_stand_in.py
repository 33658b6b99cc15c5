"""A stand-in for the Hugging Face Hub's HTTP interface, as far as pushing needs it, and with faults on request.

Written from what the client sends: repositories, branches, files in commits, large ones by LFS first. Content that
does not have the SHA-256 which was announced is refused, so that what is found here was sent whole.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

TOKEN = "hf_ThisIsNoTokenButLooksLikeOne"
LARGE_BYTES = 1000
"""Files of this size go by LFS here: the demo's weights must."""
HANG = -1
"""In place of a status: the request is never answered."""


@dataclass
class Repository:
    private: bool
    branches: dict[str, dict[str, bytes]]
    commits: list[tuple[str, str]] = field(default_factory=list)
    """Each commit's branch and message."""


@dataclass
class Hub:
    """What the stand-in has, and what it does wrong.

    Attributes:
        fault: Is asked at each request, with its method and path: a status to fail with, HANG, or None.
        requests: All that came, in order.
    """

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    fault: Callable[[str, str], int | None] = lambda method, path: None
    seconds_before_answers: float = 0.0
    allowed: str = TOKEN

    def files(self, repo_id: str, branch: str) -> dict[str, bytes]:
        return self.repositories[repo_id].branches[branch]


class Refusal(Exception):
    def __init__(self, status: int, message: str, **more: str) -> None:
        self.status, self.content = status, {"error": message, **more}


@contextlib.contextmanager
def running_hub() -> Iterator[Hub]:
    """Serve on a free port of this machine until the block ends."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads, server.block_on_close = True, False
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


def failing(status: int, *, times: int, where: str = "") -> Callable[[str, str], int | None]:
    """Make a fault that happens so many times to requests whose path holds something."""
    left = [times]

    def fault(method: str, path: str) -> int | None:
        if where in path and left[0] > 0:
            left[0] -= 1
            return status
        return None

    return fault


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.answer("GET")

    def do_POST(self) -> None:
        self.answer("POST")

    def do_PUT(self) -> None:
        self.answer("PUT")

    def log_message(self, *args: Any) -> None:
        pass

    def answer(self, method: str) -> None:
        path = unquote(self.path.partition("?")[0])
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.hub.requests.append((method, path))
        time.sleep(self.hub.seconds_before_answers)
        status = self.hub.fault(method, path)
        if status == HANG:
            time.sleep(3600)
        try:
            if status is not None:
                raise Refusal(status, f"failing on request for Bearer {self.hub.allowed}, that is {self.hub.allowed}")
            if not path.startswith("/object/") and self.headers.get("Authorization") != f"Bearer {self.hub.allowed}":
                raise Refusal(401, f"Invalid username or password: {self.headers.get('Authorization')}")
            self.send(200, self.route(method, path, body))
        except Refusal as refusal:
            self.send(refusal.status, refusal.content)

    def send(self, status: int, content: Any) -> None:
        raw = json.dumps(content).encode()
        with contextlib.suppress(OSError):
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(raw)))
            if status >= 400:
                self.send_header("X-Error-Message", content["error"])
            self.end_headers()
            self.wfile.write(raw)

    def route(self, method: str, path: str, body: bytes) -> Any:
        routes: dict[str, Callable[..., Any]] = {
            "POST /api/repos/create": self.create,
            "POST /api/validate-yaml": lambda content: {"errors": [], "warnings": []},
            "POST /api/models/([^/]+/[^/]+)/branch/(.+)": self.branch,
            "POST /api/models/([^/]+/[^/]+)/preupload/(.+)": self.preupload,
            "POST /api/models/([^/]+/[^/]+)/commit/(.+)": self.commit,
            "GET /api/models/([^/]+/[^/]+)/revision/(.+)": self.revision,
            "GET /api/models/([^/]+/[^/]+)/tree/(.+)": self.tree,
            "POST /([^/]+/[^/]+)\\.git/info/lfs/objects/batch": self.batch,
            "POST /verify": self.verify,
            "PUT /object/(.+)": self.put,
        }
        for pattern, handle in routes.items():
            if found := re.fullmatch(pattern, f"{method} {path}"):
                return handle(body, *found.groups())
        raise Refusal(404, f"the stand-in has no {method} {path}")

    def create(self, body: bytes) -> dict[str, Any]:
        asked = json.loads(body)
        repo_id = f"{asked['organization']}/{asked['name']}"
        if repo_id in self.hub.repositories:
            raise Refusal(409, "You already created this model repo", url=f"{self.hub.url}/{repo_id}")
        private = asked.get("private", False) or asked.get("visibility") == "private"
        self.hub.repositories[repo_id] = Repository(private=private, branches={"main": {".gitattributes": b"*\n"}})
        return {"url": f"{self.hub.url}/{repo_id}"}

    def repository(self, repo_id: str) -> Repository:
        if repo_id not in self.hub.repositories:
            raise Refusal(404, "Repository not found")
        return self.hub.repositories[repo_id]

    def branch(self, body: bytes, repo_id: str, name: str) -> dict[str, Any]:
        branches = self.repository(repo_id).branches
        if name in branches:
            raise Refusal(409, "Reference already exists")
        branches[name] = dict(branches["main"])
        return {}

    def files_of(self, repo_id: str, branch: str) -> dict[str, bytes]:
        branches = self.repository(repo_id).branches
        if branch not in branches:
            raise Refusal(404, f"Invalid rev id: {branch}")
        return branches[branch]

    def preupload(self, body: bytes, repo_id: str, branch: str) -> dict[str, Any]:
        there = self.files_of(repo_id, branch)

        def mode_of(asked: dict[str, Any]) -> dict[str, Any]:
            content = there.get(asked["path"])
            is_large = asked["size"] >= LARGE_BYTES
            known = {} if content is None else {"oid": identity(content, is_large=is_large)}
            return {
                "path": asked["path"],
                "uploadMode": "lfs" if is_large else "regular",
                "shouldIgnore": False,
                **known,
            }

        return {"files": [mode_of(asked) for asked in json.loads(body)["files"]]}

    def batch(self, body: bytes, repo_id: str) -> dict[str, Any]:
        self.repository(repo_id)

        def action(asked: dict[str, Any]) -> dict[str, Any]:
            known = {"oid": asked["oid"], "size": asked["size"]}
            if asked["oid"] in self.hub.objects:
                return known
            upload = {"href": f"{self.hub.url}/object/{asked['oid']}?X-Signature=secret-of-the-storage"}
            verify = {"href": f"{self.hub.url}/verify"}
            return {**known, "actions": {"upload": upload, "verify": verify}}

        return {"transfer": "basic", "objects": [action(asked) for asked in json.loads(body)["objects"]]}

    def put(self, body: bytes, oid: str) -> dict[str, Any]:
        if hashlib.sha256(body).hexdigest() != oid:
            raise Refusal(400, "the content has another SHA-256")
        self.hub.objects[oid] = body
        return {}

    def verify(self, body: bytes) -> dict[str, Any]:
        asked = json.loads(body)
        if len(self.hub.objects.get(asked["oid"], b"")) != asked["size"]:
            raise Refusal(404, "no such object")
        return {}

    def commit(self, body: bytes, repo_id: str, branch: str) -> dict[str, Any]:
        files, lines = dict(self.files_of(repo_id, branch)), [json.loads(line) for line in body.splitlines()]
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "deletedFile":
                del files[value["path"]]
            elif line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile" and value["oid"] in self.hub.objects:
                files[value["path"]] = self.hub.objects[value["oid"]]
            else:
                raise Refusal(400, f"what is {line['key']}?")
        repository = self.repository(repo_id)
        repository.branches[branch] = files
        repository.commits.append((branch, lines[0]["value"]["summary"]))
        oid = commit_id(files)
        return {"commitUrl": f"{self.hub.url}/{repo_id}/commit/{oid}", "commitOid": oid, "success": True}

    def tree(self, body: bytes, repo_id: str, branch: str) -> list[dict[str, Any]]:
        files = self.files_of(repo_id, branch)
        return [
            {"type": "file", "path": path, "size": len(content), "oid": identity(content, is_large=False)}
            for path, content in files.items()
        ]

    def revision(self, body: bytes, repo_id: str, branch: str) -> dict[str, Any]:
        return {"id": repo_id, "sha": commit_id(self.files_of(repo_id, branch)), "siblings": [], "tags": []}


def identity(content: bytes, *, is_large: bool) -> str:
    """Return what the Hub knows a file by: its SHA-256, or as a git blob."""
    if is_large:
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0%b" % (len(content), content)).hexdigest()


def commit_id(files: dict[str, bytes]) -> str:
    content = b"".join(name.encode() + hashlib.sha256(files[name]).digest() for name in sorted(files))
    return hashlib.sha1(content).hexdigest()


def surroundings(hub_url: str, **changed: str) -> dict[str, str]:
    """Return the environment variables under which the real client talks to the stand-in."""
    known = {"HF_ENDPOINT": hub_url, "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1"}
    return known | changed


@contextlib.contextmanager
def hub_in_reach(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[Hub]:
    """A Hub that the real client finds, in a folder without a `.env`."""
    monkeypatch.chdir(folder)
    with running_hub() as hub:
        for name, value in surroundings(hub.url, HF_HOME=str(folder / "of-the-client")).items():
            monkeypatch.setenv(name, value)
        yield hub


__all__ = ["HANG", "TOKEN", "Hub", "failing", "hub_in_reach", "running_hub", "surroundings"]
