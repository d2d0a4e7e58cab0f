"""Sentences about drawings: all true, five different ones, and a flipped fact makes any of them false."""

import collections
import dataclasses
import itertools

import numpy as np
import pytest

from cnnlab.data import sentences as about
from cnnlab.data.grammar import NUMBERS, Phrase, Statement, parse, say
from cnnlab.data.sentences import LONGEST, description, distinct, holds, is_true, parses, sentences
from cnnlab.data.shapes import CLASS_NAMES, COLOURS, SIZES, draw
from cnnlab.data.text import words_of

COUNT = 150
SCENES = [draw("test", i, 96) for i in range(COUNT)]
SAID = [sentences("test", i, 96) for i in range(COUNT)]
OPPOSITE = {"left": "right", "right": "left", "above": "below", "below": "above", "on": "behind", "behind": "on"}
ALL = [(scene, sentence) for scene, five in zip(SCENES, SAID, strict=True) for sentence in five]


def scene_of(*things):
    """A drawing of words alone, "large red circle", at the places of another one."""
    scene = draw("train", 0, 96)
    assert len(scene.things) >= len(things)
    made = []
    for thing, words in zip(scene.things, things, strict=False):
        size, colour, shape = words.split()
        made.append(dataclasses.replace(thing, size=size, colour=colour, shape=shape, area=thing.whole))
    return dataclasses.replace(scene, things=tuple(made), instances=np.zeros((96, 96), np.uint8))


def test_all_sentences_are_true_and_parse():
    for scene, sentence in ALL:
        assert parses(sentence)
        assert is_true(sentence, scene), sentence
        assert is_true(words_of(sentence), scene)
        assert is_true(f"{sentence.capitalize()}.", scene)


def test_five_different_ones_of_mixed_kinds():
    kinds = collections.Counter()
    for five in SAID:
        assert len({words_of(sentence) for sentence in five}) == 5
        kinds.update((parse(s).relation, parse(s).opening, parse(s).closed) for s in five)
    relations, openings = (collections.Counter() for _ in range(2))
    for (relation, opening, _), count in kinds.items():
        relations[relation] += count
        openings[opening] += count
    assert min(relations[name] for name in ("left", "right", "above", "below", "on", "behind")) > 0.01 * len(ALL)
    assert min(openings[name] for name in ("", "there", "only", "among")) > 0.03 * len(ALL)
    lengths = [len(words_of(sentence)) for _, sentence in ALL]
    assert max(lengths) == LONGEST
    assert min(lengths) <= 4
    assert np.std(lengths) > 3


def test_the_words_are_few():
    words = {word for _, sentence in ALL for word in words_of(sentence)}
    assert 40 <= len(words) <= 50
    assert words >= {*CLASS_NAMES, *COLOURS, *SIZES, "left", "right", "above", "below", "top", "behind", "two", "them"}


def test_they_depend_on_split_and_index_alone():
    again = [sentences("test", i, 96) for i in reversed(range(40))][::-1]
    assert again == SAID[:40]
    assert sentences("train", 3, 96) != sentences("test", 3, 96)
    assert sentences("test", 8) == (
        "a small green triangle",
        "a green triangle and nothing else",
        "a small green triangle and nothing else",
        "only a small green triangle",
        "only a green triangle",
    )


@pytest.mark.parametrize(("size", "most"), [(48, 6), (64, 2), (64, 1), (160, 4)])
def test_drawings_of_any_size_and_number(size, most):
    for i in range(60):
        scene = draw("train", i, size, most)
        five = sentences("train", i, size, most)
        assert len(set(five)) == 5
        assert all(is_true(sentence, scene) for sentence in five)


def test_sizes_are_said_of_what_is_seen():
    """Half of it at least, of all things that a phrase with a size speaks of; and they are said of most others."""
    said = 0
    for scene, sentence in ALL:
        for phrase in parse(sentence).phrases():
            if phrase.size and phrase.colour:
                said += 1
                assert all(scene.things[k].area >= 0.5 * scene.things[k].whole for k in about.meaning(phrase, scene))
    assert said > 400


def flipped(statement, change):
    """The statement with each of its phrases changed in turn."""
    for field in ("subject", "objects", "rest"):
        phrases = getattr(statement, field)
        for i, phrase in enumerate(phrases):
            new = change(phrase)
            if new is not None:
                yield dataclasses.replace(statement, **{field: (*phrases[:i], new, *phrases[i + 1 :])})


def other_colour(phrase):
    names = list(COLOURS)
    return dataclasses.replace(phrase, colour=names[names.index(phrase.colour) - 1]) if phrase.colour else None


def other_count(phrase):
    return dataclasses.replace(phrase, count=phrase.count % 6 + 1)


@pytest.mark.parametrize("change", [other_count, other_colour])
def test_flipped_counts_and_colours_are_false(change):
    """Another colour is false unless there is another thing of it, as many: then it is what the sentence says."""
    tried = true = 0
    for scene, sentence in ALL:
        for wrong in flipped(parse(sentence), change):
            assert parses(say(wrong))
            tried += 1
            true += is_true(say(wrong), scene)
    assert tried > 1000
    assert true == 0 if change is other_count else true < 0.02 * tried


def test_flipped_relations_are_false():
    tried = 0
    for scene, sentence in ALL:
        statement = parse(sentence)
        if statement.relation:
            tried += 1
            wrong = say(dataclasses.replace(statement, relation=OPPOSITE[statement.relation]))
            assert parses(wrong)
            assert not is_true(wrong, scene)
    assert tried > 150


def test_flipped_totals_are_false():
    tried = 0
    for scene, sentence in ALL:
        statement = parse(sentence)
        if statement.total:
            tried += 1
            for total in set(NUMBERS) - {statement.total}:
                assert not holds(dataclasses.replace(statement, total=total), scene)
    assert tried > 50


def test_sentences_of_other_drawings_are_mostly_false():
    pairs = [
        is_true(sentence, scene)
        for (i, scene), (k, five) in itertools.product(enumerate(SCENES[:40]), enumerate(SAID[:40]))
        for sentence in five
        if i != k
    ]
    assert np.mean(pairs) < 0.02


def test_what_is_true_of_a_drawing_made_by_hand():
    scene = scene_of("large red circle", "small red circle", "small blue star")
    for true in (
        "two red circles and a blue star",
        "a small red circle",
        "two circles",
        "three shapes, among them a star",
        "only two circles and a star",
        "two small shapes",
        "a large red circle, a small red circle, a blue star and nothing else",
    ):
        assert is_true(true, scene), true
    for false in (
        "a red circle",  # there are two
        "three circles",
        "a green star",
        "a large star",
        "only two circles",
        "a star and nothing else",
        "four shapes, among them a star",
        "two red circles and a small circle",  # one is spoken of twice
        "two red circles and a blue stars",  # no sentence
        "a blue star left of a blue star",
    ):
        assert not is_true(false, scene), false


def test_relations_hold_for_all_of_both_sides():
    scene = scene_of("small red circle", "small red star", "small blue star")
    places = ((30.0, 50.0), (60.0, 50.0), (80.0, 30.0))
    things = tuple(dataclasses.replace(t, centre=p) for t, p in zip(scene.things, places, strict=True))
    scene = dataclasses.replace(scene, things=things)
    assert is_true("a red circle left of two stars", scene)
    assert is_true("a red circle is left of a blue star and a red star", scene)
    assert not is_true("a red star is left of a blue star and a red circle", scene)  # of one of them
    assert is_true("a red star left of a blue star, with a red circle", scene)
    assert is_true("two stars are right of a circle", scene)
    assert not is_true("two red shapes left of a blue star and a circle", scene)
    assert is_true("two red shapes are left of a blue star", scene)
    assert not is_true("a blue star above a red circle", scene)  # 22° up
    assert not is_true("a red star above a blue star", scene)


def test_descriptions_are_of_what_is_shown():
    scene = scene_of("large red circle", "small red circle", "small blue star")
    assert description(scene) == "1 blue star, 2 red circle"
    assert description(scene) == description(scene_of("small blue star", "small red circle", "small red circle"))
    assert description(scene) != description(scene_of("large red circle", "small red circle", "small red star"))


def test_distinct_drawings():
    numbers = distinct("test", 200, 64)
    assert (len(numbers), numbers[0]) == (200, 0)
    assert (np.diff(numbers) > 0).all()
    every = [description(draw("test", i, 64)) for i in range(numbers[-1] + 1)]
    assert len({every[i] for i in numbers}) == 200 == len(set(every))
    assert distinct("test", 50, 64).tolist() == numbers[:50].tolist()


def test_distinct_drawings_end_where_there_are_no_more():
    found = [description(draw("test", i, 48, 1)) for i in distinct("test", 40, 48, 1).tolist()]
    assert set(found) == {description(draw("test", i, 48, 1)) for i in range(5 * 40)}
    assert len(found) == len(set(found)) <= 30  # five shapes of six colours


def test_a_picture_can_be_told_by_its_sentences():
    """As far as their words go, a sentence fits few other drawings of 150."""
    fits = [sum(is_true(sentence, scene) for scene in SCENES) for five in SAID[::25] for sentence in five]
    assert min(fits) == 1
    assert np.mean(1 / np.array(fits)) > 0.8


def test_phrases_know_their_things():
    scene = scene_of("large red circle", "small red circle", "small blue star")
    assert about.meaning(Phrase(1, "shape", size="small"), scene) == {1, 2}
    assert about.groups(scene, ("colour",))[0][0] in (Phrase(2, colour="red"), Phrase(1, colour="blue"))
    assert holds(Statement((Phrase(3),)), scene)
