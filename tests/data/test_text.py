"""Words, vocabularies, and files that are damaged or another's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.data import text
from cnnlab.data.annotations import Findings
from cnnlab.data.text import END, PAD, START, UNK, build, checked_words, drawn_sentences, mask_of, words_of
from cnnlab.errors import UserError

SENTENCES = [("a", "red", "circle"), ("a", "blue", "circle"), ("a", "red", "star"), ("red",)]


@pytest.mark.parametrize(
    ("sentence", "words"),
    [
        ("A man riding a wave.", "a man riding a wave"),
        ("A truck with a dog on it's roof , and an mp3-player!\n", "a truck with a dog on its roof and an mp3player"),
        ("Two  men\tat 8:25 - “quoted” – (here)", "two men at 825 quoted here"),
        ("Ein GROSSES Café…", "ein grosses café"),
        ("Cafe\u0301 \ufb01sh", "café fish"),  # composed, and the ligature taken apart
        ("हिन्दी में", "हिन्दी में"),  # marks on letters are kept
        (" .,!? ", ""),
        ("", ""),
    ],
)
def test_words(sentence, words):
    assert words_of(sentence) == tuple(words.split())


def test_no_word_is_a_special_one():
    assert all(words_of(name) != (name,) for name in text.SPECIAL)


def test_a_vocabulary_is_ordered_by_count_and_alphabet():
    vocabulary = build(SENTENCES, minimum=1)
    assert vocabulary.words == ("a", "red", "circle", "blue", "star")
    assert vocabulary.counts == (3, 3, 2, 1, 1)
    assert (len(vocabulary), vocabulary.sentences, vocabulary.unknown) == (9, 4, 0)
    assert build(SENTENCES[::-1], minimum=1) == vocabulary


def test_rare_words_are_unknown():
    vocabulary = build(SENTENCES, minimum=2)
    assert (vocabulary.words, vocabulary.unknown) == (("a", "red", "circle"), 2)
    tokens = vocabulary.encode(("a", "blue", "circle"), 6)
    assert tokens.dtype == np.int32
    assert tokens.tolist() == [START, 4, UNK, 6, END, PAD]
    assert vocabulary.decode(tokens) == ("a", "<unk>", "circle")
    assert build([("w",) * 5 + ("x",) * 4]).words == ("w",)  # five times, if nothing else is said


def test_encoding_and_decoding():
    vocabulary = build(SENTENCES, minimum=1)
    for words in SENTENCES:
        assert vocabulary.decode(jnp.array(vocabulary.encode(words, 5))) == words
        assert vocabulary.decode(vocabulary.encode(words, 12)) == words
    assert [vocabulary.word(vocabulary.number(word)) for word in vocabulary.words] == list(vocabulary.words)
    assert [vocabulary.word(i) for i in range(4)] == list(text.SPECIAL)
    assert vocabulary.decode([START, 4, PAD, 5, END, 6]) == ("a", "red")
    with pytest.raises(UserError, match='"a red circle" has 3 words, and 4 tokens hold 2'):
        vocabulary.encode(("a", "red", "circle"), 4)


def test_a_vocabulary_of_nothing():
    with pytest.raises(UserError, match=r"no word of the 4 training sentences stands there 9 times.* does 3 times"):
        build(SENTENCES, minimum=9)
    with pytest.raises(UserError, match="no word of the 0 training sentences"):
        build([])
    with pytest.raises(UserError, match="must occur 0 times: it must be 1 or more"):
        build(SENTENCES, minimum=0)


def test_broken_json(tmp_path):
    path = tmp_path / "a.json"
    with pytest.raises(UserError, match=rf"{path} cannot be read \(No such file"):
        text.parse_json(path)
    path.write_text('{"kind": 3,\n "words": ["a",,]}')
    with pytest.raises(UserError, match=rf"{path}:2: the JSON is broken, at column 16"):
        text.parse_json(path)
    path.write_bytes(b'{"kind":\n\n"\xff"}')
    with pytest.raises(UserError, match=rf"{path}:3: the byte 0xff is no UTF-8"):
        text.parse_json(path)


def test_a_byte_order_mark_is_passed_over(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfname\n")
    assert text.read_text(path) == "name\n"
    path.write_bytes(b"\xef\xbb\xbfname\nb\x80")
    with pytest.raises(UserError, match=rf"{path}:2: the byte 0x80 is no UTF-8"):
        text.read_text(path)


def test_long_and_empty_sentences(capsys):
    findings = Findings()
    assert checked_words("A b c.", "f:1", 3, False, findings) == ("a", "b", "c")
    assert checked_words("A b c.", "f:1", 0, False, findings) == ("a", "b", "c")
    assert capsys.readouterr().err == ""
    with pytest.raises(UserError, match=r"^f:2: the sentence has 4 words, and config\.words is 3: make that 4 or more"):
        checked_words("a b c d", "f:2", 3, False, findings)
    assert checked_words("a b c d", "f:2", 3, True, findings) == ("a", "b", "c")
    assert checked_words(" ! ", "f:3", 3, False, findings) == ()
    assert capsys.readouterr().err.splitlines() == [
        "f:2: the sentence has 4 words, and config.words is 3; cut off there",
        'f:3: the sentence "!" has no words and is left out',
    ]


def test_cut_sentences_are_counted(capsys):
    findings = Findings()
    for line in range(30):
        checked_words("a b", f"f:{line}", 1, True, findings)
    findings.close()
    said = capsys.readouterr().err.splitlines()
    assert (
        said[-1] == "30 sentences have more than 1 words and were cut off there, of which the first 20 are named above"
    )
    assert len(said) == 21


def test_masks():
    mask = mask_of(jnp.array([[3, 0], [5, 1]]), 4)
    assert mask.astype(int).tolist() == [[[1, 1, 1, 0], [0, 0, 0, 0]], [[1, 1, 1, 1], [1, 0, 0, 0]]]
    vocabulary = build(SENTENCES, minimum=1)
    tokens = vocabulary.encode(("a", "red"), 7)
    assert (mask_of(np.array([4]), 7)[0] == (tokens != PAD)).all()


def test_sentences_are_drawn_by_place_alone():
    """Of pictures with 4, 2 and 1 sentences, each [START, its number, END]."""
    number = np.arange(1, 13).reshape(3, 4) + UNK
    there = np.arange(4) < np.array([[4], [2], [1]])
    tokens = np.stack([np.full_like(number, START), number, np.full_like(number, END)], -1) * there[..., None]
    batch = {"tokens": tokens, "length": 3 * there, "position": np.arange(3)}
    draw_two, seen = jax.jit(lambda batch, key: drawn_sentences(batch, 2, key)), set()
    for step in range(20):
        found = jax.device_get(draw_two(batch, jax.random.key(step)))
        assert found["tokens"].shape == (3, 2, 3)
        assert found["length"].tolist() == [[3, 3], [3, 3], [3, 0]]  # what is there comes first
        drawn = found["tokens"][..., 1]
        assert set(drawn[0]) <= set(number[0])
        assert drawn[0, 0] != drawn[0, 1]
        assert set(drawn[1]) == set(number[1, :2])
        assert drawn[2].tolist() == [number[2, 0], PAD]
        seen.add(tuple(drawn[0]))
        shares = {name: array[1:] for name, array in batch.items()}
        for name, array in jax.device_get(draw_two(shares, jax.random.key(step))).items():
            assert (array == found[name][1:]).all()
    assert len(seen) > 3  # of six pairs in two orders
