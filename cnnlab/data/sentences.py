"""True sentences about drawn shapes, five of each drawing, and whether any sentence is true of a drawing.

What the sentences can say: see `grammar.py`. When they are true: a phrase speaks of all things of its kind, and there
must be as many as it counts ("a red circle": one red circle, no more); no thing is spoken of twice; a relation holds
for each thing of its subject and each of its objects (see `arrangement.py`); "five shapes, among them", "only" and
"and nothing else" count everything that is drawn.

The five are of different kinds: a list of colours and shapes, one with sizes, two with a relation, and one that counts
by shape or colour or says how many there are. A list without a relation names everything that is drawn, unless
"among them" says otherwise; the others name as much of it as `LONGEST` words hold. Sizes are said of what is seen by
half or more, relations where they are clear. The five depend on split, index, size and most of the drawing alone.
"""

import collections
import dataclasses
import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Int

from cnnlab.data.arrangement import clearly_lies, lies
from cnnlab.data.grammar import RELATIONS, Phrase, Statement, parse, say
from cnnlab.data.shapes import SPLITS, Scene, draw

LONGEST = 16  # words of a sentence
EACH = 5  # sentences of a drawing
STREAM = 16  # keeps the draws of words apart from those of `shapes.draw`
SEEN = 0.5  # of a thing, at least, or its size is not said
LOOKED_AT = 5  # drawings for each different one that is asked for

Group = tuple[Phrase, frozenset[int]]  # a phrase and the things that it speaks of, which are all of their kind


def parses(sentence: str | Sequence[str]) -> bool:
    """Whether a sentence, a text or its words, is one of `grammar.py`."""
    return parse(sentence) is not None


def is_true(sentence: str | Sequence[str], scene: Scene) -> bool:
    """Whether a sentence, a text or its words, says the truth about a drawing; one that does not parse does not."""
    statement = parse(sentence)
    return statement is not None and holds(statement, scene)


def holds(statement: Statement, scene: Scene) -> bool:
    """Whether a statement is true of a drawing; see the top of this file."""
    meant = [meaning(phrase, scene) for phrase in statement.phrases()]
    named = frozenset().union(*meant)
    if any(len(things) != phrase.count for things, phrase in zip(meant, statement.phrases(), strict=True)):
        return False
    if len(named) != sum(map(len, meant)) or statement.total not in (0, len(scene.things)):
        return False
    if statement.whole() and len(named) != len(scene.things):
        return False
    objects = frozenset().union(*meant[1 : 1 + len(statement.objects)])
    pairs = itertools.product(meant[0], objects) if statement.relation else ()
    return all(lies(scene, first, statement.relation, second) for first, second in pairs)


def meaning(phrase: Phrase, scene: Scene) -> frozenset[int]:
    """The things of a drawing of a phrase's kind, numbered from 0."""
    wanted = [(name, word) for name in ("size", "colour") if (word := getattr(phrase, name))]
    wanted += [("shape", phrase.shape)] * (phrase.shape != "shape")
    fits = [all(getattr(thing, name) == word for name, word in wanted) for thing in scene.things]
    return frozenset(np.flatnonzero(fits).tolist())


def description(scene: Scene) -> str:
    """What a drawing shows, how many of each colour and shape, in one way: two that show the same have the same.

    Sizes and places are left out, as no two drawings with different descriptions then have a plain list in common.
    """
    counts = collections.Counter(f"{thing.colour} {thing.shape}" for thing in scene.things)
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))


def distinct(split: str, count: int, size: int = 128, most: int = 6) -> Int[np.ndarray, " k"]:
    """The first drawings of a split of which no two have one description: their indices.

    Args:
      split: "train" or "test".
      count: how many; fewer where the first `LOOKED_AT` × `count` drawings do not show as many different things, as one
        or two shapes, which have 30 and 495 descriptions.
      size, most: of the drawings; see `shapes.draw`.
    """
    seen: dict[str, int] = {}
    for index in range(LOOKED_AT * count):
        seen.setdefault(description(draw(split, index, size, most)), index)
        if len(seen) == count:
            break
    return np.array(list(seen.values()), np.int64)


def sentences(split: str, index: int, size: int = 128, most: int = 6) -> tuple[str, ...]:
    """The five sentences of a drawing; see `shapes.draw` for the arguments."""
    return written(draw(split, index, size, most), generator(split, index))


def generator(split: str, index: int) -> np.random.Generator:
    """The draws of words for a drawing."""
    return np.random.Generator(np.random.Philox(key=[STREAM + SPLITS[split], index]))


def written(scene: Scene, random: np.random.Generator) -> tuple[str, ...]:
    """Five different sentences, all true of a drawing of one to six things."""
    found: dict[str, None] = {}
    for statement in _statements(scene, random):
        sentence = say(statement)
        if len(sentence.split()) <= LONGEST:
            found.setdefault(sentence)
        if len(found) == EACH:
            return tuple(found)
    raise AssertionError(f"only {list(found)} can be said")


def _statements(scene: Scene, random: np.random.Generator) -> Iterator[Statement]:
    """What can be said, the five kinds first; some sentences are too long."""
    plain = groups(scene, ("colour", "shape"))
    sized = with_sizes(scene, plain)
    counted = sorted(plain, key=lambda group: (-group[0].count, group[0].shape, group[0].colour))
    if len(scene.things) > 1:
        yield _fitting(counted, scene, _one(random, ("", "there")), False)
        ending = _one(random, ("", "only", "closed"))
        yield _fitting(sized, scene, ending.replace("closed", ""), ending == "closed")
        related = _related(scene, plain, sized, random)
        yield from itertools.islice(related, 2)
        yield from itertools.islice(filter(_fits, _counted(scene, plain, sized, random)), 1)
        yield from itertools.islice(related, 2)
    for opening, closed in (("", False), ("", True), ("only", False), ("there", False)):
        yield _listing(sized, scene, opening, closed)
        yield _listing(plain, scene, opening, closed or not opening)
    for k in range(1, len(plain)):
        yield from (_listing(part, scene, "among", False) for part in (plain[:k], plain[k:], sized[:k], sized[k:]))


def groups(scene: Scene, by: tuple[str, ...]) -> list[Group]:
    """The things of a drawing by what they have in common: "shape", "colour", "size". What shows most comes first."""
    found: dict[tuple[str, ...], list[int]] = {}
    for number in sorted(range(len(scene.things)), key=lambda k: -scene.things[k].area):
        found.setdefault(tuple(getattr(scene.things[number], name) for name in by), []).append(number)
    return [(Phrase(len(own), **dict(zip(by, key, strict=True))), frozenset(own)) for key, own in found.items()]


def with_sizes(scene: Scene, plain: list[Group]) -> list[Group]:
    """Groups of colour and shape taken apart by size, but for those of which one is half hidden or more."""
    hard = [own for _, own in plain if any(scene.things[k].area < SEEN * scene.things[k].whole for k in own)]
    kept = [group for group in plain if group[1] in hard]
    split = [group for group in groups(scene, ("size", "colour", "shape")) if not any(group[1] <= own for own in hard)]
    return sorted(kept + split, key=lambda group: -max(scene.things[k].area for k in group[1]))


def _one(random: np.random.Generator, among: Sequence):
    return among[random.integers(len(among))]


def _listing(found: Sequence[Group], scene: Scene, opening: str, closed: bool) -> Statement:
    total = len(scene.things) if opening == "among" else 0
    return Statement(tuple(phrase for phrase, _ in found), opening=opening, total=total, closed=closed)


def _fits(statement: Statement) -> bool:
    return len(say(statement).split()) <= LONGEST


def _fitting(found: Sequence[Group], scene: Scene, opening: str, closed: bool) -> Statement:
    """A list of everything; where that is too long without its opening too, of a part, "among them"."""
    ways = [_listing(found, scene, opening, closed), _listing(found, scene, "", False)]
    ways += [_listing(found[:k], scene, "among", False) for k in range(len(found) - 1, 0, -1)]
    return next(filter(_fits, ways))


def _counted(scene: Scene, plain: list[Group], sized: list[Group], random: np.random.Generator) -> Iterator[Statement]:
    """How many there are of each shape, or of each colour, or in all; the last only where there are three or more."""
    kind = _one(random, ("shape", "colour", "among", "among", "among", "among"))
    some = _one(random, (plain, sized))
    picked = [some[i] for i in random.permutation(len(some))[: len(some) - 1]]
    if kind != "among":
        yield _listing(groups(scene, (kind,)), scene, "", False)
    elif len(scene.things) > 2:
        yield from (_listing(picked[:k], scene, "among", False) for k in range(len(picked), 0, -1))


def _related(scene: Scene, plain: list[Group], sized: list[Group], random: np.random.Generator) -> Iterator[Statement]:
    """Relations between groups, of another pair each time, with as much of the rest as fits."""
    numbers = range(len(scene.things))
    every = [*plain, *(group for group in sized if group not in plain)]
    clear = {
        (relation, first, second)
        for relation in RELATIONS
        for first, second in itertools.permutations(numbers, 2)
        if clearly_lies(scene, first, relation, second)
    }
    by_relation: dict[str, list[tuple[Group, Group]]] = {}
    for relation, one, other in itertools.product(RELATIONS, every, every):
        pairs = itertools.product(one[1], other[1])
        if not one[1] & other[1] and all((relation, first, second) in clear for first, second in pairs):
            by_relation.setdefault(relation, []).append((one, other))
    while by_relation:
        relation = _one(random, list(by_relation))
        subject, target = _one(random, by_relation[relation])
        for left in by_relation.values():  # the same two are not said again
            left[:] = [pair for pair in left if {pair[0][1], pair[1][1]} != {subject[1], target[1]}]
        by_relation = {name: left for name, left in by_relation.items() if left}
        rest = tuple(phrase for phrase, _ in _rest(plain, sized, subject[1] | target[1]))
        opening, verb, closed = _one(
            random, (("", True, False), ("", False, False), ("", False, True), ("there", False, False))
        )
        ways = [Statement((subject[0],), relation, (target[0],), rest, opening, 0, verb, closed)]
        ways += [dataclasses.replace(ways[0], rest=rest[:k], closed=False) for k in range(len(rest), -1, -1)]
        yield next(filter(_fits, ways))


def _rest(plain: list[Group], sized: list[Group], used: frozenset[int]) -> list[Group]:
    """The other things: by colour and shape, or where some of a colour and shape are used, by their size too."""
    free = [group for group in plain if not group[1] & used]
    split = [own for _, own in plain if own & used and not own <= used]
    return free + [group for group in sized if not group[1] & used and any(group[1] <= own for own in split)]
