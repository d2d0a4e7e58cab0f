"""McNemar's test: whether two classifiers, tested on the same examples, differ by more than chance.

Paper: McNemar, "Note on the sampling error of the difference between correlated proportions or percentages", 1947; the
continuity correction is Edwards', "Note on the 'correction for continuity' in testing the significance of the
difference between correlated proportions", 1948.
"""

import dataclasses
import math

import numpy as np
from jaxtyping import Bool, Int

LEVEL = 0.05  # below it, the sentence takes a difference for more than chance


@dataclasses.dataclass(frozen=True)
class McNemar:
    """How often two classifiers were right on the same examples, and what follows.

    Only the examples that one of them got right and the other wrong can tell the two apart. If they are equally good,
    each of these is as likely to be the one's as the other's: a fair coin's tosses. The test is of two trained networks
    on examples like these; it does not say how either recipe would fare from another seed.

    Attributes:
      both: examples that both got right.
      only_first: that the first got right and the second wrong.
      only_second: that the second got right and the first wrong.
      neither: that both got wrong.

    >>> test = McNemar(both=80, only_first=1, only_second=9, neither=10)
    >>> round(test.exact, 6), test.chi2, round(test.chi2_p, 6)  # 2 · (1 + 10) / 1024, (8 − 1)² / 10
    (0.021484, 4.9, 0.026857)
    """

    both: int
    only_first: int
    only_second: int
    neither: int

    def __post_init__(self) -> None:
        if min(self.both, self.only_first, self.only_second, self.neither) < 0:
            raise ValueError(f"{self} has a negative count")

    @property
    def table(self) -> Int[np.ndarray, "2 2"]:
        """The counts, [first right, first wrong] × [second right, second wrong].

        >>> McNemar(80, 1, 9, 10).table.tolist()
        [[80, 1], [9, 10]]
        """
        return np.array([[self.both, self.only_first], [self.only_second, self.neither]])

    @property
    def discordant(self) -> int:
        """How many examples one got right and the other wrong."""
        return self.only_first + self.only_second

    @property
    def exact(self) -> float:
        """The two-sided p-value: how often so many fair tosses fall at least as unevenly. 1 where there are none.

        >>> McNemar(0, 0, 5, 0).exact  # five tosses that agree: 2 / 2⁵
        0.0625
        >>> McNemar(7, 3, 3, 0).exact
        1.0
        """
        if not self.discordant:
            return 1.0
        from scipy.special import bdtr  # late: only comparing needs it

        # Both tails; they share their middle where the halves are equal, hence the 1.
        return min(1.0, 2 * float(bdtr(min(self.only_first, self.only_second), self.discordant, 0.5)))

    @property
    def chi2(self) -> float:
        """χ² of one degree of freedom, with Edwards' continuity correction: (|b − c| − 1)² / (b + c).

        A difference of less than one example counts as none, or the correction would turn equality into a difference.

        >>> McNemar(0, 12, 5, 0).chi2 == 36 / 17
        True
        >>> McNemar(0, 4, 4, 0).chi2
        0.0
        """
        if not self.discordant:
            return 0.0
        return max(0, abs(self.only_first - self.only_second) - 1) ** 2 / self.discordant

    @property
    def chi2_p(self) -> float:
        """The χ² test's p-value, near to the exact one from some 25 discordant examples on.

        >>> round(McNemar(0, 12, 5, 0).chi2_p, 4)
        0.1456
        """
        # χ² of one degree of freedom is a normal deviate squared.
        return math.erfc(math.sqrt(self.chi2 / 2))

    def reading(self, first: str = "the first", second: str = "the second") -> str:
        """What the exact test says, as a sentence.

        Args:
          first, second: what the two are called.

        >>> McNemar(80, 1, 9, 10).reading("A", "B")
        'B is better: of the 10 examples that only one of the two got right, it has 9 and A has 1; were they equally
        good, chance would split them at least as unevenly 2.15 % of the time.'
        """
        if not self.both + self.discordant + self.neither:
            return "Nothing can be said: there are no examples."
        if not self.discordant:
            return f"Nothing tells {first} and {second} apart: they are right on the very same examples."
        better, worse, more, fewer = first, second, self.only_first, self.only_second
        if fewer > more:
            better, worse, more, fewer = second, first, fewer, more
        one = self.discordant == 1
        examples = f"{'one example' if one else f'{self.discordant:,} examples'} that only one of the two got right"
        chance = f"chance would split {'it' if one else 'them'} at least as unevenly {_percent(self.exact)} of the time"
        if self.exact < LEVEL:
            return (
                f"{better[0].upper()}{better[1:]} is better: of the {examples}, it has {more:,} and {worse} has "
                f"{fewer:,}; were they equally good, {chance}."
            )
        split = f"{first} has {self.only_first:,} and {second} has {self.only_second:,}"
        finding = "The difference may be chance" if more > fewer else "The two err equally often"
        return (
            f"{finding}: of the {examples}, {split}; were they equally good, {chance}, "
            "which does not show that they are."
        )


def mcnemar(first: Bool[np.ndarray, " n"], second: Bool[np.ndarray, " n"]) -> McNemar:
    """The test of two classifiers from what each got right, example by example.

    Raises:
      ValueError: the two are not of one length.

    >>> mcnemar(np.array([True, True, False, False]), np.array([True, False, True, False]))
    McNemar(both=1, only_first=1, only_second=1, neither=1)
    """
    if first.shape != second.shape:
        raise ValueError(f"one classifier was tested on {len(first)} examples, the other on {len(second)}")
    counts = (first & second, first & ~second, ~first & second, ~first & ~second)
    return McNemar(*(int(np.sum(count)) for count in counts))


def _percent(p: float) -> str:
    """Three digits: "2.15 %"; below a thousandth of a per cent only that."""
    return f"{100 * p:.3g} %" if p >= 1e-5 else "less than 0.001 %"
