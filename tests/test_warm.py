"""What stands for Python in other tests is a process as theirs: see `warm.python`."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from tests import warm

SAID = """
import json, os, sys
with open(int(sys.argv[1])) as file:
    given = file.read()
loaded = [name for name in ("tensorflow", "beam_pipelines.encode") if name in sys.modules]
named = os.environ["KDSR_TESTS_NAMED"], os.environ.get("KDSR_TESTS_GONE")
print(json.dumps([os.getcwd(), named, given, sys.stdin.read(), loaded, sys.argv, __name__]))
sys.exit(7)
"""


def test_a_fork_has_arguments_environment_folder_and_files_of_its_caller(tmp_path, monkeypatch):
    program = warm.python()  # the server knows nothing of what follows
    monkeypatch.setenv("KDSR_TESTS_NAMED", "é")
    given = tmp_path / "given"
    given.write_text("a file")
    with open(given) as file:
        done = subprocess.run(
            [program, "-c", SAID, str(file.fileno())],
            cwd=tmp_path,
            input="typed",
            capture_output=True,
            text=True,
            pass_fds=[file.fileno()],
        )
    assert done.returncode == 7, done.stderr
    folder, named, text, typed, loaded, arguments, name = json.loads(done.stdout)
    assert (folder, named, text, typed) == (str(tmp_path), ["é", None], "a file", "typed")
    assert loaded == ["tensorflow", "beam_pipelines.encode"]
    assert arguments[0] == "-c" and len(arguments) == 2 and name == "__main__"


def test_modules_files_and_errors_are_run_as_python_does(tmp_path):
    done = subprocess.run([warm.python(), "-m", "json.tool", "-h"], capture_output=True, text=True)
    assert done.returncode == 0 and "usage: python -m json.tool" in done.stdout
    script = tmp_path / "script.py"
    script.write_text("import sys\nprint(sys.argv, sys.path[0])\nraise ValueError('wrong')")
    done = subprocess.run([warm.python(), str(script), "x"], capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.endswith("ValueError: wrong\n")
    assert done.stdout == f"{[str(script), 'x']} {tmp_path}\n"


@pytest.mark.parametrize("number", [signal.SIGABRT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_that_ends_the_fork_is_the_end_of_what_the_caller_sees(number):
    program = f"import os; os.kill(os.getpid(), {int(number)})"
    assert subprocess.run([warm.python(), "-c", program]).returncode == -number


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_signal_ends_both(number):
    program = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    with subprocess.Popen([warm.python(), "-c", program], stdout=subprocess.PIPE) as process:
        fork = int(process.stdout.readline())
        assert fork != process.pid
        process.send_signal(number)
        assert process.wait(60) == -number
    until = time.monotonic() + 60
    while os.path.exists(f"/proc/{fork}"):
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_variable_that_imports_read_starts_python_itself():
    program = "import sys; print(sys.executable, 'tensorflow' in sys.modules)"
    environment = os.environ | {"KERAS_BACKEND": "jax"}
    command = [warm.python(), "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.stdout == f"{sys.executable} False\n"


def test_a_client_that_is_gone_before_it_has_asked_holds_up_nobody():
    program = warm.python()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(os.path.join(os.environ[warm.FOLDER], "socket"))
        client.sendall((100).to_bytes(8, "big") + bytes(10))
    assert subprocess.run([program, "-c", ""], timeout=120).returncode == 0
