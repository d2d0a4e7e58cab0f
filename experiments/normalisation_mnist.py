"""Three ways to stand changes of viewpoint: a plain net, judicious and brute-force normalisation.

Paper: none; Hinton, "Neural networks for machine learning", lecture 5: a box around the object fixes translation, scale
and stretch, but needs the object to be recognised; brute force tries all boxes with a net for well-boxed objects. The
pictures are cluttered MNIST, as in Jaderberg et al., "Spatial transformer networks", 2015, with digits of any size from
0.7 to 1.4 times MNIST's. All three have the same convolutions, the same number of pictures and the same rate.
  plain        learns the cluttered pictures as they are;
  judicious    learns what its moments make of each: cropped, deskewed, centred, at one size;
  brute_force  learns windows on digits and off them, and takes the surest of all boxes at five scales.

Command: python launch.py --experiment=normalisation_mnist --data_dir=WHERE_TFDS_DATA_LIES
Without MNIST: --config.data=digits, built in. Without clutter: --config.pieces=0. Of one size: --config.smallest=1
--config.largest=1 --config.scales=1
Data: TFDS mnist; --mode=prepare --config.member=plain downloads and builds it.
then, of one of them: --workdir=runs/normalisation_mnist/brute_force --mode=eval, or --mode=predict --input=PICTURES

Expected: ours: with clutter, brute force makes fewer mistakes than the plain net and judicious normalisation more.
Measured: with --config.steps=700 (seed 0; 10,000 test digits) plain 13.36 %, judicious 32.06 %, brute force 7.56 %;
the best box has an IoU of 0.5 or more in 96.91 % of the pictures. Its --mode=eval, start included, takes a minute of
one core (AMD EPYC). 2026-11-22.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Real
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from cnnlab import figures, parallel, series
from cnnlab.configs import plain
from cnnlab.data import digits
from cnnlab.data.annotations import picture_size
from cnnlab.data.augment import Augment, fixed
from cnnlab.data.clutter import check_fits, clutter, digit_bank
from cnnlab.data.digits import CLASS_NAMES
from cnnlab.data.normalise import judicious
from cnnlab.data.pictures import read_picture
from cnnlab.data.prepare import prepare
from cnnlab.data.preprocess import pad_and_scale
from cnnlab.data.source import Source
from cnnlab.data.tfds_source import tfds_source
from cnnlab.errors import UserError
from cnnlab.experiment import Experiment
from cnnlab.lessons import Row, points
from cnnlab.models.sliding import WINDOW, SlidingNet
from cnnlab.optim import adam_cosine
from cnnlab.tasks.box_search import FRAME, MARGIN, scales_between
from cnnlab.tasks.brute_force import BruteForce
from cnnlab.tasks.classification import Classification

NAME = "normalisation_mnist"
MEMBERS = {"plain": "plain net", "judicious": "judicious normalisation", "brute_force": "brute force over boxes"}
INK = {"low": -0.1, "high": 1.175}  # LeNet-5's black and white
SHOWN = 12  # pictures before and after judicious normalisation


def get_config() -> ConfigDict:
    """Plain values; each can be overridden as --config.field=value."""
    config = ConfigDict()
    config.data = "mnist"  # of TFDS; or "digits", built in
    config.member = ""  # only this run of the series: "plain", "judicious" or "brute_force"; "": all of them
    config.size = 60  # height and width of the cluttered pictures, in pixels
    config.pieces = 16  # of other digits, scattered over each picture
    config.piece = 6  # height and width of these, in pixels
    config.smallest = 0.7  # factor that digits are at least enlarged by
    config.largest = 1.4  # and at most
    config.scales = 5  # of boxes that brute force tries, from the smallest to the largest
    config.box = 20  # pixels of 28 that judicious normalisation makes the object's longer side
    config.widths = (16, 32, 128)  # maps of the three convolutions
    config.hidden = 128  # units before the output
    config.batch_size = 64  # of all devices together, which must divide it
    config.eval_batch_size = 200  # likewise
    config.steps = 3000  # in each run
    config.learning_rate = 2e-3  # Adam's at the first step; it falls to 0 along half a cosine
    config.invert = False  # predict: True for dark ink on white paper, as the nets learn white ink on black
    config.seed = 0  # of the initial weights, the order of the digits, and where they and the clutter are put
    config.log_every = 100  # steps between reports
    config.eval_every = 1000  # steps between tests
    config.checkpoint_every = 500  # steps between checkpoints
    return config


def build(config: ConfigDict) -> series.Series | Experiment:
    """The three runs, or the one that config.member names."""
    return series.assemble(
        config, NAME, tuple(MEMBERS), functools.partial(one_run, config), lambda rows: {"comparison": comparison(rows)}
    )


def one_run(config: ConfigDict, member: str) -> Experiment:
    """The run of one way."""
    parallel.check_batch_sizes(config)
    read = reader(config.data)
    cluttered = functools.partial(
        clutter_of,
        bank=functools.cache(lambda: digit_bank(read("train"))),
        size=config.size,
        pieces=config.pieces,
        piece=config.piece,
        scale=(config.smallest, config.largest),
    )
    shape = (config.size, config.size, 1)
    read_file = functools.partial(read_picture, shape=shape, invert=config.invert)
    return Experiment(
        name=NAME,
        config=plain(config),
        task=task_of(config, member, cluttered),
        train_data=functools.partial(read, "train"),
        # The same pictures for every seed, so that runs can be compared on them.
        test_data=functools.cache(lambda: fixed(read("test"), cluttered)),
        prepare=functools.partial(prepare, "mnist") if config.data == "mnist" else None,
        picture_shape=shape,
        read_picture=functools.partial(with_size, read_file) if member == "brute_force" else read_file,
        batch_size=config.batch_size,
        eval_batch_size=config.eval_batch_size,
        steps=config.steps,
        seed=config.seed,
        log_every=config.log_every,
        eval_every=config.eval_every,
        checkpoint_every=config.checkpoint_every,
    )


def reader(data: str) -> Callable[[str], Source]:
    """Reads the digits of a split.

    Raises:
      UserError: there are no such data.
    """
    if data == "digits":
        return digits.digits
    if data != "mnist":
        raise UserError(f'config.data is "{data}"; it must be "mnist" or "digits"')
    return lambda split: tfds_source("mnist", split, (28, 28, 1), NAME)


def clutter_of(keys: Array, batch: Mapping[str, Array], bank: Callable[[], np.ndarray], **how) -> dict[str, Array]:
    """`clutter`, whose digits to cut pieces from are read when the first batch comes."""
    return clutter(keys, batch, bank(), **how)


def task_of(config: ConfigDict, member: str, cluttered: Augment) -> Classification | BruteForce:
    """The task of one way; all learn freshly cluttered pictures.

    Raises:
      UserError: the pictures or the digits do not fit, or a number is out of its range.
    """
    if not 0.5 <= config.smallest <= config.largest:
        raise UserError(
            f"config.smallest is {config.smallest} and config.largest {config.largest}: the first must be 0.5 or more, "
            "the second no less"
        )
    scales = scales_between(config.smallest, config.largest, config.scales)
    check_fits(FRAME, config.size, config.pieces, config.piece, (config.smallest, config.largest), FRAME)
    numbers = (*config.widths, config.hidden)
    if len(numbers) != 4 or not all(isinstance(number, int) and number > 0 for number in numbers):
        raise UserError(
            f"config.widths is {tuple(config.widths)} and config.hidden {config.hidden}: there are three convolutions, "
            "and each layer has a whole number of maps or units, 1 or more"
        )
    if config.size < WINDOW:
        raise UserError(f"config.size is {config.size}; it must be at least {WINDOW}, the height of a window")
    net = functools.partial(SlidingNet, widths=tuple(config.widths), hidden=config.hidden)
    shared = {
        "optimizer": adam_cosine(config.learning_rate, config.steps),
        "class_names": CLASS_NAMES,
        "augment": cluttered,
    }
    if member == "brute_force":
        return BruteForce(model=net(num_outputs=len(CLASS_NAMES) + 1), preprocess=inked, scales=scales, **shared)
    model = net(num_outputs=len(CLASS_NAMES), whole=True)
    if member == "plain":
        padded = functools.partial(pad_and_scale, size=config.size + 2 * MARGIN, **INK)
        return Classification(model=model, preprocess=padded, **shared)
    judicious(jnp.zeros((1, 1, 1, 1)), FRAME, config.box)  # whether the box fits
    return Judicious(model=model, preprocess=functools.partial(normalised, box=config.box), **shared)


def inked(pictures: Real[Array, "n h w 1"]) -> Float[Array, "n h w 1"]:
    """Pixels from 0 to 255 as the network's input, without more around them."""
    return pictures * ((INK["high"] - INK["low"]) / 255) + INK["low"]


def normalised(pictures: Real[Array, "n h w 1"], box: int) -> Float[Array, "n h2 w2 1"]:
    """Pictures as the network's input after judicious normalisation."""
    return pad_and_scale(judicious(pictures, FRAME, box), WINDOW, **INK)


class Judicious(Classification):
    """Classification that also draws pictures before and after their normalisation."""

    def draw(self, state, metrics, source) -> dict[str, Figure]:
        """The figures of a finished evaluation, and the first pictures with what the network sees of them."""
        pictures = source.batch(np.arange(min(SHOWN, len(source))))["image"]
        seen = np.asarray(jax.jit(self.preprocess)(pictures))
        seen = np.clip((seen - INK["low"]) / (INK["high"] - INK["low"]), 0, 1)
        pairs = [each for before, after in zip(pictures / 255, seen, strict=True) for each in (before, after)]
        heading = "Test pictures, and what judicious normalisation makes of each: upright, centred, of one size"
        sheet = figures.contact_sheet(pairs, ["picture", "normalised"] * len(pictures), heading, 6)
        return {**super().draw(state, metrics, source), "normalised": sheet}


def with_size(read: Callable[[Path], np.ndarray], path: Path) -> dict[str, np.ndarray]:
    """A picture file as "image", and its height and width as it is stored in "original"."""
    image = read(path)  # first, as it says what is wrong with a damaged file
    return {"image": image, "original": np.array(picture_size(path), np.int32)}


def comparison(rows: Mapping[str, Sequence[Row]]) -> Figure:
    """The test error of each way, against the step and at the end."""
    drawn = Figure(figsize=(11, 4.5), layout="constrained")
    drawn.suptitle("Cluttered digits: a plain net, and two that see them normalised")
    over, end = drawn.subplots(1, 2, width_ratios=(3, 2))
    last = {}
    for member, name in MEMBERS.items():
        at, errors = points(rows[member], "test", "error")
        if len(errors):
            over.plot(at, 100 * errors, "o-", label=name)
            last[name] = 100 * errors[-1]
    bars = end.barh(list(last), list(last.values()), color=[f"C{i}" for i in range(len(last))])
    end.bar_label(bars, fmt="%.2f %%", padding=3)
    end.set(title="At the end", xlabel="error on test pictures, %", xlim=(0, 1.25 * max([*last.values(), 1e-6])))
    end.invert_yaxis()
    over.set(xlabel="step", ylabel="error on test pictures, %", yscale="log")
    over.grid(alpha=0.3, which="both")
    over.legend()
    return drawn
