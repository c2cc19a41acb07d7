"""The page's endpoint by plain HTTP, with nothing but Python's own library: upload, ask, read the answer.

python examples/space_http.py http://127.0.0.1:7860 scan.png
"""

import json
import sys
import urllib.request
import uuid
from pathlib import Path
from typing import Any

url, image = sys.argv[1].rstrip("/"), Path(sys.argv[2])
mark = uuid.uuid4().hex
body = (
    f'--{mark}\r\nContent-Disposition: form-data; name="files"; filename="{image.name}"\r\n'
    f"Content-Type: application/octet-stream\r\n\r\n"
).encode() + image.read_bytes()
body += f"\r\n--{mark}--\r\n".encode()


def post(path: str, data: bytes, kind: str) -> Any:
    """Send bytes and decode the JSON that comes back."""
    request = urllib.request.Request(f"{url}/gradio_api/{path}", data, {"Content-Type": kind})
    with urllib.request.urlopen(request, timeout=300) as answer:
        return json.load(answer)


# An upload is read once, and waits for that until 55 seconds after the last upload or request of its sender.
(path,) = post("upload", body, f"multipart/form-data; boundary={mark}")
asked = {"data": [{"path": path, "orig_name": image.name, "meta": {"_type": "gradio.FileData"}}]}
event = post("call/predict", json.dumps(asked).encode(), "application/json")["event_id"]
with urllib.request.urlopen(f"{url}/gradio_api/call/predict/{event}", timeout=300) as stream:
    kind = ""
    for line in stream:
        name, _, value = line.decode().strip().partition(": ")
        if name == "event":
            kind = value
        elif name == "data" and kind == "complete":
            (result,) = json.loads(value)
            print(f"{result['probability']:.4f} {result['verdict']}")
        elif name == "data" and kind == "error":
            sys.exit(f"the page refuses this: {value}")
