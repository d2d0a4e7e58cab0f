"""The fields that `--mode=inspect` has beside the experiment's own."""

from ml_collections import ConfigDict


def get_options() -> ConfigDict:
    """Plain values; each can be overridden as --config.field=value."""
    options = ConfigDict()
    options.inspect = "augment"  # which figure to draw: a name of `inspection.FIGURES`
    options.pictures = 6  # how many of the test set to look at; --input takes pictures of your own instead
    options.layers = ""  # which layers, by the names that summary prints: "conv5,fc7"; "": those that suit the figure
    options.channels = ""  # which of their feature maps, by number: "3,17"; "": the strongest
    options.classes = ""  # which classes, by name or number: "cat,3"; "": those of the pictures
    options.examples = 1000  # how many of the data set to search or to measure on
    return options
