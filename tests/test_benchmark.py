"""The benchmark measures what it says."""

import dataclasses
import time

import pytest

from cnnlab import benchmark
from tests.small import small_experiment


@dataclasses.dataclass(frozen=True)
class Slow:
    """A source that takes a fixed time a batch."""

    source: object
    seconds: float

    @property
    def class_names(self):
        return self.source.class_names

    def __len__(self):
        return len(self.source)

    def batch(self, indices):
        time.sleep(self.seconds)
        return self.source.batch(indices)


@pytest.fixture(scope="module")
def experiment():
    return small_experiment(workers=1, steps=1000)


def test_the_parts_of_a_run(experiment):
    speed = benchmark.measure(experiment, steps=10, repeats=2)
    assert min(speed.step, speed.loop, speed.inputs, speed.inference) > 0
    assert speed.inference > speed.step
    assert 0.2 < speed.loop_over_step < 1.5
    text = benchmark.report(experiment, speed)
    assert f"{speed.loop:,.0f} images/s" in text
    assert "lenet_digits, batch 32" in text


def test_a_slow_input_shows(experiment):
    source = Slow(experiment.train_data(), 0.05)
    slow = dataclasses.replace(experiment, train_data=lambda: source)
    speed = benchmark.measure(slow, steps=10, repeats=1)
    assert speed.inputs == pytest.approx(32 / 0.05, rel=0.3)
    assert speed.loop < 1.2 * speed.inputs
