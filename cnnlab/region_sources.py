"""Regions of captioned pictures: what a trained detector finds, and what a trained alignment says of them."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Float, UInt8

from cnnlab import configs, loop, parallel
from cnnlab.checkpoint import digest
from cnnlab.data import pipeline
from cnnlab.data.annotations import picture_size
from cnnlab.data.canvas import Resizing, on_canvas, placed, read_resized
from cnnlab.data.captioned import Captions
from cnnlab.data.pictures import read_picture
from cnnlab.data.proposals import find_all
from cnnlab.data.regions import Snippet, SnippetSource, WithRegions, stretched
from cnnlab.data.sentences import EACH
from cnnlab.data.source import Source
from cnnlab.data.text import Vocabulary
from cnnlab.errors import UserError
from cnnlab.experiment import Experiment
from cnnlab.progress import Progress
from cnnlab.state import TrainState
from cnnlab.tasks.alignment import SentenceAlignment
from cnnlab.tasks.detection import Detection

ANY = 10**9  # pixels of a side


def read_square(path: Path, size: int, detector: Path | None = None, most: int = 0) -> dict[str, np.ndarray]:
    """A picture file as the fields of a batch, stretched to size×size, with the first "boxes" that a detector finds.

    Raises:
      CorruptPicture: it cannot be read.
    """
    image, sides = read_picture(path, (size, size, 3)), np.array([size, size], np.int32)  # as in training
    fields = {"image": image, "size": sides, "original": np.array(picture_size(path), np.int32)}
    if detector is None:
        return fields
    picture, _ = read_resized(path, Resizing(0, ANY))
    return {**fields, "boxes": placed(finder(detector).find(picture), sides / fields["original"], most)}


@dataclasses.dataclass(frozen=True, eq=False)
class Finder:
    """A trained detector.

    Attributes:
      experiment: of its run.
      state: that it was trained to.
    """

    experiment: Experiment
    state: TrainState

    @functools.cached_property
    def step(self) -> Callable[[TrainState, dict[str, np.ndarray]], dict[str, np.ndarray]]:
        """The compiled prediction."""
        return jax.jit(self.experiment.task.predict_step)

    def key(self) -> str:
        """What tells its findings from another's."""
        return f"{self.experiment.name} {digest(self.state.variables)}"

    def find(self, picture: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "k 4"]:
        """What is found: boxes x0 y0 x1 y1 in pixels of the picture, the surest first."""
        resizing = Resizing(self.experiment.config["shorter"], self.experiment.config["longer"])
        shape = picture.shape[:2]
        fields = on_canvas([stretched(picture, *resizing.size(*shape))], [shape], resizing.buckets()[-1])
        found = jax.device_get(self.step(self.state, fields))
        return found["boxes"][0][found["label"][0] >= 0]


@functools.cache
def finder(folder: Path) -> Finder:
    """The detector that was trained in a folder.

    Raises:
      UserError: there is none, or one that looks where selective search says.
    """
    experiment = configs.run_of_task(folder, Detection, "config.detector", "detector")
    if not experiment.task.proposes:
        raise UserError(
            f"config.detector is {folder}, a run of {experiment.name}, which does not propose its regions itself: name "
            "one of Faster or Mask R-CNN"
        )
    return Finder(experiment, loop.restored_state(experiment, folder))


def with_regions(data: Captions, detector: Path, most: int) -> Captions:
    """Data whose boxes are what a detector finds: once, and kept on the disk."""

    def found(make: Callable[[], Source], split: str) -> Source:
        source, trained = make(), finder(detector)
        return WithRegions(source, find_all(source, trained.find, trained.key(), f"regions of {split} pictures"), most)

    train, test = (
        functools.partial(found, make, split) for make, split in ((data.train, "train"), (data.test, "test"))
    )
    return dataclasses.replace(data, train=train, test=test)


def aligned_snippets(folder: Path, size: int, vocabulary: Vocabulary | None) -> Captions:
    """Regions and the phrases that an alignment gives them, as captioned pictures (section 3.2 of the paper).

    Args:
      folder: the workdir of a run of `SentenceAlignment`, on whose pictures and regions it is done.
      size: regions are stretched to size×size pixels.
      vocabulary: that is known already: the folder need not be there until the data are called for.

    Raises:
      UserError: there is no such run.
    """

    @functools.cache
    def aligner() -> Experiment:
        return configs.run_of_task(folder, SentenceAlignment, "config.alignment", "alignment")

    @functools.cache  # training and test pictures may be the same
    def read(split: str) -> Source:
        source = aligner().train_data() if split == "train" else aligner().test_data()
        found = list(_snippets(aligner(), folder, source, split))
        words = max(len(phrase) for one in found for phrase in one.words)
        return SnippetSource(source, found, aligner().task.vocabulary, size, words)

    train, test = (functools.partial(read, split) for split in ("train", "test"))
    return Captions(vocabulary or aligner().task.vocabulary, (), train, test)


def _snippets(experiment: Experiment, folder: Path, source: Source, split: str) -> Iterator[Snippet]:
    """What is said of each region of each picture, in the phrases of its sentences, the same ones once."""
    state, task = loop.restored_state(experiment, folder), experiment.task
    step = parallel.compile_eval_step(task.eval_step)
    count = pipeline.eval_batch_count(source, experiment.eval_batch_size)
    progress = Progress(f"{experiment.name}: phrases of {split} pictures", 0, count, experiment.eval_batch_size)
    for number, batch in enumerate(loop.test_batches(experiment, source), 1):
        metrics = task.metrics()
        metrics.add(parallel.gather(step(state, batch)))
        for index, one in metrics.first(experiment.eval_batch_size):
            said: dict[int, dict[tuple[str, ...], None]] = {}
            for phrase in itertools.chain.from_iterable(task.phrases(one, k) for k in range(len(one.tokens))):
                said.setdefault(phrase["region"], {})[tuple(phrase["words"].split())] = None
            for region, phrases in said.items():
                yield Snippet(index, tuple(one.boxes[region].tolist()), tuple(phrases)[:EACH])
        progress.step(number)
        if number == count or number % experiment.log_every == 0:
            progress.report(number, {})
    progress.close()
