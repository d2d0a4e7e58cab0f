"""Scores of sentences: by hand, and by the field's own program on sentences of drawn shapes."""

import math
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from cnnlab.data.sentences import sentences as drawn
from cnnlab.data.text import words_of
from cnnlab.errors import UserError
from cnnlab.metrics.sentences import bleu, cider, has_meteor, meteor, scores

SAID = words_of("a red circle left of a blue square")

needs_java = pytest.mark.skipif(not has_meteor(), reason="METEOR needs pycocoevalcap and java")


def corpus():
    """30 pictures' sentences and one to five references of each, some of them as bad as can be."""
    candidates, references = [], []
    for i in range(26):
        first, *own = map(words_of, drawn("test", i))
        if i % 3 == 0:
            first = words_of(drawn("test", i + 40)[0])  # another drawing's: little is right
        if i % 7 == 0:
            first = first[:3] * 2  # repeated, and mostly shorter than what people wrote
        candidates.append(first)
        references.append(own[: 1 + i % 4])
    candidates += [(), ("a",), ("zebra", "zebra"), SAID]
    references += [[SAID], [("a",), (), SAID], [SAID, SAID], [SAID, SAID[:-1], *references[0], SAID[::-1]]]
    return candidates, references


def as_the_program_takes_it(candidates, references):
    """Its two arguments: texts by number."""
    return (
        {i: [" ".join(words) for words in own] for i, own in enumerate(references)},
        {i: [" ".join(words)] for i, words in enumerate(candidates)},
    )


def test_bleu_by_hand():
    # Papineni's example: of seven "the" two are right, for no one reference has more; of the pairs none is.
    the = bleu([("the",) * 7], [[words_of("the cat is on the mat"), words_of("there is a cat on the mat")]])
    assert the == pytest.approx((2 / 7, 0, 0, 0), abs=1e-3)
    # Two pictures together, not a mean of each one's. Words: 3 of 3 and 1 of 2. Pairs: 2 of 2 and 0 of 1. Threes: 1 of
    # 1, and none. c = 3 + 2 and r = 4 + 3, so all are times exp(1 − 7/5).
    found = bleu(
        [("a", "red", "star"), ("blue", "ring")],
        [[("a", "red", "star", "here")], [("one", "blue", "square"), ("a", "large", "blue", "square", "here")]],
        most=3,
    )
    brevity = math.exp(-2 / 5)
    expected = (4 / 5, math.sqrt(4 / 5 * 2 / 3), (4 / 5 * 2 / 3 * 1 / 1) ** (1 / 3))
    assert found == pytest.approx([value * brevity for value in expected], abs=1e-8)


def test_an_ngram_is_right_as_often_as_in_the_one_reference_that_has_it_most_often():
    # "a a a b b": "a" is twice in the first, "b" twice in the second; "a" once there adds nothing: 2 + 2 of 5.
    (found,) = bleu([tuple("aaabb")], [[tuple("aacde"), tuple("abbde")]], most=1)
    assert found == pytest.approx(4 / 5)


def test_brevity_goes_by_the_nearest_length_and_of_two_by_the_shorter():
    four = tuple("abcd")
    # 3 and 5 words are as near to 4: r is 3, and nothing is lost; by 5 it would be exp(1 − 5/4).
    assert bleu([four], [[tuple("abcde"), tuple("abc")]], 1) == pytest.approx([1])
    # 5 is nearer than 2: exp(1 − 5/4).
    assert bleu([four], [[tuple("ab"), tuple("abcde")]], 1) == pytest.approx([math.exp(-1 / 4)])
    # One too long makes up for one too short: c = 2 + 6, r = 4 + 4.
    both = bleu([tuple("ab"), tuple("abcdab")], [[four], [four]], 1)
    assert both == pytest.approx([(2 + 4) / 8])  # the second "a" and "b" are not right


def test_all_right_is_1_and_nothing_right_0():
    assert bleu([SAID], [[SAID]]) == pytest.approx((1, 1, 1, 1))
    assert bleu([("zebra",) * 4], [[SAID]]) == pytest.approx((0, 0, 0, 0), abs=1e-3)
    assert bleu([()], [[SAID]]) == (0, 0, 0, 0)


def test_a_sentence_without_words_costs_only_brevity():
    # c = 8, r = 16.
    assert bleu([SAID, ()], [[SAID], [SAID]]) == pytest.approx([math.exp(-1)] * 4)


def test_cider_by_hand():
    # Three pictures. Of their references 3 have "a", 2 "star", 1 each "red", "ring", "a red", "red star", "a star",
    # "a ring" and "a red star". By log(3 / d) the words weigh: a 0, star s = log 1.5, all else t = log 3.
    s, t = math.log(1.5), math.log(3)
    mean, each = cider(
        [("a", "star"), ("a", "star"), ("ring", "ring")],
        [[("a", "red", "star")], [("a", "star")], [("a", "ring")]],
    )
    # First: words a 0 and star s against 0, t, s: s² / (s √(s² + t²)). Pairs: "a star" is in no pair of the reference.
    # They differ by a word: × exp(−1 / 72). Mean of four n, × 10.
    first = 10 / 4 * s / math.hypot(s, t) * math.exp(-1 / 72)
    # Second: 1 for words and for pairs, nothing for the longer, which it has not.
    second = 10 / 4 * (1 + 1)
    # Third: "ring" twice is 2t, cut to the reference's t: t·t / (2t · t); pairs: "ring ring" is not there.
    third = 10 / 4 * 1 / 2
    np.testing.assert_allclose(each, [first, second, third], rtol=1e-12)
    assert mean == pytest.approx((first + second + third) / 3, rel=1e-12)


def test_cider_is_the_mean_over_a_pictures_references():
    other = [("the", "ring")]
    _, each = cider([("a", "star"), ("x",)], [[("a", "star"), ("b",), ("c",), ("d",)], other])
    _, alone = cider([("a", "star"), ("x",)], [[("a", "star")], other])
    assert alone[0] == pytest.approx(5)  # right in n = 1 and 2 of the four
    assert each[0] == pytest.approx(5 / 4)


def test_cider_of_a_single_picture_is_0():
    # log(1 / 1): each n-gram weighs nothing.
    mean, each = cider([SAID], [[SAID]])
    assert mean == 0
    assert each.tolist() == [0]


def test_cider_without_words():
    mean, each = cider([(), SAID], [[SAID], [()]])
    assert mean == 0
    assert each.tolist() == [0, 0]


def test_bleu_is_the_fields_program():
    program = pytest.importorskip("pycocoevalcap.bleu.bleu")
    candidates, references = corpus()
    assert len(candidates) == 30
    expected, _ = program.Bleu(4).compute_score(*as_the_program_takes_it(candidates, references), verbose=0)
    assert 0.01 < expected[3] < expected[0] < 0.99
    np.testing.assert_allclose(bleu(candidates, references), expected, rtol=0, atol=1e-9)
    for words, own in zip(candidates, references, strict=True):  # each a corpus: also where nothing is right
        expected, _ = program.Bleu(4).compute_score(*as_the_program_takes_it([words], [own]), verbose=0)
        np.testing.assert_allclose(bleu([words], [own]), expected, rtol=0, atol=1e-9)


def test_cider_is_the_fields_program():
    program = pytest.importorskip("pycocoevalcap.cider.cider")
    candidates, references = corpus()
    expected, each = program.Cider().compute_score(*as_the_program_takes_it(candidates, references))
    assert each.min() == 0
    assert len(set(each.round(6))) > 20
    found, own = cider(candidates, references)
    assert found == pytest.approx(expected, rel=0, abs=1e-9)
    np.testing.assert_allclose(own, each, rtol=0, atol=1e-9)


@needs_java
def test_meteor_by_hand():
    # α = 0.85, β = 0.2, γ = 0.6, δ = 0.75: function words weigh 0.25, others 0.75. The first has all of 8 words in one
    # run, which counts as none; the second 2 of 8, apart, in two: "a", a function word, and "circle". The third's line
    # break and bars must not part it, and it has all of 3; the fourth has none.
    # Precision is 1, recall (0.75 · 8 + 0.25 · 5) / (0.75 · (5 + 5 + 2 + 5) + 0.25 · (3 + 3 + 1 + 3)).
    recall = (0.75 * (5 + 1 + 2) + 0.25 * (3 + 1 + 1)) / (0.75 * 17 + 0.25 * 10)
    mean = recall / (0.85 + 0.15 * recall)
    expected = mean * (1 - 0.6 * (2 / 13) ** 0.2)  # two runs of 13 words
    candidates = [SAID, ("a", "circle"), ("a|||", "red\ncircle"), ()]
    references = [[SAID], [SAID], [("a", "red", "circle")], [SAID]]
    assert meteor(candidates, references) == pytest.approx(expected, rel=1e-9)


@pytest.mark.slow
@needs_java
def test_meteor_is_the_fields_program():
    from pycocoevalcap.meteor.meteor import Meteor

    candidates, references = corpus()
    candidates, references = [*candidates, words_of("ça va né")], [*references, [words_of("çà va nè")]]
    program = Meteor()
    expected, _ = program.compute_score(*as_the_program_takes_it(candidates, references))
    program.meteor_p.stdout.close()
    program.meteor_p.stderr.close()
    assert 0.1 < expected < 0.9
    assert meteor(candidates, references) == pytest.approx(expected, abs=1e-12)


@pytest.fixture
def java(tmp_path, monkeypatch):
    """Puts a program of the given lines in java's place."""
    pytest.importorskip("pycocoevalcap")

    def put(*lines: str) -> None:
        program = Path(tmp_path) / "java"
        program.write_text("\n".join(["#!/bin/sh", *lines, ""]))
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
        assert shutil.which("java") == str(program)

    return put


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (["echo Unable to locate a Java Runtime. >&2", "echo more >&2", "exit 1"], "Unable to locate a Java Runtime."),
        (["read line", "exit 1"], "it ended without an answer"),
        (["read line", "echo Error: specify SCORE or EVAL"], "Error: specify SCORE or EVAL"),
        (["while read line; do echo none; done"], "could not convert string to float: 'none'"),
    ],
)
def test_a_java_that_fails_is_told_and_left_out(java, capfd, lines, why):
    java(*lines)
    assert has_meteor()
    # So many lines that the program is gone before all are written.
    assert meteor([SAID] * 2000, [[SAID]] * 2000) is None
    assert capfd.readouterr() == ("", f"METEOR is left out: java failed ({why})\n")


def test_a_java_that_answers(java):
    # It takes a line of a picture for its counts, and tells of these together each one's score and the corpus's.
    java(
        "while read word rest; do",
        '  if [ "$word" = SCORE ]; then echo 1.0 2.0; else echo 0.1; echo 0.3; echo 0.2; fi',
        "done",
    )
    assert meteor([SAID, ("a",)], [[SAID], [SAID, ("star",)]]) == 0.2


def test_all_scores():
    found = scores([SAID, ("a",)], [[SAID], [SAID, ("star",)]])
    assert list(found) == ["BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "CIDEr"]
    assert [found[f"BLEU-{n}"] for n in (1, 2, 3, 4)] == list(bleu([SAID, ("a",)], [[SAID], [SAID, ("star",)]]))
    assert found["CIDEr"] == cider([SAID, ("a",)], [[SAID], [SAID, ("star",)]])[0]


def test_without_java_or_its_package_there_is_no_meteor(tmp_path, monkeypatch, capfd):
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(tmp_path))
        assert not has_meteor()
        assert meteor([SAID], [[SAID]]) is None
    monkeypatch.setitem(sys.modules, "pycocoevalcap", None)
    assert not has_meteor()
    assert meteor([SAID], [[SAID]]) is None
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("score", [bleu, cider, meteor])
def test_wrong_arguments_are_refused(score):
    with pytest.raises(UserError, match=r"^there are no sentences to score$"):
        score([], [])
    with pytest.raises(UserError, match=r"^1 sentences cannot be scored by the references of 2 pictures"):
        score([SAID], [[SAID], [SAID]])
    with pytest.raises(UserError, match=r"picture 1 .* has no references"):
        score([SAID, SAID], [[SAID], []])


def test_scores_of_nothing():
    assert scores([], []) == {}
    with pytest.raises(UserError, match=r"1 sentences"):
        scores([SAID], [])
    with pytest.raises(UserError, match=r"0 sentences"):
        scores([], [[SAID]])
