"""How good generated pictures are: what a test of an adversarial net collects, and the scores that come of it."""

import functools
from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.figure import Figure

from cnnlab import figures
from cnnlab.metrics.coverage import class_shares, coverage
from cnnlab.metrics.frechet import frechet_distance, moments
from cnnlab.metrics.manifold import manifold_scores, nearest
from cnnlab.metrics.parzen import parzen

# Features and class probabilities of stored pictures.
Judge = Callable[[UInt8[np.ndarray, "n h w c"]], tuple[Float[np.ndarray, "n d"], Float[np.ndarray, "n k"]]]

MOST = 3000  # pictures of each kind for precision and recall, whose work grows with the square
SHOWN = 12  # samples drawn beside their neighbours


class GenerationMetrics:
    """Samples, and as many real pictures of the test set.

    Args:
      training: gives training pictures, as they are stored, to find samples' neighbours among.
      judge: a classifier of such pictures; None: no scores that need one.
      class_names: those that the judge knows.

    Scores: "log_likelihood" of real pictures under Parzen windows on the samples, in nats, with its standard error
    "log_likelihood_se", σ being chosen on a tenth of the real pictures that does not count; "real_accuracy" and
    "fake_accuracy" of the discriminators. With a judge too: "frechet", the distance in its features; "classes" shown,
    "least_class", the smallest share of one; "class_entropy", "prediction_entropy", "inception_score"; "precision" and
    "recall" of the manifold.
    """

    def __init__(
        self,
        training: Callable[[], UInt8[np.ndarray, "n h w c"]],
        judge: Judge | None = None,
        class_names: tuple[str, ...] = (),
    ):
        self._training, self._judge, self._class_names = training, judge, class_names
        self._rows: dict[str, list[np.ndarray]] = {}

    def add(self, outputs: Mapping[str, np.ndarray]) -> None:
        """Collects one batch; rows whose mask is 0 do not count."""
        kept = outputs["mask"] > 0
        for name in ("sample", "image", "real_right", "fake_right"):
            self._rows.setdefault(name, []).append(np.asarray(outputs[name])[kept])

    def _all(self, name: str) -> np.ndarray:
        return np.concatenate(self._rows[name])

    @functools.cached_property
    def _judged(self) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
        """The judge's features and probabilities of the samples, and of the real pictures."""
        samples = np.round(255 * self._all("sample")).astype(np.uint8)
        return self._judge(samples), self._judge(self._all("image"))

    def compute(self) -> dict[str, float]:
        """The scores."""
        samples, real = self._all("sample"), self._all("image").astype(np.float32) / 255
        tenth = np.arange(len(real)) % 10 == 0
        score = parzen(samples, real[tenth], real[~tenth])
        scores = {
            "log_likelihood": score.mean,
            "log_likelihood_se": score.standard_error,
            "real_accuracy": float(self._all("real_right").mean()),
            "fake_accuracy": float(self._all("fake_right").mean()),
            "count": len(real),
        }
        if self._judge is None:
            return scores
        (fake_features, probabilities), (real_features, _) = self._judged
        manifold = manifold_scores(real_features[:MOST], fake_features[:MOST])
        return {
            "frechet": frechet_distance(moments(fake_features), moments(real_features)),
            **scores,
            **coverage(probabilities),
            "least_class": float(class_shares(probabilities).min()),
            "precision": manifold["precision"],
            "recall": manifold["recall"],
        }

    def draw(self) -> dict[str, Figure]:
        """Samples beside the training pictures nearest to them; with a judge the share of each class."""
        samples, training = self._all("sample")[:SHOWN], self._training().astype(np.float32) / 255
        index, distances = nearest(samples, training, 5)
        drawn = {"neighbours": figures.neighbours_figure(samples, training[index], distances)}
        if self._judge is not None:
            drawn["classes"] = shares_figure(class_shares(self._judged[0][1]), self._class_names)
        return drawn


def shares_figure(shares: Float[np.ndarray, " k"], class_names: tuple[str, ...]) -> Figure:
    """Bars: the share of samples that a classifier takes for each class."""
    drawn = Figure(figsize=(max(5, 0.5 * len(shares)), 3), layout="constrained")
    axes = drawn.add_subplot(ylabel="share of samples (%)", title="What a classifier takes the samples for")
    axes.bar(range(len(shares)), 100 * shares)
    axes.axhline(100 / len(shares), color="0.5", linestyle="--", label="all alike")
    axes.set_xticks(range(len(shares)), class_names, rotation=90 if max(map(len, class_names)) > 3 else 0)
    axes.legend()
    return drawn
