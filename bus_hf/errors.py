"""The one error type that a user may see: what is wrong, where, and what to do."""

from __future__ import annotations


class BusError(ValueError):
    """A problem that the user can mend, in one sentence.

    Args:
        what: what is wrong, without a full stop ("the file is empty").
        where: the file, row or setting it was met in; None when `what` names it.
        remedy: what to do about it, without a full stop ("save it again as PNG").
    """

    def __init__(self, what: str, *, where: object = None, remedy: str) -> None:
        self.what = what
        self.where = None if where is None else str(where)
        self.remedy = remedy
        place = f"{self.where}: " if self.where else ""
        super().__init__(f"{place}{what}; {remedy}.")

    def __reduce__(self) -> tuple[object, ...]:
        # Worker processes pickle errors; keyword arguments need this.
        return _rebuild, (type(self), self.what, self.where, self.remedy)


def system_error(error: OSError, otherwise: object = "a file") -> BusError:
    """The one sentence for a file, folder or disk that the operating system refuses."""
    return BusError(
        f"it cannot be read or written ({error.strerror or error})",
        where=error.filename or otherwise,
        remedy="check its rights and the room on its disk; HF_HOME and TMPDIR name folders of what is kept",
    )


def _rebuild(kind: type[BusError], what: str, where: str | None, remedy: str) -> BusError:
    return kind(what, where=where, remedy=remedy)
