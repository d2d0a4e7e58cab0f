"""Output sizes and receptive fields against numbers worked out by hand."""

from functools import reduce

import pytest

from cnnlab.ops.receptive_field import Field, extend, output_size


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding", "expected"),
    [
        (7, 3, 1, 0, 5),
        (7, 3, 2, 0, 3),
        (7, 3, 1, 1, 7),
        (32, 5, 1, 2, 32),
        (227, 11, 4, 0, 55),
        (55, 3, 2, 0, 27),
        (224, 2, 2, 0, 112),
        (3, 3, 1, 0, 1),
        (1, 3, 5, 1, 1),
    ],
)
def test_output_size(size, kernel, stride, padding, expected):
    assert output_size(size, kernel, stride, padding) == expected


def test_a_stride_that_does_not_fit_says_so():
    with pytest.raises(ValueError, match="does not fit") as raised:
        output_size(7, 3, stride=3)
    assert str(raised.value) == (
        "a filter of 3 with stride 3 does not fit an input of 7 with padding 0: "
        "(7 − 3 + 2·0)/3 + 1 is no whole number, 1 left over"
    )


def test_floor_drops_what_is_left_over():
    assert output_size(7, 3, stride=3, floor=True) == 2
    assert output_size(224, 7, stride=2, padding=3, floor=True) == 112


@pytest.mark.parametrize("floor", [False, True])
def test_a_filter_larger_than_the_padded_input_is_an_error(floor):
    assert output_size(5, 7, padding=1, floor=floor) == 1
    with pytest.raises(ValueError, match="larger than the input of 4 \\+ 2·1 = 6"):
        output_size(4, 7, padding=1, floor=floor)


@pytest.mark.parametrize("numbers", [(0, 3, 1, 0), (7, 0, 1, 0), (7, 3, 0, 0), (7, 3, 1, -1)])
def test_numbers_out_of_range_are_an_error(numbers):
    with pytest.raises(ValueError, match="at least"):
        output_size(*numbers)


def stack(*layers):
    return reduce(lambda field, layer: extend(field, *layer), layers, Field())


def test_stacked_3x3_filters_see_as_much_as_larger_ones():
    assert [stack(*[(3,)] * depth).size for depth in (0, 1, 2, 3)] == [1, 3, 5, 7]


def test_strides_multiply_the_later_kernels():
    # 1 + 6·1 = 7, jump 2; 7 + 2·2 = 11, jump 4; 11 + 2·4 = 19.
    assert stack((7, 2), (3, 2), (3, 1)) == Field(size=19, jump=4, start=0)


def test_start_moves_with_the_padding_and_not_the_size():
    # -3·1, then -1·2, then -1·4.
    assert stack((7, 2, 3), (3, 2, 1), (3, 1, 1)) == Field(size=19, jump=4, start=-9)


def test_the_last_unit_ends_at_the_border_of_an_unpadded_input():
    field = stack((11, 4), (3, 2))
    units = output_size(output_size(227, 11, 4), 3, 2)
    assert field.start + (units - 1) * field.jump + field.size == 227
