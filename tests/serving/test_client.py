"""The client's results, over gRPC and REST, from threads and from coroutines, on a live server."""

from __future__ import annotations

import asyncio
import json
import shutil

import numpy as np
import pytest

from kdsr_tf.config.serving_sections import ServeConfig
from kdsr_tf.errors import KDSRError
from serving.async_client import AsyncClient
from serving.client import Client, QueryError, TensorSpec, VersionStatus, find_target
from serving.server import Server
from tests.export import oracle


@pytest.fixture(scope="module")
def server(models, tmp_path_factory):
    # TensorFlow itself would take the brackets and the star for a pattern.
    folder = tmp_path_factory.mktemp("versions") / "shop [1]*"
    for version, name in ((3, "good"), (4, "next")):
        shutil.copytree(f"{models}/{name}/exact", folder / str(version))
    options = ServeConfig(
        model_name=oracle.MODEL,
        grpc_port=0,
        rest_port=0,
        num_versions=2,
        version_labels={"stable": 3, "canary": 4},
    )
    server = Server(str(folder), options)
    server.start()
    yield server
    server.stop()


@pytest.fixture(params=["gRPC", "REST"])
def target(server, request):
    return server.target if request.param == "gRPC" else server.rest_url


@pytest.fixture(params=["threads", "asyncio"])
def client(target, request):
    """The client of version 3, whose answers NumPy knows; coroutines are run to their end."""
    options = {"model_name": oracle.MODEL, "label": "stable", "timeout_seconds": 20.0}
    if request.param == "threads":
        with Client(target, **options) as client:
            yield client
        return
    with asyncio.Runner() as runner:

        async def make():
            return AsyncClient(target, **options)

        client = runner.run(make())

        class Waiting:
            def __getattr__(self, name):
                method = getattr(client, name)
                return lambda *args, **kwargs: runner.run(method(*args, **kwargs))

        yield Waiting()
        runner.run(client.close())


def test_recommendations_are_those_of_brute_force_whatever_the_lengths(client):
    batch = [*oracle.histories(6), []]
    for with_seen in (False, True):
        found = client.recommend(batch, k=5, with_seen=with_seen)
        for history, row in zip(batch, found, strict=True):
            items, scores = oracle.ranking(
                oracle.scores(history), () if with_seen else history, k=5
            )
            assert [item for item, _ in row] == items
            np.testing.assert_allclose([score for _, score in row], scores, **oracle.TOLERANCE)


def test_every_other_signature_has_its_typed_answer(client):
    batch = oracle.histories(3)
    np.testing.assert_allclose(client.embed(batch), oracle.user_vectors(batch), rtol=1e-4, atol=1)
    assert client.embed(batch).dtype == np.float32
    scores = client.score(batch, [["item001"], ["item002", "no such"], []])
    assert [len(row) for row in scores] == [1, 2, 0]
    np.testing.assert_allclose(scores[1][0], oracle.scores(batch[1])[1], **oracle.TOLERANCE)
    assert scores[1][1] == -np.inf
    known, unknown = client.similar_items(["item001", "no such"], k=4)
    assert len(known) == 4 and unknown == []


def test_no_rows_have_no_answers(client):
    assert client.recommend([], k=3) == client.similar_items([], k=3) == client.score([], []) == []
    assert client.embed([]).shape == (0, oracle.user_vectors([["item001"]]).shape[1])


def test_an_exhausted_catalogue_gives_a_short_answer(client):
    [left] = client.recommend([oracle.ITEM_IDS[2:]], k=10)
    assert sorted(item for item, _ in left) == oracle.ITEM_IDS[:2]


def test_what_the_server_says_of_its_versions(client):
    client.wait_until_ready(20)
    assert client.status() == [VersionStatus(3, "AVAILABLE", "")]
    metadata = client.metadata()
    assert metadata.version == 3
    similar = metadata.signatures["similar_items"]
    assert similar.inputs == {"item_id": TensorSpec("DT_STRING", (None,))}
    assert similar.outputs["scores"].dtype == "DT_FLOAT"


@pytest.mark.parametrize(
    ("method", "arguments", "says"),
    [
        ("recommend", ([["item001"]], 0), "`k` must be >= 1"),
        ("recommend", ([["item001"]], oracle.K + 1), f"`k` must be at most {oracle.K}"),
        ("recommend", (["item001"], 1), r"`histories\[0\]` needs lists"),
        ("similar_items", ("item001", 1), "`item_ids` needs lists"),
        ("score", ([["item001"]], []), "equal length"),
    ],
)
def test_what_makes_no_sense_is_refused_by_the_client(client, method, arguments, says):
    with pytest.raises((KDSRError, ValueError), match=says):
        getattr(client, method)(*arguments)


def test_labels_and_versions_choose_who_answers(target):
    answers = []
    for choice in ({}, {"version": 4}, {"label": "canary"}, {"version": 3}):
        with Client(target, oracle.MODEL, **choice) as client:
            answers.append(client.recommend([["item001"]], k=5))
    assert answers[0] == answers[1] == answers[2] != answers[3]
    for choice in ({"version": 99}, {"label": "no such"}):
        with Client(target, oracle.MODEL, **choice) as client, pytest.raises(QueryError):
            client.recommend([["item001"]])
    with Client(target, "other") as client, pytest.raises(QueryError) as caught:
        client.wait_until_ready(0.3)
    assert caught.value.code.name == "NOT_FOUND"


def test_addresses_follow_the_configuration(tmp_path):
    from kdsr_tf.config import load_config

    def find(rest, *overrides):
        overrides = [f"serve.{override}" for override in overrides]
        return find_target(load_config(overrides=overrides, workdir=str(tmp_path)), rest)

    assert find(False) == "127.0.0.1:8500"
    assert find(True) == "http://127.0.0.1:8501"
    assert find(True, "target=shop:9") == "http://shop:9"
    assert find(True, "target=https://shop/tf") == "https://shop/tf"
    with pytest.raises(KDSRError, match="rest_port"):
        find(True, "rest_port=null")
    for rest in (False, True):
        with pytest.raises(KDSRError, match="kdsr serve"):
            find(rest, "grpc_port=0", "rest_port=0")
    (tmp_path / "server.json").write_text('{"target": "a:1", "rest_url": "https://a:2"}')
    assert find(False, "grpc_port=0") == "a:1"
    assert find(True, "rest_port=0") == "https://a:2"


def test_the_command_line_asks_either_protocol(server, capsys):
    from kdsr_tf.cli.main import main

    def ask(*arguments, target=server.target):
        settings = [f"serve.model_name={oracle.MODEL}", f"serve.target={target}"]
        command = ["query", "--json", "--k", "3", *arguments]
        with pytest.raises(SystemExit) as left:
            main([*command, *(part for s in settings for part in ("--set", s))])
        assert left.value.code == 0
        said = capsys.readouterr()
        ignored = "Unknown to the model, so ignored: nothing\n"
        assert said.err == (ignored if "nothing" in str(arguments) else "")
        return json.loads(said.out)

    bare = server.rest_url.removeprefix("http://")
    history = ("--history", "item001")
    assert ask(*history) == ask(*history, "--rest", target=bare)
    assert ask(*history) == ask(*history, target=server.rest_url)
    # The server says what is unknown; no working directory is asked.
    ask("--history", "nothing,item001,nothing")
    ask("--similar", "nothing")
    seen = ask(*history, "--with-seen", "--model-version", "3")
    wanted, _ = oracle.ranking(oracle.scores(["item001"]), (), k=3)
    assert [row["item_id"] for row in seen] == wanted
    assert len(ask("--similar", "item001")) == 3
