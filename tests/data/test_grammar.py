"""Sentences about shapes: what is said is what is read, and what is no sentence."""

import itertools

import pytest

from cnnlab.data.grammar import NUMBERS, RELATIONS, Phrase, Statement, parse, say
from cnnlab.data.shapes import CLASS_NAMES, COLOURS, SIZES
from cnnlab.data.text import words_of

RED, STARS, ANY = Phrase(1, "circle", "red"), Phrase(2, "star", "orange", "small"), Phrase(1, size="large")


@pytest.mark.parametrize(
    ("sentence", "statement"),
    [
        ("a red circle", Statement((RED,))),
        ("two small orange stars and a red circle", Statement((STARS, RED))),
        ("a red circle, two small orange stars and a large shape", Statement((RED, STARS, ANY))),
        ("there is a red circle", Statement((RED,), opening="there")),
        ("there are two small orange stars and a red circle", Statement((STARS, RED), opening="there")),
        ("only a red circle", Statement((RED,), opening="only")),
        ("a red circle and nothing else", Statement((RED,), closed=True)),
        ("a red circle, a large shape and nothing else", Statement((RED, ANY), closed=True)),
        ("four shapes, among them a red circle", Statement((RED,), opening="among", total=4)),
        ("a red circle left of a large shape", Statement((RED,), "left", (ANY,))),
        ("a red circle is on top of a large shape", Statement((RED,), "on", (ANY,), verb=True)),
        ("two small orange stars are behind a red circle", Statement((STARS,), "behind", (RED,), verb=True)),
        ("a red circle above a large shape, with two small orange stars", Statement((RED,), "above", (ANY,), (STARS,))),
        (
            "there is a red circle below a large shape, with two small orange stars and nothing else",
            Statement((RED,), "below", (ANY,), (STARS,), opening="there", closed=True),
        ),
        ("a red circle right of a large shape and two small orange stars", Statement((RED,), "right", (ANY, STARS))),
        (
            "a red circle left of a large shape and a star, with two crosses and nothing else",
            Statement((RED,), "left", (ANY, Phrase(1, "star")), (Phrase(2, "cross"),), closed=True),
        ),
        (
            "five shapes, among them a red circle left of two small orange stars",
            Statement((RED,), "left", (STARS,), opening="among", total=5),
        ),
    ],
)
def test_what_is_said_is_what_is_read(sentence, statement):
    assert say(statement) == sentence
    assert parse(sentence) == statement
    assert parse(f"  {sentence.capitalize()}.") == statement
    assert parse(words_of(sentence)) == statement


def test_every_phrase():
    for count, shape, colour, size in itertools.product(
        (1, *NUMBERS), (*CLASS_NAMES, "shape"), ("", *COLOURS), ("", *SIZES)
    ):
        phrase = Phrase(count, shape, colour, size)
        read = parse(" ".join(phrase.words()))
        assert read.subject == (phrase,)


def test_every_relation():
    for relation, verb in itertools.product(RELATIONS, (False, True)):
        statement = Statement((STARS,), relation, (RED,), verb=verb)
        assert parse(say(statement)) == statement


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "a",
        "a red",
        "circle",
        "red circle",
        "a red circles",
        "an red circle",
        "a orange circle",
        "two circle",
        "two red circle",
        "a circle red",
        "a red large circle",
        "a red red circle",
        "a red circle and",
        "and a red circle",
        "a red circle a blue star",
        "a red circle and a blue star and a cross",
        "a red circle is",
        "a red circle is a star",
        "a red circle are left of a star",
        "two circles is left of a star",
        "there are a red circle",
        "there is two circles",
        "there is a circle is left of a star",
        "a red circle left of",
        "a red circle left a star",
        "a red circle on a star",
        "a circle and a cross left of a star",
        "a circle left of a star left of a cross",
        "a circle with a star",
        "a circle above a star with",
        "a circle above a star a cross with a square",
        "only a circle above a star",
        "only a circle and nothing else",
        "a circle is above a star and nothing else",
        "a circle and nothing",
        "a shapes among them a circle",
        "seven shapes among them a circle",
        "two shapes",  # that is a phrase:
        "a pink circle",
        "a red circle and <unk>",
        "a red circle a red circle a red circle",
    ],
)
def test_what_is_no_sentence(wrong):
    assert (parse(wrong) is None) is (wrong != "two shapes")
