from __future__ import annotations

import contextlib
import os

import grpc
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

import serving.client
from kdsr_tf import stages
from kdsr_tf.cli.recommendation_tables import (
    items_table,
    recommendations_table,
    show_closing_question,
)
from kdsr_tf.config import load_config
from kdsr_tf.runs import closing_question
from kdsr_tf.runs.child_processes import ChildError
from kdsr_tf.runs.closing_question import read_titles
from serving.client import QueryError, Recommendation
from tests import factories


class SlowServer:
    """A client whose server is not ready at first, a hundred times."""

    def __init__(self, target, model_name, timeout_seconds):
        self.looks = 100

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def wait_until_ready(self, timeout_seconds):
        self.looks -= 1
        if self.looks:
            raise QueryError("not yet", grpc.StatusCode.UNAVAILABLE)

    def recommend(self, histories, k):
        return [[Recommendation("item0001", 1.0)]]


@pytest.fixture
def config(tmp_path):
    config = load_config(workdir=str(tmp_path))
    factories.write_sequences(config)
    return config


def child(check):
    @contextlib.contextmanager
    def background_child(arguments):
        assert "serve.tls_certificate=null" in arguments
        yield check

    return background_child


def test_closing_question_waits_for_a_slow_server_without_a_limit(config, monkeypatch, capsys):
    monkeypatch.setattr(serving.client, "Client", SlowServer)
    monkeypatch.setattr(closing_question, "background_child", child(lambda: None))
    show_closing_question(config)
    assert "Recommended to user" in capsys.readouterr().err


def test_closing_question_fails_no_finished_run(config, monkeypatch, capsys):
    def gone():
        raise ChildError("`kdsr serve` ended early:\nno such operation [1]")

    monkeypatch.setattr(closing_question, "background_child", child(gone))
    show_closing_question(config)
    said = " ".join(capsys.readouterr().err.split())
    assert "The run is complete, but the exported model was not asked at its end" in said
    assert "ended early: no such operation [1]" in said


def test_skipped_closing_question_fails_no_finished_run(config, monkeypatch, capsys):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(closing_question, "background_child", child(interrupted))
    show_closing_question(config)
    assert "was skipped" in capsys.readouterr().err


def test_titles_are_those_of_the_vocabulary_and_of_new_items(config):
    known = read_titles(config)
    folder = stages.location(config, stages.NEW_ITEMS)
    os.makedirs(folder)
    path = os.path.join(folder, "items.parquet")
    pq.write_table(pa.table({"item_id": ["new 1"]}), path)
    assert read_titles(config) == known
    pq.write_table(pa.table({"item_id": ["new 1"], "title": ["New tie"]}), path)
    assert known and read_titles(config) == known | {"new 1": "New tie"}


def test_a_title_that_is_a_whole_text_does_not_fill_the_screen():
    titles = {"a": "word\n" * 10_000}
    for table in (
        items_table("t", ["a"], titles),
        recommendations_table("t", [("a", 1.0)], titles),
    ):
        console = Console(width=120)
        with console.capture() as capture:
            console.print(table)
        assert len(capture.get().splitlines()) < 10
