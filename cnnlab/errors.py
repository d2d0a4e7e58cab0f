"""Ways to end that are no fault of the code: the launcher shows each as one line, without a traceback."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Something outside the code is wrong. The message is one line: what is wrong, where, and what would be right."""


class Diverged(UserError):
    """The loss of a run is no longer finite."""


class Interrupted(Exception):
    """SIGINT or SIGTERM came and the state was saved; `signum` is the signal."""

    def __init__(self, message: str, signum: int):
        super().__init__(message)
        self.signum = signum


def nearest(word: str, known: Iterable[str], prefix: str = "") -> str:
    """A hint with up to three of the `known` words nearest to `word`, or an empty string; each is shown after `prefix`.

    >>> nearest("lenet_digit", ["lenet_digits", "vgg_imagenet"])
    '; did you mean lenet_digits?'
    """
    close = difflib.get_close_matches(word, list(known), n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(prefix + name for name in close)}?" if close else ""
