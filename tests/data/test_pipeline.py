"""Batches as a pure function of (seed, n): every example once an epoch, full batches, padding that is masked."""

import dataclasses
import threading

import numpy as np
import pytest

from cnnlab.data.pipeline import batch_indices, epoch_order, eval_batch, eval_batch_count, prefetch, train_batch
from cnnlab.data.source import ArraySource
from cnnlab.errors import UserError

ALL = slice(None)


def numbers(size):
    """A source whose example i is a picture full of i with the label 10·i."""
    image = np.arange(size, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 1), np.uint8)
    return ArraySource({"image": image, "label": 10 * np.arange(size, dtype=np.int32)})


@dataclasses.dataclass(frozen=True)
class Damaged:
    """`numbers` of which some cannot be read."""

    size: int
    bad: tuple[int, ...]
    class_names: tuple[str, ...] = ()

    def __len__(self):
        return self.size

    def batch(self, indices):
        return {**numbers(self.size).batch(indices), "mask": np.isin(indices, self.bad, invert=True).astype(np.float32)}


@dataclasses.dataclass(frozen=True)
class Mixed:
    """Example i is i + 1 high and 2 wide; all of a batch stand on the canvas that the source is given."""

    size: int
    class_names: tuple[str, ...] = ()

    def __len__(self):
        return self.size

    def canvas(self, indices):
        return int(indices.max()) + 1, 2

    def batch(self, indices, canvas=None):
        image = np.zeros((len(indices), *(canvas or self.canvas(indices)), 1), np.uint8)
        for row, index in zip(image, indices, strict=True):
            row[: index + 1] = index
        return {"image": image}


@pytest.mark.parametrize(("size", "batch_size"), [(12, 4), (10, 4), (7, 3), (3, 8), (1, 1), (5, 5)])
def test_each_epoch_has_each_example_once(size, batch_size):
    epochs = 4
    batches = -(-epochs * size // batch_size)
    stream = np.concatenate([batch_indices(3, n, batch_size, size) for n in range(batches)])[: epochs * size]
    for epoch in stream.reshape(epochs, size):
        assert sorted(epoch) == list(range(size))


def test_an_epochs_order_depends_on_seed_and_epoch_only():
    orders = {(seed, epoch): epoch_order(seed, epoch, 50).tolist() for seed in range(3) for epoch in range(3)}
    assert len({tuple(order) for order in orders.values()}) == 9
    epoch_order.cache_clear()
    assert all(epoch_order(seed, epoch, 50).tolist() == order for (seed, epoch), order in reversed(orders.items()))


def test_a_batch_depends_on_seed_and_number_only():
    in_order = [batch_indices(5, n, 8, 30).tolist() for n in range(12)]
    epoch_order.cache_clear()
    assert [batch_indices(5, n, 8, 30).tolist() for n in reversed(range(12))] == in_order[::-1]
    assert batch_indices(6, 0, 8, 30).tolist() != in_order[0]


def test_a_batch_is_a_part_of_its_epochs_order():
    expected = [*epoch_order(1, 0, 10)[8:], *epoch_order(1, 1, 10)[:2]]
    assert batch_indices(1, 2, 4, 10).tolist() == expected


def test_a_train_batch_holds_its_examples_and_their_positions():
    batch = train_batch(numbers(10), 1, 2, 4, ALL)
    indices = batch_indices(1, 2, 4, 10)
    assert set(batch) == {"image", "label", "position", "index"}
    assert batch["image"][:, 1, 1, 0].tolist() == indices.tolist()
    assert batch["label"].tolist() == (10 * indices).tolist()
    assert batch["position"].tolist() == [0, 1, 2, 3]
    assert (batch["index"].tolist(), batch["index"].dtype) == (indices.tolist(), np.int32)


@pytest.mark.parametrize("make", [lambda *args: train_batch(args[0], 1, *args[1:]), eval_batch])
def test_the_shares_of_two_processes_are_the_whole_batch(make):
    whole = make(numbers(10), 2, 4, slice(0, 4))
    halves = [make(numbers(10), 2, 4, share) for share in (slice(0, 2), slice(2, 4))]
    assert whole.keys() == halves[0].keys()
    for name, array in whole.items():
        np.testing.assert_array_equal(np.concatenate([half[name] for half in halves]), array)


@pytest.mark.parametrize("make", [lambda *args: train_batch(args[0], 1, *args[1:]), eval_batch])
def test_all_shares_of_a_batch_stand_on_the_canvas_of_the_whole(make):
    for n in range(3):
        whole = make(Mixed(10), n, 4, ALL)
        halves = [make(Mixed(10), n, 4, share) for share in (slice(0, 2), slice(2, 4))]
        np.testing.assert_array_equal(np.concatenate([half["image"] for half in halves]), whole["image"])
        assert whole["image"].shape == (4, whole["image"].max() + 1, 2, 1)


def test_unreadable_pictures_are_replaced_by_the_first_readable_one():
    first, second, third, fourth = batch_indices(0, 0, 4, 8).tolist()
    batch = train_batch(Damaged(8, (first, third)), 0, 0, 4, ALL)
    assert batch["label"].tolist() == [10 * second, 10 * second, 10 * second, 10 * fourth]
    assert batch["image"][:, 0, 0, 0].tolist() == [second, second, second, fourth]
    assert batch["index"].tolist() == [second, second, second, fourth]
    assert batch["position"].tolist() == [0, 1, 2, 3]
    assert "mask" not in batch


def test_a_mask_of_ones_changes_nothing():
    expected = train_batch(numbers(8), 0, 0, 4, ALL)
    batch = train_batch(Damaged(8, ()), 0, 0, 4, ALL)
    assert batch.keys() == expected.keys()
    assert batch["label"].tolist() == expected["label"].tolist()


def test_a_train_batch_of_unreadable_pictures_only_is_an_error():
    with pytest.raises(UserError, match="not one of the 4 pictures of training batch 1 can be read"):
        train_batch(Damaged(8, tuple(range(8))), 0, 1, 4, ALL)


def test_evaluation_batches_hold_each_example_once_in_order():
    source = numbers(10)
    batches = [eval_batch(source, n, 4, ALL) for n in range(eval_batch_count(source, 4))]
    assert [batch["mask"].tolist() for batch in batches] == [[1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 0, 0]]
    index = np.concatenate([batch["index"][batch["mask"] > 0] for batch in batches])
    assert index.tolist() == list(range(10))
    for batch in batches:
        assert batch["label"].tolist() == (10 * batch["index"]).tolist()
        assert (batch["mask"].dtype, batch["index"].dtype) == (np.float32, np.int32)
    assert batches[2]["index"].tolist() == [8, 9, 0, 0]


def test_evaluation_masks_unreadable_pictures_and_padding():
    batch = eval_batch(Damaged(6, (4,)), 1, 4, ALL)
    assert batch["mask"].tolist() == [0, 1, 0, 0]
    assert batch["index"].tolist() == [4, 5, 0, 0]


@pytest.mark.parametrize(("size", "count"), [(1, 1), (4, 1), (5, 2), (8, 2)])
def test_eval_batch_count(size, count):
    assert eval_batch_count(numbers(size), 4) == count


@pytest.mark.parametrize("workers", [0, 3])
def test_prefetch_keeps_the_order(workers):
    assert list(prefetch(lambda n: {"n": np.array(n * n)}, 3, 40, workers)) == [{"n": n * n} for n in range(3, 40)]
    assert list(prefetch(lambda n: n, 5, 5, workers)) == []


def test_prefetch_works_in_other_threads():
    threads = set(prefetch(lambda n: threading.get_ident(), 0, 20, 3))
    assert threading.get_ident() not in threads


@pytest.mark.parametrize("workers", [0, 3])
def test_an_error_of_a_worker_reaches_the_caller(workers):
    def make(n):
        if n == 4:
            raise UserError("batch 4 cannot be made")
        return n

    got = []
    with pytest.raises(UserError, match="batch 4 cannot be made"):
        got.extend(prefetch(make, 0, 10, workers))
