"""What a stranger may do: nothing but upload a file of its own and have it read."""

import json
import os
import re
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import httpx
import numpy as np
import pytest
from PIL import Image
from starlette.responses import JSONResponse
from starlette.testclient import TestClient

from bus_hf.data.images import Scan
from bus_hf.data.phantoms import phantom
from bus_hf.errors import BusError
from bus_hf.space.door import API, COOKIE, LOOPBACK, Door
from bus_hf.space.page import build, settings
from bus_hf.space.uploads import OLDEST, SILENT, SWEEP, Sender, Uploads, WrongRequestError

META = {"meta": {"_type": "gradio.FileData"}}
TOUCHED = ("open", "os.remove", "os.rmdir", "os.rename", "os.listdir", "os.scandir", "os.link", "shutil.move")
OUTSIDE = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname")
_WATCHING: list[list[tuple[str, str]]] = []


def _watch(event, arguments):
    if _WATCHING and event in (*TOUCHED, *OUTSIDE):
        _WATCHING[-1].append((event, str(arguments)))


sys.addaudithook(_watch)


@pytest.fixture
def seen():
    """Files and network addresses that this process touches, the server among it."""
    _WATCHING.append([])
    yield _WATCHING[-1]
    _WATCHING.pop()


@pytest.fixture(scope="module")
def page(tiny_ensemble, state):
    page = build(str(tiny_ensemble), state=state)
    page.launch(server_name="127.0.0.1", prevent_thread_lock=True, **settings("127.0.0.1", state))
    yield page
    page.close()


@pytest.fixture
def web(page):
    with httpx.Client(base_url=page.local_url, timeout=20) as client:
        yield client


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    """An image of the server that nobody uploaded, in a folder of its own."""
    path = tmp_path_factory.mktemp("foreign") / "foreign.png"
    Image.fromarray(phantom(np.random.default_rng(4), "malignant")[0]).save(path)
    return path


def send(client, data, name="scan.png", cookie=None):
    answer = client.post(
        f"{API}/upload", files={"files": (name, data)}, headers={"Cookie": f"{COOKIE}={cookie}"} if cookie else {}
    )
    assert answer.status_code == 200
    (path,) = answer.json()
    return path


@pytest.fixture(autouse=True)
def nothing_stays(clock, state):
    yield
    (Path(os.environ["GRADIO_TEMP_DIR"]) / "link.png").unlink(missing_ok=True)
    clock.skip(OLDEST + 1)
    state.sweep()


def paths_of_others(foreign, web, root):
    """Everything that a client could name and has no right to."""
    gradio = Path(os.environ["GRADIO_TEMP_DIR"])
    gradio.mkdir(parents=True, exist_ok=True)
    link = gradio / "link.png"
    if not link.is_symlink():
        link.symlink_to(foreign)
    other = send(web, foreign.read_bytes(), cookie="o" * 43)
    up = "/".join([".."] * (len(root.parts) + 3))
    return [
        str(foreign),
        foreign.as_uri(),
        str(link),
        f"{root}/{'A' * 43}/image.png",
        f"{root}/{up}{foreign}",
        f"{root}/../link.png",
        other,
        f"{Path(other).parent}/../{Path(other).parent.name}/image.png",
        "http://203.0.113.7/scan.png",
        "HTTPS://scans.example.org/scan.png",
        "//scans.example.org/scan.png",
        "data:image/png;base64,iVBORw0KGgo=",
        f"{API}/file={foreign}",
        "",
        ".",
        f"{foreign}\0.png",
    ]


def forms(path):
    """The ways in which a client may put a path into an argument."""
    file = {"path": path, "orig_name": "scan.png"}
    return [
        file | META,
        file,
        file | META | {"url": path},
        {"url": path, **META},
        [file | META],
        path,
        {"a": file | META},
    ]


def untouched(seen, foreign):
    """Neither the foreign image nor a name of the outside was touched."""
    assert [one for one in seen if one[0] in TOUCHED and foreign.name in one[1]] == []
    assert [one for one in seen if one[0] in OUTSIDE and ("example" in one[1] or "203.0.113" in one[1])] == []
    assert foreign.is_file()


def test_no_endpoint_reads_or_deletes_what_a_client_names(page, web, foreign, seen, state):
    fns = list(page.fns.values())
    assert {"predict", "predict_batch", "upload", "batch", "again"} <= {str(fn.api_name) for fn in fns}
    paths = paths_of_others(foreign, web, state.uploads.root)
    seen.clear()
    asked = 0
    for fn in fns:
        for number, path in enumerate(paths):
            for form in forms(path):
                for place in range(len(fn.inputs)):
                    takes_files = "path" in str(fn.inputs[place].api_info())
                    if form == path and not takes_files:
                        continue  # a text in the place of a text
                    if number and not takes_files:
                        continue  # of files where none belongs one is enough
                    data = [form if place == other else None for other in range(len(fn.inputs))]
                    asked += 1
                    if fn.api_visibility == "public":
                        # The clients of these see the error of an event, and no body of a refused request.
                        message = answered(web, {"data": data}, name=fn.api_name)
                        assert refuses(message), (fn.api_name, place, form, message)
                        continue
                    answer = web.post(
                        f"{API}/queue/join", json={"data": data, "fn_index": fn._id, "session_hash": "stranger"}
                    )
                    assert answer.status_code == 400, (fn.api_name, place, form, answer.text)
                    assert answer.json()["detail"].endswith(".")
        takes_files = any("path" in str(one.api_info()) for one in fn.inputs)
        for form in forms(str(foreign)):
            if form == str(foreign) and not takes_files:
                continue
            for way in ("run", "api") if fn.api_visibility == "public" else ("run", "api", "call", "call/v2"):
                body = {"data": [form] * max(len(fn.inputs), 1), "session_hash": "stranger"}
                answer = web.post(f"{API}/{way}/{fn.api_name}", json=body)
                assert answer.status_code in (400, 404), (fn.api_name, way, form, answer.text)
            named = web.post(f"{API}/call/v2/{fn.api_name}", json={"image": form, "images": form, "file": form})
            assert named.status_code in (400, 404)
    assert asked > 500
    untouched(seen, foreign)


def refuses(message):
    """Whether an event's end is an error, or of several files a sentence for the one that was sent."""
    kind, data = message.strip().split("\n")[:2]
    data = json.loads(data.removeprefix("data: "))
    if kind == "event: error":
        return data["error"].endswith(".")
    return kind == "event: complete" and [set(one) for one in data[0]] == [{"name", "error"}]


def test_no_route_reads_or_deletes_what_a_client_names(page, web, foreign, seen, state):
    paths = paths_of_others(foreign, web, state.uploads.root)
    routes = [(route.path, method) for route in _routes(page.app) for method in route.methods or ("GET",)]
    assert (f"{API}/file={{path_or_url:path}}", "GET") in routes
    assert len(routes) > 60
    secret = foreign.read_bytes()[:200]
    seen.clear()
    for route, method in routes:
        for path in paths if "path" in route or "file" in route else paths[:1]:
            address = re.sub(r"\{[^}]*\}", lambda _, path=path: httpx.QueryParams({"": path})[""], route)
            body = {
                "path": path,
                "data": [{"path": path} | META],
                "component_id": 1,
                "fn_name": "x",
                "session_hash": "s",
            }
            try:
                with web.stream(method, httpx.URL(address.replace("\0", "%00")), json=body, timeout=1) as answer:
                    assert secret not in answer.read(), (route, method, path)
            except (httpx.TimeoutException, httpx.InvalidURL):
                continue
    untouched(seen, foreign)


def _routes(app):
    for route in app.routes:
        if hasattr(route, "methods"):
            yield route
        inner = getattr(route, "original_router", None) or (route if hasattr(route, "routes") else None)
        yield from _routes(inner) if inner else ()


@pytest.mark.parametrize(
    "path",
    ["/proxy=http://203.0.113.7/", "/stream/a", "/component_server", "/process_recording", "/vibe-code", "/runs"],
)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
def test_what_the_page_does_not_need_is_shut(web, path, method):
    assert web.request(method, API + path).status_code == 404
    assert web.request(method, "/monitoring").status_code == 404


def test_an_upload_is_its_senders_alone(web, foreign):
    mine, theirs = "m" * 43, "t" * 43
    path = send(web, foreign.read_bytes(), cookie=mine)
    body = {"data": [{"path": path} | META]}
    for cookie in (theirs, None):
        headers = {"Cookie": f"{COOKIE}={cookie}"} if cookie else {}
        assert "no upload of yours" in answered(web, body, headers)
        assert web.get(f"{API}/file={path}", headers=headers).status_code == 404
    own = {"Cookie": f"{COOKIE}={mine}"}
    assert web.get(f"{API}/file={path}", headers=own).content == foreign.read_bytes()
    assert "complete" in answered(web, body, own)
    # Read once, it is gone.
    assert "an upload is read once, within 55 seconds" in answered(web, body, own)


def answered(web, body, headers=None, name="predict"):
    event = web.post(f"{API}/call/{name}", json=body, headers=headers).json()["event_id"]
    return web.get(f"{API}/call/{name}/{event}", headers=headers).text


def test_one_content_sent_twice_is_two_uploads(web, foreign):
    first, second = (send(web, foreign.read_bytes()) for _ in range(2))
    assert first != second
    assert "complete" in answered(web, {"data": [{"path": first} | META]})
    assert "complete" in answered(web, {"data": [{"path": second} | META]})


@pytest.mark.parametrize(
    "name", [".png", ".a.png", "..", "/etc/passwd", "a\\b\n.png", "x" * 400 + ".png", "é=1.png", ""]
)
def test_an_odd_name_is_read_as_any_other(web, foreign, name):
    files = {"files": (name or "x", foreign.read_bytes())}
    (path,) = web.post(f"{API}/upload", files=files).json()
    assert Path(path).name in ("image.png", "image")
    assert "complete" in answered(web, {"data": [{"path": path} | META]})


@pytest.mark.parametrize("name", [".png", ".a.png", "."])
def test_a_dotfile_is_answered_by_every_endpoint_that_takes_files(page, web, foreign, name):
    taking = [fn for fn in page.fns.values() if fn.fn and any("path" in str(one.api_info()) for one in fn.inputs)]
    assert {"predict", "predict_batch", "upload", "batch"} <= {fn.api_name for fn in taking}
    for fn in taking:
        files = {"files": (name, foreign.read_bytes())}
        (path,) = web.post(f"{API}/upload", files=files).json()
        file = {"path": path} | META
        several = fn.inputs[0].api_info().get("type") == "array"
        data = [[file] if several else file, *[None] * (len(fn.inputs) - 1)]
        if fn.api_visibility == "public":
            message = answered(web, {"data": data}, name=fn.api_name)
            assert "complete" in message
            assert "probability" in message
            continue
        # As the page itself asks: what is not queued by a direct call, the rest in a session's queue.
        body = {"data": data, "fn_index": fn._id, "session_hash": f"s{fn._id}{len(name)}"}
        if fn.queue is False:
            assert web.post(f"{API}/run/predict", json=body).status_code == 200
            continue
        web.post(f"{API}/queue/join", json=body).raise_for_status()
        with web.stream("GET", f"{API}/queue/data", params={"session_hash": body["session_hash"]}) as stream:
            (done,) = [line for line in stream.iter_lines() if "process_completed" in line]
        assert json.loads(done.removeprefix("data: "))["success"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b"null",
        b'{"data": 3}',
        b'{"data": [NaN]}',
        b'{"data": [null, null, [-Infinity, 1, 2, 3]]}',
        b'{"data": [' + b"[" * 60_000,
        b'{"data": [1,2,3,4,5,6,7]}',
        b'{"x": 1}',
    ],
)
def test_a_body_that_is_none_is_one_sentence(web, body, capfd):
    for address in ("call/predict", "call/v2/predict", "run/predict", "queue/join"):
        answer = web.post(f"{API}/{address}", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code in (400, 404)
        assert answer.json()["detail"].endswith(".")
    assert capfd.readouterr().err == ""


def test_a_body_has_a_bound(web):
    assert web.post(f"{API}/call/predict", content=b" " * 1_100_000).status_code == 413


def test_the_queue_has_no_way_round(page, web, foreign):
    for fn in page.fns.values():
        if fn.queue is False:
            continue
        meant = fn.api_name if fn.api_visibility == "public" else "predict"
        for way in ("run", "api"):
            for address in (f"{way}/{fn.api_name}", f"{way}/{fn.api_name}/"):
                for data in ([], [1] * 99, ["/etc/passwd"]):
                    answer = web.post(f"{API}/{address}", json={"data": data})
                    assert answer.status_code == 404, fn.api_name
                    assert answer.json()["detail"].endswith(f"send it to {API}/call/{meant}.")
        numbered = web.post(f"{API}/run/predict", json={"data": [], "fn_index": fn._id})
        assert f"{API}/call/{meant}" in numbered.json()["detail"]


def test_too_many_that_wait_are_told_so(web, foreign, monkeypatch):
    held = threading.Event()
    image = np.asarray(Image.open(foreign))
    monkeypatch.setattr("bus_hf.space.shared_detector.read_scan", lambda *_, **__: held.wait(60) and Scan(image, 0.0))
    try:
        codes = []
        for _ in range(40):
            path = send(web, foreign.read_bytes())
            answer = web.post(f"{API}/call/predict", json={"data": [{"path": path} | META]})
            codes.append(answer.status_code)
        assert codes.count(200) >= 32
        assert codes[-1] == 503
        assert "too many requests wait already; try again in a minute" in answer.json()["detail"]
    finally:
        held.set()


def test_headers(web):
    for address in ("/", "/config", "/nothing", f"{API}/info"):
        headers = web.get(address).headers
        assert "frame-ancestors 'self' https://huggingface.co https://*.hf.space" in headers["content-security-policy"]
        assert "default-src 'self'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"
    web.cookies.clear()
    cookie = web.get("/").headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    # A browser keeps the one that it has.
    assert "set-cookie" not in web.get("/").headers
    web.cookies.clear()
    guest = web.get("/", headers={"X-Forwarded-Proto": "https"}).headers["set-cookie"]
    assert "SameSite=None; Secure; Partitioned" in guest


@pytest.mark.parametrize(
    "name", ["evil.example", "127.0.0.1.evil.example", "evil.example:7860", "", "[::2]", "0.0.0.0"]
)
def test_another_name_for_this_machine_is_refused(page, web, name):
    answer = web.get("/", headers={"Host": name})
    assert answer.status_code == 403
    assert "this machine alone" in answer.json()["detail"]
    port = page.local_url.rsplit(":", 1)[1].strip("/")
    for own in ("localhost", "127.0.0.1", "[::1]"):
        assert web.get("/", headers={"Host": f"{own}:{port}"}).status_code == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "https://huggingface.co", "null"])
def test_another_site_may_not_ask(web, origin):
    assert web.post(f"{API}/call/predict", json={"data": []}, headers={"Origin": origin}).status_code == 403
    assert web.get("/", headers={"Origin": "http://localhost:1"}).status_code == 200


# ---- the door alone, before an app that answers everything


async def _app(scope, receive, send):
    await JSONResponse({"event_id": "e"})(scope, receive, send)


def test_bytes_under_upload_are_bounded_in_total_and_for_each_client():
    kept = Uploads(total=3000, per_client=2000)
    one, two = (TestClient(Door(_app, kept), client=(name, 1)) for name in ("one", "two"))

    def post(client, size):
        return client.post(f"{API}/upload", files={"files": ("a.png", b"x" * size)})

    assert post(one, 1000).status_code == 200
    refused = post(one, 1500)
    assert refused.status_code == 400
    assert "more than the" in refused.json()["detail"]
    assert post(two, 1200).status_code == 200
    assert "all the uploads that it can" in post(two, 700).json()["detail"]
    assert len(kept) == 2


def test_a_file_over_the_limit_is_refused(monkeypatch):
    from bus_hf.data.images import Limits

    monkeypatch.setattr("bus_hf.space.receive.LIMITS", Limits(max_bytes=2**20))
    kept = Uploads()
    answer = TestClient(Door(_app, kept)).post(f"{API}/upload", files={"files": ("a.png", b"x" * 2**20 + b"x")})
    assert "larger than the 1 MB" in answer.json()["detail"]
    assert len(kept) == 0


@pytest.mark.parametrize(
    ("data", "kind"),
    [(b"x", "multipart/form-data"), (b"x", "multipart/form-data; boundary=a"), (b"x", "text/plain"), (b"", "")],
)
def test_what_is_no_upload_is_one_sentence(data, kind):
    kept = Uploads()
    answer = TestClient(Door(_app, kept)).post(f"{API}/upload", content=data, headers={"Content-Type": kind})
    assert (answer.status_code == 200 and answer.json() == []) or "no upload of files" in answer.json()["detail"]
    assert len(kept) == 0


def test_any_host_may_be_named_where_the_page_is_public():
    assert TestClient(Door(_app, Uploads())).get("/", headers={"Host": "hospital.example"}).status_code == 200
    shut = TestClient(Door(_app, Uploads(), LOOPBACK))
    assert shut.get("/", headers={"Host": "hospital.example"}).status_code == 403


def test_a_failing_app_logs_no_value_of_the_request(caplog):
    async def failing(scope, receive, send):
        raise ValueError("anna_smith_1970.png")

    answer = TestClient(Door(failing, Uploads())).get("/")
    assert answer.status_code == 500
    assert "anna" not in answer.text + caplog.text
    assert "ValueError" in caplog.text


# ---- how long an upload lives


def test_an_upload_without_a_sign_of_life_is_dropped_within_a_minute():
    now = [0.0]
    kept = Uploads(clock=lambda: now[0])
    path = kept.add("a.png", b"x")
    now[0] = SILENT
    kept.sweep()
    assert kept.has(path)
    now[0] = SILENT + SWEEP
    kept.sweep()
    assert not kept.has(path)
    assert SILENT + SWEEP < 60
    with pytest.raises(BusError, match=r"read once, within 55 seconds .* send the file again"):
        kept.take(path)


@pytest.mark.parametrize(
    ("by", "lives"),
    [
        ("the sender's next uploads", True),
        ("the sender's calls", True),
        ("the sender's waiting for an answer", True),
        ("the uploads of another address", False),
        ("the uploads of another one behind the same proxy", False),
        ("the uploads of a browser at the same address", False),
        ("reading the page", False),
        ("a heartbeat", False),
    ],
)
def test_an_upload_lives_while_its_sender_goes_on(by, lives):
    now = [0.0]
    kept = Uploads(clock=lambda: now[0])
    at = {name: TestClient(one_endpoint(kept), client=(name, 1)) for name in ("here", "there")}

    def post(client="here", **headers):
        return at[client].post(f"{API}/upload", files={"files": ("a.png", b"x")}, headers=headers)

    (path,) = post(**{"X-Forwarded-For": "192.0.2.1, 198.51.100.1"}).json()
    own = {"X-Forwarded-For": "192.0.2.1"}
    more = {
        "the sender's next uploads": lambda: post(**own),
        "the sender's calls": lambda: at["here"].post(f"{API}/call/predict", json={"data": []}, headers=own),
        "the sender's waiting for an answer": lambda: at["here"].get(f"{API}/call/predict/e", headers=own),
        "the uploads of another address": lambda: post("there", **own),
        "the uploads of another one behind the same proxy": lambda: post(**{"X-Forwarded-For": "192.0.2.2"}),
        "the uploads of a browser at the same address": lambda: post(**own, Cookie=f"{COOKIE}={'b' * 43}"),
        "reading the page": lambda: at["here"].get("/", headers=own),
        "a heartbeat": lambda: at["here"].get(f"{API}/heartbeat/s", headers=own),
    }[by]
    for now[0] in range(0, 300, 10):
        assert more().status_code == 200
        kept.sweep()
    assert kept.has(path) == lives
    now[0] += SILENT + SWEEP
    kept.sweep()
    assert len(kept) == 0


def one_endpoint(kept):
    """A door before a page with one endpoint, which takes no arguments."""
    fn = SimpleNamespace(api_name="predict", _id=1, queue=True, api_visibility="public", inputs=[], fn=None)
    page = SimpleNamespace(get_blocks=lambda: SimpleNamespace(fns={1: fn}))

    async def app(scope, receive, send):
        await Door(_app, kept)(scope | {"app": page}, receive, send)

    return app


def test_a_wrong_request_gives_an_upload_back_for_as_long_as_a_new_one():
    now = [0.0]
    kept = Uploads(clock=lambda: now[0])
    path = kept.add("a.png", b"x")
    kept.ask(path, "session")
    now[0] = SILENT
    with pytest.raises(WrongRequestError), kept.taken(path):
        raise WrongRequestError("this is wrong", remedy="ask again")
    # Whoever asked was answered, so no connection of theirs keeps it alive.
    with kept.connected("session"):
        now[0] += SILENT
        kept.sweep()
        assert kept.has(path)
        now[0] += SWEEP
        kept.sweep()
        assert not kept.has(path)
    path = kept.add("a.png", b"x")
    with pytest.raises(BusError), kept.taken(path):
        raise BusError("the image is damaged", remedy="send another")
    assert not kept.has(path)


@pytest.mark.parametrize("by", ["owner", "session"])
def test_an_upload_lives_while_its_sender_is_connected_and_no_longer(by):
    now = [0.0]
    kept = Uploads(clock=lambda: now[0])
    path = kept.add("a.png", b"x", Sender("owner" if by == "owner" else ""))
    owner = "owner" if by == "owner" else ""
    kept.ask(path, "session")
    with kept.connected("", by):
        for now[0] in range(0, 600, 5):
            kept.sweep()
        assert kept.has(path, owner)
    for now[0] in range(600, 660, 5):
        kept.sweep()
    assert not kept.has(path, owner)


def test_no_upload_lives_for_ever():
    now = [0.0]
    kept = Uploads(clock=lambda: now[0])
    path = kept.add("a.png", b"x", Sender("owner"))
    with kept.connected("owner"):
        for now[0] in range(0, int(OLDEST) + 10, 5):
            kept.sweep()
        assert not kept.has(path, "owner")
