"""Fast R-CNN: Girshick, 2015. A picture is convolved once; each region of interest is pooled from its maps and judged.

A network is put together from a backbone that returns maps (`maps=` of ResNet, VGG, AlexNet or ZFNet), with or without
a feature pyramid, and a head for the pooled regions. Class 0 of the scores is the background; the project's class k is
its k + 1.
"""

import functools
from collections.abc import Sequence
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PyTree

from cnnlab.errors import UserError
from cnnlab.models.resnet import Block
from cnnlab.ops.activations import relu
from cnnlab.ops.batch_norm import BatchNorm
from cnnlab.ops.dense import Dense
from cnnlab.ops.dropout import Dropout
from cnnlab.ops.low_rank import low_rank
from cnnlab.ops.roi_pooling import multilevel_roi_align, roi_max_pool

Pyramid = tuple[Float[Array, "n _ _ _"], ...]


class TwoLayers(nn.Module):
    """fc6 and fc7 on a region's pooled map, flattened as (height, width, channels).

    Attributes:
      features: units of each layer: 4096 in VGG and AlexNet, 1024 beside a feature pyramid.
      dropout: share of them dropped in training.
      ranks: of fc6 and fc7, each of which is then two layers, the first ("fc6_low") of so many units and without bias;
        none: they are whole. See `truncated`.
      kernel_init: of the weights.
      dtype: of the computation; parameters are float32.
    """

    features: int = 4096
    dropout: float = 0.0
    ranks: tuple[int, ...] = ()
    kernel_init: nn.initializers.Initializer = nn.initializers.he_normal()
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], *, train: bool) -> Float[Array, "n k"]:
        x = x.reshape(x.shape[0], -1)
        for name, rank in zip(("fc6", "fc7"), self.ranks or (0, 0), strict=True):
            if rank:
                low = Dense(rank, use_bias=False, kernel_init=self.kernel_init, dtype=self.dtype, name=f"{name}_low")
                x = low(x)
            x = relu(Dense(self.features, kernel_init=self.kernel_init, dtype=self.dtype, name=name)(x))
            x = Dropout(self.dropout, name=f"drop{name[-1]}")(x, train=train)
        return x


class LastStage(nn.Module):
    """conv5 of a ResNet on a region's pooled map, then the mean (He et al. 2015, appendix A).

    Attributes:
      width: of conv5's 3×3 convolutions: 512 in the paper.
      blocks: how many.
      bottleneck, stride_on_3x3: see `models.resnet.Block`.
      frozen_norm: batch normalisation keeps what it has; see `BatchNorm`.
      dtype: of the computation; parameters are float32.
    """

    width: int = 512
    blocks: int = 3
    bottleneck: bool = True
    stride_on_3x3: bool = False
    frozen_norm: bool = False
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], *, train: bool) -> Float[Array, "n k"]:
        for number in range(1, self.blocks + 1):
            block = Block(
                self.width,
                stride=2 if number == 1 else 1,
                bottleneck=self.bottleneck,
                stride_on_3x3=self.stride_on_3x3,
                norm=functools.partial(BatchNorm, frozen=self.frozen_norm),
                dtype=self.dtype,
                name=f"conv5_{number}",
            )
            x = block(x, train=train)
        return x.mean((1, 2))


class FastRCNN(nn.Module):
    """Fast R-CNN (figure 1).

    Attributes:
      num_classes: without the background.
      backbone: gives the maps that its attribute `maps` names, the finest first.
      head: a pooled region to a vector.
      strides: pixels from one place of a map to the next, for each map that regions are pooled from.
      neck: a feature pyramid on the backbone's maps; None: the backbone's are used as they are.
      pooling: "max", the paper's (section 2.1), or "align" (He et al. 2017), which does not round; with several maps
        each region is pooled from the one of its size, by "align".
      pooled: rows and columns of a pooled region.
      dtype: of the computation; parameters are float32.
    """

    num_classes: int
    backbone: nn.Module
    head: nn.Module
    strides: tuple[int, ...] = (16,)
    neck: nn.Module | None = None
    pooling: Literal["max", "align"] = "max"
    pooled: int = 7
    dtype: DTypeLike | None = None

    def setup(self) -> None:
        # The last layers' scales are the paper's (section 2.3).
        outputs, normal = self.num_classes + 1, nn.initializers.normal
        self.scores = Dense(outputs, kernel_init=normal(0.01), dtype=self.dtype)
        self.offsets = Dense(4 * outputs, kernel_init=normal(0.001), dtype=self.dtype)

    def __call__(self, x: Float[Array, "n h w c"], *, train: bool = False) -> tuple[Array, Array]:
        """`classify` of one region a picture, all of it: what a summary lists, and what initialises every layer."""
        whole = jnp.array([0.0, 0.0, x.shape[2], x.shape[1]])
        return self.classify(self.maps(x, train=train), jnp.tile(whole, (len(x), 1, 1)), train=train)

    def maps(self, x: Float[Array, "n h w c"], *, train: bool = False) -> Pyramid:
        """The maps of whole pictures, the finest first."""
        found = self.backbone(x, train=train)
        found = tuple(found[name] for name in self.backbone.maps)
        return found if self.neck is None else self.neck(found)

    def pool(self, maps: Pyramid, boxes: Float[Array, "n r 4"]) -> Float[Array, "n r p p c"]:
        """Each region's part of its picture's maps."""
        maps = maps[: len(self.strides)]
        size, scales = (self.pooled, self.pooled), tuple(1 / stride for stride in self.strides)
        if self.pooling == "max":
            return roi_max_pool(maps[0], boxes, size, scales[0])
        return multilevel_roi_align(maps, boxes, size, scales, sampling=2)

    def classify(
        self, maps: Pyramid, boxes: Float[Array, "n r 4"], *, train: bool = False
    ) -> tuple[Float[Array, "n r k"], Float[Array, "n r k 4"]]:
        """What is in each region.

        Returns:
          The logits of the background and each class, and for each the box that it gives, coded against the region.
        """
        return self.judge(self.pool(maps, boxes), train=train)

    def judge(
        self, pooled: Float[Array, "n r p p c"], *, train: bool = False
    ) -> tuple[Float[Array, "n r k"], Float[Array, "n r k 4"]]:
        """`classify` of regions that are already pooled."""
        n, r = pooled.shape[:2]
        x = self.head(pooled.reshape(n * r, *pooled.shape[2:]), train=train)
        scores, offsets = self.scores(x).astype(jnp.float32), self.offsets(x).astype(jnp.float32)
        return scores.reshape(n, r, -1), offsets.reshape(n, r, -1, 4)


def truncated(model: FastRCNN, params: PyTree, ranks: tuple[int, int]) -> tuple[FastRCNN, PyTree]:
    """A trained detector whose fc6 and fc7 are two smaller layers each, by truncated singular values (section 3.1).

    Args:
      model: whose head is `TwoLayers`.
      params: its parameters.
      ranks: of fc6 and fc7: 1024 and 256 for VGG-16 in the paper.

    Raises:
      UserError: another head, or a rank that a layer cannot have.
    """
    if not isinstance(model.head, TwoLayers):
        raise UserError(f"only fc6 and fc7 can be cut to a rank, and this head is a {type(model.head).__name__}")
    head = dict(params["head"])
    for name, rank in zip(("fc6", "fc7"), ranks, strict=True):
        first, second, _ = low_rank(head[name]["kernel"], rank)
        head |= {f"{name}_low": {"kernel": first}, name: {**head[name], "kernel": second}}
    return model.clone(head=model.head.clone(ranks=tuple(ranks))), {**params, "head": head}


def map_shapes(maps: Sequence[Array]) -> tuple[tuple[int, int], ...]:
    """(height, width) of each."""
    return tuple(x.shape[1:3] for x in maps)
