"""The door before Gradio: who may come in, which routes there are, and what a request may hold."""

from __future__ import annotations

import asyncio
import json
import logging
import mimetypes
import re
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bus_hf.errors import BusError
from bus_hf.space import bodies
from bus_hf.space.receive import receive as receive_upload
from bus_hf.space.uploads import SWEEP, Sender, Uploads

_LOG = logging.getLogger(__name__)

COOKIE = "bus_hf_session"
LOOPBACK = ("localhost", "127.0.0.1", "::1")
API = "/gradio_api"

# Gradio 6 writes scripts into its page and renders its HTML components by `new Function`.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; media-src 'self' blob:; "
        "worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'; "
        "frame-ancestors 'self' https://huggingface.co https://*.hf.space"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "geolocation=(), microphone=()",
}

# What the page and the clients of its endpoints need; everything else that Gradio serves is shut.
_READ = re.compile(
    r"/|/config/?|/theme\.css|/robots\.txt|/favicon\.ico|/manifest\.json|/pwa_icon(/\d+)?|/(assets|static|svelte)/.+"
    r"|/logout|/(login_check|user|token|app_id)/?"
    rf"|{API}/((info|login_check|user|token|app_id)/?|openapi\.json|theme\.css|startup-events"
    r"|queue/(data|status)|heartbeat/[^/]+|call/(v2/)?[^/]+/[^/]+)"
)
_WRITE = re.compile(rf"/login/?|{API}/(cancel|reset/?)")
_ASK = re.compile(rf"{API}/(?:(?P<join>queue/join)|(?P<way>run|api|call|call/v2)/(?P<name>[^/]+)/?)")
_FILE, _UPLOAD = f"{API}/file=", f"{API}/upload"
_STREAM = re.compile(rf"{API}/(?:heartbeat/(?P<session>[^/]+)|queue/data|call/(?:v2/)?[^/]+/(?P<event>[^/]+))")
_MAX_BODY = 1024 * 1024


class RefusedError(BusError):
    """A request that is not let in, with its HTTP status."""

    def __init__(self, status: int, what: str, remedy: str) -> None:
        self.status = status
        super().__init__(what, remedy=remedy)


class Door:
    """ASGI middleware around Gradio's app.

    Args:
        app: Gradio's.
        uploads: where uploads are kept.
        hosts: host names that requests may be for; None: any. On loopback these are `LOOPBACK`, so that a page of
            another site cannot reach this one by a name of its own (DNS rebinding).
    """

    def __init__(self, app: ASGIApp, uploads: Uploads, hosts: Sequence[str] | None = None) -> None:
        self._app, self._uploads, self._hosts = app, uploads, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, refuse or pass on one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        owner, started = _owner(scope), False

        async def guarded(message: Message) -> None:
            nonlocal started
            started = True
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                if not owner and scope["path"] == "/" and headers.get("content-type", "").startswith("text/html"):
                    headers.append("Set-Cookie", _cookie(scope))
            await send(message)

        try:
            self._check_host(Headers(scope=scope))
            await self._route(scope, receive, guarded, owner)
        except RefusedError as error:
            await _tell(error, error.status)(scope, receive, guarded)
        except BusError as error:
            await _tell(error, 404 if isinstance(error, bodies.UnknownEndpointError) else 400)(scope, receive, guarded)
        except ClientDisconnect:
            pass
        except Exception as error:
            # The server would log a trace, in which values of the request may stand.
            _LOG.error("%s in the door", type(error).__name__)
            if not started:
                failed = RefusedError(500, "the page failed at this request", "try again")
                await _tell(failed, failed.status)(scope, receive, guarded)

    def _check_host(self, headers: Headers) -> None:
        if self._hosts is None:
            return
        origin = headers.get("origin")
        for address in (f"//{headers.get('host', '')}", *([origin] if origin else [])):
            if _host(address) not in self._hosts:
                raise RefusedError(
                    403, "this page is served to this machine alone", f"open it at http://{self._hosts[0]} or 127.0.0.1"
                )

    async def _route(self, scope: Scope, receive: Receive, send: Send, owner: str) -> None:
        path, method = scope["path"], scope["method"]
        sender = _sender(scope, owner)
        if method in ("GET", "HEAD") and path.startswith(_FILE):
            return await self._preview(scope, receive, send, owner)
        if method in ("GET", "HEAD") and _READ.fullmatch(path):
            with self._uploads.connected(*_streams(scope, sender)):
                return await self._app(scope, receive, send)
        if method == "GET" and path == f"{_UPLOAD}_progress":
            # Uploads are taken in here, so Gradio could not say how far they are.
            return await Response('data: {"msg": "done"}\n\n', media_type="text/event-stream")(scope, receive, send)
        if method == "POST" and path == _UPLOAD:
            await self._check_login(scope)
            # What a client sent before lives while it goes on.
            with self._uploads.connected(sender):
                kept = await receive_upload(Request(scope, receive), self._uploads, sender)
            return await JSONResponse(kept)(scope, receive, send)
        if method == "POST" and (call := _ASK.fullmatch(path)):
            with self._uploads.connected(sender):
                return await self._ask(scope, receive, send, owner, call)
        if method == "POST" and _WRITE.fullmatch(path):
            return await self._app(scope, receive, send)
        raise RefusedError(404, "there is nothing here", "open the page itself")

    async def _preview(self, scope: Scope, receive: Receive, send: Send, owner: str) -> None:
        """The preview of an upload that waits to be read."""
        await self._check_login(scope)
        upload = self._uploads.peek(unquote(scope["path"].removeprefix(_FILE)), owner)
        if upload is None:
            raise RefusedError(404, "there is no such upload", "send the file again")
        # Never shown as a document of this site.
        headers = {"Content-Disposition": "attachment", "Cache-Control": "no-store"}
        kind = mimetypes.guess_type(scope["path"])[0] or "application/octet-stream"
        await Response(upload.data, media_type=kind, headers=headers)(scope, receive, send)

    async def _ask(self, scope: Scope, receive: Receive, send: Send, owner: str, call: re.Match[str]) -> None:
        """Pass on a call of an endpoint whose arguments have been checked and written anew."""
        try:
            body = json.loads(await _limited(Request(scope, receive)), parse_constant=_no_number)
        except (ValueError, RecursionError) as error:
            if isinstance(error, BusError):
                raise
            raise BusError("the request is no JSON", remedy='send {"data": [...]}') from None
        if not isinstance(body, dict):
            raise BusError("the request is no JSON object", remedy='send {"data": [...]}')
        page = scope["app"].get_blocks()
        # As Gradio does: `/run/predict` stands for every endpoint where the body says which; `/call` goes by its name.
        by_number = not call["name"] or (call["way"] in ("run", "api") and "fn_index" in body)
        fn = bodies.endpoint(page, None if by_number else call["name"], body.get("fn_index"))
        if fn.queue is not False and call["way"] in ("run", "api"):
            name = fn.api_name if fn.api_visibility == "public" else "predict"
            raise RefusedError(
                404, "this address takes no requests, since all wait in one queue", f"send it to {API}/call/{name}"
            )
        clean = bodies.checked(body, fn, self._uploads, owner)
        files = bodies.files_in(clean["data"])
        session = clean.get("session_hash")
        for path in files:
            self._uploads.ask(path, session or "")
        if call["way"] == "call/v2":
            scope = dict(scope) | {
                "path": f"{API}/call/{call['name']}",
                "raw_path": f"{API}/call/{call['name']}".encode(),
            }
        status = 200

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            elif status == 200 and session is None:
                for path in files:
                    self._uploads.ask(path, _event(message.get("body", b"")))
            if status != 503:
                await send(message)
            elif message["type"] == "http.response.start":
                busy = RefusedError(503, "the page is busy: too many requests wait already", "try again in a minute")
                await _tell(busy, 503)(scope, receive, send)

        await self._app(*_with_body(scope, clean, receive), watched)

    async def _check_login(self, scope: Scope) -> None:
        """Where the page asks for a password: whether this request knows it, by asking Gradio."""
        status = 500

        async def note(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)

        async def nothing() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        path = f"{API}/login_check"
        await self._app(dict(scope) | {"method": "GET", "path": path, "raw_path": path.encode()}, nothing, note)
        if status != 200:
            raise RefusedError(401, "this page asks for a name and a password", "log in first")


def lifespan(sweep: Callable[[], None]) -> Any:
    """A lifespan for Gradio's app in which `sweep` is called every `SWEEP` seconds."""

    @asynccontextmanager
    async def running(_: Any) -> AsyncIterator[None]:
        async def forever() -> None:
            while True:
                await asyncio.sleep(SWEEP)
                sweep()

        task = asyncio.create_task(forever())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    return running


def _tell(error: BusError, status: int) -> JSONResponse:
    return JSONResponse({"detail": str(error), "error": str(error)}, status)


def _owner(scope: Scope) -> str:
    """The session of a browser; "" for clients without cookies, whose uploads are known by their paths alone."""
    try:
        morsel = SimpleCookie(Headers(scope=scope).get("cookie", "")).get(COOKIE)
    except CookieError:
        morsel = None
    return morsel.value if morsel and len(morsel.value) == 43 else ""


def _cookie(scope: Scope) -> str:
    secure = scope.get("scheme") == "https" or Headers(scope=scope).get("x-forwarded-proto", "").startswith("https")
    # Inside Hugging Face's frame the page is a guest, and a cookie of its own has to say so.
    kind = "SameSite=None; Secure; Partitioned" if secure else "SameSite=Lax"
    return f"{COOKIE}={secrets.token_urlsafe(32)}; Path=/; HttpOnly; {kind}"


def _host(address: str) -> str:
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""


def _sender(scope: Scope, owner: str) -> Sender:
    client = scope["client"][0] if scope.get("client") else ""
    return Sender(owner, client, Headers(scope=scope).get("x-forwarded-for", "").partition(",")[0].strip())


def _streams(scope: Scope, sender: Sender) -> tuple[str | Sender, ...]:
    """Whose connection a request holds open: owner, session or event; none for other requests."""
    stream = _STREAM.fullmatch(scope["path"])
    if stream is None:
        return ()
    queued = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("session_hash", [""])[0]
    # Who waits for an answer may have sent more; a heartbeat alone tells only of its own session.
    waiting = () if stream["session"] else (sender,)
    return sender.owner, stream["session"] or stream["event"] or queued, *waiting


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no JSON")


async def _limited(request: Request) -> bytes:
    data = b""
    async for chunk in request.stream():
        data += chunk
        if len(data) > _MAX_BODY:
            raise RefusedError(413, "the request is larger than the 1 MB that a call may be", "upload files before")
    return data


def _event(body: bytes) -> str:
    with suppress(ValueError, AttributeError):
        return str(json.loads(body).get("event_id", ""))
    return ""


def _with_body(scope: Scope, body: dict[str, Any], receive: Receive) -> tuple[Scope, Receive]:
    """A request with another body; what comes after it, the end of the connection, is the client's."""
    data = json.dumps(body).encode()
    kept = [(key, value) for key, value in scope["headers"] if key not in (b"content-length", b"content-type")]
    kept += [(b"content-type", b"application/json"), (b"content-length", str(len(data)).encode())]
    waiting: list[Message] = [{"type": "http.request", "body": data, "more_body": False}]

    async def replaced() -> Message:
        return waiting.pop() if waiting else await receive()

    return dict(scope) | {"headers": kept}, replaced
