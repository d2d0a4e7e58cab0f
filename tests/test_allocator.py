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
