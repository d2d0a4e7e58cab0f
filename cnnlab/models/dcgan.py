"""DCGAN: Radford, Metz, Chintala 2015: generative adversarial nets of strided convolutions and batch normalisation.

No pooling and no hidden fully connected layers: the generator's maps grow by fractionally strided convolutions, the
discriminator's shrink by strided ones (section 3, figure 1). The defaults are the paper's networks for 64×64 colour
pictures, with 18,885,760 parameters in the generator and 17,232,768 in the discriminator. What the paper leaves open
follows the authors' published code: no biases beside batch normalisation, gains from N(1, 0.02), and the projected
noise normalised unit by unit.
"""

import math

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from cnnlab.errors import UserError
from cnnlab.models.gan import join_label
from cnnlab.ops.activations import leaky_relu, relu
from cnnlab.ops.batch_norm import BatchNorm
from cnnlab.ops.conv import Conv
from cnnlab.ops.conv_transpose import ConvTranspose
from cnnlab.ops.dense import Dense

INIT = nn.initializers.normal(0.02)
HALVES = {"kernel": 5, "stride": 2, "padding": 2, "kernel_init": INIT}  # maps of half, or twice, the height and width


def gains(key: Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> Array:
    """The initialiser of batch normalisation's scales: N(1, 0.02)."""
    return 1 + INIT(key, shape, dtype)


class Projection(nn.Module):
    """A linear layer, batch normalisation of each unit, rectifiers.

    Attributes:
      shape: of the units: height, width and channels of maps, or how many.
      axis_name: see `Generator`.
      dtype: of the computation; parameters are float32.
    """

    shape: tuple[int, ...]
    axis_name: str | None = None
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "n d"], *, train: bool) -> Float[Array, "n *s"]:
        x = Dense(math.prod(self.shape), False, kernel_init=INIT, dtype=self.dtype, name="linear")(x)
        x = relu(BatchNorm(scale_init=gains, axis_name=self.axis_name, name="bn")(x, train=train))
        return x.reshape(-1, *self.shape)


class Up(nn.Module):
    """Maps twice as large: a fractionally strided convolution, batch normalisation, rectifiers.

    Attributes:
      features: output channels.
      size: height and width of the output: twice the input's, or one less, the last row or column then being dropped.
      axis_name: see `Generator`.
      dtype: of the computation; parameters are float32.
    """

    features: int
    size: tuple[int, int]
    axis_name: str | None = None
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], *, train: bool) -> Float[Array, "n h2 w2 k"]:
        x = ConvTranspose(self.features, **HALVES, use_bias=False, dtype=self.dtype, name="conv")(x)
        x = x[:, : self.size[0], : self.size[1]]
        return relu(BatchNorm(scale_init=gains, axis_name=self.axis_name, name="bn")(x, train=train))


class Generator(nn.Module):
    """Noise to pictures between `low` = −1 and `high` = 1.

    The noise is projected to maps of widths[0] channels, called "layer1". Each further layer doubles height and width:
    layer2 with widths[1] channels, layer3, …, and last "output", which gives the pictures through a tanh. Before them
    may lie a fully connected layer, "hidden", as in the authors' code for MNIST, whose digits are made in two layers of
    maps only.

    Attributes:
      shape: height, width and channels of the pictures.
      widths: channels of the layers, from the smallest maps on, whose sides are those of the pictures halved once for
        each, rounded up: with (256, 128, 64) pictures of 28×28 are made in maps of 4×4, 7×7 and 14×14.
      noise: numbers of noise a picture.
      hidden: units of the fully connected layer; 0: there is none.
      num_classes: the classes on which it is conditional; 0: none. The class is joined to the noise.
      axis_name: of the devices that batch normalisation spans; None: each device by itself.
      dtype: of the computation; parameters are float32.

    `label` is passed over where there are no classes, `condition` always.

    Raises:
      UserError: there are no widths.
    """

    shape: tuple[int, int, int] = (64, 64, 3)
    widths: tuple[int, ...] = (1024, 512, 256, 128)
    noise: int = 100
    hidden: int = 0
    num_classes: int = 0
    axis_name: str | None = None
    dtype: DTypeLike | None = None

    low, high = -1.0, 1.0

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """The shape of one example's noise."""
        return (self.noise,)

    @nn.compact
    def __call__(
        self,
        z: Float[Array, "n d"],
        condition: Float[Array, "n h w c"] | None = None,
        label: Int[Array, " n"] | None = None,
        *,
        train: bool = False,
    ) -> Float[Array, "n h w c"]:
        if not self.widths:
            raise UserError("DCGAN's generator has no widths: it needs the channels of at least one layer")
        (height, width, channels), depth = self.shape, len(self.widths)
        sizes = [(-(-height // 2**k), -(-width // 2**k)) for k in range(depth, 0, -1)]
        x = join_label(z, label, self.num_classes)
        if self.hidden:
            x = Projection((self.hidden,), self.axis_name, dtype=self.dtype, name="hidden")(x, train=train)
        x = Projection((*sizes[0], self.widths[0]), self.axis_name, dtype=self.dtype, name="layer1")(x, train=train)
        for number, (features, size) in enumerate(zip(self.widths[1:], sizes[1:], strict=True), 2):
            x = Up(features, size, self.axis_name, dtype=self.dtype, name=f"layer{number}")(x, train=train)
        x = ConvTranspose(channels, **HALVES, use_bias=False, dtype=self.dtype, name="output")(x)[:, :height, :width]
        return jnp.tanh(x.astype(jnp.float32))


class Down(nn.Module):
    """Maps half as large: a strided convolution, normalisation, leaky rectifiers; or of vectors a linear layer.

    Attributes:
      features: output channels.
      norm, axis_name: see `Discriminator`.
      use_bias: whether the layer has biases.
      dtype: of the computation; parameters are float32.
    """

    features: int
    norm: str
    use_bias: bool
    axis_name: str | None = None
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "n *s"], *, train: bool) -> Float[Array, "n *t"]:
        if x.ndim == 2:
            layer = Dense(self.features, self.use_bias, kernel_init=INIT, dtype=self.dtype, name="linear")
        else:
            layer = Conv(self.features, **HALVES, use_bias=self.use_bias, dtype=self.dtype, name="conv")
        x = spectral(layer, x, train=train) if self.norm == "spectral" else layer(x)
        if self.norm == "batch":
            x = BatchNorm(scale_init=gains, axis_name=self.axis_name, name="bn")(x, train=train)
        return leaky_relu(x)


class Discriminator(nn.Module):
    """Pictures to logits that they are real. The layers are layer1, layer2, …, which halve the maps, and "output".

    Before the last may lie a fully connected layer, "hidden": the only one that sees all of a picture where the maps
    are halved twice only.

    Attributes:
      widths: channels of the layers.
      hidden: units of the fully connected layer; 0: there is none.
      norm: "batch": batch normalisation but on the first layer, as in the paper. "spectral": all weights divided by
        their largest singular value instead (Miyato, Kataoka, Koyama, Yoshida 2018); training moves its estimate, which
        is in "batch_stats". "none": the critic of a Wasserstein GAN with gradient penalty, whose penalty is of each
        picture alone (Gulrajani, Ahmed, Arjovsky, Dumoulin, Courville 2017, section 4).
      num_classes: the classes on which it is conditional; 0: none. The class is joined to the picture as planes.
      outputs: logits a picture: 1, whether it is real; or one a class, of a net that is taught the classes.
      axis_name: of the devices that batch normalisation spans; None: each device by itself.
      dtype: of the computation; parameters are float32.

    `label` is passed over where there are no classes, `condition` always.

    Raises:
      UserError: an unknown norm.
    """

    widths: tuple[int, ...] = (128, 256, 512, 1024)
    hidden: int = 0
    norm: str = "batch"
    num_classes: int = 0
    outputs: int = 1
    axis_name: str | None = None
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "n h w c"],
        condition: Float[Array, "n h w c"] | None = None,
        label: Int[Array, " n"] | None = None,
        *,
        train: bool = False,
    ) -> Float[Array, "n *k"]:
        if self.norm not in ("batch", "spectral", "none"):
            raise UserError(f'the norm of DCGAN\'s discriminator is "{self.norm}"; it must be batch, spectral or none')
        use_bias = self.norm != "batch"
        x = join_label(x, label, self.num_classes)
        for number, features in enumerate(self.widths, 1):
            norm = "none" if self.norm == "batch" and number == 1 else self.norm
            x = Down(features, norm, use_bias, self.axis_name, dtype=self.dtype, name=f"layer{number}")(x, train=train)
        x = x.reshape(x.shape[0], -1)
        if self.hidden:
            x = Down(self.hidden, self.norm, use_bias, self.axis_name, dtype=self.dtype, name="hidden")(x, train=train)
        linear = Dense(self.outputs, use_bias, kernel_init=INIT, dtype=self.dtype, name="output")
        logits = spectral(linear, x, train=train) if self.norm == "spectral" else linear(x)
        return (logits if self.outputs > 1 else logits[:, 0]).astype(jnp.float32)


def spectral(layer: nn.Module, x: Float[Array, "n *s"], *, train: bool) -> Float[Array, "n *t"]:
    """A bound layer applied with its weights divided by their largest singular value.

    The value is found by one step of power iteration from where the last training step left it (Miyato et al. 2018,
    section 2.1 and algorithm 1).
    """
    return nn.SpectralNorm(layer, name=f"{layer.name}_norm")(x, update_stats=train)
