"""A trained classifier as a judge of generated pictures: what it takes them for, and its features of them."""

import dataclasses
import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from cnnlab import configs, loop
from cnnlab.errors import UserError
from cnnlab.experiment import Experiment
from cnnlab.inspect.layers import shapes
from cnnlab.inspect.linear import layer_features
from cnnlab.state import TrainState
from cnnlab.tasks.classification import Classification

BATCH = 500  # pictures judged at once


@dataclasses.dataclass(frozen=True, eq=False)
class Judge:
    """A trained classifier; its features are the output of the last layer but one. Nothing is read before it judges.

    Attributes:
      folder: the run's workdir.
      experiment: of the run.
    """

    folder: Path
    experiment: Experiment

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes that it knows."""
        return self.experiment.task.class_names

    @functools.cached_property
    def _step(self):
        state, task = loop.restored_state(self.experiment, self.folder), self.experiment.task
        image = jax.ShapeDtypeStruct((1, *self.experiment.picture_shape), jnp.uint8)
        found = shapes(task.model, state.variables, jax.eval_shape(task.preprocess, image))
        names = [name for name in found if "/" not in name]
        if len(names) < 2:
            raise UserError(
                f"config.judge is {self.folder}, whose network has no layer before the last to take features from: "
                "name a deeper one"
            )
        layer = names[-2]

        @jax.jit
        def step(state: TrainState, image):
            found = layer_features(task.model, state.variables, task.preprocess(image), (layer,))
            return found[layer], task.predict_step(state, {"image": image})

        return functools.partial(step, state)

    def __call__(
        self, pictures: UInt8[np.ndarray, "n h w c"]
    ) -> tuple[Float[np.ndarray, "n d"], Float[np.ndarray, "n k"]]:
        """Features and class probabilities of stored pictures.

        Raises:
          UserError: they have another shape than the classifier's; it is not trained, or has a single layer.
        """
        if pictures.shape[1:] != self.experiment.picture_shape:
            ours, theirs = ("×".join(map(str, shape)) for shape in (pictures.shape[1:], self.experiment.picture_shape))
            raise UserError(f"the classifier in {self.folder} judges pictures of {theirs}, and these are {ours}")
        parts = []
        for start in range(0, len(pictures), BATCH):
            chunk = pictures[start : start + BATCH]
            full = np.concatenate([chunk, np.repeat(chunk[-1:], BATCH - len(chunk), 0)])  # one compiled program
            parts.append([out[: len(chunk)] for out in jax.device_get(self._step(jnp.asarray(full)))])
        features, probabilities = (np.concatenate(part) for part in zip(*parts, strict=True))
        return features, probabilities


def judge_of(folder: str) -> Judge | None:
    """The judge that config.judge names; None where it is empty.

    Raises:
      UserError: the folder holds no classifier.
    """
    if not folder:
        return None
    path = Path(folder).expanduser()
    return Judge(path, configs.run_of_task(path, Classification, "config.judge", "classifier"))
