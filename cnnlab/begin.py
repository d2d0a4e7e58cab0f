"""What a run begins from beside random weights: published ones, those of a run of one's own, statistics of its data."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array, PyTree

from cnnlab import published, weights, workdirs
from cnnlab.checkpoint import Checkpoints
from cnnlab.data.source import Source
from cnnlab.errors import UserError
from cnnlab.ops.whitening import zca
from cnnlab.transfer import check_patterns, head_layers, layer_names, matches

LAST = ("fc8", "fc", "classifier")  # names of classifiers' last layers
PART = 1000  # pictures that are read at once for their statistics


def from_published(init_from: str) -> bool:
    """Whether a run that begins so goes back to published weights, through any number of own runs."""
    seen = set()
    while init_from and init_from not in seen:
        seen.add(init_from)
        found = workdirs.read(Path(init_from).expanduser())
        if found is None:
            return True
        if recorded := found["config"].get("convention"):
            return recorded == "published"
        init_from = found["config"].get("init_from", "")
    return False


def load(
    source: str,
    model: nn.Module,
    variables: PyTree,
    image: jax.ShapeDtypeStruct,
    replace_head: bool = False,
    layers: tuple[str, ...] = (),
) -> PyTree:
    """A network's variables with the values of published weights or of a run's newest checkpoint.

    Args:
      source: a run's workdir; else see `weights.load_torchvision`.
      model: the network.
      variables: its variables or their shapes; what is not taken from `source` stays as it is.
      image: the shape of the network's input.
      replace_head: take all but the classifiers, to learn other classes.
      layers: patterns of layers to take, as in `transfer.py`; none: all. VGG's paper begins its deeper nets with the
        first and the last layers of A.

    Raises:
      UserError: the weights cannot be read or do not fit; a pattern names no layer.

    A network with a backbone may begin with a classifier's weights too: its backbone takes them, and what of its head
    has the same names and shapes.
    """
    check_patterns("config.init_layers", layers, variables["params"])
    folder = Path(source).expanduser()
    backbone = getattr(model, "backbone", None)
    if layers and replace_head:
        _check_taken(layers, head_layers(model, image), variables["params"])
    if workdirs.read(folder) is not None:
        _check_strides(folder, backbone or model)
        if backbone is not None and _holds_classifier(folder):
            return _only(grafted(folder, _trained(folder), variables), variables, layers)
        return _of_workdir(folder, model, variables, head_layers(model, image), replace_head, layers)
    if backbone is not None and not weights.is_detector(source):
        classifier = backbone.clone(maps=(), parent=None, name=None)
        size = published.convention(classifier).size
        shapes = jax.eval_shape(classifier.init, jax.random.key(0), jax.ShapeDtypeStruct((1, size, size, 3), "float32"))
        other = getattr(model, "num_classes", 0) != classifier.num_classes
        loaded = weights.load_torchvision(source, classifier, shapes, replace_head=other)
        return _only(grafted(source, loaded, variables), variables, layers)
    loaded = weights.load_torchvision(source, model, variables, replace_head)
    return _only(loaded, variables, layers)


def _check_taken(layers: tuple[str, ...], fresh: tuple[str, ...], params: PyTree) -> None:
    """All layers that are asked for may be among those that begin anew: nothing would be taken."""
    names = (tuple(name.split("/")) for name in layer_names(params))
    if not any(matches(name, layers) and not matches(name, fresh) for name in names):
        raise UserError(
            f"config.init_layers takes {', '.join(layers)} only, which config.replace_head begins anew: one of the two"
        )


def _check_strides(folder: Path, net: nn.Module) -> None:
    """Two ResNets may hold the same arrays and compute something else: where their bottlenecks stride."""
    theirs, ours = workdirs.read(folder)["config"].get("stride_on_3x3"), getattr(net, "stride_on_3x3", None)
    if None not in (theirs, ours) and theirs != ours and getattr(net, "depth", 0) >= 50:
        raise UserError(
            f"{folder} does not fit: its config.stride_on_3x3 is {theirs}, and {ours} is asked for: the layers would "
            "compute something else than they have learnt"
        )


def whitened(variables: PyTree, preprocess: Callable[[Array], Array], source: Source) -> PyTree:
    """A network's collections whose layers of "whitening" are fitted to all pictures of a source.

    Args:
      variables: any collections; without "whitening" they come back as they are.
      preprocess: stored pictures → the network's input, which it whitens.
      source: of training pictures, all of one size.
    """
    if "whitening" not in variables:
        return variables
    prepare = jax.jit(preprocess)

    def inputs() -> Iterator[np.ndarray]:
        for start in range(0, len(source), PART):
            pictures = source.batch(np.arange(start, min(start + PART, len(source))))["image"]
            yield np.asarray(prepare(pictures))

    return {**variables, "whitening": {name: zca(inputs()) for name in variables["whitening"]}}


def _holds_classifier(folder: Path) -> bool:
    """Whether the network that was trained there has no backbone, and so may become one."""
    return "backbone" not in _trained(folder)["params"]


def _trained(folder: Path) -> PyTree:
    found = Checkpoints(folder / "checkpoints").variables()
    if found is None:
        workdirs.refuse_series(folder)
        raise UserError(f"{folder} holds no trained state to begin from: train there first")
    return found


def grafted(source: str | Path, classifier: PyTree, variables: PyTree) -> PyTree:
    """`variables` with a classifier's values in the backbone, and in the head where names and sizes agree.

    A fully connected layer becomes the convolution that does the same on a map as large as it saw, and where the
    classes are as many, the classifier's last layer the scores of an FCN (Long et al. 2015, section 3.1). Which
    collection they lie in does not matter: frozen batch normalisation keeps all it has among its statistics.

    Raises:
      UserError: the backbone has other layers, or layers of other sizes.
    """
    theirs, taken = {path[1:]: leaf for path, leaf in flatten_dict(classifier).items()}, {}
    last = next((name for name in LAST if name in classifier["params"]), "")
    for path, leaf in flatten_dict(variables).items():
        ours = (last, *path[2:]) if path[1] == "score" else path[2:]
        if path[1] in ("backbone", "head", "score") and (found := theirs.get(ours)) is not None:
            if found.shape == leaf.shape:
                taken[path] = found
            elif path[1] != "backbone" and found.size == leaf.size and found.ndim == 2 and leaf.ndim == 4:
                taken[path] = found.reshape(leaf.shape)
            elif path[1] == "backbone":
                name = "/".join(path[2:])
                raise UserError(f"{source} does not fit: its {name} is {found.shape}, the backbone's {leaf.shape}")
        elif path[1] == "backbone":
            raise UserError(f"{source} does not fit: it has no {'/'.join(path[2:])}, which the backbone has")
    return unflatten_dict({**flatten_dict(variables), **taken})


def _only(loaded: PyTree, variables: PyTree, layers: tuple[str, ...]) -> PyTree:
    """`loaded` in the layers that match, `variables` elsewhere."""
    if not layers:
        return loaded
    loaded, kept = flatten_dict(loaded), flatten_dict(variables)
    return unflatten_dict({path: loaded[path] if matches(path[1:-1], layers) else kept[path] for path in kept})


def _of_workdir(
    folder: Path,
    model: nn.Module,
    variables: PyTree,
    heads: tuple[str, ...],
    replace_head: bool,
    layers: tuple[str, ...],
) -> PyTree:
    found = _trained(folder)

    def taken(tree: PyTree) -> Mapping[tuple[str, ...], Any]:
        flat = flatten_dict(tree)
        wanted = {path: leaf for path, leaf in flat.items() if not layers or matches(path[1:-1], layers)}
        return {path: leaf for path, leaf in wanted.items() if not replace_head or not matches(path[1:-1], heads)}

    theirs, ours = taken(found), taken(variables)
    named = {"/".join(path): leaf for path, leaf in theirs.items()}
    expected = {"/".join(path): leaf.shape for path, leaf in ours.items()}
    if layers:  # of a layer asked for that only the other network has, nothing is missed here
        named = {name: leaf for name, leaf in named.items() if name in expected}
    classifiers = {"/".join(path) for path in ours if matches(path[1:-1], heads)}
    weights.check_fit(f"{folder} does not fit this {type(model).__name__}", named, expected, classifiers)
    return unflatten_dict({**flatten_dict(variables), **{path: theirs[path] for path in ours}})
