"""What a network gives to detectors and segmentation in place of its classes: the maps of some of its layers."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
from jaxtyping import Array, Float

from cnnlab.errors import UserError, nearest

Maps = dict[str, Float[Array, "n ..."]]


def check_maps(model: nn.Module, known: tuple[str, ...]) -> None:
    """Raises a `UserError` for the first of `model.maps` that is not known."""
    for name in model.maps:
        if name not in known:
            near = nearest(name, known) or ": it has " + ", ".join(known)
            raise UserError(f"{type(model).__name__} has no map {name!r}{near}")


def chosen(model: Any, found: Mapping[str, Any]) -> dict[str, Any] | None:
    """The maps that `model.maps` names, once all of them are found; None before, and where it names none.

    >>> from types import SimpleNamespace as Net
    >>> net, found = Net(maps=("conv2",)), {"conv1": 1}
    >>> chosen(net, found), chosen(net, {**found, "conv2": 2})
    (None, {'conv2': 2})
    """
    if not model.maps or not all(name in found for name in model.maps):
        return None
    return {name: found[name] for name in model.maps}
