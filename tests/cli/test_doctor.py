from __future__ import annotations

import importlib.metadata

import numpy as np
import pytest

from kdsr_tf.cli.main import main


def doctor(requirements, monkeypatch, capfd):
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: requirements)
    with pytest.raises(SystemExit) as ended:
        main(["doctor"])
    said = capfd.readouterr()
    return ended.value.code, said.out, said.err


def test_healthy_environment_lists_versions_and_devices(monkeypatch, capfd):
    requirements = ["numpy>=1.20", "no-such-thing; extra == 'dev'"]
    status, out, _ = doctor(requirements, monkeypatch, capfd)
    assert status == 0
    assert np.__version__ in out and "CPU:0" in out and "Nothing is missing" in out


def test_missing_and_unfit_packages_come_with_the_pip_line(monkeypatch, capfd):
    requirements = ["numpy>=99", "no-such-thing==1.0", "rich"]
    status, out, err = doctor(requirements, monkeypatch, capfd)
    assert status == 2
    assert "missing" in out and "another version" in out
    assert "-m pip install 'numpy>=99' 'no-such-thing==1.0'" in err and "Traceback" not in err
