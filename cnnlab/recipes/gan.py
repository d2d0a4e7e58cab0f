"""What the experiments with adversarial nets share: fields of their configurations, and what is made of them."""

import functools
from collections.abc import Callable

import numpy as np
import optax
from ml_collections import ConfigDict

from cnnlab import parallel
from cnnlab.configs import plain
from cnnlab.data import digits, labelled
from cnnlab.data.cifar_classes import NAMES
from cnnlab.data.labelled import Labelled
from cnnlab.data.pictures import read_picture
from cnnlab.data.prepare import prepare
from cnnlab.data.preprocess import pad_and_scale
from cnnlab.data.source import Source
from cnnlab.data.tfds_source import tfds_source
from cnnlab.errors import UserError
from cnnlab.experiment import Experiment
from cnnlab.judge import judge_of
from cnnlab.metrics.generation import GenerationMetrics
from cnnlab.models.adversaries import Adversaries
from cnnlab.optim import check_rate, with_average
from cnnlab.recipes.runs import with_small
from cnnlab.tasks.gan import GAN

NEIGHBOURS = 10_000  # training pictures among which samples' neighbours are looked for


def gan_fields() -> ConfigDict:
    """The fields that all experiments with adversarial nets have."""
    config = ConfigDict()
    config.conditional = False  # nets that are told the class, and make pictures of a class that is asked for
    config.loss = "non_saturating"  # the paper's; or "minimax", its first; "wasserstein"; "hinge"
    config.discriminator_steps = 1  # updates of the discriminator for one of the generator; they share a batch
    config.gradient_penalty = 0.0  # λ of WGAN-GP, 10 in its paper: the discriminator's slope is kept near 1
    config.r1 = 0.0  # γ: the discriminator's slope at real pictures is kept small
    config.input_noise = 0.0  # deviation of noise on all that the discriminator sees in training
    config.average = 0.0  # decay of a moving average of the generator's weights, which then makes the samples; 0: none
    config.batch_size = 128  # of all devices together, which must divide it
    config.eval_batch_size = 500  # likewise
    config.steps = 25_000  # in the whole run
    config.generator_rate = 2e-4  # Adam's
    config.discriminator_rate = 2e-4  # Adam's
    config.beta1 = 0.5  # Adam's momentum; less than elsewhere, as the two chase each other
    config.falling = 0.0  # share of the run at whose end both rates fall to 0 along a line; 0: they stay as they are
    config.truncation = 1.0  # what the noise of samples is multiplied by: under 1 likelier ones, and less various
    config.judge = ""  # workdir of a classifier of such pictures, for the scores that need one
    config.film_every = 500  # steps between pictures of the same noise, for the film; 0: none
    config.seed = 0  # of the initial weights, the order of the pictures and all noise
    config.log_every = 100  # steps between reports
    config.eval_every = 5000  # steps between tests
    config.checkpoint_every = 1000  # steps between checkpoints
    config.small = ConfigDict()  # what replaces these values with data "digits", to run in about a minute
    config.small.batch_size = 64  # of all devices together, in training and testing
    config.small.steps = 1500  # in the whole run
    config.small.film_every = 100  # steps between pictures of the same noise
    return config


def grey_data(name: str, experiment: str) -> Labelled:
    """Digits of 28×28 grey pixels: "mnist" of TFDS, or "digits", scikit-learn's, built in.

    Raises:
      UserError: it is neither.
    """
    shape = (28, 28, 1)
    if name == "digits":
        train, test = (functools.partial(digits.digits, split) for split in ("train", "test"))
        return Labelled(digits.CLASS_NAMES, digits.TRAIN_EXAMPLES, train, test)
    if name != "mnist":
        raise UserError(f'config.data is "{name}"; it must be "mnist" or "digits"')
    train, test = (functools.partial(tfds_source, "mnist", split, shape, experiment) for split in ("train", "test"))
    return Labelled(digits.CLASS_NAMES, 60_000, train, test, functools.partial(prepare, "mnist"))


def colour_data(name: str, experiment: str) -> Labelled:
    """Pictures of 32×32 colour pixels: "cifar10" of TFDS, or "digits", scikit-learn's, built in.

    Raises:
      UserError: it is neither.
    """
    if name == "digits":
        return labelled.of_digits(32)
    if name != "cifar10":
        raise UserError(f'config.data is "{name}"; it must be "cifar10" or "digits"')
    return labelled.of_tfds("cifar10", "test", NAMES["cifar10"], 50_000, 32, experiment)


def assemble(
    config: ConfigDict,
    name: str,
    nets: Callable[[int], Adversaries],
    data: Labelled,
    shape: tuple[int, int, int],
) -> Experiment:
    """Adversarial nets on pictures.

    Args:
      config: with the fields of `gan_fields`, and "data".
      name: of the experiment.
      nets: makes them, given the number of classes, 0 where they are not conditional.
      data: the pictures.
      shape: theirs.

    Raises:
      UserError: a number out of its range, or without effect with digits; the judge's folder holds no classifier.
    """
    asked = plain(config)
    if config.data == "digits":
        config = with_small(config, name, eval_every=config.small.steps, checkpoint_every=config.small.steps)
    parallel.check_batch_sizes(config)
    model = nets(len(data.class_names) if config.conditional else 0)
    low, high = model.generators[0].low, model.generators[0].high
    judge = judge_of(config.judge)

    def metrics() -> GenerationMetrics:
        return GenerationMetrics(lambda: _some(data.train()), judge, judge.class_names if judge else ())

    task = GAN(
        model=model,
        generator_optimizer=_adam(config, config.generator_rate, config.average),
        discriminator_optimizer=_adam(config, config.discriminator_rate),
        preprocess=functools.partial(pad_and_scale, size=shape[0], low=low, high=high),
        low=low,
        high=high,
        metrics=metrics,
        loss=config.loss,
        discriminator_steps=config.discriminator_steps,
        gradient_penalty=config.gradient_penalty,
        r1=config.r1,
        input_noise=config.input_noise,
        class_names=data.class_names if config.conditional else (),
        film_every=config.film_every,
        truncation=config.truncation,
    )
    return Experiment(
        name=name,
        config=asked,
        task=task,
        train_data=data.train,
        test_data=data.test,
        prepare=data.prepare,
        picture_shape=shape,
        read_picture=functools.partial(read_picture, shape=shape),
        batch_size=config.batch_size,
        eval_batch_size=config.eval_batch_size,
        steps=config.steps,
        seed=config.seed,
        log_every=config.log_every,
        eval_every=config.eval_every,
        checkpoint_every=config.checkpoint_every,
        best="frechet" if judge else "-log_likelihood",
    )


def _adam(config: ConfigDict, rate: float, average: float = 0.0) -> optax.GradientTransformation:
    check_rate(rate)
    if not 0 <= config.falling <= 1:
        raise UserError(f"config.falling is {config.falling}; it must be from 0, no part of the run, to 1, all of it")
    falls = round(config.falling * config.steps)
    adam = optax.adam(optax.linear_schedule(rate, 0, falls, config.steps - falls) if falls else rate, b1=config.beta1)
    return with_average(adam, average) if average else adam


def _some(source: Source) -> np.ndarray:
    places = np.linspace(0, len(source) - 1, min(len(source), NEIGHBOURS)).astype(np.int64)
    return source.batch(places)["image"]
