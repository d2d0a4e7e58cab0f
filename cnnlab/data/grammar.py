"""The language of sentences about drawn shapes: what they say as data, in words, and read back from words.

    SENTENCE   [OPENING] LIST [CLOSING]  |  [OPENING] PHRASE [is | are] RELATION LIST [with LIST] [CLOSING]
    OPENING    there is | there are | only | NUMBER shapes among them
    CLOSING    and nothing else
    LIST       PHRASE  |  PHRASE … PHRASE and PHRASE; the "and" is CLOSING's where that follows
    PHRASE     a | an | NUMBER, [SIZE], [COLOUR], a shape or "shape", in its plural after a number
    RELATION   left of | right of | above | below | on top of | behind

"only" goes with no relation, "is" and "are" with neither OPENING nor CLOSING. Articles, plurals and verbs must agree.
In writing, commas stand between phrases; words alone count when a sentence is read.
"""

import dataclasses
from collections.abc import Sequence

from cnnlab.data.shapes import CLASS_NAMES, COLOURS, SIZES
from cnnlab.data.text import words_of

ANY = "shape"  # of whatever kind
PLURALS = {name: "crosses" if name == "cross" else f"{name}s" for name in (*CLASS_NAMES, ANY)}
NUMBERS = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six"}
RELATIONS = {
    "left": ("left", "of"),
    "right": ("right", "of"),
    "above": ("above",),
    "below": ("below",),
    "on": ("on", "top", "of"),
    "behind": ("behind",),
}
SINGULARS = {plural: name for name, plural in PLURALS.items()}
COUNTS = {word: count for count, word in NUMBERS.items()}


@dataclasses.dataclass(frozen=True)
class Phrase:
    """Words for things that are alike.

    Attributes:
      count: how many things there are of which the rest is true, 1 to 6.
      shape: of `shapes.CLASS_NAMES`, or "shape".
      colour, size: of `shapes.COLOURS` and `shapes.SIZES`; "": not said.
    """

    count: int
    shape: str = ANY
    colour: str = ""
    size: str = ""

    def words(self) -> tuple[str, ...]:
        """Its words.

        >>> Phrase(1, "star", "orange").words(), Phrase(2, "cross", size="small").words()
        (('an', 'orange', 'star'), ('two', 'small', 'crosses'))
        """
        noun = self.shape if self.count == 1 else PLURALS[self.shape]
        rest = [word for word in (self.size, self.colour) if word] + [noun]
        return (article(rest[0]) if self.count == 1 else NUMBERS[self.count], *rest)


@dataclasses.dataclass(frozen=True)
class Statement:
    """What a sentence says.

    Attributes:
      subject: what it speaks of; a single phrase where there is a relation.
      relation: of `RELATIONS`, of each thing of the subject to each of the objects; "": none.
      objects: the other side of the relation.
      rest: what else it names, after "with".
      opening: "", "there", "only" or "among".
      total: all things of the picture, after "among"; else 0.
      verb: "is" or "are" stands before the relation.
      closed: it ends "and nothing else".
    """

    subject: tuple[Phrase, ...]
    relation: str = ""
    objects: tuple[Phrase, ...] = ()
    rest: tuple[Phrase, ...] = ()
    opening: str = ""
    total: int = 0
    verb: bool = False
    closed: bool = False

    def phrases(self) -> tuple[Phrase, ...]:
        """All, in the order of the words."""
        return self.subject + self.objects + self.rest

    def whole(self) -> bool:
        """Whether it says that there is nothing else."""
        return self.closed or self.opening == "only"


def article(word: str) -> str:
    """The indefinite article before a word of the language."""
    return "an" if word[0] in "aeiou" else "a"


def say(statement: Statement) -> str:
    """The sentence, without capital and full stop.

    >>> red, stars = Phrase(1, "circle", "red"), Phrase(2, "star", "blue")
    >>> say(Statement((red,), "left", (stars,), opening="there"))
    'there is a red circle left of two blue stars'
    >>> say(Statement((stars, red), opening="among", total=4)), say(Statement((stars, red), closed=True))
    ('four shapes, among them two blue stars and a red circle', 'two blue stars, a red circle and nothing else')
    """
    first = statement.subject[0]
    parts = {"": "", "there": f"there {_verb(first)} ", "only": "only "}
    text = f"{NUMBERS[statement.total]} shapes, among them " if statement.opening == "among" else ""
    text += parts.get(statement.opening, "")
    lists = [statement.subject, statement.objects, statement.rest]
    last = max(i for i, phrases in enumerate(lists) if phrases)
    said = [_listed(phrases, statement.closed and i == last) for i, phrases in enumerate(lists)]
    text += said[0]
    if statement.relation:
        text += f" {_verb(first)}" * statement.verb + f" {' '.join(RELATIONS[statement.relation])} {said[1]}"
    if statement.rest:
        text += f", with {said[2]}"
    return text + " and nothing else" * statement.closed


def _verb(phrase: Phrase) -> str:
    return "is" if phrase.count == 1 else "are"


def _listed(phrases: Sequence[Phrase], closed: bool) -> str:
    *before, last = [" ".join(phrase.words()) for phrase in phrases] or [""]
    return (", " if closed else " and ").join([", ".join(before), last]) if before else last


def parse(sentence: str | Sequence[str]) -> Statement | None:
    """What a sentence says; None: it is none of the language.

    Args:
      sentence: a text, or its words.

    >>> parse("A red circle left of a blue square.").relation
    'left'
    >>> parse("a circles") is parse("an red circle") is parse("") is None
    True
    """
    words = words_of(sentence) if isinstance(sentence, str) else tuple(sentence)
    try:
        return _Reader(words).statement()
    except _Foreign:
        return None


class _Foreign(Exception):
    """The words are none of the language."""


class _Reader:
    """Reads words from the left; each method takes what it is named for or raises `_Foreign`."""

    def __init__(self, words: tuple[str, ...]):
        self.words = words
        self.at = 0

    def next_is(self, *words: str) -> bool:
        return self.words[self.at : self.at + len(words)] == words

    def takes(self, *words: str) -> bool:
        """Whether these words are next; then they are passed."""
        found = self.next_is(*words)
        self.at += len(words) * found
        return found

    def statement(self) -> Statement:
        opening, total, verb = self.opening()
        subject, open_end = self.phrases()
        fields = {}
        if opening == "there" and verb != _verb(subject[0]):
            raise _Foreign
        said = next((w for w in ("is", "are") if self.takes(w)), "")
        relation = next((name for name, words in RELATIONS.items() if self.takes(*words)), "")
        if relation:
            if len(subject) > 1 or opening == "only" or (said and (opening or said != _verb(subject[0]))):
                raise _Foreign
            objects, open_end = self.phrases()
            fields |= {"relation": relation, "objects": objects, "verb": bool(said)}
            if not open_end and self.takes("with"):
                fields["rest"], open_end = self.phrases()
        elif said:
            raise _Foreign
        closed = self.takes("and", "nothing", "else")
        # Without its own "and" a list stands before CLOSING alone, and "is" or "only" beside it says too much.
        if self.at != len(self.words) or (open_end and not closed) or (closed and (said or opening == "only")):
            raise _Foreign
        return Statement(subject, **fields, opening=opening, total=total, closed=closed)

    def opening(self) -> tuple[str, int, str]:
        """The opening, its total, its verb."""
        for verb in ("is", "are"):
            if self.takes("there", verb):
                return "there", 0, verb
        if self.takes("only"):
            return "only", 0, ""
        count = COUNTS.get(self.words[0], 0) if self.words else 0
        if count and self.takes(self.words[0], "shapes", "among", "them"):
            return "among", count, ""
        return "", 0, ""

    def phrases(self) -> tuple[tuple[Phrase, ...], bool]:
        """A list, and whether it lacks the "and" before its last phrase."""
        found = [self.phrase()]
        while self.at < len(self.words) and self.words[self.at] in ("a", "an", *COUNTS):
            found.append(self.phrase())
        if self.next_is("and") and not self.next_is("and", "nothing"):
            self.at += 1
            found.append(self.phrase())
            return tuple(found), False
        return tuple(found), len(found) > 1

    def phrase(self) -> Phrase:
        words = (*self.words[self.at :], "", "", "", "")
        first, i = words[0], 1
        size = words[i] if words[i] in SIZES else ""
        i += bool(size)
        colour = words[i] if words[i] in COLOURS else ""
        i += bool(colour)
        count = COUNTS.get(first, 1)
        shape = SINGULARS.get(words[i], "") if count > 1 else words[i]
        if shape not in PLURALS or (count == 1 and first != article(words[1])):
            raise _Foreign
        self.at += i + 1
        return Phrase(count, shape, colour, size)
