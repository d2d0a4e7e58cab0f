"""What all tests share: the arrays in cnnlab's signatures are checked, and real data is found or skipped."""

import os
import tempfile
from pathlib import Path

import jax
import jaxtyping
import pytest

# Many tests, and the processes that they start, compile the same programs: once is enough. This process, which has read
# the environment already, is told by the configuration.
PROGRAMS = str(Path(tempfile.gettempdir()) / f"cnnlab-tests-xla-{os.getuid()}")
for name, value in (("jax_compilation_cache_dir", PROGRAMS), ("jax_persistent_cache_min_compile_time_secs", 0)):
    jax.config.update(name, value)
    os.environ[name.upper()] = str(value)

jaxtyping.install_import_hook("cnnlab", "beartype.beartype")

BESIDE = Path(__file__).parents[2] / "shared" / "data" / "tfds"


@pytest.fixture(scope="module", autouse=True)
def forget_programs():
    """Each file's compiled programs go when it is done: thousands in one process are more than its memory maps hold."""
    yield
    jax.clear_caches()


@pytest.fixture
def data_dir(monkeypatch) -> Path:
    """The folder of real TFDS data sets, TFDS_DATA_DIR or the one beside the checkout, as cnnlab finds it."""
    folder = Path(os.environ.get("TFDS_DATA_DIR") or BESIDE).expanduser()
    if not folder.is_dir():
        pytest.skip(f"left out what reads real TFDS data: there is no {folder}; set TFDS_DATA_DIR")
    monkeypatch.setenv("TFDS_DATA_DIR", str(folder))
    return folder
