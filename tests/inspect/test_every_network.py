"""Every tool on every classification network of the project, with random weights: found by layer names alone."""

import dataclasses
import math

import jax
import numpy as np
import pytest
from matplotlib.figure import Figure

from cnnlab import configs, inspection, loop
from cnnlab.data.source import ArraySource
from cnnlab.inspect.subject import Subject
from cnnlab.tasks.classification import Classification

QUICK = ("resnet_cifar10",)  # the others take minutes to compile
FIELDS = {"resnet_imagenet": {"depth": 18}, "resnet_cifar10": {"depth": 8}}  # smaller members of a family
TOOLS = [
    name for name in inspection.FIGURES if name not in ("augment", "transformers")
]  # of pictures; of nets that have one


def is_classifier(name):
    """Whether an experiment brings a network of its own that tells classes apart, and built-in data."""
    config = configs.load(name).get_config()
    if "member" in config or "folder" in name or not ("small" in config or "digits" in name):
        return False
    return isinstance(small(name).task, Classification)


def small(name):
    """An experiment on a few digits, its network as small as it comes."""
    config = configs.load(name).get_config()
    config.update(FIELDS.get(name, {}))
    if "small" in config:
        config.data = "digits"
    built = configs.load(name).build(config)
    draw = np.random.default_rng(0)
    image = draw.integers(0, 256, (20, *built.picture_shape), dtype=np.uint8)
    source = ArraySource({"image": image, "label": np.arange(20, dtype=np.int32) % 10}, built.task.class_names)
    return dataclasses.replace(built, train_data=lambda: source, test_data=lambda: source, eval_batch_size=10)


def random_state(experiment):
    """He et al.'s weights by numpy: jax's own initialisers take longer to compile than most of what is tested."""
    draw = np.random.default_rng(0)

    def make(path, leaf):
        if leaf.ndim > 1 and np.issubdtype(leaf.dtype, np.floating):
            fan = math.prod(leaf.shape[:-1])
            return draw.normal(size=leaf.shape, scale=math.sqrt(2 / fan)).astype(leaf.dtype)
        return np.full(leaf.shape, path[-1].key in ("scale", "var") if hasattr(path[-1], "key") else 0, leaf.dtype)

    return jax.device_put(jax.tree_util.tree_map_with_path(make, loop.state_template(experiment)))


@pytest.fixture(scope="module")
def subjects():
    """Made once for all tools; the last network only, as some are large."""
    made = {}

    def subject(name):
        if name not in made:
            made.clear()
            experiment = small(name)
            state = random_state(experiment)
            made[name] = Subject(experiment, lambda: state, count=2)
        return made[name]

    return subject


def hurried():
    """Options by which each tool does its work, if not for long."""
    options = configs.options_of("inspect")
    options.update(pictures=2, examples=10)
    options.adversarial.update(attacks="fgsm,pgd,deepfool", epsilons="0.1", steps=2)
    options.correspondence.draws = 2
    options.gradients.steps = 2
    options.maximise.steps = 2
    options.inversion.steps = 2
    options.invariance.update(shifts="2", angles="90", scales="1.5")
    return options


def names():
    return [
        pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)
        for name in filter(is_classifier, configs.names())
    ]


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("name", names())
def test_it_is_drawn(name, tool, subjects):
    drawn = inspection.FIGURES[tool](subjects(name), hurried())
    assert drawn
    for figure in drawn.values():
        assert isinstance(figure, Figure)
        assert figure.axes
