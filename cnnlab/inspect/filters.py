"""First-layer filters: the only ones that can be looked at as pictures directly."""

import numpy as np
from flax.traverse_util import flatten_dict
from jaxtyping import Float, PyTree


def first_layer_kernel(params: PyTree) -> tuple[str, Float[np.ndarray, "h w c k"]] | None:
    """The name and weights of the convolution that sees the picture, or None where there is none.

    It is the first four-dimensional kernel larger than 1×1 whose input has one or three channels.

    >>> first_layer_kernel({"C1": {"kernel": np.zeros((5, 5, 1, 6))}})[0]
    'C1'
    """
    for path, leaf in flatten_dict(params).items():
        if path[-1] == "kernel" and leaf.ndim == 4 and leaf.shape[2] in (1, 3) and leaf.shape[0] > 1:
            return "/".join(path[:-1]), np.asarray(leaf)
    return None
