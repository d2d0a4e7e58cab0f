"""Hints with the nearest known words."""

import signal

import pytest

from cnnlab.errors import Interrupted, UserError, nearest

KNOWN = ["lenet_digits", "lenet_folder", "lenet_mnist", "vgg_imagenet"]


def test_one_near_word():
    assert nearest("vgg_imagnet", KNOWN) == "; did you mean vgg_imagenet?"


def test_several_near_words_nearest_first():
    hint = nearest("lenet_mnis", KNOWN)
    assert hint.startswith("; did you mean lenet_mnist or ")
    assert hint.endswith("?")
    assert "vgg" not in hint


def test_at_most_three():
    assert nearest("run1", [f"run{i}" for i in range(2, 9)]).count(" or ") == 2


@pytest.mark.parametrize("known", [[], iter(()), ["quite", "different"]])
def test_nothing_near(known):
    assert nearest("xyzzy", known) == ""


def test_user_errors_are_value_errors_and_interruptions_carry_their_signal():
    assert issubclass(UserError, ValueError)
    stop = Interrupted("stopped at step 3", signal.SIGTERM)
    assert (str(stop), stop.signum) == ("stopped at step 3", signal.SIGTERM)
