"""McNemar's test against sums by hand and scipy's own distributions."""

import math

import numpy as np
import pytest
from scipy import stats

from cnnlab.metrics.mcnemar import McNemar, mcnemar


def discordant(b, c):
    return McNemar(both=5, only_first=b, only_second=c, neither=2)


def test_the_table_counts_pairs():
    first = np.array([1, 1, 1, 1, 1, 1, 0, 0, 0, 0], bool)
    second = np.array([1, 1, 1, 0, 0, 0, 1, 0, 0, 0], bool)
    test = mcnemar(first, second)
    assert test == McNemar(both=3, only_first=3, only_second=1, neither=3)
    np.testing.assert_array_equal(test.table, [[3, 3], [1, 3]])
    np.testing.assert_array_equal(mcnemar(second, first).table, test.table.T)
    assert test.exact == pytest.approx(10 / 16)  # 2 · (1 + 4) / 2⁴
    assert test.chi2 == 0.25  # (2 − 1)² / 4


@pytest.mark.parametrize(("b", "c"), [(0, 1), (0, 6), (6, 0), (1, 9), (12, 5), (7, 7), (7, 8), (40, 90), (3000, 3100)])
def test_p_values_are_the_binomial_and_the_chi_square_distributions(b, c):
    n, tail = b + c, sum(math.comb(b + c, k) for k in range(min(b, c) + 1))
    assert discordant(b, c).exact == pytest.approx(min(1, 2 * tail / 2**n), rel=1e-9)
    assert discordant(b, c).exact == pytest.approx(stats.binomtest(b, n, 0.5).pvalue, rel=1e-9)
    chi2 = max(0, abs(b - c) - 1) ** 2 / n
    assert discordant(b, c).chi2 == pytest.approx(chi2)
    assert discordant(b, c).chi2_p == pytest.approx(stats.chi2.sf(chi2, 1), rel=1e-9)


def test_the_order_of_the_two_does_not_matter():
    one, other = discordant(4, 17), discordant(17, 4)
    assert (one.exact, one.chi2, one.chi2_p) == (other.exact, other.chi2, other.chi2_p)


def test_what_is_alike_gives_one():
    for test in (discordant(0, 0), discordant(6, 6), McNemar(0, 0, 0, 0)):
        assert test.exact == 1
        assert test.chi2_p == 1


def test_the_p_value_of_a_fair_coin_is_below_a_level_no_more_often_than_that():
    n = 40
    weights = np.array([math.comb(n, k) for k in range(n + 1)]) / 2**n
    p = np.array([discordant(k, n - k).exact for k in range(n + 1)])
    for level in (0.01, 0.05, 0.2):
        assert weights[p <= level].sum() <= level


def test_a_certain_difference_does_not_fail():
    test = discordant(0, 100_000)
    assert test.exact == 0
    assert test.chi2_p == 0
    assert "less than 0.001 % of the time" in test.reading()


@pytest.mark.parametrize(
    ("test", "start"),
    [
        (discordant(9, 1), "A is better: of the 10 examples that only one of the two got right, it has 9 and B has 1;"),
        (discordant(1, 9), "B is better: of the 10 examples that only one of the two got right, it has 9 and A has 1;"),
        (discordant(3, 5), "The difference may be chance: of the 8 examples that only one of the two got right, A has"),
        (discordant(0, 1), "The difference may be chance: of the one example that only one of the two got right, A"),
        (
            discordant(4, 4),
            "The two err equally often: of the 8 examples that only one of the two got right, A has 4 and",
        ),
        (discordant(0, 0), "Nothing tells A and B apart: they are right on the very same examples."),
        (McNemar(0, 0, 0, 0), "Nothing can be said: there are no examples."),
    ],
)
def test_the_reading_says_which_is_better_or_that_it_may_be_chance(test, start):
    assert test.reading("A", "B").startswith(start)
    assert test.reading("A", "B").count(". ") == 0


def test_the_reading_begins_with_a_capital():
    assert discordant(9, 1).reading().startswith("The first is better")


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="negative"):
        discordant(-1, 2)
    # The hook that checks signatures in tests refuses two lengths already; the function itself must do so without it.
    with pytest.raises(ValueError, match="tested on 3 examples, the other on 2"):
        getattr(mcnemar, "__wrapped__", mcnemar)(np.ones(3, bool), np.ones(2, bool))


def test_half_an_example_more_is_no_difference():
    assert discordant(6, 7).exact == pytest.approx(1)
    assert discordant(6, 7).chi2_p == 1
