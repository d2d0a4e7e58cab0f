"""Scores of captioners: perplexity, and what they say against the references and, of drawings, against the truth."""

import dataclasses
import math
from collections.abc import Mapping

import numpy as np

from cnnlab.data.sentences import is_true
from cnnlab.data.source import Source
from cnnlab.data.text import Vocabulary, words_of
from cnnlab.metrics import sentences
from cnnlab.metrics.sentences import Words


@dataclasses.dataclass(frozen=True)
class Said:
    """What is said of a picture.

    Attributes:
      index: of the picture in its source.
      caption: the sentence.
      beside: another line: a reference, or the picture's name.
      true: whether it is true, of pictures of which that is known.
    """

    index: int
    caption: str
    beside: str = ""
    true: bool | None = None


@dataclasses.dataclass
class CaptionMetrics:
    """Sums over pictures.

    Attributes:
      vocabulary: of the tokens.
      source: of the pictures' sentences, all of which are references, and where it has `scene` of what is true.
    """

    vocabulary: Vocabulary
    source: Source | None = None
    _found: dict[int, Words] = dataclasses.field(default_factory=dict)
    _loss: float = 0.0
    _words: int = 0
    _named: list[bool] = dataclasses.field(default_factory=list)

    def add(self, outputs: Mapping[str, np.ndarray]) -> None:
        """Adds a batch of `Captioning.eval_step`'s outputs."""
        for i in np.flatnonzero(outputs["mask"] > 0):
            self._found[int(outputs["index"][i])] = self.vocabulary.decode(outputs["tokens"][i])
            self._loss += float(outputs["loss"][i])
            self._words += int(outputs["words"][i])
            self._named += [bool(outputs["named"][i])] if "named" in outputs else []

    def compute(self) -> dict[str, float]:
        """ "loss" in nats a word, "perplexity", its exponential, BLEU-1 … 4 and CIDEr against the source's references,
        "true", the share of sentences that are true of their drawings, "named", that of pictures all of whose things
        are named right, where they are named, and "count", the pictures.
        """
        loss = self._loss / max(self._words, 1)
        scores = {"loss": loss, "perplexity": math.exp(min(loss, 700.0))}
        if self._found and self.source is not None:
            scores |= sentences.scores(*self._pairs())
            if hasattr(self.source, "scene"):
                scores["true"] = float(np.mean([self._is_true(i) for i in self._found]))
        if self._named:
            scores["named"] = float(np.mean(self._named))
        return {**scores, "count": len(self._found)}

    def table(self) -> str:
        """METEOR, as a line: its program takes long to start, so that only `--mode=eval` asks for it."""
        value = sentences.meteor(*self._pairs()) if self._found and self.source is not None else None
        return "METEOR: not at hand, it needs java and pycocoevalcap" if value is None else f"METEOR {value:.4f}"

    def _pairs(self) -> tuple[list[Words], list[tuple[Words, ...]]]:
        """What is said, and the references."""
        order = sorted(self._found)
        references = [tuple(map(words_of, self.source.sentences(i))) for i in order]
        return [self._found[i] for i in order], references

    def _is_true(self, index: int) -> bool:
        return is_true(self._found[index], self.source.scene(index))

    def first(self, count: int) -> list[Said]:
        """What is said of the first pictures."""
        known = hasattr(self.source, "scene")
        return [
            Said(i, " ".join(self._found[i]), self.source.sentences(i)[0], self._is_true(i) if known else None)
            for i in sorted(self._found)[:count]
        ]
