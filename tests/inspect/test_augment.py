"""Pictures of augmentation: which are shown, that the original is the original, and that all of them are drawn."""

import io

import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.data.augment import horizontal_flip, keys_of, random_crop
from cnnlab.inspect.augment import examples, figure, grid, marked

KEY = jax.random.key(0)


def batch_of(channels=3):
    random = np.random.default_rng(0)
    return {
        "image": jnp.asarray(random.integers(0, 256, (2, 16, 18, channels), np.uint8)),
        "label": jnp.array([1, 2]),
        "boxes": jnp.array([[[1.0, 2, 8, 9], [0, 0, 0, 0]]] * 2),
        "points": jnp.array([[[4.0, 5.0]]] * 2),
        "segmentation": jnp.asarray(random.integers(0, 3, (2, 16, 18), np.int32)),
    }


def test_a_grid_is_each_example_some_times():
    batch = batch_of()
    result = grid(lambda keys, batch: random_crop(keys, batch, 9), batch, KEY, 3)
    assert result["image"].shape == (2, 3, 9, 9, 3)
    assert result["label"].tolist() == [[1, 1, 1], [2, 2, 2]]
    own = keys_of(KEY, jnp.arange(6))[4:5]
    alone = random_crop(own, {key: array[1:] for key, array in batch.items()}, 9)
    np.testing.assert_array_equal(result["image"][1, 1], alone["image"][0])
    np.testing.assert_array_equal(result["boxes"][1, 1], alone["boxes"][0])


def test_grey_pictures_have_no_colours_to_change():
    colours = {"grayscale", "colour jitter", "principal colour noise"}
    assert set(examples(batch_of(3))) - set(examples(batch_of(1))) == colours


def test_examples_suit_any_size_with_labels_and_without():
    for batch in (batch_of(1), batch_of(3), *({"image": jnp.zeros((2, s, s + 9, 3), jnp.uint8)} for s in (8, 256))):
        for make in examples(batch).values():
            result = jax.eval_shape(make, keys_of(KEY, jnp.arange(2)), batch)
            assert result["image"].dtype == jnp.uint8


def test_the_figure_has_a_row_an_augmentation():
    batch = batch_of()
    mirrored = lambda keys, batch: horizontal_flip(keys, batch, 1)
    drawn = figure(batch, KEY, copies=2, augmentations={"mirrored": mirrored, "as it is": lambda keys, batch: batch})
    assert [axes.get_title(loc="left") for axes in drawn.axes] == ["mirrored", "", "", "as it is", "", ""]
    shown = [np.asarray(axes.images[0].get_array()) for axes in drawn.axes]
    first, second = np.asarray(batch["image"])
    for picture, right in zip(shown, [first, first[:, ::-1], first[:, ::-1], second, second, second], strict=True):
        np.testing.assert_array_equal(picture, right)
    # The empty box is left out.
    boxes = [[patch.get_bbox().bounds for patch in axes.patches] for axes in drawn.axes]
    assert boxes == [[(1, 2, 7, 7)], *[[(10, 2, 7, 7)]] * 2, *[[(1, 2, 7, 7)]] * 3]
    assert drawn.axes[1].collections[0].get_offsets().tolist() == [[14, 5]]
    buffer = io.BytesIO()
    drawn.savefig(buffer, format="png")
    assert buffer.getvalue().startswith(b"\x89PNG")


def test_by_default_all_are_drawn():
    batch = {"image": batch_of(1)["image"]}
    drawn = figure(batch, KEY, copies=1)
    assert [axes.get_title(loc="left") for axes in drawn.axes[::2]] == list(examples(batch))


def test_of_a_batch_that_is_drawn_which_is_marked_on_pictures():
    boxes = {"image": np.zeros((2, 8, 8, 3), np.uint8), "boxes": np.zeros((2, 1, 4)), "label": np.zeros((2, 1))}
    assert set(marked({**boxes, "size": np.full((2, 2), 8), "position": np.arange(2)})) == {"image", "boxes", "size"}
    assert set(marked({"image": boxes["image"], "label": np.zeros(2), "mask": np.ones(2)})) == {"image", "label"}
    patches = {"image": np.arange(2 * 3 * 4 * 4, dtype=np.uint8).reshape(2, 3, 4, 4, 1)}
    patches["segmentation"] = patches["image"][..., 0]
    flat = marked(patches)
    assert {name: array.shape for name, array in flat.items()} == {"image": (6, 4, 4, 1), "segmentation": (6, 4, 4)}
    np.testing.assert_array_equal(flat["segmentation"][4], patches["segmentation"][1, 1])
