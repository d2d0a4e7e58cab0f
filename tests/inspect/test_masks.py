"""Boxes painted over, what a network sees of a picture, and colours as people name them."""

import dataclasses
import functools

import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab import configs, loop
from cnnlab.data.preprocess import contrast_normalise, pad_and_scale
from cnnlab.data.source import ArraySource
from cnnlab.errors import UserError
from cnnlab.inspect import correspondence, occlusion
from cnnlab.inspect.masks import bounding_box, covered, paint, seen_window
from cnnlab.inspect.subject import Subject
from tests.small import small_experiment


def test_boxes_are_painted_over():
    pictures = jnp.arange(24, dtype=jnp.uint8).reshape(2, 3, 4, 1)
    found = covered(pictures, jnp.array([[-2, 2, 2, 9], [1, 1, 1, 3]]), jnp.array([99.5]))
    assert found[0, ..., 0].tolist() == [[0, 1, 99.5, 99.5], [4, 5, 99.5, 99.5], [8, 9, 10, 11]]
    np.testing.assert_array_equal(found[1], pictures[1])  # an empty box


def test_what_the_network_sees():
    padded = functools.partial(pad_and_scale, size=32, low=-0.1, high=1.175)
    assert seen_window(padded, (28, 28, 1)) == (0, 0, 28, 28)
    assert seen_window(lambda x: contrast_normalise(x[:, 3:-1, 2:]), (9, 8, 3)) == (3, 2, 8, 8)


def test_boxes_round_what_is_true():
    mask = np.zeros((4, 5), bool)
    assert bounding_box(mask) == (0, 0, 0, 0)
    mask[1, 3] = mask[2, 1] = True
    assert bounding_box(mask) == (1, 1, 3, 4)


def test_colours():
    colours = np.stack([np.zeros((2, 2, 3)), np.full((2, 2, 3), [10, 20, 30])])
    assert paint("mean", colours, "fill").tolist() == [5, 10, 15]
    assert paint("grey", colours, "fill").tolist() == [127.5] * 3
    assert paint("7", colours, "fill").tolist() == [7] * 3
    for wrong in ("gray", "-1", "256", "nan", "1,2"):
        with pytest.raises(
            UserError, match=f'config.x is "{wrong}"; it must be "grey", "mean" or one number or 3 with'
        ):
            paint(wrong, colours, "config.x")
    with pytest.raises(UserError, match='"mean" or a number from 0 to 255'):
        paint("1,2,3", colours[..., :1], "config.x")


def cropping(inside):
    """LeNet, untrained, that sees 22 × 20 pixels of the digits: cut out by its preprocessing, or before (`inside`)."""
    experiment = small_experiment()
    source = experiment.test_data()

    def cut(pictures):
        return pictures[:, 4:26, 2:22]

    arrays = {**source.arrays, "image": cut(source.arrays["image"])} if inside else source.arrays
    padded = functools.partial(pad_and_scale, size=32, low=-0.1, high=1.175)
    task = dataclasses.replace(experiment.task, preprocess=padded if inside else lambda x: padded(cut(x)))
    changed = dataclasses.replace(
        experiment,
        task=task,
        test_data=lambda: ArraySource(arrays, source.class_names),
        picture_shape=(22, 20, 1) if inside else (28, 28, 1),
    )
    return Subject(changed, lambda: loop.initial_state(experiment), count=1)


def test_what_preprocessing_cuts_off_is_left_out(capsys):
    options = configs.options_of("inspect")
    options.update_from_flattened_dict({"pictures": 2, "occlusion.size": 5, "occlusion.stride": 5})
    images, texts = [], []
    for inside in (False, True):
        figure = occlusion.draw(cropping(inside), options)["occlusion"]
        images.append([np.asarray(image.get_array()) for axes in figure.axes[:4] for image in axes.images])
        correspondence.draw(cropping(inside), options)
        texts.append(capsys.readouterr().out)
    assert images[0][0].shape == (22, 20)
    for cut_later, cut_before in zip(*images, strict=True):
        np.testing.assert_allclose(cut_later, cut_before, rtol=1e-4)
    assert texts[0] == texts[1]
