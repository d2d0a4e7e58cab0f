"""Sentences about regions: a captioner that describes what a detector finds (Karpathy, Fei-Fei 2015, figure 7)."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Array
from matplotlib.figure import Figure

from cnnlab.data.canvas import Resizing, cropped, read_resized
from cnnlab.data.regions import cut, stretched
from cnnlab.errors import UserError
from cnnlab.experiment import Experiment
from cnnlab.figures import captions as caption_figures
from cnnlab.region_sources import ANY, finder, read_square
from cnnlab.state import TrainState
from cnnlab.tasks.captioning import Captioning

SHEET = 12  # pictures on the contact sheet of a prediction


@dataclasses.dataclass(frozen=True)
class RegionCaptioning:
    """What predict asks of a task, of a captioner and pictures with "regions": their squares (n, r, size, size, 3), and
    "boxes", in shares of the picture's width and height, 0 0 0 0 where there are fewer.

    Attributes:
      captioning: describes each region.
    """

    captioning: Captioning

    def __getattr__(self, name: str) -> Any:
        """All else that a task has."""
        if name == "captioning":  # not there yet, as while it is unpickled
            raise AttributeError(name)
        return getattr(self.captioning, name)

    def predict_step(self, state: TrainState, batch: Mapping[str, Array]) -> dict[str, Array]:
        """The likeliest sentence about each region, with the "boxes"."""
        n, r, *shape = batch["regions"].shape
        said = self.captioning.predict_step(state, {"image": batch["regions"].reshape(n * r, *shape)})
        best = {name: array[:, 0].reshape(n, r, -1) for name, array in said.items()}
        return {**best, "boxes": batch["boxes"]}

    def describe(self, outputs: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
        """Of each picture "phrases", the "words" said of each "region" and their log-probability, "score"; and the
        "boxes" of the regions.
        """
        rows = []
        for tokens, scores, boxes in zip(outputs["tokens"], outputs["log_probability"], outputs["boxes"], strict=True):
            there = np.flatnonzero(boxes[:, 2] > boxes[:, 0]).tolist()
            said = [" ".join(self.captioning.vocabulary.decode(tokens[i])) for i in there]
            phrases = [
                {"words": words, "region": i, "score": float(scores[i, 0])}
                for i, words in zip(there, said, strict=True)
            ]
            rows.append({"phrases": phrases, "boxes": boxes[there].tolist()})
        return rows

    def say(self, row: Mapping[str, Any]) -> str:
        """One of `describe`'s rows as a line."""
        return " | ".join(f"{one['words']} ({one['score']:.2f})" for one in row["phrases"]) or "nothing found"

    def annotate(self, picture: Mapping[str, np.ndarray], row: Mapping[str, Any]) -> Figure:
        """A picture with what is said of its regions."""
        return caption_figures.alignment_sheet([cropped(picture)], [""], [row], "")

    def draw_predictions(
        self, pictures: Sequence[Mapping[str, np.ndarray]], names: Sequence[str], rows: Sequence[Mapping[str, Any]]
    ) -> Figure:
        """A contact sheet of pictures with what is said of their regions."""
        shown = [cropped(one) for one in pictures[:SHEET]]
        return caption_figures.alignment_sheet(shown, names[:SHEET], rows[:SHEET], "What is said of regions")


def of_regions(experiment: Experiment) -> Experiment:
    """A captioner's experiment whose predictions are of the regions that its config.detector finds.

    Raises:
      UserError: it is no captioner's, or names no detector.
    """
    if not isinstance(experiment.task, Captioning):
        raise UserError(f"config.regions is for nets that describe pictures, and {experiment.name} is none")
    if not experiment.config["detector"]:
        raise UserError("config.regions needs --config.detector=WORKDIR, of a trained detector that finds the regions")
    folder, most = Path(experiment.config["detector"]).expanduser(), experiment.config["most_regions"]
    size = experiment.picture_shape[0]

    def read(path: Path) -> dict[str, np.ndarray]:
        picture, _ = read_resized(path, Resizing(0, ANY))
        boxes, regions = np.zeros((most, 4), np.float32), np.zeros((most, size, size, 3), np.uint8)
        for i, box in enumerate(finder(folder).find(picture)[:most]):
            boxes[i] = box / np.tile(picture.shape[1::-1], 2)
            regions[i] = stretched(cut(picture, boxes[i]), size, size)
        return {**read_square(path, size), "regions": regions, "boxes": boxes}

    return dataclasses.replace(experiment, task=RegionCaptioning(experiment.task), read_picture=read)
