"""A Hub on loopback, for tests: the calls of huggingface_hub and of what stands on it, and failures on demand.

It keeps repositories in memory and speaks the protocol of the real Hub over plain HTTP: create, info, refs, tree,
paths-info, preupload, commit as NDJSON, LFS batch, upload and verify, resolve with ranges. It does not speak Xet:
clients are started with HF_HUB_DISABLE_XET=1 and take LFS.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "hf_loopback"
LFS_ENDINGS = (".safetensors", ".parquet", ".bin", ".zip")
_KIND = {"models": "model", "datasets": "dataset", "spaces": "space"}
_WHEN = "2026-01-01T00:00:00.000Z"


@dataclass
class Commit:
    """One commit: its files by path, each as (content, whether it is kept by LFS)."""

    oid: str
    title: str
    files: dict[str, tuple[bytes, bool]]


@dataclass
class Repo:
    """A repository and its history on each branch; tags name commits."""

    kind: str
    name: str
    private: bool = False
    gated: bool = False
    commits: list[Commit] = field(default_factory=list)
    refs: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)

    def at(self, revision: str) -> Commit | None:
        """The commit that a branch, a tag or a commit's name means."""
        oid = self.refs.get(revision) or self.tags.get(revision) or revision
        return next((commit for commit in self.commits if commit.oid == oid), None)

    @property
    def head(self) -> Commit:
        """Last commit of main."""
        result = self.at("main")
        assert result is not None
        return result

    def commit(self, branch: str, title: str, files: dict[str, tuple[bytes, bool]]) -> Commit:
        """Add a commit to a branch."""
        text = f"{self.kind} {self.name} {len(self.commits)} {title}".encode()
        made = Commit(hashlib.sha1(text, usedforsecurity=False).hexdigest(), title, files)
        self.commits.append(made)
        self.refs[branch] = made.oid
        return made


@dataclass
class Fault:
    """What goes wrong with the next `times` calls whose "METHOD path" matches: a status, or something with the bytes.

    `after` drops the connection when so many bytes have gone (of the answer, or of the body that is sent for PUT and
    POST), `flip` changes the first byte of the answer, `wait` delays it by seconds.
    """

    pattern: str
    times: int = 1
    status: int | None = None
    after: int | None = None
    flip: bool = False
    wait: float = 0.0


def git_oid(content: bytes) -> str:
    """Git's name of a blob."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def sha256(content: bytes) -> str:
    """LFS's name of a file."""
    return hashlib.sha256(content).hexdigest()


class Hub:
    """The server; a context manager. `repos` and `calls` are there to be looked at, `faults` to be set."""

    def __init__(self) -> None:
        self.repos: dict[tuple[str, str], Repo] = {}
        self.objects: dict[str, bytes] = {}
        self.calls: list[str] = []
        self.faults: list[Fault] = []
        self.lock = threading.RLock()

    def __enter__(self) -> Hub:
        handler = type("Handler", (_Handler,), {"hub": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        # Another host, as the real Hub's store is: clients read the headers of a redirect only where it leaves the Hub.
        self.store = f"http://localhost:{self.server.server_address[1]}"
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def settings(self, home: object) -> dict[str, str]:
        """Environment of a client of this Hub, whose cache lies in `home`."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_TOKEN": TOKEN,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }

    def model(self, name: str) -> Repo:
        """The model repository of that name."""
        return self.repos["model", name]

    def fault(self, call: str) -> Fault | None:
        """The fault that is due for this call, counted down."""
        with self.lock:
            for fault in self.faults:
                if fault.times > 0 and re.search(fault.pattern, call):
                    fault.times -= 1
                    return fault
        return None


class _RefusedError(Exception):
    def __init__(self, status: int, text: str, code: str | None = None):
        super().__init__(text)
        self.status, self.code = status, code


class _DroppedError(Exception):
    pass


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub
    due: Fault | None = None

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _handle(self) -> None:
        parts = urlsplit(self.path)
        self.query = parse_qs(parts.query)
        path = unquote(parts.path)
        with self.hub.lock:
            self.hub.calls.append(f"{self.command} {path}")
        self.due = self.hub.fault(f"{self.command} {path}")
        try:
            if self.due and self.due.wait:
                time.sleep(self.due.wait)
            self.body = self._body()
            if self.due and self.due.status:
                raise _RefusedError(self.due.status, "The Hub was told to fail.")
            self._dispatch(path)
        except _RefusedError as error:
            headers = {"X-Error-Message": str(error)} | ({"X-Error-Code": error.code} if error.code else {})
            self._send(error.status, json.dumps({"error": str(error)}).encode(), headers)
        except (_DroppedError, ConnectionError):
            self.close_connection = True
            self.connection.close()

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _handle  # noqa: N815 - names that http.server looks up

    def _body(self) -> bytes:
        after = self.due.after if self.due and self.command in ("PUT", "POST") else None
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
                if after is not None and sum(map(len, parts)) >= after:
                    raise _DroppedError
            self.rfile.readline()
            return b"".join(parts)
        length = int(self.headers.get("Content-Length") or 0)
        if after is not None:
            self.rfile.read(min(after, length))
            raise _DroppedError
        return self.rfile.read(length)

    def _send(self, status: int, content: bytes, headers: dict[str, str] | None = None, kind: str = "json") -> None:
        if self.due and self.due.flip and content:
            content = bytes([content[0] ^ 1]) + content[1:]
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json" if kind == "json" else "application/octet-stream")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.due and self.due.after is not None and self.command == "GET":
            self.wfile.write(content[: self.due.after])
            self.wfile.flush()
            raise _DroppedError
        self.wfile.write(content)

    def _json(self, value: object, status: int = 200) -> None:
        self._send(status, json.dumps(value).encode())

    def _signed_in(self) -> bool:
        given = self.headers.get("Authorization")
        if given is None:
            return False
        if given != f"Bearer {TOKEN}":
            raise _RefusedError(401, "Invalid credentials in Authorization header")
        return True

    def _dispatch(self, path: str) -> None:
        for pattern, handler in _ROUTES:
            result = re.fullmatch(pattern, f"{self.command} {path}")
            if result:
                handler(self, **{key: value for key, value in result.groupdict().items() if value is not None})
                return
        raise _RefusedError(404, f"Not found: {path}")

    # Finding

    def _repo(self, kind: str, name: str, *, write: bool = False, files: bool = False) -> Repo:
        signed_in = self._signed_in()
        if write and not signed_in:
            raise _RefusedError(401, "Invalid username or password.")
        repo = self.hub.repos.get((_KIND[kind], name))
        if repo is None or (repo.private and not signed_in):
            raise _RefusedError(404 if signed_in else 401, "Repository not found", "RepoNotFound")
        if repo.gated and files and not signed_in:
            raise _RefusedError(401, "Access to this repository is restricted.", "GatedRepo")
        return repo

    def _commit(self, repo: Repo, revision: str) -> Commit:
        commit = repo.at(revision)
        if commit is None:
            raise _RefusedError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return commit

    # Calls

    def who(self) -> None:
        if not self._signed_in():
            raise _RefusedError(401, "Invalid username or password.")
        self._json({"type": "user", "name": "org", "orgs": [], "auth": {"accessToken": {"role": "write"}}})

    def create(self) -> None:
        asked = json.loads(self.body)
        if not self._signed_in():
            raise _RefusedError(401, "Invalid username or password.")
        kind = asked.get("type") or "model"
        name = f"{asked.get('organization') or 'org'}/{asked['name']}"
        prefix = "" if kind == "model" else f"{kind}s/"
        url = f"{self.hub.url}/{prefix}{name}"
        with self.hub.lock:
            known = (kind, name) in self.hub.repos
            if not known:
                private = bool(asked.get("private")) or asked.get("visibility") == "private"
                repo = self.hub.repos[kind, name] = Repo(kind, name, private)
                repo.commit("main", "initial commit", {".gitattributes": (b"*.safetensors filter=lfs\n", False)})
        if known:
            self._json({"error": "You already created this repo", "url": url}, 409)
        else:
            self._json({"url": url, "name": name, "id": name})

    def info(self, kind: str, name: str, revision: str = "main") -> None:
        repo = self._repo(kind, name)
        commit = self._commit(repo, revision)
        front = commit.files.get("README.md", (b"", False))[0].decode()
        result = re.match(r"---\n(.*?)\n---", front, re.DOTALL)
        siblings = [
            {"rfilename": path, "size": len(content), "blobId": git_oid(content)}
            | ({"lfs": {"sha256": sha256(content), "size": len(content), "pointerSize": 134}} if lfs else {})
            for path, (content, lfs) in sorted(commit.files.items())
        ]
        self._json(
            {
                "_id": "0" * 24,
                "id": name,
                "modelId": name,
                "sha": commit.oid,
                "private": repo.private,
                "gated": "auto" if repo.gated else False,
                "disabled": False,
                "tags": [],
                "downloads": 0,
                "likes": 0,
                "lastModified": _WHEN,
                "createdAt": _WHEN,
                "siblings": siblings,
            }
            | ({"front_matter": result.group(1)} if result else {})
        )

    def refs(self, kind: str, name: str) -> None:
        repo = self._repo(kind, name)
        self._json(
            {
                "branches": [
                    {"name": n, "ref": f"refs/heads/{n}", "targetCommit": oid} for n, oid in repo.refs.items()
                ],
                "tags": [{"name": n, "ref": f"refs/tags/{n}", "targetCommit": oid} for n, oid in repo.tags.items()],
                "converts": [],
            }
        )

    def _entry(self, path: str, content: bytes, lfs: bool) -> dict[str, object]:
        entry: dict[str, object] = {"type": "file", "path": path, "size": len(content), "oid": git_oid(content)}
        return entry | ({"lfs": {"oid": sha256(content), "size": len(content), "pointerSize": 134}} if lfs else {})

    def tree(self, kind: str, name: str, revision: str, path: str = "") -> None:
        commit = self._commit(self._repo(kind, name), revision)
        inside = {p: file for p, file in commit.files.items() if not path or p.startswith(f"{path}/")}
        if path and not inside:
            raise _RefusedError(404, f"{path} does not exist on {revision}", "EntryNotFound")
        recursive = self.query.get("recursive", ["false"])[0].lower() in ("true", "1")
        entries, folders = [], set()
        for one, (content, lfs) in sorted(inside.items()):
            rest = one[len(path) + 1 if path else 0 :].split("/")
            folders |= {"/".join([*([path] if path else []), *rest[:k]]) for k in range(1, len(rest))}
            if recursive or len(rest) == 1:
                entries.append(self._entry(one, content, lfs))
        depth = path.count("/") + 1 if path else 0
        shown = sorted(folder for folder in folders if recursive or folder.count("/") == depth)
        self._json([{"type": "directory", "path": folder, "size": 0, "oid": "0" * 40} for folder in shown] + entries)

    def paths_info(self, kind: str, name: str, revision: str) -> None:
        commit = self._commit(self._repo(kind, name), revision)
        if "json" in self.headers.get("Content-Type", ""):
            asked = json.loads(self.body)["paths"]
        else:
            asked = parse_qs(self.body.decode())["paths"]
        entries = []
        for path in [asked] if isinstance(asked, str) else asked:
            if path in commit.files:
                entries.append(self._entry(path, *commit.files[path]))
            elif any(one.startswith(f"{path}/") for one in commit.files):
                entries.append({"type": "directory", "path": path, "size": 0, "oid": "0" * 40})
        self._json(entries)

    def preupload(self, kind: str, name: str, revision: str) -> None:
        commit = self._commit(self._repo(kind, name, write=True), revision)
        files = []
        for file in json.loads(self.body)["files"]:
            lfs = file["path"].endswith(LFS_ENDINGS)
            held = commit.files.get(file["path"])
            oid = None if held is None else sha256(held[0]) if held[1] else git_oid(held[0])
            mode = "lfs" if lfs else "regular"
            files.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        self._json({"files": files})

    def lfs_batch(self, name: str, prefix: str = "models/") -> None:
        self._repo(prefix.rstrip("/"), name, write=True)
        objects = []
        for one in json.loads(self.body)["objects"]:
            answer: dict[str, object] = {"oid": one["oid"], "size": one["size"]}
            if one["oid"] not in self.hub.objects:
                verify = {"href": f"{self.hub.url}/lfs/verify", "header": {}}
                answer["actions"] = {"upload": {"href": f"{self.hub.url}/lfs/{one['oid']}"}, "verify": verify}
            objects.append(answer)
        self._json({"transfer": "basic", "objects": objects})

    def lfs_put(self, oid: str) -> None:
        if sha256(self.body) != oid:
            raise _RefusedError(400, "The content does not match its name")
        self.hub.objects[oid] = self.body
        self._send(200, b"")

    def lfs_verify(self) -> None:
        asked = json.loads(self.body)
        if len(self.hub.objects.get(asked["oid"], b"")) != asked["size"]:
            raise _RefusedError(404, "There is no such object")
        self._json({})

    def lfs_get(self, oid: str) -> None:
        self._file(self.hub.objects[oid], {})

    def push(self, kind: str, name: str, revision: str) -> None:
        repo = self._repo(kind, name, write=True)
        parent = self._commit(repo, revision)
        files, title = dict(parent.files), ""
        for line in self.body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "header":
                title = value["summary"]
                if value.get("parentCommit") not in (None, parent.oid):
                    raise _RefusedError(412, "A commit has happened since. Please refresh and try again.")
            elif item["key"] == "file":
                files[value["path"]] = (base64.b64decode(value["content"]), False)
            elif item["key"] == "lfsFile":
                if value["oid"] not in self.hub.objects:
                    raise _RefusedError(400, "Some LFS objects are missing")
                files[value["path"]] = (self.hub.objects[value["oid"]], True)
            elif item["key"] == "deletedFile":
                files.pop(value["path"], None)
            else:
                raise _RefusedError(400, f"unknown operation {item['key']}")
        with self.hub.lock:
            made = repo.commit(revision, title, files)
        url = f"{self.hub.url}/{'' if kind == 'models' else kind + '/'}{name}/commit/{made.oid}"
        self._json({"success": True, "commitUrl": url, "commitOid": made.oid, "hookOutput": ""})

    def point(self, kind: str, name: str, what: str, ref: str) -> None:
        repo = self._repo(kind, name, write=True)
        asked = json.loads(self.body or b"{}")
        names, new = (repo.refs, ref) if what == "branch" else (repo.tags, asked.get("tag", ref))
        start = asked.get("startingPoint") or (ref if what == "tag" else "main")
        if new in names:
            raise _RefusedError(409, "Reference already exists")
        names[new] = self._commit(repo, start).oid
        self._json({})

    def variable(self, name: str) -> None:
        asked = json.loads(self.body)
        self._repo("spaces", name, write=True).variables[asked["key"]] = asked["value"]
        self._json({asked["key"]: {"value": asked["value"], "updatedAt": _WHEN}})

    def validate_yaml(self) -> None:
        self._json({"errors": [], "warnings": []})

    def resolve(self, name: str, revision: str, path: str, prefix: str = "models/") -> None:
        repo = self._repo(prefix.rstrip("/"), name, files=True)
        commit = self._commit(repo, revision)
        if path not in commit.files:
            raise _RefusedError(404, "Entry not found", "EntryNotFound")
        content, lfs = commit.files[path]
        headers = {"X-Repo-Commit": commit.oid, "ETag": f'"{git_oid(content)}"'}
        if lfs:
            oid = sha256(content)
            self.hub.objects.setdefault(oid, content)
            headers |= {"X-Linked-Size": str(len(content)), "X-Linked-ETag": f'"{oid}"', "ETag": f'"{oid}"'}
            self._send(302, b"", headers | {"Location": f"{self.hub.store}/lfs/{oid}"})
        else:
            self._file(content, headers)

    def _file(self, content: bytes, headers: dict[str, str]) -> None:
        result = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        headers = headers | {"Accept-Ranges": "bytes"}
        first = int(result.group(1)) if result else 0
        last = min(int(result.group(2) or len(content)) if result else len(content), len(content) - 1)
        if not result:
            self._send(200, content, headers, kind="bytes")
        elif first >= len(content):
            self._send(416, b"", headers | {"Content-Range": f"bytes */{len(content)}"}, kind="bytes")
        else:
            headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
            self._send(206, content[first : last + 1], headers, kind="bytes")


_API = r"/api/(?P<kind>models|datasets|spaces)/(?P<name>[^/]+/[^/]+)"
_FILE = r"/(?P<prefix>datasets/|spaces/)?(?P<name>[^/]+/[^/]+?)"
_ROUTES: list[tuple[str, Callable[..., None]]] = [
    (r"GET /api/whoami-v2", _Handler.who),
    (r"POST /api/repos/create", _Handler.create),
    (r"POST /api/validate-yaml", _Handler.validate_yaml),
    (rf"GET {_API}", _Handler.info),
    (rf"GET {_API}/revision/(?P<revision>.+)", _Handler.info),
    (rf"GET {_API}/refs", _Handler.refs),
    (rf"GET {_API}/tree/(?P<revision>[^/]+)(/(?P<path>.+))?", _Handler.tree),
    (rf"POST {_API}/paths-info/(?P<revision>.+)", _Handler.paths_info),
    (rf"POST {_API}/preupload/(?P<revision>.+)", _Handler.preupload),
    (rf"POST {_API}/commit/(?P<revision>.+)", _Handler.push),
    (rf"POST {_API}/(?P<what>branch|tag)/(?P<ref>.+)", _Handler.point),
    (r"POST /api/spaces/(?P<name>[^/]+/[^/]+)/variables", _Handler.variable),
    (rf"POST {_FILE}\.git/info/lfs/objects/batch", _Handler.lfs_batch),
    (r"POST /lfs/verify", _Handler.lfs_verify),
    (r"PUT /lfs/(?P<oid>[0-9a-f]{64})", _Handler.lfs_put),
    (r"(GET|HEAD) /lfs/(?P<oid>[0-9a-f]{64})", _Handler.lfs_get),
    (rf"(GET|HEAD) {_FILE}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", _Handler.resolve),
]
