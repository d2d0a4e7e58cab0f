"""The arithmetic of convolution and pooling along one dimension: output sizes and receptive fields.

All sizes are in pixels along one dimension; a network's two dimensions are computed one by one.
"""

from dataclasses import dataclass
from fractions import Fraction

INPUT = "cnnlab input"  # `checkpoint_name` of an array whose elements count as the network's pixels


def output_size(size: int, kernel: int, stride: int = 1, padding: int = 0, *, floor: bool = False) -> int:
    """The number of outputs of a filter that slides over `size` pixels: O = (W − K + 2P)/S + 1.

    Args:
      size: W, of the input.
      kernel: K, of the filter.
      stride: S, the step from one position of the filter to the next.
      padding: P, the pixels added on each side.
      floor: drop the last pixels where the strides do not end at the border, as frameworks do, instead of raising.

    Raises:
      ValueError: a number is out of range, the filter is larger than the padded input, or it does not fit.

    >>> output_size(227, 11, stride=4)
    55
    >>> output_size(7, 3, stride=3, floor=True)
    2
    """
    if size < 1 or kernel < 1 or stride < 1 or padding < 0:
        raise ValueError(
            f"size {size}, kernel {kernel} and stride {stride} must be at least 1, and padding {padding} at least 0"
        )
    padded = size + 2 * padding
    if kernel > padded:
        raise ValueError(f"a filter of {kernel} is larger than the input of {size} + 2·{padding} = {padded}")
    steps, rest = divmod(padded - kernel, stride)
    if rest and not floor:
        raise ValueError(
            f"a filter of {kernel} with stride {stride} does not fit an input of {size} with padding {padding}: "
            f"({size} − {kernel} + 2·{padding})/{stride} + 1 is no whole number, {rest} left over"
        )
    return steps + 1


@dataclass(frozen=True)
class Field:
    """What the units of one layer see of the input along one dimension, in input pixels.

    Unit i sees the pixels from `start + i·jump` up to, not including, `start + i·jump + size`; those outside the
    picture are padding. The default is the input itself: every pixel sees itself.

    Attributes:
      size: the receptive field of one unit, r.
      jump: the distance of neighbouring units' fields, j. A fraction after a layer that enlarges its input.
      start: the first pixel of the first unit's field, negative where it lies in the padding.
    """

    size: int | Fraction = 1
    jump: int | Fraction = 1
    start: int | Fraction = 0


def extend(field: Field, kernel: int, stride: int | Fraction = 1, padding: int = 0) -> Field:
    """The field after one more layer: r_l = r_{l−1} + (k_l − 1)·j_{l−1} and j_l = j_{l−1}·s_l.

    Args:
      field: of the layer's input.
      kernel: k, of the convolution or pooling window; a dilated one counts with its holes.
      stride: s.
      padding: the units added before the first; it moves the field and does not change its size.

    >>> extend(extend(Field(), 3), 3).size
    5
    >>> extend(Field(), 7, stride=2, padding=3)
    Field(size=7, jump=2, start=-3)
    """
    return Field(
        size=field.size + (kernel - 1) * field.jump,
        jump=field.jump * stride,
        start=field.start - padding * field.jump,
    )
