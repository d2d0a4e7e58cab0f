"""scikit-learn's 1,797 real handwritten digits: built in, no download."""

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from cnnlab.data.source import ArraySource

TEST_EXAMPLES = 359  # a fifth
TRAIN_EXAMPLES = 1797 - TEST_EXAMPLES
CLASS_NAMES = tuple("0123456789")


def digits(split: str, size: int = 28) -> ArraySource:
    """The training four fifths or the held-out fifth ("train" or "test"), always the same.

    The 8×8 pictures of 17 grey levels become size×size uint8 by bicubic interpolation: white ink on black, as MNIST.

    >>> len(digits("train")), len(digits("test"))
    (1438, 359)
    """
    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.images))
    chosen = {"train": order[TEST_EXAMPLES:], "test": order[:TEST_EXAMPLES]}[split]
    small = np.round(data.images[chosen] * (255 / 16)).astype(np.uint8)
    large = [np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC)) for image in small]
    arrays = {"image": np.stack(large)[..., None], "label": data.target[chosen].astype(np.int32)}
    return ArraySource(arrays, CLASS_NAMES)
