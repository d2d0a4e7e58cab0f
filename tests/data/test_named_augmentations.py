"""Augmentations by name: each is the function that it names, and what is written wrong is said."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.data import augment, colour, distort
from cnnlab.data.augment import compose, keys_of
from cnnlab.data.named_augmentations import bend_fields, named
from cnnlab.errors import UserError
from experiments import alexnet_imagenet, resnet_cifar10
from tests.small import tiny_resnet

KEYS = keys_of(jax.random.key(0), jnp.arange(5))
BATCH = {"image": jax.random.randint(jax.random.key(1), (5, 32, 32, 3), 0, 256).astype(jnp.uint8)}
FILL = (10, 20, 30)
DIRECT = {
    "crop": functools.partial(augment.random_crop, size=28, fill=FILL),
    "crop=4": functools.partial(augment.random_crop, size=28, padding=4, fill=FILL),
    "resized_crop": functools.partial(augment.random_resized_crop, size=28),
    "resized_crop=0.5": functools.partial(augment.random_resized_crop, size=28, area=(0.5, 1.0)),
    "scale_jitter": functools.partial(augment.scale_jitter, size=28, shorter=(32, 64)),
    "scale_jitter=1.5": functools.partial(augment.scale_jitter, size=28, shorter=(32, 48)),
    "flip": augment.horizontal_flip,
    "flip=1": functools.partial(augment.horizontal_flip, probability=1.0),
    "vertical_flip": augment.vertical_flip,
    "grayscale=1": functools.partial(colour.grayscale, probability=1.0),
    "colour_jitter": colour.colour_jitter,
    "colour_noise": colour.colour_noise,
    "colour_noise=0.5": functools.partial(colour.colour_noise, deviation=0.5),
    "translation": functools.partial(distort.translation, fill=FILL),
    "rotation": functools.partial(distort.rotation, fill=FILL),
    "rotation=40": functools.partial(distort.rotation, degrees=(-40, 40), fill=FILL),
    "affine": functools.partial(distort.affine_distortion, gentle=(), fill=FILL),
    "scaling": functools.partial(distort.scaling, fill=FILL),
    "elastic=2": functools.partial(distort.elastic, **bend_fields(32, 2.0), fill=FILL),
    "cutout": functools.partial(augment.cutout, size=14, fill=FILL),
}


@pytest.mark.parametrize("text", DIRECT)
def test_a_name_is_its_function(text):
    made = jax.jit(named(text, 32, 28, FILL))(KEYS, BATCH)["image"]
    np.testing.assert_array_equal(made, jax.jit(compose(DIRECT[text]))(KEYS, BATCH)["image"])
    assert not np.array_equal(made, BATCH["image"])


def test_several_are_done_in_turn():
    made = named(" crop=4, flip ,", 32, 32, FILL)(KEYS, BATCH)
    # The recipe of CIFAR, to the draw.
    crop = functools.partial(augment.random_crop, size=32, padding=4, fill=FILL)
    wanted = compose(crop, augment.horizontal_flip)(KEYS, BATCH)
    np.testing.assert_array_equal(made["image"], wanted["image"])
    assert named("", 32, 28) is None


def test_bent_as_much_in_any_size():
    assert bend_fields(29) == {"sigma": (5, 6), "alpha": (36, 38)}
    large = bend_fields(58, strength=3.0)
    # A displacement is about 0.16 · alpha / sigma pixels: twice the pixels, three times the share.
    assert large["alpha"][0] / large["sigma"][0] == pytest.approx(2 * 3 * 36 / 5)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("crop,filp", r"config\.augment knows no 'filp'; did you mean flip"),
        ("crop=wide", r"config\.augment has 'crop=wide': after the = comes a number, as in crop=0"),
        ("rotation=200", r"config\.augment is 'rotation=200': degrees is \(-200, 200\); it must be two numbers"),
        ("flip=1.5", r"config\.augment is 'flip=1.5': probability is 1.5; it must be from 0 to 1"),
        ("scale_jitter=0.5", r"shorter is \(.*it must be two numbers"),
        ("crop=inf", r"config\.augment has 'crop=inf': after the = comes a number"),
        ("colour_noise=nan", r"config\.augment has 'colour_noise=nan': after the = comes a number"),
        ("crop=1e9", r"a padding of 1000000000 is too much for crops of 28×28"),
        ("crop=28", r"a padding of 28 is too much for crops of 28×28"),
        ("cutout=2", r"config\.augment has cutout=2; the square must be of a pixel up to the whole input"),
        ("cutout=0", r"config\.augment has cutout=0; the square"),
    ],
)
def test_what_is_wrong_is_said_at_once(text, said):
    with pytest.raises(UserError, match=said):
        named(text, 32, 28)


def test_experiments_take_them():
    config = alexnet_imagenet.get_config()
    config.augment = "resized_crop,flip"
    made = alexnet_imagenet.build(config).task.augment
    large = {"image": jnp.zeros((2, 256, 256, 3), jnp.uint8)}
    assert jax.eval_shape(made, KEYS[:2], large)["image"].shape == (2, 227, 227, 3)
    config = resnet_cifar10.get_config()
    config.augment = ""
    assert resnet_cifar10.build(config).task.augment is None
    with pytest.raises(UserError, match=r"config\.augment is 'flip', which does nothing with config\.data=digits"):
        tiny_resnet(augment="flip")
