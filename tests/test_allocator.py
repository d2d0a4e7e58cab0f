"""The process starts anew once, under the tunables, as the same process with the same arguments."""

import os
import platform
import subprocess
import sys

import pytest

from cnnlab.allocator import TUNABLES

PROGRAM = """
import os, sys
from cnnlab.allocator import keep_memory
print(os.getpid(), os.environ.get("GLIBC_TUNABLES"), sys.argv[1:], flush=True)
keep_memory()
print("on", flush=True)
"""


def run(**environment):
    kept = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "--a b", "c"],
        env={**kept, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_it_starts_anew_once():
    before, after, *rest = run()
    assert rest == ["on"]
    assert before.split()[0] == after.split()[0]
    assert before.split()[1] == "None"
    assert after.split()[1] == TUNABLES
    assert before.endswith("['--a b', 'c']")
    assert after.endswith("['--a b', 'c']")


def test_tunables_of_the_users_own_stay():
    assert run(GLIBC_TUNABLES="glibc.malloc.check=0")[1:] == ["on"]


GAPS = """
import ctypes
from cnnlab.allocator import LARGEST_GAP, SMALLEST_GAP, close_gaps, keep_memory
keep_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype = libc.sbrk.restype = ctypes.c_void_p

def pieces(size):
    return [libc.malloc(ctypes.c_size_t(size)) for _ in range(2000)]

several = {size: pieces(size) for size in (SMALLEST_GAP, 5000, LARGEST_GAP)}
for made in several.values():
    for piece in made[::2]:
        libc.free(ctypes.c_void_p(piece))
close = "close" in __import__("sys").argv
if close:
    close_gaps()
print(*(sum(piece in set(made[::2]) for piece in pieces(size)) for size, made in several.items()))
ctypes.memset(several[5000][1], 7, 5000)  # what was not free is as it was
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_gaps_are_used_until_they_are_closed():
    def reused(*arguments):
        done = subprocess.run(
            [sys.executable, "-c", GAPS, *arguments],
            env={name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"},
            capture_output=True,
            text=True,
            check=True,
        )
        return [int(number) for number in done.stdout.split()]

    assert min(reused()) > 500
    assert max(reused("close")) < 50
