"""Ctrl-C in a terminal is told once, by the process the user started."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = """
import multiprocessing, os, signal
from kfusion.system import interrupts_blocked

def work(pipe):
    pipe.send("whole")

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    worker = context.Process(target=work, args=(there,))
    try:
        with interrupts_blocked():
            worker.start()
        there.close()
        os.killpg(0, signal.SIGINT)  # while it starts
    except KeyboardInterrupt:
        print("interrupted")
    print(here.recv())
    worker.join()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no masks of signals")
def test_a_process_that_still_starts_is_not_interrupted(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, str(program)], capture_output=True, text=True, timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, start_new_session=True, check=True,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("interrupted\nwhole\n", "")


@pytest.mark.skipif(sys.platform == "win32", reason="no masks of signals")
def test_the_mask_is_as_it_was() -> None:
    from kfusion.system import interrupts_blocked

    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    with interrupts_blocked(), interrupts_blocked():
        assert signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before
