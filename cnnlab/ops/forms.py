"""Which form of an operation is traced: the plain one of `lax`, or one that is faster on CPUs and means the same."""

import contextlib
import contextvars
from collections.abc import Iterator

import jax

_plain = contextvars.ContextVar("plain", default=False)
_unrolled = contextvars.ContextVar("unrolled", default=False)


def tuned() -> bool:
    """Whether the CPU's forms are wanted: the backend is a CPU, and nobody asked for the plain ones.

    GPUs and TPUs have the plain forms in hardware libraries, where they are the faster ones.
    """
    return not _plain.get() and jax.default_backend() == "cpu"


def loops() -> bool:
    """Whether equal blocks in a row are to be one traced body in a loop: quick to compile, on GPUs and TPUs as quick to
    run. On CPUs a convolution inside a loop leaves XLA's fast path and is many times slower.
    """
    return not _plain.get() and not _unrolled.get() and jax.default_backend() != "cpu"


@contextlib.contextmanager
def plain_forms() -> Iterator[None]:
    """What is traced within uses `lax`'s own operations: to read a network's structure from its trace, to take
    derivatives in forward mode, which hand-written gradients do not have, and to test the other forms against.

    >>> with plain_forms():
    ...     tuned()
    False
    """
    token = _plain.set(True)
    try:
        yield
    finally:
        _plain.reset(token)


@contextlib.contextmanager
def unrolled() -> Iterator[None]:
    """What is traced within has equal blocks one by one everywhere: where they are not treated alike."""
    token = _unrolled.set(True)
    try:
        yield
    finally:
        _unrolled.reset(token)
