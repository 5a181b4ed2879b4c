"""Room for files on their way in, between processes that start and end."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

from runtime.artifacts.files import Workspace

STARTING = 8
ROUNDS = 40


def test_processes_that_start_together_leave_each_other_their_rooms(tmp_path: Path) -> None:
    """Each sweeps what processes that are gone have left, when it starts; a lock is its own in each thread, too."""
    together = Barrier(STARTING, timeout=20)

    def start() -> None:
        for _ in range(ROUNDS):
            together.wait()
            workspace = Workspace(tmp_path / "work")
            try:
                together.wait()
                assert workspace.new().is_dir()
            finally:
                together.wait()
                workspace.close()

    with ThreadPoolExecutor(STARTING) as pool:
        for started in [pool.submit(start) for _ in range(STARTING)]:
            started.result()


def test_what_a_process_that_is_gone_has_left_is_swept_by_the_next(tmp_path: Path) -> None:
    left = tmp_path / "work" / "left"
    left.mkdir(parents=True, mode=0o700)
    (left / "file").write_text("half an upload")

    with_room = Workspace(tmp_path / "work")

    assert not left.exists()
    with_room.close()
