"""The table of who runs: what its reader sees of its writer, while that lives and after it has died."""

from __future__ import annotations

import os
import signal

from runtime.engine.running import LABEL_BYTES_MAX, LABELS_MAX, RunningTable, RunningView, new_table_file


def test_the_reader_sees_whose_label_is_set() -> None:
    descriptor = new_table_file()
    table, view = RunningTable(descriptor), RunningView(descriptor)
    os.close(descriptor)
    first, second = table.add("production/first/1"), table.add("production/sécond/2")

    seen = [view.label]
    for number in (first, second, 0):
        table.running[0] = number
        seen.append(view.label)

    assert seen == ["", "production/first/1", "production/sécond/2", ""]
    view.close()


def test_it_is_known_after_the_writer_was_killed() -> None:
    descriptor = new_table_file()
    view = RunningView(descriptor)
    child = os.fork()
    if not child:
        table = RunningTable(descriptor)
        table.running[0] = table.add("production/culprit/1")
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(descriptor)

    assert view.label == "production/culprit/1"
    view.close()


def test_labels_are_bounded_and_numbers_are_used_again() -> None:
    descriptor = new_table_file()
    table, view = RunningTable(descriptor), RunningView(descriptor)
    os.close(descriptor)

    numbers = [table.add("x" * 1000) for _ in range(LABELS_MAX + 5)]
    assert numbers[-6:] == [0] * 6
    assert len(set(numbers)) == LABELS_MAX
    table.running[0] = numbers[0]
    assert view.label == "x" * LABEL_BYTES_MAX

    table.remove(numbers[7])
    assert table.add("another") == numbers[7]
    view.close()


def test_the_beat_is_the_time_of_the_last_one() -> None:
    descriptor = new_table_file()
    table, view = RunningTable(descriptor), RunningView(descriptor)
    os.close(descriptor)

    assert view.beat_ns == 0
    table.beat()
    assert view.beat_ns > 0
    view.close()
