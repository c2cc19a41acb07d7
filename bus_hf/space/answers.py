"""What the page and its endpoints answer: an upload comes in, words and pictures go out."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import gradio as gr
import numpy as np

from bus_hf.data.images import Scan
from bus_hf.data.phantoms import Kind, phantom
from bus_hf.errors import BusError
from bus_hf.inference.prediction import Failure, Prediction
from bus_hf.space import html
from bus_hf.space.arguments import Settings, parse_settings
from bus_hf.space.bodies import raise_refused
from bus_hf.space.door import COOKIE
from bus_hf.space.shared_detector import SharedDetector
from bus_hf.space.state import State
from bus_hf.space.uploads import WrongRequestError

MAX_BATCH = 200

_LOG = logging.getLogger(__name__)

Shown = tuple[Any, ...]
T = TypeVar("T")


class Answers:
    """The functions behind the page's components; arguments are as the browser sends them, so none is trusted."""

    def __init__(self, detector: SharedDetector, state: State) -> None:
        self._detector = detector
        self._uploads, self._images, self._requests = state.uploads, state.images, state.requests

    def begin(self, what: str | None = None) -> Callable[..., Shown]:
        """A function that clears what is shown before an example (`what`) or an upload is read, and remembers which."""

        def clear(file: Any, request: gr.Request) -> Shown:
            session = _session(request)
            self._requests.ask(session, what or _path(file))
            self._images.put(session, None)
            return html.working(), "", ""

        return clear

    def upload(self, file: Any, point: Any, light: Any, lesion_type: Any, request: gr.Request) -> Shown:
        """Read a new upload; returns the emptied upload, verdict, picture and box."""
        path = _path(file)
        if self._requests.last(_session(request)) != path:
            self._uploads.drop([path])
            return _nothing_new(4)
        try:
            with _sentences():
                scan = self._detector.decode(self._uploads.take(path))
        except BusError as error:
            shown = html.alert(str(error)), ""
        else:
            shown = self._shown(scan, request, point, None, light, lesion_type)
        return (None, *shown, "") if self._requests.last(_session(request)) == path else _nothing_new(4)

    def example(self, name: str, kind: Kind, seed: int) -> Callable[..., Shown]:
        """A function that reads a made image; returns verdict, picture and box."""

        def show(point: Any, light: Any, lesion_type: Any, request: gr.Request) -> Shown:
            image, _ = phantom(np.random.default_rng(seed), kind)
            if self._requests.last(_session(request)) != name:
                return _nothing_new(3)
            shown = self._shown(Scan(image, 0.0), request, point, None, light, lesion_type)
            return (*shown, "") if self._requests.last(_session(request)) == name else _nothing_new(3)

        return show

    def again(self, point: Any, roi: Any, light: Any, lesion_type: Any, request: gr.Request) -> Shown:
        """Read the session's image with another box or other settings; returns verdict and picture."""
        session = _session(request)
        scan, request_before = self._images.get(session), self._requests.last(session)
        if scan is None:
            return html.alert("There is no image yet, or none any more; drop one above."), ""
        shown = self._shown(scan, request, point, roi, light, lesion_type)
        return shown if self._requests.last(session) == request_before else _nothing_new(2)

    def changed(self, point: Any, roi: Any, light: Any, lesion_type: Any, request: gr.Request) -> Shown:
        """The same where a setting changes, which says nothing while there is no image."""
        if self._images.get(_session(request)) is None:
            return _nothing_new(2)
        return self.again(point, roi, light, lesion_type, request)

    def closed(self, request: gr.Request) -> None:
        """Drop the image of a tab that was closed."""
        self._images.put(_session(request), None)

    def batch(
        self,
        files: Any,
        point: Any,
        light: Any,
        lesion_type: Any,
        heatmap: Any,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> Shown:
        """Read many uploads; returns a table and the emptied upload."""
        if not files:
            return html.alert("There are no files yet; drop some above."), None
        try:
            settings = self._checked(point, light, heatmap, lesion_type)
            read = []
            for entry in self._each(files, settings, _row):
                read.append(entry)
                progress(len(read) / len(files), desc=f"{len(read)} of {len(files)}")
        except BusError as error:
            self._uploads.drop(map(_path, files))
            return html.alert(str(error)), None
        return html.table([result for result, _ in read], [drawn for _, drawn in read]), None

    def predict(
        self,
        image: Any,
        operating_point: Any = None,
        roi: Any = None,
        light: Any = None,
        heatmap: Any = None,
        lesion_type: Any = None,
    ) -> dict[str, Any]:
        """Read one image."""
        try:
            with _sentences():
                if image is None:
                    raise BusError("no image was given", remedy="send a file")
                raise_refused(image)
                with self._uploads.taken(_path(image)) as upload:
                    settings = parse_settings(operating_point, roi, light, heatmap, lesion_type)
                    self._detector.check(settings)
                    return html.plain(self._detector.predict(self._detector.decode(upload), settings, upload.name))
        except BusError as error:
            raise gr.Error(str(error), print_exception=False) from None

    def predict_batch(
        self,
        images: Any,
        operating_point: Any = None,
        light: Any = None,
        heatmap: Any = None,
        lesion_type: Any = None,
    ) -> list[dict[str, Any]]:
        """Read several images; one that cannot be read is answered with its name and an error."""
        try:
            if images is None:
                raise BusError("no images were given", remedy="send a list of files")
            raise_refused(images)
            try:
                settings = self._checked(operating_point, light, heatmap, lesion_type)
            except WrongRequestError:
                for one in images:
                    self._uploads.ask(_path(one), "")
                raise
            return list(self._each(images, settings, html.plain))
        except BusError as error:
            raise gr.Error(str(error), print_exception=False) from None

    def _checked(self, point: Any, light: Any, heatmap: Any, lesion_type: Any) -> Settings:
        """Settings for several images."""
        with _sentences():
            settings = parse_settings(point, None, light, heatmap, lesion_type)
            self._detector.check(settings)
        return settings

    def _shown(self, scan: Scan, request: gr.Request, point: Any, roi: Any, light: Any, lesion_type: Any) -> Shown:
        """Verdict and picture of an image, which the session keeps."""
        self._images.put(_session(request), scan)
        try:
            with _sentences():
                settings = parse_settings(point, roi, light, True, lesion_type)
                result = self._detector.predict(scan, settings)
                measured = self._detector.operating_point(result, settings.light)
                verdict = html.verdict(result, measured, self._detector.is_subset(settings))
                return verdict, html.picture(scan.grey, result)
        except BusError as error:
            return html.alert(str(error)), html.picture(scan.grey, None)

    def _each(
        self, files: Sequence[Any], settings: Settings, shown: Callable[[Prediction | Failure], T]
    ) -> Iterator[T]:
        """Read uploads one after another; of each stays what `shown` makes of it, since images are large."""
        done: dict[str, T] = {}
        try:
            for number, file in enumerate(files, start=1):
                # The same upload twice in one list is read once.
                path = _path(file)
                answer = done.get(path) or shown(self._one(file, settings, number))
                if path:
                    done[path] = answer
                yield answer
        finally:
            self._uploads.drop(map(_path, files))

    def _one(self, file: Any, settings: Settings, number: int) -> Prediction | Failure:
        name = f"file {number}"
        try:
            with _sentences():
                raise_refused(file)
                upload = self._uploads.take(_path(file))
                name = upload.name
                if number > MAX_BATCH:
                    raise BusError(
                        f"only {MAX_BATCH} files are read at a time", where=name, remedy="send the rest later"
                    )
                return self._detector.predict(self._detector.decode(upload), settings, name)
        except BusError as error:
            return Failure(name, str(error))


def _row(result: Prediction | Failure) -> tuple[Prediction | Failure, str | None]:
    """A result without its images, and the small picture that is shown of it."""
    return result if isinstance(result, Failure) else result.without_images(), html.thumbnail(result)


@contextmanager
def _sentences() -> Iterator[None]:
    """Turn what is no error of ours into one; the log gets its kind and place, and nothing of the upload."""
    try:
        yield
    except BusError:
        raise
    except Exception as error:
        at = traceback.extract_tb(error.__traceback__)[-1]
        _LOG.error("%s at %s:%s", type(error).__name__, at.filename, at.lineno)
        raise BusError("this image could not be read, by a fault of the page", remedy="try another one") from None


def _nothing_new(outputs: int) -> Shown:
    """An answer that leaves the components as they are."""
    return tuple(gr.skip() for _ in range(outputs))


def _session(request: gr.Request) -> tuple[str, str]:
    """Whose image is kept: a tab of a browser. The cookie is no one else's, though the tab's name may be guessed."""
    return request.cookies.get(COOKIE, ""), request.session_hash or ""


def _path(file: Any) -> str:
    """Path of an uploaded file, as the door has let it in."""
    return str(file.get("path", "")) if isinstance(file, dict) else ""
