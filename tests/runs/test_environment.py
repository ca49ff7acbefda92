from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent

CRASH = """
import os, sys
from kdsr_tf.runs import environment
environment.prepare()
environment.filter_native_noise()
os.write(2, b"I0000 00:00:1795264463.766794    5742 partitioner.cc:58] Size: 600\\n")
os.write(2, b"E1121 13:44:50.873432   18983 add_port.cc:83] Failed to add port\\n")
print("a message", file=sys.stderr)
os.write(2, b"2026-11-21 12:00:00.1: F tensorflow/core/x.cc:1] Check failed\\n")
os.abort()
"""


def crash(**environment):
    return subprocess.run(
        [sys.executable, "-c", CRASH],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
    )


def test_native_information_is_dropped_and_the_last_words_of_a_crash_are_kept():
    done = crash()
    assert done.returncode == -signal.SIGABRT
    assert "a message" in done.stderr and "Check failed" in done.stderr
    assert "Size: 600" not in done.stderr and "add_port" not in done.stderr


def test_lowest_log_level_shows_everything():
    assert "Size: 600" in crash(TF_CPP_MIN_LOG_LEVEL="0").stderr


LEAVE = """
import atexit, ctypes
from kdsr_tf.runs import environment
atexit.register(print, "handler ran")
libc = ctypes.CDLL(None)
abort = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda _: libc.abort())
libc.__cxa_atexit(abort, None, None)  # what a native library's teardown may do
print("flushed", end=" ")
environment.leave(7)
"""


def test_leaving_keeps_the_status_whatever_native_teardown_would_do():
    done = subprocess.run(
        [sys.executable, "-c", LEAVE],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (7, "flushed handler ran\n")
