"""One table from what the Hub's clients raise to sentences, for reading from the Hub and for writing to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bus_hf.errors import BusError

_LOG_IN = "run 'hf auth login' with a token that may write"
_AGAIN = "the same command goes on"


@dataclass(frozen=True)
class _Row:
    """A class of exceptions by its name, so that no client is imported here, and the sentence for it.

    `status` is the Hub's HTTP status (None: any). `{status}` and `{cause}` in a text are filled in.
    """

    kind: str
    status: int | None
    what: str
    remedy: str


_ANY = (
    _Row(
        "GatedRepoError",
        None,
        "access to this repository must be granted",
        "ask for it on its page, then run 'hf auth login'",
    ),
    _Row("HfHubHTTPError", 429, "the Hub asks to wait (too many calls)", f"wait a few minutes; {_AGAIN}"),
)
# The first row that fits counts: a class stands above those that it is derived from.
_READING = (
    *_ANY,
    _Row(
        "HFValidationError",
        None,
        "there is no such folder, and this is no Hub id",
        "give a folder of this machine, or owner/name",
    ),
    _Row(
        "RepositoryNotFoundError",
        None,
        "it is neither a folder here nor a repository that you can read",
        "check the name, or run 'hf auth login' if the repository is private",
    ),
    _Row(
        "RevisionNotFoundError",
        None,
        "the repository has no such revision",
        "give a branch, tag or commit that it has",
    ),
    *(
        _Row(kind, 401, "the Hub does not accept your token", "run 'hf auth login' again, or unset HF_TOKEN")
        for kind in ("HTTPError", "LocalEntryNotFoundError")
    ),
    # An incomplete cache, offline mode, no network, a proxy, a time-out or an error of the server.
    *(
        _Row(
            kind,
            None,
            "it is no folder here, and the Hub cannot be reached",
            "check the network, or give a folder of this machine",
        )
        for kind in ("LocalEntryNotFoundError", "HTTPError", "ConnectionError", "TimeoutError")
    ),
    _Row(
        "OSError",
        None,
        "the Hub's cache cannot be written ({cause})",
        "make room, or set HF_HOME to a folder that can be written",
    ),
)
_WRITING = (
    *_ANY,
    _Row("HFValidationError", None, "this is no Hub id", "write owner/name"),
    _Row("LocalTokenNotFoundError", None, "the Hub does not know you", _LOG_IN),
    _Row("HfHubHTTPError", 401, "the Hub does not know you", _LOG_IN),
    _Row(
        "HfHubHTTPError",
        403,
        "you may not write to this repository",
        "ask its owner, or push to a name of your own",
    ),
    _Row(
        "HfHubHTTPError",
        404,
        "there is no such owner, repository or branch",
        "check the name and the revision",
    ),
    _Row("HfHubHTTPError", 412, "someone else pushed at the same time", _AGAIN),
    _Row("HfHubHTTPError", None, "the Hub answered with an error ({status})", f"try later; {_AGAIN}"),
    *(
        _Row(kind, None, "the connection to the Hub broke off or cannot be made", f"check the network; {_AGAIN}")
        for kind in ("HTTPError", "ConnectionError", "TimeoutError")
    ),
    # huggingface_hub wraps what broke an upload of large files.
    _Row("RuntimeError", None, "an upload did not come to its end ({cause})", _AGAIN),
)


@contextmanager
def hub_errors(where: str, *, writing: bool = False) -> Iterator[None]:
    """Raise what the Hub's clients raise in this block as one sentence; other exceptions pass.

    Args:
        where: the repository, with `@revision` where one was asked for.
        writing: the block writes to the Hub, which has other causes and remedies than reading.

    Raises:
        BusError: the sentence.
    """
    try:
        yield
    except Exception as error:
        status = _status(error)
        kinds = {kind.__name__ for kind in type(error).__mro__}
        for row in _WRITING if writing else _READING:
            if row.kind in kinds and row.status in (None, status):
                what = row.what.format(status=status, cause=_cause(error))
                place = getattr(error, "filename", None) or where
                raise BusError(what, where=place, remedy=row.remedy) from None
        raise


def _status(error: BaseException) -> int | None:
    """HTTP status of the answer that led to an error, or to its cause: the client wraps some."""
    for each in (error, error.__cause__):
        answer = getattr(each, "response", None)
        if answer is not None:
            return answer.status_code
    return None


def _cause(error: BaseException) -> str:
    """What the system says, else the class of what went wrong first."""
    return getattr(error, "strerror", None) or type(error.__cause__ or error).__name__
