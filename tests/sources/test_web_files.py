"""Pictures from real web servers on this machine: redirects, limits, retries, TLS."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from kdsr_tf.sources import image_files, web_files
from kdsr_tf.sources.image_files import TOO_LARGE, UnreadableImage, read_image
from tests.serving.certificates import write_certificates
from tests.sources.web_server import redirect, serve


def png():
    file = io.BytesIO()
    Image.new("RGB", (9, 9), "red").save(file, "PNG")
    return file.getvalue()


PNG = png()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """No waiting between tries, no memory of earlier failures, no pool of earlier tests."""
    monkeypatch.setattr(web_files, "WAIT_SECONDS", 0)
    web_files._failures.clear()
    web_files._client.cache_clear()


def test_a_picture_and_what_is_not_one(request):
    page = b"<!doctype html><html>Please log in</html>"
    server = serve(
        request,
        {
            "/shop/a.png": (200, {"Content-Type": "image/png"}, PNG),
            "/shop/my%20photo.png?size=1": (200, {}, PNG),
            # A wrong type does no harm if the content is a picture.
            "/shop/text.png": (200, {"Content-Type": "text/plain"}, PNG),
            "/shop/gone.png": (404, {"Content-Type": "text/html"}, page),
            "/shop/secret.png": (403, {}, b""),
            "/shop/page.png": (200, {"Content-Type": "text/html; charset=utf-8"}, page),
            "/shop/error.png": (200, {"Content-Type": "application/json"}, b"{}"),
            "/shop/odd.png": (299, {}, PNG),
        },
    )
    for path in ("a.png", "my photo.png?size=1", "text.png"):
        assert read_image(f"{server.uri}/shop/{path}") == PNG
    for path, reason in (
        ("gone.png", "image address answers 404 Not Found"),
        ("secret.png", "image address answers 403 Forbidden"),
        ("page.png", "image address sends text/html, not a picture"),
        ("error.png", "image address sends application/json, not a picture"),
        ("odd.png", "image address answers 299"),
    ):
        with pytest.raises(UnreadableImage) as found:
            read_image(f"{server.uri}/shop/{path}")
        assert str(found.value) == reason
    # None of these is asked for again.
    assert len(server.asked) == 8


def test_redirects_are_followed_to_declared_hosts_only(request):
    other = serve(request, {"/a.png": (200, {}, PNG)})
    server = serve(
        request,
        {
            "/a.png": redirect("b/c.png"),
            "/b/c.png": redirect("/d.png?x=1"),
            "/d.png?x=1": (200, {}, PNG),
            "/other.png": redirect(f"{other.uri}/a.png"),
            "/file.png": redirect("file:///etc/passwd"),
            "/meta.png": redirect("http://169.254.169.254/latest/meta-data"),
            "/name.png": redirect(f"http://localhost:{other.server_port}/a.png"),
            "/user.png": redirect(f"http://127.0.0.1@localhost:{other.server_port}/a.png"),
            "/loop.png": redirect("/loop.png"),
            "/bad.png": redirect("http://x:y/"),
        },
    )
    assert read_image(f"{server.uri}/a.png", [server.uri]) == PNG
    declared = [f"{server.uri}/shop", f"{other.uri}/pictures", "/data"]
    assert read_image(f"{server.uri}/other.png", declared) == PNG
    other.asked.clear()
    local = f"http://localhost:{other.server_port}"
    for path, reason in (
        ("other.png", f"image address redirects to {other.uri}, which is not declared"),
        ("file.png", "image address redirects to file:, which is not declared"),
        ("meta.png", "image address redirects to http://169.254.169.254, which is not declared"),
        ("name.png", f"image address redirects to {local}, which is not declared"),
        ("user.png", f"image address redirects to {local}, which is not declared"),
        ("loop.png", "image address redirects more than 5 times"),
        ("bad.png", "image address redirects to one that is not valid"),
    ):
        with pytest.raises(UnreadableImage) as found:
            read_image(f"{server.uri}/{path}", [server.uri])
        assert str(found.value) == reason
    assert not other.asked


def test_sizes_and_times_have_limits(request, monkeypatch):
    monkeypatch.setattr(image_files, "LARGEST_BYTES", 1000)
    monkeypatch.setattr(web_files, "LARGEST_BYTES", 1000)
    server = serve(
        request,
        {
            "/told.png": (200, {"Content-Length": "100000"}, b""),
            "/untold.png": (200, {"Content-Length": None}, bytes(100_000)),
            "/a.png": (200, {}, PNG),
        },
    )
    for path in ("told.png", "untold.png"):
        with pytest.raises(UnreadableImage) as found:
            read_image(f"{server.uri}/{path}")
        assert str(found.value) == TOO_LARGE
    monkeypatch.setattr(web_files, "TOTAL_SECONDS", -1)
    with pytest.raises(UnreadableImage, match="takes more than -1 seconds"):
        read_image(f"{server.uri}/a.png")


def test_what_passes_is_tried_again(request):
    busy, cut = (503, {}, b""), (200, {"Content-Length": str(len(PNG))}, PNG[:20])
    server = serve(
        request,
        {
            "/a.png": [busy, cut, (200, {}, PNG)],
            "/busy.png": busy,
            "/cut.png": cut,
        },
    )
    assert read_image(f"{server.uri}/a.png") == PNG
    server.asked.clear()
    for path, reason in (
        ("busy.png", "image address answers 503 Service Unavailable"),
        ("cut.png", "image address cannot be read (RemoteProtocolError)"),
    ):
        with pytest.raises(UnreadableImage) as found:
            read_image(f"{server.uri}/{path}")
        assert str(found.value) == reason
    assert server.asked == ["/busy.png"] * 3 + ["/cut.png"] * 3


def test_a_host_that_is_down_is_not_asked_three_times_for_ever(request):
    server = serve(request, {"/a.png": (503, {}, b"")})
    for _ in range(15):
        with pytest.raises(UnreadableImage):
            read_image(f"{server.uri}/a.png")
    assert len(server.asked) == 10 * 3 + 5
    server.answers["/a.png"] = [(200, {}, PNG), (503, {}, b""), (200, {}, PNG)]
    assert [read_image(f"{server.uri}/a.png") for _ in range(2)] == [PNG, PNG]


def test_a_server_that_is_not_there_or_silent(request, monkeypatch):
    server = serve(request, {})
    server.shutdown()
    monkeypatch.setattr(web_files, "READ_SECONDS", 0.05)
    with pytest.raises(UnreadableImage, match=r"^image address does not answer in time$"):
        read_image(f"{server.uri}/a.png")
    server.server_close()
    with pytest.raises(UnreadableImage, match=r"cannot be read \(ConnectError\)$"):
        read_image(f"{server.uri}/a.png")
    with pytest.raises(UnreadableImage, match="is not valid"):
        read_image("http://x:y/a.png")


def test_certificates_are_checked(request, tmp_path, monkeypatch):
    certificates = write_certificates(tmp_path / "pem")
    server = serve(request, {"/a.png": (200, {}, PNG)}, certificates)
    with pytest.raises(UnreadableImage, match="a certificate that is not trusted"):
        read_image(f"{server.uri}/a.png")
    monkeypatch.setenv("SSL_CERT_FILE", certificates["authority"])
    web_files._client.cache_clear()
    assert read_image(f"{server.uri}/a.png") == PNG
    server.answers["/down.png"] = redirect(f"http://127.0.0.1:{server.server_port}/a.png")
    with pytest.raises(UnreadableImage, match="redirects to http://"):
        read_image(f"{server.uri}/down.png", [f"http://127.0.0.1:{server.server_port}"])
