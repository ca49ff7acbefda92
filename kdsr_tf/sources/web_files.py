"""Pictures behind web addresses, read with limits and from declared hosts only."""

from __future__ import annotations

import collections
import functools
import http
import os
import re
import time
from collections.abc import Iterable, Sequence

import httpx2
import tenacity

from kdsr_tf.sources.image_files import LARGEST_BYTES, TOO_LARGE, UnreadableImage
from kdsr_tf.sources.image_values import picture_ending

CONNECT_SECONDS = 10.0
READ_SECONDS = 30.0
"""How long a server may be silent."""

TOTAL_SECONDS = 120.0
"""How long one picture may take."""

TRIES = 3
WAIT_SECONDS = 0.5
"""Before the second try; twice as long before the third."""

_REDIRECTS = 5
_PASSING = (408, 425, 429, 500, 502, 503, 504)
"""Answers that may be better a moment later."""

_MOST_FAILURES = 10
"""Pictures of a host that fail one after the other, before each further one has one try only."""

_PORTS = {"http": 80, "https": 443}
_TYPE = re.compile(r"[\w.+-]+/[\w.+-]+")

_failures: collections.Counter[str] = collections.Counter()


class _PassingProblem(UnreadableImage):
    """A problem that may be gone at the next try."""


def read_web_file(uri: str, folders: Sequence[str] = ()) -> bytes:
    """The content behind an `http(s)` address that the caller allows to be read.

    A redirect is followed to the host of `uri` and to those of the declared folders, never to
    another one, to another scheme or from https to http.

    Raises:
        UnreadableImage: with a reason that is equal for equal causes.
    """
    try:
        url = httpx2.URL(uri)
    except (httpx2.InvalidURL, ValueError):
        raise UnreadableImage("image address is not valid") from None
    # Of a host that is down, thousands of pictures would each wait for all tries.
    tries = TRIES if _failures[url.host] < _MOST_FAILURES else 1
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(_PassingProblem),
        stop=tenacity.stop_after_attempt(tries),
        wait=tenacity.wait_exponential(WAIT_SECONDS),
        reraise=True,
    )
    try:
        declared = [httpx2.URL(folder) for folder in folders if folder.startswith("http")]
        data = retrying(_fetch, url, [url, *declared])
    except _PassingProblem:
        _failures[url.host] += 1
        raise
    _failures[url.host] = 0
    return data


def _fetch(url: httpx2.URL, allowed: Iterable[httpx2.URL]) -> bytes:
    """The content, through redirects."""
    deadline = time.monotonic() + TOTAL_SECONDS
    try:
        for _ in range(_REDIRECTS + 1):
            with _client(os.getpid()).stream("GET", url) as response:
                if not response.has_redirect_location:
                    return _content(response, deadline)
                url = _target(response, allowed)
    except httpx2.TimeoutException:
        raise _PassingProblem("image address does not answer in time") from None
    except httpx2.InvalidURL:
        raise UnreadableImage("image address redirects to one that is not valid") from None
    except httpx2.HTTPError as error:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            raise UnreadableImage(
                "image address has a certificate that is not trusted (SSL_CERT_FILE)"
            ) from None
        problem = f"image address cannot be read ({type(error).__name__})"
        raise _PassingProblem(problem) from None
    raise UnreadableImage(f"image address redirects more than {_REDIRECTS} times")


def _content(response: httpx2.Response, deadline: float) -> bytes:
    status = response.status_code
    if status != http.HTTPStatus.OK:
        phrase = {int(known): f" {known.phrase}" for known in http.HTTPStatus}.get(status, "")
        kind = _PassingProblem if status in _PASSING else UnreadableImage
        raise kind(f"image address answers {status}{phrase}")
    declared = response.headers.get("content-length", "")
    size = int(declared) if declared.isdecimal() else 0
    data = bytearray()
    for block in response.iter_bytes() if size <= LARGEST_BYTES else ():
        data += block
        if len(data) > LARGEST_BYTES:
            break
        if time.monotonic() > deadline:
            raise UnreadableImage(f"image address takes more than {TOTAL_SECONDS:.0f} seconds")
    if max(size, len(data)) > LARGEST_BYTES:
        raise UnreadableImage(TOO_LARGE)
    content_type = _TYPE.match(response.headers.get("content-type", "").lower())
    if content_type and _is_page(content_type[0]) and picture_ending(data) is None:
        raise UnreadableImage(f"image address sends {content_type[0]}, not a picture")
    return bytes(data)


def _is_page(content_type: str) -> bool:
    """Whether a type is one of texts; servers give pictures many others."""
    return content_type.startswith("text/") or content_type.endswith(("json", "xml"))


def _target(response: httpx2.Response, allowed: Iterable[httpx2.URL]) -> httpx2.URL:
    """Where a redirect leads, if a declared host is there."""
    target = response.url.join(response.headers["location"])
    downgraded = response.url.scheme == "https" and target.scheme == "http"
    if downgraded or not any(_same_host(target, url) for url in allowed):
        host = f"//{target.netloc.decode()}" if target.host else ""
        raise UnreadableImage(
            f"image address redirects to {target.scheme}:{host}, which is not declared"
        )
    return target


def _same_host(target: httpx2.URL, declared: httpx2.URL) -> bool:
    """Whether host, scheme and port are those declared; https may take the place of http."""
    if target.host != declared.host or target.scheme not in _PORTS:
        return False
    ports = [url.port or _PORTS.get(url.scheme) for url in (target, declared)]
    if target.scheme == declared.scheme:
        return ports[0] == ports[1]
    return target.scheme == "https" and ports == [_PORTS["https"], _PORTS["http"]]


@functools.cache
def _client(_: int) -> httpx2.Client:
    """One pool of connections per process."""
    return httpx2.Client(
        timeout=httpx2.Timeout(READ_SECONDS, connect=CONNECT_SECONDS),
        follow_redirects=False,
        # Without compression: a small answer could grow to any size.
        headers={"User-Agent": "kdsr-tf", "Accept": "image/*", "Accept-Encoding": "identity"},
    )
