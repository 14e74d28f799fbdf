"""Work that waits for its time."""

from src.jobs.repair.due_queue import DueQueue


def test_each_piece_is_there_once_and_in_order():
    queue = DueQueue(10)
    assert all(queue.add(key, key.upper(), due_s) for key, due_s in (("a", 5.0), ("b", 1.0), ("a", 0.0)))
    assert len(queue) == 2
    assert queue.ready(4.9, 10) == {"b": "B"}
    assert list(queue.ready(5.0, 10)) == ["a", "b"]
    assert list(queue.ready(5.0, 1)) == ["a"]


def test_a_full_queue_refuses_what_is_new_and_knows_what_it_has():
    queue = DueQueue(1)
    assert queue.add("a", 1, 0.0)
    assert not queue.add("b", 2, 0.0)
    assert queue.add("a", 1, 0.0)
    queue.done("a")
    assert queue.add("b", 2, 0.0)
    assert "a" not in queue


def test_pauses_double_up_to_their_cap():
    queue, now_s, pauses = DueQueue(1), 0.0, []
    queue.add("a", 1, now_s)
    for attempt in range(1, 6):
        assert queue.put_off("a", now_s, first_s=1.0, cap_s=5.0) == attempt
        before_s = now_s
        while not queue.is_due("a", now_s):
            now_s += 0.5
        pauses.append(now_s - before_s)
    assert pauses == [1.0, 2.0, 4.0, 5.0, 5.0]


def test_nothing_is_due_that_is_not_there():
    queue = DueQueue(1)
    queue.done("a")
    assert not queue.is_due("a", 1e9)


def test_what_was_put_off_comes_after_what_waited():
    queue = DueQueue(3)
    for key in "abc":
        queue.add(key, key, 0.0)
    queue.put_off("a", 0.0, first_s=1.0, cap_s=1.0)
    assert list(queue.ready(2.0, 10)) == ["b", "c", "a"]
