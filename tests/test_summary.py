"""Tables of small networks against numbers worked out by hand."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from cnnlab.models.lenet import LeNet
from cnnlab.ops.pooling import MaxPool
from cnnlab.ops.whitening import Whitening
from cnnlab.summary import Layer, format_table, summarize


def by_name(model, x_shape, **kwargs):
    return {layer.name: layer for layer in summarize(model, x_shape, **kwargs)}


def fields(model, x_shape, **kwargs):
    return {name: layer.receptive_field for name, layer in by_name(model, x_shape, **kwargs).items()}


def square(**sizes):
    return {name: (size, size) for name, size in sizes.items()}


def conv(features, size, name, stride=1, **kwargs):
    return nn.Conv(features, (size, size), stride, name=name, **kwargs)


class Net(nn.Module):
    """A network from a function, so that each test shows its own."""

    body: Callable[[jax.Array], jax.Array]

    @nn.compact
    def __call__(self, x, *, train=False):
        return self.body(x)


def test_lenet_of_the_paper():
    assert summarize(LeNet(), (1, 32, 32, 1)) == [
        Layer("C1", (1, 28, 28, 6), 156, 28 * 28 * 25 * 6, (5, 5)),
        Layer("S2", (1, 14, 14, 6), 12, 0, (6, 6)),
        Layer("C3", (1, 10, 10, 16), 1516, 10 * 10 * 25 * 6 * 16, (14, 14)),
        Layer("S4", (1, 5, 5, 16), 32, 0, (16, 16)),
        Layer("C5", (1, 1, 1, 120), 48120, 25 * 16 * 120, (32, 32)),
        Layer("F6", (1, 84), 10164, 120 * 84, (32, 32)),
        Layer("output", (1, 10), 0, 84 * 10, (32, 32)),
    ]


def test_lenet_of_later_texts():
    layers = summarize(LeNet(variant="modern"), (64, 32, 32, 1))
    assert [layer.parameters for layer in layers] == [156, 0, 2416, 0, 48120, 10164, 850]
    assert [layer.receptive_field[0] for layer in layers] == [5, 6, 14, 16, 32, 32, 32]
    assert sum(layer.parameters for layer in layers) == 61_706


class AlexNetLike(nn.Module):
    """The geometry of AlexNet, with few channels and its response normalization."""

    @nn.compact
    def __call__(self, x):
        def normalize(x):
            squares = jax.lax.reduce_window(x * x, 0.0, jax.lax.add, (1, 1, 1, 5), (1, 1, 1, 1), "SAME")
            return x / (2 + 1e-4 * squares) ** 0.75

        x = MaxPool(3, 2, name="pool1")(normalize(nn.relu(conv(4, 11, "conv1", 4, padding="VALID")(x))))
        x = MaxPool(3, 2, name="pool2")(normalize(nn.relu(conv(8, 5, "conv2", feature_group_count=2)(x))))
        x = nn.relu(conv(8, 3, "conv3")(x))
        x = nn.relu(conv(8, 3, "conv4")(x))
        x = MaxPool(3, 2, name="pool5")(nn.relu(conv(8, 3, "conv5")(x)))
        return nn.Dense(3, name="fc6")(x.reshape(x.shape[0], -1))


def test_alexnet_like():
    layers = by_name(AlexNetLike(), (1, 227, 227, 3))
    sizes = {name: layer.receptive_field for name, layer in layers.items()}
    # fc6 sees the whole 6×6 map with jump 32: 195 + 5·32.
    assert sizes == square(conv1=11, pool1=19, conv2=51, pool2=67, conv3=99, conv4=131, conv5=163, pool5=195, fc6=355)
    assert layers["pool5"].output_shape == (1, 6, 6, 8)
    # Each of the two groups has 2 inputs and 4 outputs.
    assert layers["conv2"].multiply_adds == 27 * 27 * 25 * 2 * 8
    assert layers["conv2"].parameters == 25 * 2 * 8 + 8


def test_vgg_like():
    def body(x):
        for block in range(1, 4):
            for i in range(1, 3):
                x = nn.relu(conv(2, 3, f"conv{block}_{i}")(x))
            x = MaxPool(2, 2, name=f"pool{block}")(x)
        return x

    assert fields(Net(body), (1, 32, 32, 3)) == square(
        conv1_1=3, conv1_2=5, pool1=6, conv2_1=10, conv2_2=14, pool2=16, conv3_1=24, conv3_2=32, pool3=36
    )


class Residual(nn.Module):
    """Two 3×3 convolutions with batch normalization beside a 1×1 shortcut, and a trainable gain on the sum."""

    @nn.compact
    def __call__(self, x, *, train):
        norm = lambda name: nn.BatchNorm(use_running_average=not train, name=name)
        y = nn.relu(norm("bn1")(conv(4, 3, "conv1", 2)(x)))
        y = norm("bn2")(conv(4, 3, "conv2")(y))
        gain = self.param("gain", nn.initializers.ones, (4,))
        return nn.relu(y + gain * conv(4, 1, "shortcut", 2)(x))


class ResNetLike(nn.Module):
    @nn.compact
    def __call__(self, x, *, train):
        x = conv(4, 3, "stem")(x)
        x = Residual(name="block1")(x, train=train)
        x = conv(2, 3, "after")(x)
        return nn.Dense(5, name="head")(jnp.mean(x, axis=(1, 2)))


def test_residual_blocks_nest_and_the_longer_path_wins():
    layers = by_name(ResNetLike(), (1, 16, 16, 3))
    assert list(layers) == [
        "stem",
        *(f"block1/{name}" for name in ("conv1", "bn1", "conv2", "bn2", "shortcut")),
        "block1",
        "after",
        "head",
    ]
    sizes = [layer.receptive_field[0] for layer in layers.values()]
    # stem 3; 3 + 2 = 5, jump 2; 5 + 2·2 = 9; the shortcut stays 3; after: 9 + 2·2 = 13; the mean of 8: 13 + 7·2.
    assert sizes == [3, 5, 5, 9, 9, 3, 9, 13, 27]
    # The block's row is there for its own gain; running means and variances are no parameters.
    assert (layers["block1"].parameters, layers["block1"].multiply_adds) == (4, 0)
    assert layers["block1/bn1"].parameters == 8
    assert layers["head"].multiply_adds == 2 * 5


def test_a_rematerialized_network_has_the_same_table():
    class Checkpointed(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.remat(Net)(lambda x: conv(2, 3, "b")(conv(2, 3, "a", 2)(x)), name="block")(x)

    layers = by_name(Checkpointed(), (1, 8, 8, 1))
    assert list(layers) == ["block/a", "block/b"]
    assert [layer.receptive_field for layer in layers.values()] == [(3, 3), (7, 7)]
    assert layers["block/b"].multiply_adds == 4 * 4 * 9 * 2 * 2


def test_inception_branches_concatenate_to_the_largest_field():
    def body(x):
        x = conv(2, 3, "stem", 2)(x)
        branches = [
            conv(2, 1, "one")(x),
            conv(2, 3, "three")(conv(2, 1, "three_reduce")(x)),
            conv(2, 5, "five")(conv(2, 1, "five_reduce")(x)),
            conv(2, 1, "project")(nn.max_pool(x, (3, 3), (1, 1), "SAME")),
        ]
        return conv(2, 1, "after")(jnp.concatenate(branches, -1))

    # With jump 2 after the stem: 3 + 2·2 = 7 for 3×3, 3 + 4·2 = 11 for 5×5.
    assert fields(Net(body), (1, 16, 16, 3)) == square(
        stem=3, one=3, three_reduce=3, three=7, five_reduce=3, five=11, project=7, after=11
    )


def test_factorized_and_dilated_filters_and_average_pooling():
    def body(x):
        x = nn.Conv(2, (1, 7), name="row")(x)
        x = nn.Conv(2, (7, 1), name="column")(x)
        x = conv(2, 3, "dilated", kernel_dilation=2)(x)
        x = nn.avg_pool(x, (2, 2), (2, 2), count_include_pad=False)
        return conv(2, 3, "after")(x)

    assert fields(Net(body), (1, 16, 16, 1)) == {
        "row": (1, 7),
        "column": (7, 7),
        "dilated": (11, 11),
        "after": (16, 16),
    }


def test_a_gate_from_a_global_mean_keeps_the_map():
    def body(x):
        x = conv(2, 3, "conv", 2)(x)
        gate = nn.sigmoid(nn.Dense(2, name="gate")(jnp.mean(x, axis=(1, 2))))
        return conv(2, 3, "after")(x * gate[:, None, None, :])

    # The 4×4 map: 3 + 3·2 = 9; then the 3×3 on top with jump 2.
    assert fields(Net(body), (1, 8, 8, 1)) == square(conv=3, gate=9, after=13)


def test_slices_blocks_and_transposed_convolutions():
    def strided(x):
        return conv(2, 3, "conv")(x[:, ::2, ::2])

    def blocks(x):
        x = x.reshape(1, 4, 2, 4, 2, 3).transpose(0, 1, 3, 2, 4, 5).reshape(1, 4, 4, 12)
        return conv(2, 3, "conv")(x)

    def enlarged(x):
        x = conv(2, 2, "down", 2, padding="VALID")(x)
        x = nn.ConvTranspose(2, (4, 4), (2, 2), name="up")(x)
        return conv(2, 3, "conv")(x)

    assert fields(Net(strided), (1, 8, 8, 3)) == square(conv=5)
    assert fields(Net(blocks), (1, 8, 8, 3)) == square(conv=6)
    # Four taps meet two units of jump 2: 2 + 2 = 4; back at jump 1: 4 + 2 = 6.
    assert fields(Net(enlarged), (1, 8, 8, 3)) == square(down=2, up=4, conv=6)
    assert by_name(Net(enlarged), (1, 8, 8, 3))["up"].multiply_adds == 4 * 4 * 16 * 2 * 2


def test_a_scanned_layer_counts_every_turn():
    class Scanned(nn.Module):
        @nn.compact
        def __call__(self, x):
            turn = lambda layer, x, _: (layer(x), None)
            scan = nn.scan(turn, variable_axes={"params": 0}, split_rngs={"params": True}, length=3)
            return scan(conv(2, 3, "conv"), x, None)[0]

    (layer,) = summarize(Scanned(), (1, 8, 8, 2))
    assert layer == Layer("conv", (1, 8, 8, 2), 3 * (9 * 4 + 2), 3 * 64 * 9 * 4, (7, 7))


def test_a_shared_layer_is_one_row():
    class Shared(nn.Module):
        def setup(self):
            self.layer = nn.Conv(2, (3, 3))

        def __call__(self, x):
            return self.layer(self.layer(x))

    assert summarize(Shared(), (1, 8, 8, 2)) == [Layer("layer", (1, 8, 8, 2), 38, 2 * 64 * 9 * 4, (5, 5))]


def test_a_head_that_runs_in_training_only_still_has_its_parameters():
    class Auxiliary(nn.Module):
        @nn.compact
        def __call__(self, x, *, train=False):
            if train or self.is_initializing():
                Net(lambda x: nn.Dense(3, name="fc")(x), name="aux")(x)
            return nn.Dropout(0.5, deterministic=not train, name="drop")(nn.Dense(2, name="main")(x))

    layers = summarize(Auxiliary(), (1, 4))
    assert layers == [
        Layer("main", (1, 2), 10, 8, ()),
        Layer("drop", (1, 2), 0, 0, ()),
        Layer("aux/fc", None, 15, 0, ()),
    ]
    assert "not run" in format_table(layers)


@pytest.mark.parametrize("train", [False, True])
def test_parameters_sum_to_the_total(train):
    model = ResNetLike()
    variables = model.init(jax.random.key(0), jnp.zeros((1, 16, 16, 3)), train=False)
    total = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    assert sum(layer.parameters for layer in summarize(model, (1, 16, 16, 3), train=train)) == total


def test_a_model_that_is_one_layer_goes_by_its_class():
    assert summarize(nn.Dense(3), (7, 4)) == [Layer("Dense", (1, 3), 15, 12, ())]


def test_fields_begin_after_whitening():
    class White(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Conv(2, (3, 3), name="conv")(Whitening(name="whitening")(x))

    whitening, conv = summarize(White(), (1, 6, 5, 2))
    assert (whitening.multiply_adds, whitening.parameters) == (60 * 60, 0)
    assert (conv.output_shape, conv.receptive_field) == ((1, 6, 5, 2), (3, 3))


def test_table():
    assert format_table(summarize(LeNet(), (1, 32, 32, 1))).splitlines() == [
        "layer   output      parameters  multiply-adds  receptive field",
        "C1      1×28×28×6          156        117,600              5×5",
        "S2      1×14×14×6           12              0              6×6",
        "C3      1×10×10×16       1,516        240,000            14×14",
        "S4      1×5×5×16            32              0            16×16",
        "C5      1×1×1×120       48,120         48,000            32×32",
        "F6      1×84            10,164         10,080            32×32",
        "output  1×10                 0            840            32×32",
        "total                   60,000        416,520",
    ]
