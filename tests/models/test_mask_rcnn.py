"""Mask R-CNN: parameter counts, published names and layouts, and what its head sees."""

import dataclasses
import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from safetensors.numpy import load_file, save_file

from cnnlab import weights
from cnnlab.models import detectors
from cnnlab.models.fast_rcnn import TwoLayers
from cnnlab.models.faster_rcnn import FasterRCNN
from cnnlab.models.fpn import FPN
from cnnlab.models.mask_rcnn import MaskHead, MaskRCNN
from cnnlab.models.resnet import ResNet
from tests.models.test_faster_rcnn import variables_of
from tests.small import count


def test_resnet50_with_a_pyramid_has_torchvisions_parameters():
    params = variables_of(detectors.resnet50_fpn(MaskRCNN, 90))["params"]
    assert count(params) == 44_401_393
    assert count(params["mask_head"]) == 4 * (9 * 256 * 256 + 256) + 4 * 256 * 256 + 256 + 256 * 91 + 91


def test_names_and_shapes_are_torchvisions():
    # Of the lines "name shape" of torchvision 0.28's state dict of maskrcnn_resnet50_fpn, its BN frozen, sorted.
    model = detectors.resnet50_fpn(MaskRCNN, 90)
    variables = variables_of(model)
    leaves, names = flatten_dict(variables), weights.torch_names(model, variables)
    turned = {
        path: weights._torch_shape(leaf.shape, path[1:-1] == ("mask_head", "up")) for path, leaf in leaves.items()
    }
    lines = sorted(f"{name} {turned[path]}" for path, name in names.items())
    assert len(lines) == 307
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16] == "fac6a17b4d4c2bb9"


def test_weights_in_and_out_by_new_and_old_names(tmp_path):
    backbone = ResNet(18, width=4, stride_on_3x3=True, maps=("conv2", "conv3"), frozen_norm=True)
    model = MaskRCNN(
        2,
        backbone,
        TwoLayers(3),
        (4, 8),
        neck=FPN(256, coarser=False),
        pooling="align",
        sizes=((16.0,), (32.0,)),
        rounded=True,
        rpn_channels=2,
        mask_channels=3,
    )
    shapes, random = variables_of(model, 32), np.random.default_rng(0)
    variables = jax.tree.map(lambda leaf: random.normal(size=leaf.shape).astype(np.float32), shapes)
    weights.export_torchvision(model, variables, tmp_path / "new.safetensors")
    tensors = load_file(tmp_path / "new.safetensors")
    kernel = np.asarray(variables["params"]["mask_head"]["up"]["kernel"])
    written = tensors["roi_heads.mask_predictor.conv5_mask.weight"]
    # PyTorch: filters (in, out, height, width) of a transposed convolution, (out, in, height, width) of any other.
    assert np.array_equal(written[1, 2], kernel[:, :, 1, 2])
    other = np.asarray(variables["params"]["mask_head"]["conv1"]["kernel"])
    assert np.array_equal(tensors["roi_heads.mask_head.0.0.weight"][1, 2], other[:, :, 2, 1])
    old = {name: tensor for name, tensor in tensors.items() if "mask_head" not in name}
    for i in range(4):
        for leaf in ("weight", "bias"):
            old[f"roi_heads.mask_head.mask_fcn{i + 1}.{leaf}"] = tensors[f"roi_heads.mask_head.{i}.0.{leaf}"]
    save_file(old, tmp_path / "old.safetensors")
    for name in ("new", "old"):
        loaded = weights.load_torchvision(str(tmp_path / f"{name}.safetensors"), model, variables)
        same = jax.tree.map(lambda a, b: np.array_equal(a, b), loaded, variables)
        assert all(jax.tree.leaves(same))
    three = model.clone(num_classes=3)
    fresh = jax.tree.map(lambda leaf: np.full(leaf.shape, 7.0, np.float32), variables_of(three, 32))
    loaded = weights.load_torchvision(str(tmp_path / "new.safetensors"), three, fresh, replace_head=True)["params"]
    assert np.array_equal(loaded["mask_head"]["up"]["kernel"], kernel)
    assert (loaded["mask_head"]["maps"]["kernel"] == 7).all()


def test_the_builders_give_each_kind_what_it_has():
    small = detectors.small(MaskRCNN, 3)
    assert (small.mask_channels, small.mask_layers) == (32, 2)
    same = {field.name for field in dataclasses.fields(FasterRCNN)} - {"parent", "name"}
    faster = detectors.small(FasterRCNN, 3)
    assert all(getattr(small, name) == getattr(faster, name) for name in same)
    assert detectors.vgg16(MaskRCNN, 3).mask_layers == 4


def test_a_regions_maps_are_twice_its_bins_and_one_a_class():
    model = detectors.small(MaskRCNN, 3, width=4, channels=8)
    x = jax.ShapeDtypeStruct((2, 64, 96, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), x)
    boxes = jax.ShapeDtypeStruct((2, 5, 4), jnp.float32)
    run = lambda v, x, b: model.apply(v, model.apply(v, x, method=model.maps), b, method=model.outline)
    assert jax.eval_shape(run, variables, x, boxes).shape == (2, 5, 28, 28, 4)


def test_maps_lie_as_the_region_does():
    # A head that copies the first map: what is bright in a region's upper left is bright in its map's upper left.
    model = detectors.small(MaskRCNN, 1, width=4, channels=8)
    params = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), variables_of(model)["params"])
    head = params["mask_head"]
    for name in ("conv1", "conv2"):
        head[name]["kernel"] = head[name]["kernel"].at[1, 1, 0, 0].set(1.0)
    head["up"]["kernel"] = head["up"]["kernel"].at[:, :, 0, 0].set(1.0)
    head["maps"]["kernel"] = head["maps"]["kernel"].at[0, 0, 0, 1].set(1.0)
    fine = jnp.zeros((1, 16, 16, 8)).at[0, 4:8, 2:6, 0].set(1.0)  # pixels 16 to 32 down, 8 to 24 across
    maps = (fine, jnp.zeros((1, 8, 8, 8)), jnp.zeros((1, 4, 4, 8)))
    region = jnp.array([[[8.0, 16.0, 40.0, 48.0]]])
    found = model.apply({"params": params}, maps, region, method=model.outline)
    assert found.shape == (1, 1, 28, 28, 2)
    assert not found[..., 0].any()
    quarters = found[0, 0, :, :, 1].reshape(2, 14, 2, 14).mean((1, 3))
    assert quarters[0, 0] > 0.7
    assert max(quarters[0, 1], quarters[1, 0]) < 0.15
    assert quarters[1, 1] < 0.05


def test_the_head_by_layers():
    head = MaskHead(outputs=3, channels=4, layers=2)
    params = head.init(jax.random.key(0), jnp.zeros((1, 14, 14, 5)))["params"]
    shapes = {name: leaf["kernel"].shape for name, leaf in params.items()}
    assert shapes == {"conv1": (3, 3, 5, 4), "conv2": (3, 3, 4, 4), "up": (2, 2, 4, 4), "maps": (1, 1, 4, 3)}
    x = jax.random.normal(jax.random.key(1), (2, 14, 14, 5))
    found = head.apply({"params": params}, x)
    assert found.shape == (2, 28, 28, 3)
    assert float(jnp.abs(found).max()) == pytest.approx(0, abs=0.05)  # it begins undecided
