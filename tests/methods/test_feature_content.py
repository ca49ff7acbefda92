"""The vectors of encoders as content of computed items."""

import errno
import os

import numpy as np
import pytest

from kdsr_tf import stages
from kdsr_tf.config import load_config, methods
from kdsr_tf.methods.training_inputs import read_content
from kdsr_tf.teacher.feature_files import Features
from tests import factories


@pytest.fixture
def encoded(tmp_path, monkeypatch):
    """A configuration of a method that reads texts, and the manifests of its vectors."""
    monkeypatch.setitem(methods.NEEDS, "own", lambda config: methods.Needs(content=("text",)))
    overrides = ["model.method=own", "encode.text.encoder=embedded"]
    config = load_config(overrides=overrides, workdir=str(tmp_path / "work"))
    factories.write_sequences(config)
    return config, {"features/text": factories.write_features(config, "text", absent=0.2)}


def test_items_without_the_modality_are_zeros_and_absent(encoded):
    config, manifests = encoded
    content = read_content(config, manifests, 40)
    expected = np.zeros((41, 24), "float32")
    for items, vectors in Features(stages.location(config, "features/text"), 24).batches():
        expected[items] = vectors
    found = content.rows(np.arange(41))
    assert np.array_equal(found["text"], expected)
    assert np.array_equal(found["text_present"], expected.any(axis=1))
    assert not content.any_present()[0] and 0 < content.any_present().sum() < 40


def test_a_full_disk_is_an_error_before_anything_is_written_to_memory(encoded, monkeypatch):
    def full(descriptor, start, size):
        assert (start, size) == (0, 41 * 24 * 4)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        read_content(*encoded, 40)
