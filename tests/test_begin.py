"""Runs that begin from another run's weights: all of them, all but the head, some layers; and what does not fit."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab import begin, loop, weights
from cnnlab.data.source import ArraySource
from cnnlab.errors import UserError
from cnnlab.models.fast_rcnn import FastRCNN, LastStage
from cnnlab.models.resnet import ResNet
from experiments import alexnet_imagenet
from tests.small import same, tiny_resnet


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A trained workdir and its state, a moving average kept."""
    folder = tmp_path_factory.mktemp("trained")
    experiment = tiny_resnet(average=0.5)
    loop.train(experiment, folder)
    return folder, loop.restored_state(experiment, folder)


def test_a_run_begins_where_another_ended(trained):
    folder, state = trained
    began = loop.initial_state(tiny_resnet(init_from=str(folder)))
    assert same(began.variables, state.variables)
    assert not same(began.params, state.params), "the average is what was tested, so it is what is carried over"
    assert int(began.step) == 0
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(jax.device_get(began.opt_state)))


def test_a_new_head(trained):
    folder, state = trained
    began = loop.initial_state(tiny_resnet(init_from=str(folder), replace_head=True))
    fresh = loop.initial_state(tiny_resnet())
    assert same(began.params["fc"], fresh.params["fc"])
    assert same(began.params["conv1"], state.variables["params"]["conv1"])


def test_some_layers(trained):
    folder, state = trained
    # As VGG's deeper nets begin from a shallow one's first layers.
    began = loop.initial_state(tiny_resnet(depth=14, init_from=str(folder), init_layers="conv1,bn1,conv2_1"))
    fresh = loop.initial_state(tiny_resnet(depth=14))
    for name in began.params:
        taken = name in ("conv1", "bn1", "conv2_1")
        assert same(began.params[name], (state.variables if taken else fresh.variables)["params"][name]), name


def test_what_does_not_fit_is_listed(trained, tmp_path):
    folder, _ = trained
    with pytest.raises(UserError, match=r"does not fit this ResNetCifar; \d+ missing: .*conv2_2/"):
        loop.initial_state(tiny_resnet(depth=14, init_from=str(folder)))
    with pytest.raises(UserError, match=r"config\.init_layers names no layer with 'conv77'"):
        loop.initial_state(tiny_resnet(init_from=str(folder), init_layers="conv77"))
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "config.json").write_text((folder / "config.json").read_text())
    with pytest.raises(UserError, match="holds no trained state to begin from"):
        loop.initial_state(tiny_resnet(init_from=str(empty)))
    with pytest.raises(UserError, match="no weights are published for this ResNetCifar"):
        loop.initial_state(tiny_resnet(init_from=str(tmp_path / "nowhere.pth")))


def test_another_number_of_classes_says_how(trained):
    folder, _ = trained
    experiment = tiny_resnet(init_from=str(folder))
    task = experiment.task
    other = dataclasses.replace(task, model=task.model.clone(num_classes=3))
    with pytest.raises(UserError, match="as it has 10 classes and not 3: replace the head"):
        loop.initial_state(dataclasses.replace(experiment, task=other))


def test_the_published_weights_that_a_run_goes_back_to(tmp_path):
    for name, source in (("first", "owner/weights"), ("second", str(tmp_path / "first")), ("own", "")):
        (tmp_path / name).mkdir()
        content = {"experiment": "alexnet_imagenet", "config": {"init_from": source}}
        (tmp_path / name / "config.json").write_text(json.dumps(content))
    assert begin.published_source(str(tmp_path / "second")) == "owner/weights"
    assert begin.published_source(str(tmp_path / "own")) == ""
    assert begin.published_source("") == ""
    # Its pictures are made as those weights expect them.
    config = alexnet_imagenet.get_config()
    config.update(data="digits", variant="one_column", init_from=str(tmp_path / "second"))
    assert alexnet_imagenet.build(config).picture_shape == (256, 256, 3)
    config.update(init_from=str(tmp_path / "own"))
    assert alexnet_imagenet.build(config).picture_shape == (67, 67, 3)


def of_digits(digits, per_class=None, **fields):
    """ResNet-8 on some of the ten digits, with all examples or few of each."""
    experiment = tiny_resnet(**fields)
    task = experiment.task
    names = tuple(str(digit) for digit in digits)

    def only(source, count):
        arrays = source.batch(np.arange(len(source)))
        kept = np.concatenate([np.flatnonzero(arrays["label"] == digit)[:count] for digit in digits])
        return ArraySource({"image": arrays["image"][kept], "label": arrays["label"][kept] - digits[0]}, names)

    train, test = only(experiment.train_data(), per_class), only(experiment.test_data(), None)
    task = dataclasses.replace(task, model=task.model.clone(num_classes=len(digits)), class_names=names, augment=None)
    return dataclasses.replace(experiment, task=task, train_data=lambda: train, test_data=lambda: test)


def test_what_was_learnt_of_some_digits_helps_with_others(tmp_path):
    loop.train(of_digits(range(5), steps=150), tmp_path / "first")
    few = {"digits": range(5, 10), "per_class": 2, "steps": 30}
    scratch = loop.train(of_digits(**few), tmp_path / "scratch")
    moved = loop.train(of_digits(**few, init_from=str(tmp_path / "first"), replace_head=True), tmp_path / "moved")
    assert moved["error"] < scratch["error"] - 0.05


def test_a_detector_begins_with_a_classifiers_backbone(tmp_path):
    classifier = ResNet(18, num_classes=3)
    backbone = ResNet(18, maps=("conv4",), frozen_norm=True)
    detector = FastRCNN(4, backbone, LastStage(blocks=2, bottleneck=False, frozen_norm=True), pooled=4)
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    shapes, template = (jax.eval_shape(model.init, jax.random.key(0), image) for model in (classifier, detector))
    values = jax.tree.map(lambda leaf: np.full(leaf.shape, 0.25, np.float32), shapes)
    path = tmp_path / "resnet.safetensors"
    weights.export_torchvision(classifier, values, path)
    empty = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), template)
    found = begin.load(str(path), detector, empty, image)
    assert set(found["params"]) == {"backbone", "head", "scores", "offsets"}
    for part, value in (("backbone", 0.25), ("head", 0.25), ("scores", 0), ("offsets", 0)):
        leaves = jax.tree.leaves([found[collection].get(part, {}) for collection in ("params", "batch_stats")])
        assert all((np.asarray(leaf) == value).all() for leaf in leaves), part
    other = FastRCNN(4, ResNet(34, maps=("conv4",)), LastStage(), pooled=4)
    with pytest.raises(UserError, match="does not fit this ResNet"):
        begin.load(str(path), other, jax.eval_shape(other.init, jax.random.key(0), image), image)


def test_a_frozen_norm_takes_what_a_trained_one_has(trained):
    folder, state = trained
    norm = {"batch_stats": {"backbone": {"bn1": {"scale": np.zeros(16), "bias": np.ones(16), "mean": np.ones(16)}}}}
    found = begin.grafted(folder, state.variables, norm)["batch_stats"]["backbone"]["bn1"]
    assert same(found["scale"], state.variables["params"]["bn1"]["scale"])
    assert same(found["mean"], state.variables["batch_stats"]["bn1"]["mean"])
    with pytest.raises(UserError, match=r"has no bn9/scale"):
        begin.grafted(folder, state.variables, {"params": {"backbone": {"bn9": {"scale": np.zeros(1)}}}})
