"""Alignment of sentences with regions of pictures (Karpathy, Fei-Fei 2015, section 3.1).

Batches are those of `data/captions.py`. Where they have "boxes" these are the regions, and all of the picture besides.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key, PyTree, Real
from matplotlib.figure import Figure

from cnnlab.data.augment import Augment
from cnnlab.data.canvas import cropped
from cnnlab.data.source import Source
from cnnlab.data.text import Vocabulary, drawn_sentences, mask_of
from cnnlab.errors import UserError
from cnnlab.figures import captions as caption_figures
from cnnlab.metrics.alignment import AlignmentMetrics, Vectors
from cnnlab.models.alignment import AlignmentNet, ranking_loss, scores, whole
from cnnlab.ops import boxes as box_ops
from cnnlab.ops.batch_norm import spans_several
from cnnlab.ops.viterbi import viterbi_of_all
from cnnlab.state import TrainState
from cnnlab.tasks import supervised

SHOWN = 8  # test pictures that are drawn
SHEET = 12  # pictures on the contact sheet of a prediction
LEAST = -1e9  # the score of a region that is not there


def bare(batch: Mapping[str, Array]) -> tuple[Int[Array, "n s l"], Int[Array, "n s"]]:
    """Sentences without START and END, and how many words they have."""
    return batch["tokens"][..., 1:-1], jnp.maximum(batch["length"] - 2, 0)


@dataclasses.dataclass(frozen=True)
class SentenceAlignment:
    """The task.

    Attributes:
      model: regions and words to vectors.
      optimizer: an optax transformation.
      preprocess: stored pictures → the network's input.
      vocabulary: of the sentences.
      kind: of the scores: "max", each word's best region; "sum", all that point its way; see `models.alignment.scores`.
      margin: between right and wrong pairs.
      beta: what two neighbouring words are worth that belong to one region, when phrases are found (equation 12), in
        the unit of the scores. Large values make long phrases.
      sentences: of a picture that are learnt from in a step, drawn anew in each: 1 in the paper.
      axis_name: of the devices whose pictures and sentences are the wrong ones of each other; None, or where no such
        axis is bound, as in a notebook's own step: each device has its own alone.
      augment: `(keys, batch) → batch`, a key an example, in training only; see `data/augment.py`.
      frozen: patterns of layers that stay as they are; see `transfer.py`.
      accumulate: parts that a device's share of a batch is computed in, each with wrong pairs of its own.
    """

    model: AlignmentNet
    optimizer: optax.GradientTransformation
    preprocess: Callable[[Real[Array, "n h w c"]], Float[Array, "n h w c"]]
    vocabulary: Vocabulary
    kind: str = "max"
    margin: float = 1.0
    beta: float = 0.5
    sentences: int = 5
    axis_name: str | None = None
    augment: Augment | None = None
    frozen: tuple[str, ...] = ()
    accumulate: int = 1

    needs_query = True  # it says nothing of a picture without a sentence

    def __post_init__(self) -> None:
        if self.kind not in ("max", "sum"):
            raise UserError(f'config.kind is "{self.kind}"; it must be "max" or "sum"')
        if self.sentences < 1 or self.margin < 0:
            raise UserError(f"config.sentences is {self.sentences} and config.margin {self.margin}: at least 1, and 0")

    init = supervised.init
    init_optimizer = supervised.init_optimizer
    train_step = supervised.train_step

    def loss_fn(
        self, params: PyTree, model_state: PyTree, batch: Mapping[str, Array], rng: Key[Array, ""]
    ) -> tuple[Float[Array, ""], tuple[dict[str, Array], PyTree]]:
        """The ranking loss of a batch, the share of its sentences that do not find their picture, and the model's new
        state; `rng` is the step's key.
        """
        batch = drawn_sentences(supervised.augmented(self, batch, rng), self.sentences, jax.random.fold_in(rng, 2))
        (regions, there, words), model_state = supervised.apply_in_training(
            self, params, model_state, batch, rng, batch, train=True, method=self.vectors
        )
        n, each = words.shape[:2]
        sentences = words.reshape(n * each, *words.shape[2:])
        said = mask_of(bare(batch)[1], words.shape[2]).reshape(n * each, -1)
        place, picture = batch["position"], batch["index"]
        all_regions, all_there, all_sentences, all_said, all_places, all_pictures = self._gathered(
            (regions, there, sentences, said, place, picture)
        )
        of_sentences = scores(regions, there, all_sentences, all_said, self.kind)
        of_pictures = scores(all_regions, all_there, sentences, said, self.kind).reshape(-1, n, each)
        own = jnp.take_along_axis(of_pictures, jnp.argmax(all_places[:, None] == place, 0)[None, :, None], 0)[0]
        # A batch may have a picture twice, at the end of an epoch or in place of one that cannot be read.
        wrong = all_pictures[:, None] != picture
        wrong_sentences = jnp.repeat(wrong.T, each, 1) & all_said.any(-1)
        real = said.any(-1).reshape(n, each)
        loss = ranking_loss(own, of_sentences, of_pictures, wrong_sentences, wrong, real, self.margin)
        lost = (jnp.where(wrong[..., None], of_pictures, -jnp.inf).max(0) >= own) & real
        error = lost.sum(-1) / jnp.maximum(real.sum(-1), 1)
        return loss, ({"error": error.mean()}, model_state)

    def _gathered(self, tree: PyTree) -> PyTree:
        """Arrays of all devices, one after the other; their slope is that of the sum of all devices' losses."""
        if not spans_several(self.axis_name):
            return tree
        return jax.tree.map(lambda x: lax.all_gather(x, self.axis_name, tiled=True), tree)

    def vectors(
        self, model: AlignmentNet, batch: Mapping[str, Array], train: bool = False
    ) -> tuple[Float[Array, "n r d"], Bool[Array, "n r"], Float[Array, "n s l d"]]:
        """The vectors of regions, which of them there are, and of the sentences' words; called with a bound model."""
        x = self.preprocess(batch["image"])
        boxes, there = regions_of(batch)
        tokens, length = bare(batch)
        n, each, most = tokens.shape
        words = model.words(tokens.reshape(-1, most), length.reshape(-1)).reshape(n, each, most, -1)
        return model.regions(x, boxes, train=train), there, words

    def eval_step(self, state: TrainState, batch: Mapping[str, Array]) -> dict[str, Array]:
        """What `AlignmentMetrics` keeps, per picture."""
        regions, there, words = self.model.apply(state.variables, batch, method=self.vectors)
        tokens, length = bare(batch)
        return {
            "mask": batch["mask"],
            "index": batch["index"],
            "tokens": tokens,
            "length": length,
            "words": words,
            "place": self.places(regions, there, words, length),
            "regions": regions,
            "there": there,
            "boxes": shares_of(batch),
        }

    def places(
        self,
        regions: Float[Array, "n r d"],
        there: Bool[Array, "n r"],
        words: Float[Array, "n s l d"],
        length: Int[Array, "n s"],
    ) -> Int[Array, "n s l"]:
        """The region that each word of a picture's sentences belongs to: the likeliest of the chain of its words
        (equations 10 to 12).
        """
        n, each, most = words.shape[:3]
        products = jnp.where(there[:, None, None], jnp.einsum("nsld,nrd->nslr", words, regions), LEAST)
        said = mask_of(length, most)
        found = viterbi_of_all(products.reshape(n * each, most, -1), said.reshape(n * each, most), self.beta)
        return found.reshape(n, each, most)

    def metrics(self) -> AlignmentMetrics:
        """An empty sum."""
        return AlignmentMetrics(self.kind)

    def predict_step(self, state: TrainState, batch: Mapping[str, Array]) -> dict[str, Array]:
        """`eval_step`'s outputs with the "score" of each picture and the one sentence that comes with it."""
        n = len(batch["image"])
        outputs = self.eval_step(state, {**batch, "mask": jnp.ones(n), "index": jnp.arange(n)})
        said = mask_of(outputs["length"], outputs["words"].shape[2])
        each = [outputs[name][:, None] for name in ("regions", "there")] + [outputs["words"], said]
        return {**outputs, "score": jax.vmap(lambda *one: scores(*one, self.kind)[0, 0])(*each)}

    def describe(self, outputs: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
        """Of each picture the "score" of its sentence, and "phrases": the "words" that follow one another and belong to
        one region, with its number ("region") and the mean of their scores there; and the "boxes" of the regions, in
        shares of the picture's width and height, the first of which is all of it.
        """
        metrics = self.metrics()
        metrics.add(outputs)
        found = dict(metrics.first(len(outputs["score"])))
        return [
            {"score": float(score), "phrases": self.phrases(found[i], 0), "boxes": found[i].boxes.tolist()}
            for i, score in enumerate(outputs["score"])
        ]

    def say(self, row: Mapping[str, Any]) -> str:
        """One of `describe`'s rows as a line."""
        return f"{row['score']:.2f}  " + " | ".join(phrase["words"] for phrase in row["phrases"])

    def phrases(self, one: Vectors, number: int) -> list[dict[str, Any]]:
        """The phrases of one of a picture's sentences; see `describe`."""
        place, tokens = one.places[number], one.tokens[number]
        starts = [t for t in range(len(place)) if t == 0 or place[t] != place[t - 1]]
        found = []
        for start, stop in zip(starts, [*starts[1:], len(place)], strict=True):
            said = " ".join(self.vocabulary.word(token) for token in tokens[start:stop])
            score = float((one.words[number][start:stop] @ one.regions[place[start]]).mean())
            found.append({"words": said, "region": place[start], "score": score})
        return found

    def draw(self, state: TrainState, metrics: AlignmentMetrics, source: Source) -> dict[str, Figure]:
        """The figure of a finished evaluation: test pictures, and where the phrases of a sentence of each belong."""
        found = [(index, one) for index, one in metrics.first(SHOWN) if one.tokens]
        if not found:
            return {}
        # Another of its sentences for each picture, as they are of different kinds.
        rows = [
            {"phrases": self.phrases(one, k % len(one.tokens)), "boxes": one.boxes} for k, (_, one) in enumerate(found)
        ]
        pictures, names = [source.picture(index) for index, _ in found], [""] * len(found)
        heading = "Where the phrases of a sentence belong, and their scores"
        return {"alignment": caption_figures.alignment_sheet(pictures, names, rows, heading)}

    def draw_predictions(
        self, pictures: Sequence[Mapping[str, np.ndarray]], names: Sequence[str], rows: Sequence[Mapping[str, Any]]
    ) -> Figure:
        """A contact sheet of pictures with the phrases of the sentence, in their boxes' colours."""
        titles = [f"{name}  {row['score']:.2f}" for name, row in zip(names[:SHEET], rows, strict=False)]
        shown = [cropped(one) for one in pictures[:SHEET]]
        return caption_figures.alignment_sheet(shown, titles, rows[:SHEET], "Where the phrases belong")


def regions_of(batch: Mapping[str, Array]) -> tuple[Float[Array, "n r 4"], Bool[Array, "n r"]]:
    """The regions of pictures, all of each first and then its boxes, and which of them there are."""
    boxes = whole(batch["image"])[:, None]
    if "boxes" in batch:
        boxes = jnp.concatenate([boxes, batch["boxes"].astype(jnp.float32)], 1)
    return boxes, box_ops.has_area(boxes)


def shares_of(batch: Mapping[str, Array]) -> Float[Array, "n r 4"]:
    """`regions_of` in shares of the picture's width and height."""
    boxes, _ = regions_of(batch)
    return boxes / boxes[:, :1, jnp.array([2, 3, 2, 3])]
