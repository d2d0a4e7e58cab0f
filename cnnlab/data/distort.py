"""Random distortions: translation, rotation, scaling, and the affine and elastic ones of handwriting.

Each draws matrices or fields and hands them to `warp`, whose module says what moves, in which coordinates, and what
`fill` and `fill_label` are. A range is (low, high), all between equally likely.
"""

import math

import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from cnnlab.data.draws import Batch, Number, Range, check_range, split, uniform, uniforms
from cnnlab.data.warp import Fields, Matrices, warp
from cnnlab.errors import UserError


def about_centre(batch: Batch, linear: Float[Array, "n 2 2"], shift: Float[Array, "n 2"] | float = 0.0) -> Matrices:
    """The map p → linear · (p − centre) + centre + shift of pictures; x and y in pixels."""
    height, width = batch["image"].shape[1:3]
    x, y = width / 2, height / 2
    stays = jnp.stack([x - (linear[:, i, 0] * x + linear[:, i, 1] * y) for i in (0, 1)], -1)
    return jnp.concatenate([linear, (stays + jnp.array([0, y - x]) + shift)[..., None]], -1)


def _linear(a: Array, b: Array, c: Array, d: Array) -> Float[Array, "n 2 2"]:
    """[[a, b], [c, d]] of each example."""
    return jnp.stack([jnp.stack([a, b], -1), jnp.stack([c, d], -1)], -2)


def translation(
    keys: Key[Array, " n"],
    batch: Batch,
    horizontal: Range = (-0.1, 0.1),
    vertical: Range = (-0.1, 0.1),
    fill: tuple[int, ...] = (0,),
    fill_label: int = 255,
) -> dict[str, Array]:
    """Moves each picture.

    Args:
      keys: one a picture.
      batch: see `warp`.
      horizontal: to the right, in widths of the picture, from −1 to 1.
      vertical: down, in heights.
      fill, fill_label: of what comes in from outside.

    Raises:
      UserError: a range is out of bounds.
    """
    check_range("horizontal", horizontal, -1, 1)
    check_range("vertical", vertical, -1, 1)
    height, width = batch["image"].shape[1:3]
    across, down = uniforms(keys, horizontal, vertical)
    shift = jnp.stack([across * width, down * height], -1)
    same = jnp.broadcast_to(jnp.eye(2), (len(keys), 2, 2))
    return warp(batch, about_centre(batch, same, shift), fill=fill, fill_label=fill_label)


def rotation(
    keys: Key[Array, " n"],
    batch: Batch,
    degrees: Range = (-15, 15),
    fill: tuple[int, ...] = (0,),
    fill_label: int = 255,
) -> dict[str, Array]:
    """Turns each picture about its centre, anticlockwise by an angle of the range `degrees`, within ±180°.

    Raises:
      UserError: the range is out of bounds.
    """
    check_range("degrees", degrees, -180, 180)
    angle = jnp.radians(uniform(keys, degrees))
    # y points down, so this is anticlockwise to the eye.
    linear = _linear(jnp.cos(angle), jnp.sin(angle), -jnp.sin(angle), jnp.cos(angle))
    return warp(batch, about_centre(batch, linear), fill=fill, fill_label=fill_label)


def scaling(
    keys: Key[Array, " n"],
    batch: Batch,
    factor: Range = (0.8, 1.2),
    fill: tuple[int, ...] = (0,),
    fill_label: int = 255,
) -> dict[str, Array]:
    """Enlarges what each picture shows, about its centre and alike both ways, by a factor from 0.1 to 10.

    Raises:
      UserError: the range is out of bounds.
    """
    check_range("factor", factor, 0.1, 10)
    linear = uniform(keys, factor)[:, None, None] * jnp.eye(2)
    return warp(batch, about_centre(batch, linear), fill=fill, fill_label=fill_label)


def _affine(
    keys: Key[Array, " n"], batch: Batch, degrees: Number, gentle_degrees: Number, gentle: tuple[int, ...], scale: Range
) -> Matrices:
    """The matrices of `affine_distortion`."""
    check_range("degrees", (-degrees, degrees), -60, 60)
    check_range("gentle_degrees", (-gentle_degrees, gentle_degrees), -60, 60)
    check_range("scale", scale, 0, 0.9)
    if gentle and "label" not in batch:
        raise UserError(f'gentle is {gentle}, but the batch has no "label"; without labels it must be ()')
    slight = jnp.isin(batch["label"], jnp.array(gentle)) if gentle else jnp.zeros(len(keys), bool)
    limit = jnp.radians(jnp.where(slight, gentle_degrees, degrees))
    angle, kind, gamma, across, along = uniforms(keys, (-1, 1), (0, 1), scale, (-1, 1), (-1, 1))
    angle *= limit
    one, zero = jnp.ones_like(angle), jnp.zeros_like(angle)
    turn = _linear(jnp.cos(angle), jnp.sin(angle), -jnp.sin(angle), jnp.cos(angle))
    shear = _linear(one, jnp.tan(angle), zero, one)
    factors = 1 + gamma[:, None] * jnp.stack([across, along], -1)
    return about_centre(batch, jnp.where((kind < 0.5)[:, None, None], turn, shear) * factors[:, None, :])


def affine_distortion(
    keys: Key[Array, " n"],
    batch: Batch,
    degrees: Number = 15,
    gentle_degrees: Number = 7.5,
    gentle: tuple[int, ...] = (1, 7),
    scale: Range = (0.15, 0.2),
    fill: tuple[int, ...] = (0,),
    fill_label: int = 255,
) -> dict[str, Array]:
    """Scales each picture, width and height apart, then turns or shears it, both equally likely.

    Ciresan et al. 2010 ("Deep big simple nets"), section 3; the defaults are the paper's.

    Args:
      keys: one a picture.
      batch: see `warp`; also "label".
      degrees: the angle is within ± this, at most 60; sheared by it, a line up leans by it.
      gentle_degrees: the same for the labels in `gentle`.
      gentle: labels of which a larger angle makes others, the paper's 1 and 7; () where no label counts.
      scale: γ is of this range, within 0 to 0.9, and width and height are multiplied by factors within 1 ± γ.
      fill, fill_label: of what comes in from outside.

    Raises:
      UserError: a parameter is out of bounds; `gentle` is not empty and the batch has no "label".
    """
    matrix = _affine(keys, batch, degrees, gentle_degrees, gentle, scale)
    return warp(batch, matrix, fill=fill, fill_label=fill_label)


def displacement(keys: Key[Array, " n"], height: int, width: int, sigma: Range, alpha: Range) -> Fields:
    """Random smooth fields: white noise uniform in ±1, smoothed by a Gaussian, times `alpha`.

    Simard, Steinkraus, Platt 2003 ("Best practices for convolutional neural networks"), section 2.

    Args:
      keys: one a field.
      height, width: of the field, in pixels. Outside there is no noise, so that displacements lessen to the edge.
      sigma: the Gaussian's standard deviation in pixels, from 0.5 to 1000.
      alpha: 0 to 100 000; for a large sigma displacements are about 0.16 · alpha / sigma pixels.

    Raises:
      UserError: a range is out of bounds.
    """
    check_range("sigma", sigma, 0.5, 1000)
    check_range("alpha", alpha, 0, 100_000)
    of_noise, of_strength = split(keys, 2)
    noise = uniform(of_noise, (-1, 1), (2, height, width))
    spread, strength = uniforms(of_strength, sigma, alpha)

    def bell(distance):
        return jnp.exp(-(distance**2) / (2 * spread[:, None, None] ** 2))

    # The Gaussian is a product of one along x and one along y, each a matrix: on CPUs the fastest of all forms.
    reach = math.ceil(4 * sigma[1])
    total = bell(jnp.arange(-reach, reach + 1)[:, None]).sum((1, 2))
    along_y, along_x = (
        bell(jnp.arange(size)[:, None] - jnp.arange(size)) / total[:, None, None] for size in (height, width)
    )
    smooth = jnp.einsum("nij,nkjl,nml->nkim", along_y, noise, along_x, precision="highest")
    return smooth * strength[:, None, None, None]


def elastic(
    keys: Key[Array, " n"],
    batch: Batch,
    sigma: Range = (5, 6),
    alpha: Range = (36, 38),
    fill: tuple[int, ...] = (0,),
    fill_label: int = 255,
) -> dict[str, Array]:
    """Bends each picture by a smooth random field; see `displacement`, also for the bounds of sigma and alpha.

    The defaults are those of Ciresan et al. 2010 for digits of 29×29; Simard's are 4 and 34.

    Raises:
      UserError: a range is out of bounds.
    """
    field = displacement(keys, *batch["image"].shape[1:3], sigma, alpha)
    same = jnp.broadcast_to(jnp.eye(2, 3), (len(keys), 2, 3))
    return warp(batch, same, field, fill=fill, fill_label=fill_label)


def handwriting_distortion(
    keys: Key[Array, " n"],
    batch: Batch,
    sigma: Range = (5, 6),
    alpha: Range = (36, 38),
    degrees: Number = 15,
    gentle_degrees: Number = 7.5,
    gentle: tuple[int, ...] = (1, 7),
    scale: Range = (0.15, 0.2),
    fill: tuple[int, ...] = (0,),
    fill_label: int = 255,
) -> dict[str, Array]:
    """`affine_distortion` and then `elastic` in a single resampling, which blurs half as much: Ciresan's recipe.

    Parameters and errors are theirs.
    """
    first, second = split(keys, 2)
    matrix = _affine(first, batch, degrees, gentle_degrees, gentle, scale)
    field = displacement(second, *batch["image"].shape[1:3], sigma, alpha)
    return warp(batch, matrix, field, fill=fill, fill_label=fill_label)
