"""Generative adversarial nets: a generator makes pictures, a discriminator tells them from real ones, both learn.

Goodfellow et al., "Generative adversarial networks", 2014. One task for all of them: conditional or not, one pair or
LAPGAN's pyramid, with the paper's losses or later ones.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Key, PyTree, Real
from matplotlib.figure import Figure

from cnnlab import figures
from cnnlab.data.augment import keys_of
from cnnlab.data.source import Source
from cnnlab.errors import UserError
from cnnlab.metrics.generation import GenerationMetrics
from cnnlab.models import lapgan
from cnnlab.models.adversaries import Adversaries, Target
from cnnlab.ops import dropout
from cnnlab.ops.forms import plain_forms
from cnnlab.optim import averaged_params
from cnnlab.state import TrainState
from cnnlab.tasks import gan_losses


@dataclasses.dataclass(frozen=True)
class GAN:
    """The task of every adversarial net.

    Attributes:
      model: generators and discriminators.
      generator_optimizer, discriminator_optimizer: optax transformations; where the generator's is `with_average`,
        samples are drawn from the averaged weights.
      preprocess: stored pictures, 0 to 255 → the range of the generator's output.
      low, high: that range, black and white.
      loss: a key of `gan_losses.GENERATOR_LOSSES`.
      discriminator_steps: k, updates of the discriminator for each of the generator. A batch is shared out among them.
      gradient_penalty: λ of WGAN-GP (Gulrajani et al. 2017): λ · (|∇D| − 1)² between real and false pictures.
      r1: γ (Mescheder, Geiger, Nowozin 2018): γ/2 · |∇D|² at real pictures.
      input_noise: standard deviation of Gaussian noise on all pictures, real and false, that the discriminators see in
        training (Arjovsky, Bottou 2017, section 3): they are then not told apart by their exactness alone.
      class_names: of the labels, where the nets are conditional; else empty.
      metrics: makes an empty sum of the scores.
      film_every: steps between pictures of the same noise, for the film; 0: none.
      truncation: what the noise of samples is multiplied by; under 1 they are likelier ones, and vary less (Brock,
        Donahue, Simonyan 2018, section 3.1, where noise is cut off instead). Training has all of it.

    Raises:
      UserError: an unknown loss, or a number out of its range.
    """

    model: Adversaries
    generator_optimizer: optax.GradientTransformation
    discriminator_optimizer: optax.GradientTransformation
    preprocess: Callable[[Real[Array, "n h w c"]], Float[Array, "n h w c"]]
    low: float
    high: float
    metrics: Callable[[], GenerationMetrics]
    loss: str = "non_saturating"
    discriminator_steps: int = 1
    gradient_penalty: float = 0.0
    r1: float = 0.0
    input_noise: float = 0.0
    class_names: tuple[str, ...] = ()
    film_every: int = 0
    truncation: float = 1.0

    def __post_init__(self) -> None:
        if self.loss not in gan_losses.GENERATOR_LOSSES:
            raise UserError(f'config.loss is "{self.loss}"; it must be one of {", ".join(gan_losses.GENERATOR_LOSSES)}')
        if self.discriminator_steps < 1 or self.gradient_penalty < 0 or self.r1 < 0:
            raise UserError(
                f"config.discriminator_steps is {self.discriminator_steps}, config.gradient_penalty "
                f"{self.gradient_penalty} and config.r1 {self.r1}: at least 1, 0 and 0"
            )
        if self.input_noise < 0:
            raise UserError(f"config.input_noise is {self.input_noise}; it must be 0 or more")
        if not 0 < self.truncation <= 1:
            raise UserError(f"config.truncation is {self.truncation}; it must be more than 0 and at most 1")

    def init(self, rng: Key[Array, ""], batch: Mapping[str, Array]) -> TrainState:
        """A fresh state; of `batch` only the shape of "image" counts."""
        variables = dict(self.model.init(rng, self.preprocess(batch["image"][:1]), train=False))
        params = variables.pop("params")
        return TrainState(jnp.zeros((), jnp.int32), params, variables, self.init_optimizer(params, variables))

    def init_optimizer(self, params: PyTree, model_state: PyTree) -> dict[str, optax.OptState]:
        """Both optimizers' states before the first step; batch statistics are not averaged."""
        generators, discriminators = sides(params)
        return {
            "generator": self.generator_optimizer.init(generators),
            "discriminator": self.discriminator_optimizer.init(discriminators),
        }

    def train_step(
        self, state: TrainState, batch: Mapping[str, Array], rng: Key[Array, ""], reduce: Callable[[PyTree], PyTree]
    ) -> tuple[TrainState, dict[str, Array]]:
        """The whole alternation (algorithm 1): k updates of the discriminators, then one of the generators."""
        generators, discriminators = sides(state.params)
        generator_state, discriminator_state = state.opt_state["generator"], state.opt_state["discriminator"]
        model_state, parts = state.model_state, self.discriminator_steps
        if len(batch["position"]) % parts:
            raise UserError(
                f"config.discriminator_steps is {parts}: it must divide the {len(batch['position'])} examples that a "
                "device has of a batch"
            )
        for part in range(parts):
            # Every k-th example: so the parts are the same however many devices share the batch.
            share = {name: array[part::parts] for name, array in batch.items()}
            key = jax.random.fold_in(rng, part)
            gradient = jax.value_and_grad(self._discriminator_loss, has_aux=True)
            (loss, (model_state, found)), grads = gradient(discriminators, generators, model_state, share, key)
            grads, model_state, loss, found = reduce((grads, model_state, loss, found))
            updates, discriminator_state = self.discriminator_optimizer.update(
                grads, discriminator_state, discriminators
            )
            discriminators = optax.apply_updates(discriminators, updates)
        gradient = jax.value_and_grad(self._generator_loss, has_aux=True)
        key = jax.random.fold_in(rng, parts)
        (own, model_state), grads = gradient(generators, discriminators, model_state, share, key)
        grads, model_state, own = reduce((grads, model_state, own))
        updates, generator_state = self.generator_optimizer.update(grads, generator_state, generators)
        generators = optax.apply_updates(generators, updates)
        metrics = {
            "loss": loss + own,
            "discriminator_loss": loss,
            "generator_loss": own,
            "real_accuracy": found["real"],
            "fake_accuracy": found["fake"],
            "diversity": gan_losses.diversity(found["fake moments"], found["real moments"]),
        }
        opt_state = {"generator": generator_state, "discriminator": discriminator_state}
        return TrainState(state.step + 1, {**generators, **discriminators}, model_state, opt_state), metrics

    def _discriminator_loss(
        self, discriminators: PyTree, generators: PyTree, model_state: PyTree, batch: Mapping[str, Array], key: Array
    ) -> tuple[Float[Array, ""], tuple[PyTree, dict[str, Any]]]:
        """The discriminators' loss, the moved batch statistics, and what the step says of it."""
        total, real_right, fake_right, moments = jnp.zeros(()), [], [], []
        for level, (real, condition) in enumerate(self.targets(batch)):
            own = jax.random.fold_in(key, level)
            fake, model_state = self._generate(generators, model_state, level, condition, batch, own)
            fake = jax.lax.stop_gradient(fake)
            judge = functools.partial(self._discriminate, discriminators, level, condition, batch, own)
            of_real, model_state = judge(1, model_state, real)
            of_fake, model_state = judge(2, model_state, fake)
            total += gan_losses.DISCRIMINATOR_LOSSES[self.loss](of_real, of_fake)
            total += self._penalty(functools.partial(judge, 3, model_state), real, fake, batch["position"], own)
            real_right.append(jnp.mean(of_real > 0))
            fake_right.append(jnp.mean(of_fake <= 0))
            moments.append([(x.mean(0), jnp.square(x).mean(0)) for x in (fake, real)])
        # The first level's pictures have no condition that would make them different from one another.
        found = {"fake moments": moments[0][0], "real moments": moments[0][1]}
        found.update(real=jnp.mean(jnp.stack(real_right)), fake=jnp.mean(jnp.stack(fake_right)))
        return total, (model_state, found)

    def _generator_loss(
        self, generators: PyTree, discriminators: PyTree, model_state: PyTree, batch: Mapping[str, Array], key: Array
    ) -> tuple[Float[Array, ""], PyTree]:
        total = jnp.zeros(())
        for level, (_, condition) in enumerate(self.targets(batch)):
            own = jax.random.fold_in(key, level)
            fake, model_state = self._generate(generators, model_state, level, condition, batch, own)
            logits, model_state = self._discriminate(discriminators, level, condition, batch, own, 2, model_state, fake)
            total += gan_losses.GENERATOR_LOSSES[self.loss](logits)
        return total, model_state

    def _penalty(
        self, logits: Callable, real: Array, fake: Array, position: Int[Array, " n"], key: Array
    ) -> Float[Array, ""]:
        """The penalties on the discriminator's gradient by its input."""
        total = jnp.zeros(())
        with plain_forms():  # whose gradients have gradients everywhere
            if self.gradient_penalty:
                share = jax.vmap(jax.random.uniform)(keys_of(jax.random.fold_in(key, 4), position))
                between = fake + share.reshape(-1, 1, 1, 1) * (real - fake)
                total += self.gradient_penalty * gan_losses.slope_of_one(lambda x: logits(x)[0], between)
            if self.r1:
                total += self.r1 * gan_losses.no_slope(lambda x: logits(x)[0], real)
        return total

    def targets(self, batch: Mapping[str, Array]) -> list[Target]:
        """What each level's generator is to make of a batch's pictures, and on which condition."""
        return self.model.targets(self.preprocess(batch["image"]))

    def _label(self, batch: Mapping[str, Array]) -> Int[Array, " n"] | None:
        return batch["label"] if self.class_names else None

    def _generate(self, params, model_state, level, condition, batch, key) -> tuple[Array, PyTree]:
        generator, name = self.model.generators[level], f"generators_{level}"
        z = noise(keys_of(key, batch["position"]), generator.noise_shape)
        apply = lambda variables: generator.apply(
            variables, z, condition, self._label(batch), train=True, mutable=list(model_state)
        )
        return _apply(apply, params, model_state, name)

    def _discriminate(self, params, level, condition, batch, key, number, model_state, x) -> tuple[Array, PyTree]:
        discriminator, name = self.model.discriminators[level], f"discriminators_{level}"
        own = jax.random.fold_in(key, number)
        rngs = {"dropout": own}
        if self.input_noise:
            keys = keys_of(jax.random.fold_in(own, 1), batch["position"])
            x = x + self.input_noise * jax.vmap(lambda key: jax.random.normal(key, x.shape[1:]))(keys)
        with dropout.by_example(batch["position"]):
            apply = lambda variables: discriminator.apply(
                variables, x, condition, self._label(batch), train=True, mutable=list(model_state), rngs=rngs
            )
            return _apply(apply, params, model_state, name)

    def sample(
        self, state: TrainState, keys: Key[Array, " n"], label: Int[Array, " n"] | None = None
    ) -> Float[Array, "n h w c"]:
        """Pictures from 0 (black) to 1 (white), one a key; by the averaged generator where there is one."""
        draws = [
            self._noise_of_samples(keys, level, generator.noise_shape)
            for level, generator in enumerate(self.model.generators)
        ]
        return self.pictures(state, draws, label)

    def _noise_of_samples(self, keys: Key[Array, " n"], level: int, shape: tuple[int, ...]) -> Float[Array, "n ..."]:
        own = jax.vmap(lambda key: jax.random.fold_in(key, level))(keys)
        return self.truncation * noise(own, shape)

    def pictures(
        self, state: TrainState, draws: list[Float[Array, "n ..."]], label: Int[Array, " n"] | None = None
    ) -> Float[Array, "n h w c"]:
        """`sample` of given noise, an array a level."""
        params = averaged_params(sides(state.params)[0], state.opt_state["generator"])
        picture = None
        for level, (generator, z) in enumerate(zip(self.model.generators, draws, strict=True)):
            name = f"generators_{level}"
            variables = {"params": params[name], **_of(state.model_state, name)}
            condition = None if picture is None else lapgan.enlarge(picture)
            made = generator.apply(variables, z, condition, label, train=False)
            picture = made if condition is None else condition + made
        return jnp.clip((picture - self.low) / (self.high - self.low), 0, 1)

    def eval_step(self, state: TrainState, batch: Mapping[str, Array]) -> dict[str, Array]:
        """What `GenerationMetrics` collects: to each real picture a sample, and what the discriminators say of both."""
        keys = keys_of(jax.random.key(0), batch["index"])
        label = self._label(batch)
        fake = self.sample(state, keys, label)
        found = {"mask": batch["mask"], "index": batch["index"], "sample": fake, "image": batch["image"]}
        real = jnp.mean(self._logits(state, self.preprocess(batch["image"]), label) > 0, -1)
        own = jnp.mean(self._logits(state, self.low + (self.high - self.low) * fake, label) <= 0, -1)
        return {**found, "real_right": real, "fake_right": own}

    def _logits(self, state: TrainState, x: Array, label: Array | None) -> Float[Array, "n levels"]:
        found = []
        for level, (real, condition) in enumerate(self.model.targets(x)):
            name = f"discriminators_{level}"
            variables = {"params": state.params[name], **_of(state.model_state, name)}
            found.append(self.model.discriminators[level].apply(variables, real, condition, label, train=False))
        return jnp.stack(found, 1)

    def warnings(self, means: Mapping[str, float]) -> list[str]:
        """What the means since the last report say of collapse, a line each; none where all is well."""
        found = []
        if min(means["real_accuracy"], means["fake_accuracy"]) > 0.98 and self.loss != "wasserstein":
            found.append("the discriminator wins outright: it tells real from false in over 98 % of both")
        if means["diversity"] < 0.4:
            found.append("the samples are alike: they vary by less than 40 % of what real pictures do")
        return found

    def predict_step(self, state: TrainState, batch: Mapping[str, Array]) -> Float[Array, "n 2"]:
        """The probability that each picture is real, and that it is counterfeit, in the discriminators' opinion.

        Those that are told the class judge each picture as one of every class; the greatest probability counts.
        """
        n, x = len(batch["image"]), self.preprocess(batch["image"])
        labels = [jnp.full(n, k) for k in range(len(self.class_names))] or [None]
        real = jnp.stack([jax.nn.sigmoid(self._logits(state, x, label)).mean(-1) for label in labels]).max(0)
        return jnp.stack([real, 1 - real], -1)

    def describe(self, outputs: Float[np.ndarray, "n 2"]) -> list[dict[str, Any]]:
        """Each picture as real or counterfeit, the likelier first, for people and JSON."""
        names = np.array(["real", "counterfeit"])
        orders = np.argsort(-outputs, -1, kind="stable")
        return [
            {"classes": names[order].tolist(), "probabilities": row[order].tolist()}
            for row, order in zip(outputs, orders, strict=True)
        ]

    def frame(self, state: TrainState) -> Float[np.ndarray, "h w c"]:
        """A sheet of 64 samples of noise that is always the same, for the film."""
        return sheet(np.asarray(jax.jit(self.sample)(state, *self.fixed(64))))

    def fixed(self, count: int, label: int | None = None, seed: int = 0) -> tuple[Array, Array | None]:
        """Keys that are always the same, and labels: all `label`, or the classes in turn; none where unconditional."""
        keys = jax.random.split(jax.random.key(seed), count)
        if not self.class_names:
            return keys, None
        return keys, jnp.arange(count) % len(self.class_names) if label is None else jnp.full(count, label)

    def draw(self, state: TrainState, metrics: GenerationMetrics, source: Source) -> dict[str, Figure]:
        """Samples, ways from one to the next, and samples beside the training pictures nearest to them."""
        keys, label = self.fixed(64)
        samples = np.asarray(jax.jit(self.sample)(state, keys, label))
        titles = [self.class_names[i] for i in label] if label is not None else [""] * len(samples)
        return {
            "samples": figures.contact_sheet(list(samples), titles, "Samples, of noise that is always the same"),
            "interpolations": self._interpolations(state),
            **metrics.draw(),
        }

    def _interpolations(self, state: TrainState) -> Figure:
        rows, columns = 6, 10
        keys, label = self.fixed(rows + 1)
        share = jnp.linspace(0, 1, columns)
        ways = []
        for level, generator in enumerate(self.model.generators):
            ends = self._noise_of_samples(keys, level, generator.noise_shape)
            mixed = share.reshape(1, -1, *[1] * (ends.ndim - 1))
            way = ends[:-1, None] + mixed * (ends[1:] - ends[:-1])[:, None]
            ways.append(way.reshape(rows * columns, *ends.shape[1:]))
        labels = None if label is None else jnp.repeat(label[:-1], columns)
        made = np.asarray(jax.jit(self.pictures)(state, ways, labels))
        heading = "From one sample's noise to the next, a row each"
        return figures.contact_sheet(list(made), [""] * len(made), heading, columns)

    def say(self, row: Mapping[str, Any]) -> str:
        """One of `describe`'s rows as a line."""
        return "  ".join(f"{c} {p:.1%}" for c, p in zip(row["classes"], row["probabilities"], strict=True))

    def draw_predictions(self, pictures: list[np.ndarray], names: list[str], rows: list[dict[str, Any]]) -> Figure:
        """A contact sheet of pictures with what the discriminators take them for."""
        titles = [
            f"{name}\n{row['classes'][0]} ({row['probabilities'][0]:.0%})"
            for name, row in zip(names, rows, strict=True)
        ]
        return figures.contact_sheet(pictures, titles, "The discriminator's opinion")


def noise(keys: Key[Array, " n"], shape: tuple[int, ...]) -> Float[Array, "n *shape"]:
    """Uniform numbers from −1 to 1, one array a key."""
    return jax.vmap(lambda key: jax.random.uniform(key, shape, minval=-1.0, maxval=1.0))(keys)


def sides(params: Mapping[str, PyTree]) -> tuple[dict[str, PyTree], dict[str, PyTree]]:
    """The generators' and the discriminators' parts of `Adversaries`' parameters."""
    generators = {name: part for name, part in params.items() if name.startswith("generators_")}
    return generators, {name: part for name, part in params.items() if name not in generators}


def sheet(pictures: Float[np.ndarray, "n h w c"], columns: int = 8) -> Float[np.ndarray, "h2 w2 c"]:
    """Pictures in rows of `columns`, edge to edge.

    >>> sheet(np.arange(4.0).reshape(4, 1, 1, 1), 2)[..., 0].tolist()
    [[0.0, 1.0], [2.0, 3.0]]
    """
    n, h, w, c = pictures.shape
    rows = pictures.reshape(n // columns, columns, h, w, c).transpose(0, 2, 1, 3, 4)
    return rows.reshape(n // columns * h, columns * w, c)


def _of(model_state: PyTree, name: str) -> dict[str, PyTree]:
    """One network's part of the batch statistics and the like."""
    return {kind: tree[name] for kind, tree in model_state.items() if name in tree}


def _apply(apply: Callable, params: PyTree, model_state: PyTree, name: str) -> tuple[Array, PyTree]:
    """A network's output, and all networks' statistics with its own moved."""
    output, moved = apply({"params": params[name], **_of(model_state, name)})
    merged = {kind: {**tree, **({name: moved[kind]} if kind in moved else {})} for kind, tree in model_state.items()}
    return output, merged
