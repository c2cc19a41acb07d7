"""Each class of exceptions that the Hub's clients raise is one sentence, for reading and for writing."""

import inspect

import httpx2
import pytest
from huggingface_hub import errors

from bus_hf.errors import BusError
from bus_hf.hub_errors import hub_errors


def answered(kind, status):
    return kind("no", response=httpx2.Response(status, request=httpx2.Request("GET", "https://hub.invalid/api")))


def caused(error, cause):
    error.__cause__ = cause
    return error


def sentence(error, writing):
    with pytest.raises(BusError) as caught, hub_errors("owner/name@v1", writing=writing):
        raise error
    assert "\n" not in str(caught.value)
    return str(caught.value)


def identity(value):
    return f"{type(value).__name__}" if isinstance(value, Exception) else ""


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (answered(errors.GatedRepoError, 403), "access to this repository must be granted"),
        (answered(errors.RepositoryNotFoundError, 404), "neither a folder here nor a repository"),
        (answered(errors.RepositoryNotFoundError, 401), "neither a folder here nor a repository"),
        (answered(errors.RevisionNotFoundError, 404), "the repository has no such revision"),
        (answered(errors.HfHubHTTPError, 401), "the Hub does not accept your token"),
        (
            caused(errors.LocalEntryNotFoundError("no"), answered(errors.HfHubHTTPError, 401)),
            "the Hub does not accept your token",
        ),
        (answered(errors.HfHubHTTPError, 429), "the Hub asks to wait"),
        (answered(errors.HfHubHTTPError, 503), "the Hub cannot be reached"),
        (errors.LocalEntryNotFoundError("no"), "the Hub cannot be reached"),
        (errors.OfflineModeIsEnabled("no"), "the Hub cannot be reached"),
        (httpx2.ProxyError("no"), "the Hub cannot be reached"),
        (httpx2.ReadTimeout("no"), "the Hub cannot be reached"),
        (TimeoutError("no"), "the Hub cannot be reached"),
        (errors.HFValidationError("no"), "there is no such folder, and this is no Hub id"),
        (OSError(28, "No space left on device"), "cache cannot be written (No space left on device)"),
    ],
    ids=identity,
)
def test_reading(error, text):
    message = sentence(error, writing=False)
    assert message.startswith("owner/name@v1: ")
    assert text in message


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (answered(errors.GatedRepoError, 403), "access to this repository must be granted"),
        (errors.LocalTokenNotFoundError("no"), "the Hub does not know you"),
        (answered(errors.RepositoryNotFoundError, 401), "the Hub does not know you"),
        (answered(errors.HfHubHTTPError, 403), "you may not write to this repository"),
        (answered(errors.RepositoryNotFoundError, 404), "there is no such owner, repository or branch"),
        (answered(errors.RevisionNotFoundError, 404), "there is no such owner, repository or branch"),
        (answered(errors.HfHubHTTPError, 412), "someone else pushed at the same time"),
        (answered(errors.HfHubHTTPError, 429), "the Hub asks to wait"),
        (answered(errors.BadRequestError, 400), "the Hub answered with an error (400)"),
        (answered(errors.HfHubHTTPError, 500), "the Hub answered with an error (500)"),
        (httpx2.ConnectError("no"), "the connection to the Hub broke off"),
        (errors.OfflineModeIsEnabled("no"), "the connection to the Hub broke off"),
        (TimeoutError("no"), "the connection to the Hub broke off"),
        (errors.HFValidationError("no"), "this is no Hub id"),
        (caused(RuntimeError("no"), ValueError("no")), "an upload did not come to its end (ValueError)"),
    ],
    ids=identity,
)
def test_writing(error, text):
    message = sentence(error, writing=True)
    assert message.startswith("owner/name@v1: ")
    assert text in message


@pytest.mark.parametrize("writing", [False, True])
def test_every_error_of_http_has_a_sentence(writing):
    """Also one that a later client adds below the class that it has today."""
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.HfHubHTTPError)]
    assert len(kinds) > 5
    for kind in kinds:
        assert sentence(answered(kind, 418), writing)


def test_the_file_that_cannot_be_written_is_named():
    assert sentence(PermissionError(13, "Permission denied", "/a/hub"), writing=False).startswith("/a/hub: ")


@pytest.mark.parametrize("error", [KeyError("no"), BusError("it is odd", remedy="mend it"), KeyboardInterrupt()])
def test_other_exceptions_pass(error):
    with pytest.raises(type(error)) as caught, hub_errors("owner/name"):
        raise error
    assert caught.value is error
