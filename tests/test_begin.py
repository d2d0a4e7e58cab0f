"""Runs that begin from another run's weights: all of them, all but the head, some layers; and what does not fit."""

import dataclasses
import json
import shutil

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab import begin, configs, loop, weights, workdirs
from cnnlab.data.source import ArraySource
from cnnlab.errors import UserError
from cnnlab.models.fast_rcnn import FastRCNN, LastStage
from cnnlab.models.resnet import ResNet
from cnnlab.ops.whitening import Whitening, zca
from experiments import alexnet_imagenet, resnet_imagenet
from tests.small import same, small_experiment, tiny_resnet


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
    assert not same(began.model_state, state.model_state), "likewise of the batch statistics"
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


def test_bottlenecks_that_stride_elsewhere_do_not_fit(tmp_path):
    for name, values in (("a", {"depth": 50}), ("b", {"depth": 18})):
        config = resnet_imagenet.get_config()
        config.update(values)
        (tmp_path / name).mkdir()
        workdirs.claim(tmp_path / name, resnet_imagenet.build(config))
    image = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    said = r"a does not fit: its config\.stride_on_3x3 is False, and True is asked for"
    with pytest.raises(UserError, match=said):
        begin.load(str(tmp_path / "a"), ResNet(50, stride_on_3x3=True), {"params": {}}, image)
    for name, net in (("a", ResNet(50)), ("b", ResNet(18, stride_on_3x3=True))):  # 18 layers have no bottlenecks
        with pytest.raises(UserError, match="holds no trained state"):
            begin.load(str(tmp_path / name), net, {"params": {}}, image)


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
    assert begin.from_published(str(tmp_path / "second"))
    assert not begin.from_published(str(tmp_path / "own"))
    assert not begin.from_published("")
    # Its pictures are made as those weights expect them.
    config = alexnet_imagenet.get_config()
    config.update(data="digits", variant="one_column", init_from=str(tmp_path / "second"))
    assert alexnet_imagenet.build(config).picture_shape == (256, 256, 3)
    config.update(init_from=str(tmp_path / "own"))
    experiment = alexnet_imagenet.build(config)
    assert experiment.picture_shape == (67, 67, 3)
    # And so they stay, wherever the weights that it began from are by then.
    shutil.rmtree(tmp_path / "own")
    again = configs.update(alexnet_imagenet.get_config(), experiment.config)
    assert alexnet_imagenet.build(again).picture_shape == (67, 67, 3)
    again.convention = "poster"
    with pytest.raises(UserError, match='convention is "poster"; it must be "paper", "published" or ""'):
        alexnet_imagenet.build(again)


def test_layers_to_begin_with_need_weights_and_must_be_taken(trained):
    with pytest.raises(UserError, match=r"config\.init_layers is 'conv1', and no config\.init_from says whose"):
        tiny_resnet(init_layers="conv1")
    experiment = tiny_resnet(init_from=str(trained[0]), init_layers="fc", replace_head=True)
    with pytest.raises(UserError, match=r"config\.init_layers takes fc only, which config\.replace_head begins anew"):
        loop.initial_state(experiment)


def test_a_series_is_no_run_to_begin_from(tmp_path):
    (tmp_path / "rate_1").mkdir()
    for folder, member in ((tmp_path, ""), (tmp_path / "rate_1", "rate_1")):
        content = {"experiment": "lesson_learning_rate", "config": {"member": member}}
        (folder / "config.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"holds a series of runs: name one of them, .*/rate_1$"):
        loop.initial_state(tiny_resnet(init_from=str(tmp_path)))
    with pytest.raises(UserError, match="holds a series of runs"):
        configs.build_from(tmp_path)


def even_or_odd(**fields):
    """ResNet-8 that tells even digits from odd ones, by two examples of each digit."""
    experiment = tiny_resnet(**fields)
    names = ("even", "odd")

    def only(source, count):
        arrays = source.batch(np.arange(len(source)))
        kept = np.concatenate([np.flatnonzero(arrays["label"] == digit)[:count] for digit in range(10)])
        return ArraySource({"image": arrays["image"][kept], "label": arrays["label"][kept] % 2}, names)

    train, test = only(experiment.train_data(), 2), only(experiment.test_data(), None)
    task = dataclasses.replace(
        experiment.task, model=experiment.task.model.clone(num_classes=2), class_names=names, augment=None
    )
    return dataclasses.replace(experiment, task=task, train_data=lambda: train, test_data=lambda: test)


def test_what_was_learnt_of_many_pictures_helps_with_few(tmp_path):
    loop.train(tiny_resnet(steps=150), tmp_path / "first")
    scratch = loop.train(even_or_odd(steps=30), tmp_path / "scratch")
    moved = even_or_odd(steps=30, init_from=str(tmp_path / "first"), replace_head=True)
    assert loop.train(moved, tmp_path / "moved")["error"] < scratch["error"] - 0.05


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


class White(nn.Module):
    """The smallest network that whitens its input."""

    num_classes: int = 10

    @nn.compact
    def __call__(self, x, *, train=False):
        white = Whitening(name="whitening")(x)
        return nn.Dense(self.num_classes, name="fc")(white.reshape(len(x), -1))


def whitening_run(**fields):
    """A run of it, a step long, on digits."""
    experiment = small_experiment(steps=1, **fields)
    return dataclasses.replace(experiment, task=dataclasses.replace(experiment.task, model=White()))


def test_whitening_is_fitted_to_all_training_pictures_before_the_first_step(tmp_path, monkeypatch):
    monkeypatch.setattr(begin, "PART", 1000)  # the digits are 1,438
    experiment = whitening_run()
    loop.train(experiment, tmp_path)
    found = loop.restored_state(experiment, tmp_path).model_state["whitening"]["whitening"]
    source = experiment.train_data()
    inputs = experiment.task.preprocess(jnp.asarray(source.batch(np.arange(len(source)))["image"]))
    for name, array in zca([np.asarray(inputs)]).items():
        np.testing.assert_allclose(found[name], array, atol=1e-4)
    monkeypatch.setattr(begin, "whitened", None)  # called no more: the run goes on with what it has
    loop.train(experiment, tmp_path)


def test_trained_weights_bring_their_whitening_along(tmp_path):
    loop.train(whitening_run(), tmp_path / "a")
    learnt = loop.restored_state(whitening_run(), tmp_path / "a").variables["whitening"]
    few = ArraySource({"image": np.zeros((4, 8, 8, 1), np.uint8), "label": np.arange(4)}, tuple("0123456789"))
    began = {"init_from": str(tmp_path / "a"), "train_data": lambda: few, "batch_size": 4}
    for name, more, kept in (
        ("b", {}, True),
        ("c", {"replace_head": True}, True),
        ("d", {"init_layers": ("fc",)}, False),
    ):
        experiment = whitening_run(**began, **more)
        loop.train(experiment, tmp_path / name)
        found = loop.restored_state(experiment, tmp_path / name).variables["whitening"]
        assert same(found, learnt) == kept, name
