"""Captioning: a sentence about a picture (Karpathy, Fei-Fei 2015, section 3.3).

Batches are those of `data/captions.py`.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int, Key, PyTree, Real, UInt8
from matplotlib.figure import Figure

from cnnlab.data.augment import Augment, keys_of
from cnnlab.data.canvas import cropped
from cnnlab.data.source import Source
from cnnlab.data.text import END, START, Vocabulary, drawn_sentences, mask_of
from cnnlab.errors import UserError
from cnnlab.figures import captions as caption_figures
from cnnlab.metrics.captions import CaptionMetrics, Said
from cnnlab.models.captioner import CaptionNet, describe, sample
from cnnlab.state import TrainState
from cnnlab.tasks import supervised

RUNNERS_UP = 4  # further sentences that are said of a picture
SHOWN = 12  # test pictures that are drawn
SHEET = 24  # pictures on the contact sheet of a prediction


def sentence_losses(
    logits: Float[Array, "n s l v"], tokens: Int[Array, "n s l1"], length: Int[Array, "n s"]
) -> tuple[Float[Array, "n s"], Int[Array, "n s"]]:
    """−log probability of each sentence, in nats, and how many words it has, END among them.

    Args:
      logits: of the word after each token but the last.
      tokens, length: see `data/captions.py`; a length of 0 is no sentence.

    >>> loss, words = sentence_losses(jnp.zeros((1, 1, 3, 4)), jnp.array([[[1, 3, 2, 0]]]), jnp.array([[3]]))
    >>> round(float(loss[0, 0]), 4), int(words[0, 0])
    (2.7726, 2)
    """
    counted = mask_of(length, tokens.shape[-1])[..., 1:]
    each = optax.softmax_cross_entropy_with_integer_labels(logits, tokens[..., 1:])
    return jnp.where(counted, each, 0.0).sum(-1), counted.sum(-1)


def naming_losses(names: Float[Array, "n r c k"], kinds: UInt8[Array, "n r c k"]) -> Float[Array, " n"]:
    """Cross-entropies of which kinds of things there are at which places, in nats a picture.

    So a thing counts as much among others, where it is hard to name, as alone.

    Args:
      names: logits.
      kinds: how many there are.
    """
    return optax.sigmoid_binary_cross_entropy(names, kinds > 0).sum((1, 2, 3))


def named_right(names: Float[Array, "n r c k"], kinds: UInt8[Array, "n r c k"]) -> Bool[Array, " n"]:
    """Whether the sums of the names' probabilities, rounded, are how many things of each kind a picture has."""
    found = jnp.round(jax.nn.sigmoid(names).sum((1, 2)))
    return (found == kinds.sum((1, 2))).all(-1)


@dataclasses.dataclass(frozen=True)
class Captioning:
    """The task.

    Attributes:
      model: a picture to its sentence.
      optimizer: an optax transformation.
      preprocess: stored pictures → the network's input.
      vocabulary: of the sentences.
      words: of a sentence that is made, at most.
      beam: sentences that the search for the likeliest keeps; 7 is the paper's best, 1 takes the likeliest word each
        time.
      temperature: over 0, a sentence is drawn word by word instead; see `models.captioner.sample`.
      augment: `(keys, batch) → batch`, a key an example, in training only; see `data/augment.py`.
      sentences: of a picture that are learnt from in a step, drawn anew in each.
      naming: what the loss of naming things is multiplied with; over 0, the model has `kinds`, and so have the batches.
      frozen: patterns of layers that stay as they are; see `transfer.py`.
      accumulate: parts that a device's share of a batch is computed in; see `supervised.make_train_step`.
    """

    model: CaptionNet
    optimizer: optax.GradientTransformation
    preprocess: Callable[[Real[Array, "n h w c"]], Float[Array, "n h w c"]]
    vocabulary: Vocabulary
    words: int
    beam: int = 7
    temperature: float = 0.0
    sentences: int = 5
    naming: float = 0.0
    augment: Augment | None = None
    frozen: tuple[str, ...] = ()
    accumulate: int = 1

    def __post_init__(self) -> None:
        if self.sentences < 1 or self.naming < 0:
            raise UserError(f"config.sentences is {self.sentences} and config.naming {self.naming}: at least 1, and 0")
        if self.beam < 1 or self.temperature < 0:
            raise UserError(f"config.beam is {self.beam} and config.temperature {self.temperature}: at least 1, and 0")

    init = supervised.init
    init_optimizer = supervised.init_optimizer
    train_step = supervised.train_step

    def loss_fn(
        self, params: PyTree, model_state: PyTree, batch: Mapping[str, Array], rng: Key[Array, ""]
    ) -> tuple[Float[Array, ""], tuple[dict[str, Array], PyTree]]:
        """Nats a word, of each picture's sentences, and its `naming_losses`, then the mean over pictures; `rng` is
        the step's key.
        """
        batch = drawn_sentences(supervised.augmented(self, batch, rng), self.sentences, jax.random.fold_in(rng, 2))
        x, tokens = self.preprocess(batch["image"]), batch["tokens"]
        (logits, names), model_state = supervised.apply_in_training(
            self, params, model_state, batch, rng, x, tokens[..., :-1], train=True, method=CaptionNet.logits
        )
        losses, words = sentence_losses(logits, tokens, batch["length"])
        each = losses.sum(-1) / jnp.maximum(words.sum(-1), 1)
        wrong = (jnp.argmax(logits, -1) != tokens[..., 1:]) & mask_of(batch["length"], tokens.shape[-1])[..., 1:]
        error = wrong.sum((1, 2)) / jnp.maximum(words.sum(-1), 1)
        metrics = {"word_error": error.mean()}
        if not self.naming:
            return each.mean(), (metrics, model_state)
        naming = naming_losses(names, batch["kinds"]).mean()
        return each.mean() + self.naming * naming, ({**metrics, "nats": each.mean(), "naming": naming}, model_state)

    def features(self, state: TrainState, batch: Mapping[str, Array]) -> Float[Array, "n f"]:
        """What the captioner sees of each picture."""
        return self.model.apply(state.variables, self.preprocess(batch["image"]), method=CaptionNet.features)

    def _losses(self, state: TrainState, features: Array, batch: Mapping[str, Array]) -> tuple[Array, Array]:
        """`sentence_losses` of a batch's sentences."""
        tokens = batch["tokens"]
        logits = self.model.apply(state.variables, features, tokens[..., :-1], method=CaptionNet.logits_of)
        return sentence_losses(logits, tokens, batch["length"])

    def _said(self, state: TrainState, features: Float[Array, "n f"], index: Int[Array, " n"]) -> dict[str, Array]:
        """The sentences that are searched for or drawn, and their log-probabilities; see `predict_step`.

        A draw depends on the picture's `index` alone, not on how many devices share the work.
        """
        most = self.words + 1
        if self.temperature:
            keys = keys_of(jax.random.key(0), index)
            tokens, score = sample(self.model, state.variables, features, keys, START, END, most, self.temperature)
            return {"tokens": tokens[:, None], "log_probability": score[:, None]}
        tokens, scores = describe(self.model, state.variables, features, START, END, most, self.beam)
        return {"tokens": tokens, "log_probability": scores}

    def predict_step(self, state: TrainState, batch: Mapping[str, Array]) -> dict[str, Array]:
        """Of each picture the likeliest "tokens" that the search finds, best first, and their "log_probability"; of one
        that comes with a sentence, that.
        """
        features = self.features(state, batch)
        if "tokens" not in batch:
            return self._said(state, features, jnp.arange(features.shape[0]))
        losses, _ = self._losses(state, features, batch)
        return {"tokens": batch["tokens"][..., 1:], "log_probability": -losses}

    def eval_step(self, state: TrainState, batch: Mapping[str, Array]) -> dict[str, Array]:
        """What `CaptionMetrics` adds up, per picture."""
        features, names = self.model.apply(state.variables, self.preprocess(batch["image"]), method=CaptionNet.see)
        losses, words = self._losses(state, features, batch)
        named = {"named": named_right(names, batch["kinds"])} if self.naming else {}
        return {
            **named,
            "mask": batch["mask"],
            "index": batch["index"],
            "loss": losses.sum(-1),
            "words": words.sum(-1),
            "tokens": self._said(state, features, batch["index"])["tokens"][:, 0],
        }

    def metrics(self) -> CaptionMetrics:
        """An empty sum."""
        return CaptionMetrics(self.vocabulary)

    def describe(self, outputs: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
        """Of each picture the "caption", its "log_probability" in nats, and "others", runners-up with theirs."""
        rows = []
        for tokens, scores in zip(outputs["tokens"], outputs["log_probability"], strict=True):
            said = [
                {"caption": " ".join(self.vocabulary.decode(own)), "log_probability": float(score)}
                for own, score in zip(tokens, scores, strict=True)
            ]
            rows.append({**said[0], "others": said[1 : 1 + RUNNERS_UP]})
        return rows

    def say(self, row: Mapping[str, Any]) -> str:
        """One of `describe`'s rows as a line."""
        return f"{row['caption']} ({row['log_probability']:.2f})"

    def draw(self, state: TrainState, metrics: CaptionMetrics, source: Source) -> dict[str, Figure]:
        """The figure of a finished evaluation: the first test pictures with what is said of them."""
        found = metrics.first(SHOWN)
        if not found:
            return {}
        pictures = [source.picture(one.index) for one in found]
        heading = "The first test pictures, with a reference in grey"
        return {"captions": caption_figures.captions_sheet(pictures, found, heading)}

    def draw_predictions(
        self, pictures: Sequence[Mapping[str, np.ndarray]], names: Sequence[str], rows: Sequence[Mapping[str, Any]]
    ) -> Figure:
        """A contact sheet of pictures with their captions."""
        shown = [Said(i, row["caption"], names[i]) for i, row in enumerate(rows[:SHEET])]
        return caption_figures.captions_sheet([cropped(one) for one in pictures[:SHEET]], shown, "Predictions")
