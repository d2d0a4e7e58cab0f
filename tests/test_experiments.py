"""Every experiment there is builds, makes a step, and says what it is; so none can rot."""

import ast
import dataclasses
import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from cnnlab import configs, loop, parallel, summary, weights, workdirs
from cnnlab.data.aerial import AerialScenes
from cnnlab.data.digits import digits
from cnnlab.data.shapes import Scene, draw
from cnnlab.data.source import ArraySource, Head
from cnnlab.errors import UserError
from cnnlab.models.resnet import ResNet
from tests.small import tiny_resnet

ROOT = Path(__file__).parents[1]


def class_folder(folder: Path) -> Path:
    """A few pictures in two class folders."""
    for i in range(40):
        (folder / str(i % 2)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(digits("train").arrays["image"][i, ..., 0]).save(folder / str(i % 2) / f"{i}.png")
    return folder


def config_of(name, tmp_path, form="small"):
    """The experiment's defaults; a folder of pictures where it wants one, the form on digits where it has one; of a
    series the first member.
    """
    config = configs.load(name).get_config()
    if "member" in config:
        config.member = next(iter(configs.load(name).build(config).members))
    if "small" in config and form == "small":
        config.data = "digits"
        config.small.batch_size = 4
    if "folder" in config:
        config.folder = str(class_folder(tmp_path / "pictures"))
    if "rules" in config:  # a detector
        config.update(batch_size=2, eval_batch_size=2, shorter=64, longer=80, train_pictures=4)
        config.rules.update(train_before=50, test_before=50, train_proposals=20, test_proposals=20)
    if name.startswith("fcn_"):
        config.update(batch_size=2, eval_batch_size=2, longer=64, data="shapes")
    if name == "fcn_voc":
        config.net = "googlenet"
    if name == "faster_rcnn_voc":
        config.update(data="shapes", net="resnet50", freeze="backbone/conv1")
    if name in ("faster_rcnn_coco", "mask_rcnn_coco"):
        config.update(data="shapes", numbered=False)
    if name == "faster_rcnn_bccd":
        config.data = str(voc_folder(tmp_path / "voc"))
    if name.startswith(("caption_", "alignment_")):
        config.update(batch_size=4, eval_batch_size=4, size=64, data="shapes", words=0, cut=False)
    if name in ("caption_coco", "alignment_coco"):
        config.net = "small"
    if name.startswith("roads_"):
        config.update(batch_size=2, eval_batch_size=2, patches=2, step=16)
    if name == "roads_synthetic":
        config.update(scenes=2, test_scenes=1, side=64)
    if name == "roads_folder":
        config.data = str(road_folder(tmp_path / "roads"))
    if "proposals" in config:
        config.proposals = 10
    if name == "normalisation_mnist":
        config.update(data="digits", batch_size=4, eval_batch_size=60)
    if name == "stn_mnist":
        config.update(data="digits", batch_size=4, eval_batch_size=40, parameters=20_000)
    if name == "transfer_folder":
        config.update(data=str(class_folder(tmp_path / "pictures")), init_from=weights_file(tmp_path), batch_size=4)
    return config


def road_folder(folder: Path) -> Path:
    """An aerial scene or two as Massachusetts Roads has them."""
    for split, count in (("train", 2), ("test", 1)):
        for part in ("sat", "map"):
            (folder / split / part).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            scene = AerialScenes(split, count, 70).scene(i)
            Image.fromarray(scene.picture).save(folder / split / "sat" / f"{i}.tiff")
            Image.fromarray(np.uint8(255 * scene.truth)).save(folder / split / "map" / f"{i}.tif")
    return folder


def voc_folder(folder: Path) -> Path:
    """A few drawings as PASCAL VOC has them."""
    for part in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / part).mkdir(parents=True)
    for split in ("trainval", "test"):
        names = [f"{split}{i}" for i in range(4)]
        (folder / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(names))
        for i, name in enumerate(names):
            scene = draw("train", i, 96)  # the same in both, so that they have the same classes
            Image.fromarray(scene.picture).save(folder / "JPEGImages" / f"{name}.jpg")
            (folder / "Annotations" / f"{name}.xml").write_text(voc_xml(scene))
    return folder


def voc_xml(scene: Scene) -> str:
    """The annotation of a drawing."""
    edges = ("xmin", "ymin", "xmax", "ymax")
    lines = ["<annotation>"]
    for thing in scene.things:
        x0, y0, x1, y1 = thing.box
        box = "".join(f"<{edge}>{v}</{edge}>" for edge, v in zip(edges, (x0 + 1, y0 + 1, x1, y1), strict=True))
        lines.append(f"<object><name>{thing.shape}</name><bndbox>{box}</bndbox></object>")
    return "\n".join([*lines, "</annotation>"])


def weights_file(folder: Path) -> str:
    """A file as published for ResNet-18, of small numbers."""
    model, path = ResNet(18, stride_on_3x3=True), folder / "resnet18.safetensors"
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 224, 224, 3)))
    weights.export_torchvision(model, jax.tree.map(lambda leaf: np.full(leaf.shape, 0.01, np.float32), shapes), path)
    return str(path)


def stand_in(experiment, size=64):
    """Random pictures in the experiment's shape, in place of data that a plain checkout lacks."""
    draw = np.random.default_rng(0)
    image = draw.integers(0, 256, (size, *experiment.picture_shape), dtype=np.uint8)
    label = draw.integers(0, len(experiment.task.class_names), size).astype(np.int32)
    return ArraySource({"image": image, "label": label}, experiment.task.class_names)


def first(source, count):
    """The first examples of a source in memory."""
    return ArraySource({k: v[:count] for k, v in source.arrays.items()}, source.class_names)


@pytest.mark.parametrize("name", configs.names())
def test_it_trains_a_step_and_is_evaluated(name, tmp_path):
    experiment = configs.load(name).build(config_of(name, tmp_path))
    try:
        source, test = experiment.train_data(), experiment.test_data()
        if "small" in experiment.config:
            source, test = first(source, 8), first(test, 6)
        elif "rules" in experiment.config or name.startswith(("fcn_", "caption_", "alignment_")):
            test = Head(test, 3)
        experiment = dataclasses.replace(experiment, train_data=lambda: source, test_data=lambda: test)
    except UserError as error:
        print(f"{name} is stepped on random pictures, as its data is left out here: {error}")
        source = stand_in(experiment)
        experiment = dataclasses.replace(experiment, train_data=lambda: source, test_data=lambda: source)
    scores = loop.train(dataclasses.replace(experiment, steps=1), tmp_path / "w")
    assert np.isfinite(list(scores.values())).all()
    assert scores["count"] > 0
    assert int(loop.restored_state(experiment, tmp_path / "w").step) == 1


@pytest.mark.parametrize("name", configs.names())
def test_what_a_workdir_says_of_it_builds_it_again(name, tmp_path):
    module, config = configs.load(name), config_of(name, tmp_path)
    saved = {"experiment": name, "config": json.loads(json.dumps(module.build(config).config))}
    again = module.build(configs.update(module.get_config(), saved["config"]))
    assert workdirs.differences(again, saved) == []


@pytest.mark.parametrize("name", configs.names())
def test_its_file_says_what_it_is(name, tmp_path):
    tree = ast.parse((ROOT / "experiments" / f"{name}.py").read_text())
    text = ast.get_docstring(tree)
    assert len(text.splitlines()[0]) <= 100
    for part in ("Paper: ", f"Command: python launch.py --experiment={name}", "Expected: ", "Measured: "):
        assert part in text, f"{name} does not say: {part}"
    config = config_of(name, tmp_path)
    assert set(json.loads(json.dumps(config.to_dict()))) == set(config.keys())
    experiment = configs.load(name).build(config)
    assert experiment.name == name


@pytest.mark.parametrize("name", [name for name in configs.names() if "member" in configs.load(name).get_config()])
def test_a_series_is_drawn_of_its_members_rows(name):
    found = configs.load(name).build(configs.load(name).get_config())
    rows = [
        {"step": step, "split": split, "loss": 1 / step, "error": 0.5, "clean_error": 0.1, "count": 359}
        for step in range(1, 30)
        for split in ("train", "test")
    ]
    assert len(found.members) > 1
    assert {member.name for member in found.members.values()} == {name}
    for figure in found.draw(dict.fromkeys(found.members, rows)).values():
        assert len(figure.axes) > 1


@pytest.mark.parametrize("name", configs.names())
def test_every_knob_has_a_comment(name):
    for line in (ROOT / "experiments" / f"{name}.py").read_text().splitlines():
        if line.strip().startswith("config.") and " = " in line and "listing" not in line:
            assert "  # " in line, line


@pytest.mark.parametrize("name", configs.names())
def test_its_summary_adds_up(name, tmp_path):
    experiment = configs.load(name).build(config_of(name, tmp_path, "paper"))
    total = summary.report(experiment).splitlines()[-1].split()[1]
    params = jax.tree.leaves(loop.state_template(experiment).params)
    assert int(total.replace(",", "")) == sum(leaf.size for leaf in params)


@pytest.mark.parametrize("name", [name for name in configs.names() if "small" in configs.load(name).get_config()])
def test_the_papers_form_fits_together(name):
    """The stored picture through augmentation, preprocessing, network, loss and update, without computing any of it."""
    config = configs.load(name).get_config()
    if "member" in config:
        config.update(member="plain_20", data="cifar10")
    experiment = configs.load(name).build(config)
    state, task = loop.state_template(experiment), experiment.task
    image = jax.ShapeDtypeStruct((1, *experiment.picture_shape), jnp.uint8)
    place = jax.ShapeDtypeStruct((1,), jnp.int32)
    batch = {"image": image, "label": place, "position": place}
    step = lambda state, batch: task.train_step(state, batch, jax.random.key(0), parallel.identity)
    after, metrics = jax.eval_shape(step, state, batch)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert metrics["loss"].shape == ()
    probabilities = jax.eval_shape(task.predict_step, state, {"image": image})
    if task.class_names:  # adversarial nets have none unless they are conditional
        assert probabilities.shape == (1, len(task.class_names))
        assert len(task.class_names) in (10, 1000)


def test_bfloat16_computes_and_float32_remembers():
    found = {}
    for dtype in ("float32", "bfloat16"):
        experiment = tiny_resnet(dtype=dtype)
        state, task = loop.initial_state(experiment), experiment.task
        batch = {name: jnp.asarray(x) for name, x in experiment.train_data().batch(np.arange(16)).items()}
        batch["position"] = jnp.arange(16)
        after, metrics = jax.jit(lambda s, b, t=task: t.train_step(s, b, jax.random.key(0), parallel.identity))(
            state, batch
        )
        remembered = jax.tree.leaves((after.variables, after.opt_state))
        assert {x.dtype for x in remembered if jnp.issubdtype(x.dtype, jnp.inexact)} == {jnp.dtype("float32")}
        found[dtype] = float(metrics["loss"])
        _, inside = task.model.apply(
            state.variables, jnp.zeros((1, 8, 8, 3)), capture_intermediates=True, mutable=["intermediates"]
        )
        assert inside["intermediates"]["conv2_1"]["__call__"][0].dtype == jnp.dtype(dtype)
    assert found["bfloat16"] != found["float32"]
    assert found["bfloat16"] == pytest.approx(found["float32"], rel=0.02)
    with pytest.raises(UserError, match=r'config\.dtype is "half"; it must be "float32" or "bfloat16"'):
        tiny_resnet(dtype="half")


def test_a_hundred_classes():
    config = configs.load("rir_cifar10").get_config()
    config.data = "cifar100"
    task = configs.load("rir_cifar10").build(config).task
    assert (len(task.class_names), len(set(task.class_names)), task.model.num_classes) == (100, 100, 100)
    assert task.class_names[:2] + task.class_names[-1:] == ("apple", "aquarium_fish", "worm")
    mean = jnp.array([[[[129, 124, 112]]]], jnp.uint8)
    assert np.abs(task.preprocess(mean)).max() < 0.02


def test_smoothed_labels():
    task = tiny_resnet(label_smoothing=0.5).task
    # Half the weight on the label, half on all ten alike.
    logits = jnp.array([[1.0] + [0.0] * 9])
    expected = np.log(np.e + 9) - (0.5 + 0.5 / 10)
    assert np.allclose(task.loss(logits, jnp.array([0])), expected)
    with pytest.raises(UserError, match=r"config\.label_smoothing is 1\.0; it must be from 0 up to but not with 1"):
        tiny_resnet(label_smoothing=1.0)


def test_ciresans_own_descent():
    module = configs.load("ciresan_mnist")
    config = module.get_config()
    config.update(optimizer="sgd", learning_rate=1e-3)
    optimizer, state, steps = module.optimizer_of(config, 10), None, []
    state = optimizer.init(jnp.zeros(1))
    for _ in range(11):
        change, state = optimizer.update(jnp.ones(1), state)
        steps.append(-float(change[0]))
    assert (steps[0], steps[10]) == (pytest.approx(1e-3), pytest.approx(1e-6))
    config.optimizer = "rprop"
    with pytest.raises(UserError, match=r'config\.optimizer is "rprop"; it must be "adam" or "sgd"'):
        module.build(config)


def test_nins_author_has_rates_of_his_own():
    module = configs.load("nin_cifar10")
    updates = {name: {"kernel": jnp.ones(1), "bias": jnp.ones(1)} for name in ("conv1", "cccp6")}
    scale = module.authors_rates()
    found = jax.tree.map(lambda leaf: float(leaf[0]), scale.update(updates, scale.init(updates))[0])
    assert found["conv1"] == {"kernel": 1.0, "bias": 2.0}
    assert found["cccp6"] == {"kernel": pytest.approx(0.1), "bias": pytest.approx(0.2)}


def test_ciresans_layers_have_units():
    module = configs.load("ciresan_mnist")
    config = module.get_config()
    config.hidden = (0, 3)
    with pytest.raises(UserError, match=r"config\.hidden is \(0, 3\); each layer must have a unit or more"):
        module.build(config)


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [("vgg_imagenet", "stored_size", 80), ("classic_cifar10", "eval_every", 5), ("stn_mnist", "train_examples", 3)],
)
def test_what_digits_do_not_heed_is_refused(name, field, value):
    config = configs.load(name).get_config()
    config.update({"data": "digits", field: value})
    with pytest.raises(UserError, match=rf"config\.{field} is {value}, which does nothing with config\.data=digits"):
        configs.load(name).build(config)


def test_parts_of_a_batch_are_checked_before_anything_is_written():
    with pytest.raises(UserError, match=r"config\.accumulate is 3: it must divide the 16 examples"):
        tiny_resnet(accumulate=3)


def test_the_body_may_be_frozen_with_layers_of_the_head():
    frozen = tiny_resnet(freeze="body").task.frozen
    assert "conv1" in frozen
    assert "fc" not in frozen
    assert tiny_resnet(freeze="body,fc").task.frozen == (*frozen, "fc")


def test_ciresans_digits_are_distorted_by_as_much_as_asked():
    """The weaker the distortion, the nearer they stay to what they were."""
    module = configs.load("ciresan_mnist")
    batch = {"image": jnp.asarray(digits("train").arrays["image"][:64]), "label": jnp.zeros(64, int)}
    moved = [
        float(
            jnp.abs(
                module.distortion(strength)(jax.random.split(jax.random.key(0), 64), batch)["image"]
                - batch["image"].astype(float)
            ).mean()
        )
        for strength in (1e-6, 0.33, 1.0)
    ]
    assert moved[0] < 0.01 < 2 < moved[1] < 0.7 * moved[2]
    assert module.distortion(0.0) is None
    for strength in (-0.5, 2.5, float("nan")):
        with pytest.raises(UserError, match=r"config\.deform is .*; it must be from 0, no distortion, to 2"):
            module.distortion(strength)


def test_a_new_classifier_begins_without_an_opinion():
    """Under He's weights, meant for many outputs, a few classes would begin with a loss of many nats."""
    features = jnp.abs(jax.random.normal(jax.random.key(0), (64, 512)))
    for classes in (2, 10):
        params = jax.jit(ResNet(18, num_classes=classes).init)(jax.random.key(1), jnp.zeros((1, 32, 32, 3)))["params"]
        log_p = jax.nn.log_softmax(features @ params["fc"]["kernel"])
        assert -float(log_p.mean()) < 1.2 * np.log(classes)


def test_the_guides_loss():
    config = configs.load("classic_cifar10").get_config()
    config.loss = "half_squared_error"
    task = configs.load("classic_cifar10").build(config).task
    assert np.allclose(task.loss(jnp.eye(10)[:2], jnp.array([0, 0])), [0.0, 1.0])
    config.loss = "hinge"
    with pytest.raises(UserError, match="it must be one of cross_entropy, half_squared_error"):
        configs.load("classic_cifar10").build(config)


def test_transfer_wants_pictures_and_weights(tmp_path):
    module = configs.load("transfer_folder")
    config = module.get_config()
    with pytest.raises(UserError, match=r"config\.data is not set"):
        module.build(config)
    config.update(data="digits", init_from="x.pth")
    with pytest.raises(UserError, match=r'config\.data is "digits", which is for learning from scratch'):
        module.build(config)
    config.update(data=str(class_folder(tmp_path / "pictures")), init_from="")
    with pytest.raises(UserError, match=r"config\.init_from is not set"):
        module.build(config)
    config.init_from = weights_file(tmp_path)
    experiment = module.build(config)
    trained = jax.tree.leaves(loop.state_template(experiment).opt_state)
    assert sum(leaf.size for leaf in trained if leaf.ndim) == 2 * (512 * 2 + 2)  # Adam's two moments of the new layer
    config.freeze = ""
    assert module.build(config).task.frozen == ()


def test_an_imagenet_net_learns_a_folder_and_predicts_without_it(tmp_path):
    module = configs.load("alexnet_imagenet")
    config = module.get_config()
    config.update(data=str(class_folder(tmp_path / "pictures")), batch_size=4)
    experiment = module.build(config)
    assert experiment.task.class_names == ("0", "1")
    assert len(experiment.train_data()) + len(experiment.test_data()) == 40
    assert experiment.steps == round(90 * len(experiment.train_data()) / 4)
    shutil.rmtree(tmp_path / "pictures")
    again = module.build(configs.update(module.get_config(), experiment.config))
    assert (again.task.class_names, again.steps) == (("0", "1"), experiment.steps)
    with pytest.raises(UserError, match=r"there is no folder .*pictures"):
        again.train_data()


@pytest.mark.parametrize(("name", "field"), [("alexnet_imagenet", "data"), ("lenet_folder", "folder")])
def test_a_folder_that_changed_does_not_rename_what_was_learnt(tmp_path, name, field):
    module, folder = configs.load(name), class_folder(tmp_path / "pictures")
    config = module.get_config()
    config.update({field: str(folder), "batch_size": 4})
    saved = module.build(config).config

    def again():
        return module.build(configs.update(module.get_config(), saved))

    shutil.copytree(folder / "0", folder / "00")
    assert again().task.class_names == ("0", "1")
    with pytest.raises(UserError, match=r"pictures has other classes than the run has learnt: 00 is new$"):
        again().test_data()
    shutil.rmtree(folder / "00")
    assert len(again().train_data()) == saved["train_examples"]
    for picture in sorted((folder / "0").iterdir())[:10]:
        shutil.copy(picture, picture.with_stem(f"{picture.stem}a"))
    with pytest.raises(UserError, match=f"pictures to train on, and had {saved['train_examples']} when the run began"):
        again().train_data()
    assert len(again().test_data()) > 0


@pytest.mark.parametrize("name", [name for name in configs.names() if "batch_size" in configs.load(name).get_config()])
def test_no_batches_of_nothing(name, tmp_path):
    config = config_of(name, tmp_path, form="paper")
    config.batch_size = 0
    with pytest.raises(UserError, match=r"config\.batch_size is 0; it must be positive"):
        configs.load(name).build(config)


@pytest.mark.parametrize(("name", "right"), [("vgg_imagenet", "imagenet2012"), ("nin_cifar10", "cifar10")])
def test_unknown_data(name, right):
    config = configs.load(name).get_config()
    config.data = "nowhere"
    with pytest.raises(UserError, match=f'config.data is "nowhere".* must be "{right}"'):
        configs.load(name).build(config)


def test_published_weights_bring_their_pictures_along():
    module = configs.load("alexnet_imagenet")
    config = module.get_config()
    config.update(variant="one_column", init_from="somewhere.pth")
    experiment = module.build(config)
    black = experiment.task.preprocess(jnp.zeros((1, *experiment.picture_shape), jnp.uint8))
    assert black.shape == (1, 224, 224, 3)
    assert np.allclose(black[0, 0, 0], [-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225], atol=1e-4)
    assert experiment.init_from == "somewhere.pth"


def test_the_papers_pictures_are_less_the_mean_and_otherwise_as_they_are():
    experiment = configs.load("vgg_imagenet").build(configs.load("vgg_imagenet").get_config())
    white = experiment.task.preprocess(jnp.full((1, *experiment.picture_shape), 255, jnp.uint8))
    assert white.shape == (1, 224, 224, 3)
    assert np.allclose(white[0, 0, 0], [255 * (1 - mean) for mean in (0.485, 0.456, 0.406)], atol=1e-3)
