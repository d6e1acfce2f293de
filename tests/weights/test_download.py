"""Published weights from a server on loopback that tells the truth, lies, stalls and breaks."""

import fcntl
import hashlib
import http.client
import http.server
import io
import os
import re
import resource
import select
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec
import pytest
import torch
from safetensors.torch import load_file, save
from torch import Tensor

from zoo.architecture import Architecture, Weights
from zoo.errors import DownloadError, OptionError, StorageError, WeightsError
from zoo.files import cache_folder
from zoo.progress import Advance
from zoo.safetensors_check import check_safetensors, sha256_of
from zoo.weights import resolve_weights
from zoo.weights.cache_records import Record
from zoo.weights.download import fetch, incoming_path, stored_path
from zoo.weights.transfer import Network

ARCHITECTURE = Architecture(name="tiny", family="tiny", plugin="test")
STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.zeros(2)}
NETWORK = Network(timeout_s=5.0, waits_s=(0.0, 0.0))


def pth(state: object = None) -> bytes:
    buffer = io.BytesIO()
    torch.save(STATE if state is None else state, buffer)
    return buffer.getvalue()


Answer = Callable[[http.server.BaseHTTPRequestHandler], None]


class Server(http.server.ThreadingHTTPServer):
    """Gives one answer a request, the last one for ever."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: list[Answer] = []
        self.requests: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.done = threading.Event()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that leaves in the middle is no news."""

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def weights(self, name: str, content: bytes | None = None, *, tag: str = "v1") -> Weights:
        prefix = hashlib.sha256(content).hexdigest()[:8] if content is not None else ""
        return Weights(tag=tag, url=f"{self.address}/{name}", sha256_prefix=prefix)


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        self.server.headers.append(dict(self.headers.items()))
        answers = self.server.answers
        (answers.pop(0) if len(answers) > 1 else answers[0])(self)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.done.set()
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def send(content: bytes, *, status: int = 200, length: int | None = -1, **headers: str) -> Answer:
    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        if length is not None:
            handler.send_header("Content-Length", str(len(content) if length == -1 else length))
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(content)

    return answer


def ranged(content: bytes, *, until: int | None = None, etag: str = '"one"', shift: int = 0) -> Answer:
    """An answer that obeys Range and If-Range, and breaks off before the byte ``until``."""

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        wanted = handler.headers.get("Range", "")
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
        if handler.headers.get("If-Range", etag) != etag:
            start = 0
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start + shift}-{len(content) - 1}/{len(content)}")
        handler.send_header("Content-Length", str(len(content) - start))
        if etag:
            handler.send_header("ETag", etag)
        handler.end_headers()
        handler.wfile.write(content[start:until])

    return answer


def reset(handler: http.server.BaseHTTPRequestHandler) -> None:
    handler.connection.setsockopt(1, 13, b"\1\0\0\0\0\0\0\0")  # SO_LINGER 0: closing resets
    handler.close_connection = True


class Listener:
    """Keeps what a person would have been told."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.labels: list[tuple[str, int | None]] = []
        self.advanced = 0

    def note(self, text: str) -> None:
        self.lines.append(text)

    warn = note

    @contextmanager
    def task(self, label: str, total: int | None = None, *, unit: str = "") -> Iterator[Advance]:
        self.labels.append((label, total))

        def advance(units: int) -> None:
            self.advanced += units

        yield advance


def files() -> set[str]:
    folder = cache_folder()
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def holds_state(path: Path) -> bool:
    found: dict[str, Tensor] = load_file(path)
    return found.keys() == STATE.keys() and all(torch.equal(found[name], STATE[name]) for name in STATE)


def failure(weights: Weights, *, network: Network = NETWORK, offline: bool = False) -> str:
    with pytest.raises(DownloadError) as caught:
        fetch(ARCHITECTURE, weights, network=network, offline=offline)
    left = files() - {str(incoming_path(ARCHITECTURE, weights).relative_to(cache_folder()))}
    assert all(name.startswith("weights/partial/") and name.endswith(".part") for name in left)
    return str(caught.value)


# What works


def test_a_pth_is_kept_as_safetensors_with_its_hash(server: Server) -> None:
    content = pth({"state_dict": STATE})
    server.answers = [send(content)]
    weights = server.weights("tiny.pth", content)
    listener = Listener()
    fetched = fetch(ARCHITECTURE, weights, progress=listener, network=NETWORK)
    assert fetched.path == stored_path(ARCHITECTURE, weights)
    assert fetched.path.name == f"test-tiny-v1-{weights.sha256_prefix}.safetensors"
    assert fetched.sha256 == hashlib.sha256(content).hexdigest()
    assert holds_state(fetched.path)
    assert listener.labels == [("downloading test/tiny v1", len(content))]
    assert listener.advanced == len(content)
    assert len(files()) == 2


def test_safetensors_keep_their_tensors_and_texts(server: Server) -> None:
    content = save(STATE, metadata={"format": "pt", "zoo-like": "text"})
    server.answers = [send(content, length=None)]
    fetched = fetch(ARCHITECTURE, server.weights("model.safetensors", content), network=NETWORK)
    assert holds_state(fetched.path)
    assert check_safetensors(fetched.path).metadata == {"format": "pt", "zoo-like": "text"}
    assert (fetched.sha256, fetched.size_bytes) == (hashlib.sha256(content).hexdigest(), len(content))


def test_the_second_use_needs_no_network(server: Server) -> None:
    content = pth()
    server.answers = [send(content)]
    weights = server.weights("tiny.pth", content)
    first = fetch(ARCHITECTURE, weights, network=NETWORK)
    assert fetch(ARCHITECTURE, weights, network=NETWORK, offline=True) == first
    assert len(server.requests) == 1


def test_a_tag_is_resolved_to_its_tensors(server: Server) -> None:
    content = pth()
    server.answers = [send(content)]
    architecture = Architecture(name="tiny", family="tiny", plugin="test", weights=(server.weights("t.pth", content),))
    source, state = resolve_weights(architecture, "V1", network=NETWORK)
    assert (source.kind, source.spec, source.sha256) == ("tag", "v1", hashlib.sha256(content).hexdigest())
    assert source.weights == architecture.weights[0]
    assert state is not None
    assert torch.equal(state["a.weight"], STATE["a.weight"])
    with pytest.raises(WeightsError, match="is pinned"):
        resolve_weights(architecture, "v1", sha256="0" * 64, network=NETWORK)


def test_a_pinned_url_is_fetched(server: Server) -> None:
    content = pth()
    server.answers = [send(content)]
    digest = hashlib.sha256(content).hexdigest()
    source, _ = resolve_weights(ARCHITECTURE, f"{server.address}/x.pth", sha256=digest, network=NETWORK)
    assert (source.kind, source.sha256, source.weights) == ("url", digest, None)


def test_redirects_are_followed(server: Server) -> None:
    content = pth()
    server.answers = [send(b"", status=302, Location="/elsewhere"), send(content)]
    assert holds_state(fetch(ARCHITECTURE, server.weights("tiny.pth", content), network=NETWORK).path)
    assert server.requests == ["/tiny.pth", "/elsewhere"]


@pytest.mark.parametrize(
    "trouble",
    [
        send(b"busy", status=500),
        send(b"busy", status=503),
        send(b"slow down", status=429),
        send(pth()[:-100], length=len(pth())),
        send(b"", length=100),
        send(b""),
        reset,
    ],
)
def test_passing_trouble_is_tried_again(server: Server, trouble: Answer) -> None:
    content = pth()
    server.answers = [trouble, trouble, send(content)]
    listener = Listener()
    fetched = fetch(ARCHITECTURE, server.weights("tiny.pth", content), progress=listener, network=NETWORK)
    assert holds_state(fetched.path)
    assert len([line for line in listener.lines if "trying again" in line]) == 2


def test_a_proxy_of_the_environment_is_used(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    content = pth()
    server.answers = [send(content)]
    monkeypatch.setenv("http_proxy", server.address)
    weights = Weights(tag="v1", url="http://weights.invalid/x.pth", sha256_prefix=hashlib.sha256(content).hexdigest())
    assert holds_state(fetch(ARCHITECTURE, weights, network=NETWORK).path)
    assert server.requests == ["http://weights.invalid/x.pth"]


# What a server can do wrong


def test_another_file_than_the_published_one_is_not_kept(server: Server) -> None:
    weights = server.weights("tiny.pth", pth())
    other = pth({"a": torch.ones(1)})
    server.answers = [send(other)]
    message = failure(weights)
    assert hashlib.sha256(other).hexdigest()[:16] in message
    assert weights.sha256_prefix in message
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (send(b"<html>Log in</html>", Content_Type="text/html; charset=utf-8"), "web page"),
        (send(b"<!DOCTYPE html>", Content_Type="application/octet-stream"), "web page"),
        (send(b"version https://git-lfs.github.com/spec/v1\n"), "Git LFS"),
        (send(b"gone", status=404), "404 Not Found"),
        (send(b"no", status=403), "403"),
        (send(b"", status=302, Location="file:///etc/passwd"), "302"),
        (send(b"", status=302, Location="ftp://127.0.0.1/x"), "ftp"),
    ],
)
def test_an_answer_without_the_file_is_named_at_once(server: Server, answer: Answer, words: str) -> None:
    server.answers = [answer]
    weights = server.weights("tiny.pth", b"")
    message = failure(weights)
    assert words in message
    assert weights.url is not None
    assert weights.url in message
    assert str(incoming_path(ARCHITECTURE, weights)) in message
    assert len(server.requests) == 1


def test_a_redirect_loop_ends(server: Server) -> None:
    server.answers = [send(b"", status=302, Location="/again")]
    assert "infinite loop" in failure(server.weights("tiny.pth", b""))
    assert len(server.requests) < 20


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (send(b"busy", status=500), "500 Internal Server Error, 3 times"),
        (send(b"half", length=8), "after 4 of 8 bytes, 3 times"),
        (reset, "3 times"),
    ],
)
def test_lasting_trouble_ends(server: Server, answer: Answer, words: str) -> None:
    server.answers = [answer]
    assert words in failure(server.weights("tiny.pth", b""))
    assert len(server.requests) == 3


def test_a_stalled_server_is_given_up_on(server: Server) -> None:
    def stall(handler: http.server.BaseHTTPRequestHandler) -> None:
        send(b"half", length=8)(handler)
        server.done.wait()

    server.answers = [stall]
    message = failure(server.weights("tiny.pth", b""), network=Network(timeout_s=0.1, waits_s=()))
    assert "timed out" in message


def test_a_damaged_file_with_the_right_hash_is_refused(server: Server) -> None:
    for name, content in [("a.safetensors", save(STATE)[:-1]), ("a.pth", pth()[:-200]), ("a.pth", b"hello")]:
        server.answers = [send(content)]
        message = failure(server.weights(name, content, tag=f"t{len(content)}"))
        assert "not usable as weights" in message


def test_code_in_a_published_file_never_runs(server: Server, tmp_path: Path) -> None:
    mark = tmp_path / "mark"

    class Canary:
        def __reduce__(self) -> tuple[object, ...]:
            return os.mkdir, (str(mark),)

    content = pth({"a": torch.zeros(1), "b": Canary()})
    server.answers = [send(content)]
    assert "run code" in failure(server.weights("tiny.pth", content))
    assert not mark.exists()


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://127.0.0.1/x", "nonsense", "http://", "http://[::1", ""])
def test_other_than_http_is_refused(url: str) -> None:
    assert "cannot be fetched" in failure(Weights(tag="v1", url=url))


def test_a_hash_that_is_none_is_refused() -> None:
    for prefix in ("abc", "not hex!"):
        assert "hex digits" in failure(Weights(tag="v1", url="http://127.0.0.1:1/x", sha256_prefix=prefix))


# Going on with a broken download


BIG = {"a.weight": torch.arange(50_000.0), "a.bias": torch.zeros(2)}


def test_a_broken_download_goes_on_where_it_ended(server: Server) -> None:
    content = save(BIG)
    server.answers = [ranged(content, until=100_000), ranged(content, until=150_000), ranged(content)]
    listener = Listener()
    fetched = fetch(ARCHITECTURE, server.weights("m.safetensors", content), progress=listener, network=NETWORK)
    assert fetched.sha256 == hashlib.sha256(content).hexdigest()
    assert [headers.get("Range") for headers in server.headers] == [None, "bytes=100000-", "bytes=150000-"]
    assert [headers.get("If-Range") for headers in server.headers] == [None, '"one"', '"one"']
    assert {total for _, total in listener.labels} == {len(content)}


def test_without_a_hash_nothing_is_continued(server: Server) -> None:
    content = save(BIG)
    server.answers = [ranged(content, until=100_000), ranged(content)]
    fetch(ARCHITECTURE, server.weights("m.safetensors"), network=NETWORK)
    assert [headers.get("Range") for headers in server.headers] == [None, None]


def test_a_hash_that_the_hub_states_on_its_redirect_counts(server: Server) -> None:
    content = save(BIG)
    stated = f'"{hashlib.sha256(content).hexdigest()}"'
    redirect = send(b"", status=302, Location="/blob", X_Linked_Etag=stated)
    server.answers = [redirect, ranged(content, until=100_000), redirect, ranged(content)]
    fetched = fetch(ARCHITECTURE, server.weights("m.safetensors"), network=NETWORK)
    assert fetched.sha256 == stated.strip('"')
    assert [headers.get("Range") for headers in server.headers] == [None, None, "bytes=100000-", "bytes=100000-"]


def test_another_file_than_the_hub_states_is_not_kept(server: Server) -> None:
    server.answers = [send(b"", status=302, Location="/blob", X_Linked_Etag="0" * 64), send(save(STATE))]
    assert "It was not kept" in failure(server.weights("m.safetensors"))


def test_the_next_process_goes_on_where_the_last_one_ended(server: Server) -> None:
    content = save(BIG)
    weights = server.weights("m.safetensors", content)
    server.answers = [ranged(content, until=100_000)]
    assert "after 100,000 of" in failure(weights, network=Network(timeout_s=5.0, waits_s=()))
    (part,) = files()
    assert (cache_folder() / part).read_bytes() == content[:100_000]
    server.answers = [ranged(content)]
    fetch(ARCHITECTURE, weights, network=NETWORK)
    assert server.headers[-1]["Range"] == "bytes=100000-"
    assert not [name for name in files() if "partial" in name]


def test_a_part_that_is_whole_already_needs_no_request(server: Server) -> None:
    content = save(BIG)
    weights = server.weights("m.safetensors", content)
    folder = stored_path(ARCHITECTURE, weights).parent / "partial"
    folder.mkdir(parents=True)
    part = folder / f"{stored_path(ARCHITECTURE, weights).stem}.killed.part"
    part.write_bytes(content)
    server.answers = [reset]
    assert fetch(ARCHITECTURE, weights, network=NETWORK).size_bytes == len(content)
    assert server.requests == []


@pytest.mark.parametrize(
    "trouble",
    [
        [ranged(save(BIG)[::-1], until=100_000), ranged(save(BIG), etag="")],  # a beginning of another file
        [ranged(save(BIG), until=100_000), ranged(save(BIG), etag='"two"')],  # it changed, which If-Range tells
        [ranged(save(BIG), until=100_000), ranged(save(BIG), shift=5)],  # another part than was asked for
        [ranged(save(BIG), until=100_000), send(b"", status=416)],
        [ranged(save(BIG), until=100_000), send(save(BIG))],  # ranges are not known here
    ],
)
def test_parts_that_do_not_belong_together_are_fetched_from_the_start(server: Server, trouble: list[Answer]) -> None:
    content = save(BIG)
    server.answers = [*trouble, ranged(content)]
    fetched = fetch(ARCHITECTURE, server.weights("m.safetensors", content), network=NETWORK)
    assert fetched.sha256 == hashlib.sha256(content).hexdigest()
    assert len(files()) == 2


def test_a_server_that_mixes_two_files_for_ever_ends(server: Server) -> None:
    content, other = save(BIG), save(BIG)[::-1]
    server.answers = [ranged(other, until=100_000, etag=""), ranged(content, etag=""), ranged(other, etag="")]
    assert "It was not kept" in failure(server.weights("m.safetensors", content))
    assert len(server.requests) == 3
    assert files() == set()


def test_a_server_that_sends_a_byte_now_and_then_has_stalled(server: Server) -> None:
    def trickle(handler: http.server.BaseHTTPRequestHandler) -> None:
        send(b"", length=1 << 20)(handler)
        while not server.done.wait(0.02):
            handler.wfile.write(b"x")

    server.answers = [trickle]
    message = failure(server.weights("m.safetensors", b""), network=Network(timeout_s=0.2, waits_s=()))
    assert "stalled" in message


def test_a_file_without_end_is_not_fetched(server: Server) -> None:
    content = save(BIG)
    for answer in (send(content), send(content, length=None)):
        server.answers = [answer]
        message = failure(server.weights("m.safetensors", content), network=Network(limit_bytes=1000))
        assert "more than 1,000 bytes" in message
        assert files() == set()


# Every lie in one table: pytest -s -k table_of_lies


GOOD = save(BIG)
STALL = Network(timeout_s=0.1, waits_s=())


def stall(handler: http.server.BaseHTTPRequestHandler) -> None:
    ranged(GOOD, until=100_000)(handler)
    handler.server.done.wait()  # type: ignore[attr-defined]


DOCS = Path(__file__).parents[2] / "docs" / "weights.md"

LIES: list[tuple[str, list[Answer], Network, str, int, str]] = [
    # the lie, the answers, patience, words of the error ("" where the file arrives), requests, what is left
    ("a short body, once", [ranged(GOOD, until=100_000), ranged(GOOD)], NETWORK, "", 2, "the file"),
    ("a short body, always, at the same byte", [ranged(GOOD, until=100_000)], NETWORK, "3 times", 3, "a part"),
    ("a body that is cut and says so", [send(GOOD[:-1])], NETWORK, "It was not kept", 1, "nothing"),
    ("a body of other bytes", [send(save(STATE))], NETWORK, "It was not kept", 1, "nothing"),
    ("a body with one bit changed", [send(GOOD[:-1] + b"\x01")], NETWORK, "It was not kept", 1, "nothing"),
    ("more bytes than announced", [send(GOOD + b"more", length=len(GOOD))], NETWORK, "", 1, "the file"),
    ("more bytes, not announced", [send(GOOD + b"more", length=None)], NETWORK, "It was not kept", 1, "nothing"),
    ("a body without an end", [send(GOOD * 9, length=None)], Network(5.0, (), 1 << 20), "more than", 1, "nothing"),
    ("a stall in the middle", [stall], STALL, "timed out", 1, "a part"),
    ("a redirect to itself", [send(b"", status=302, Location="/m")], NETWORK, "infinite loop", 5, "nothing"),
    (
        "a redirect to a local file",
        [send(b"", status=302, Location="file:///etc/passwd")],
        NETWORK,
        "302",
        1,
        "nothing",
    ),
    ("a web page", [send(b"<html>", Content_Type="text/html")], NETWORK, "web page", 1, "nothing"),
    ("a web page, called a file", [send(b"<!DOCTYPE html>")], NETWORK, "web page", 1, "nothing"),
    ("a Git LFS pointer", [send(b"version https://git-lfs")], NETWORK, "Git LFS", 1, "nothing"),
    ("nothing, called a success", [send(b"")], NETWORK, "sent nothing", 3, "nothing"),
    ("500, twice", [send(b"", status=500), send(b"", status=500), send(GOOD)], NETWORK, "", 3, "the file"),
    ("500, always", [send(b"", status=500)], NETWORK, "500 Internal Server Error, 3 times", 3, "nothing"),
    ("404", [send(b"", status=404)], NETWORK, "404 Not Found", 1, "nothing"),
    ("a reset connection, always", [reset], NETWORK, "3 times", 3, "nothing"),
    (
        "another part than asked for",
        [ranged(GOOD, until=100_000), ranged(GOOD, shift=9), send(GOOD)],
        NETWORK,
        "",
        3,
        "the file",
    ),
    (
        "the rest of another file",
        [ranged(GOOD[::-1], until=100_000, etag=""), ranged(GOOD, etag=""), send(GOOD)],
        NETWORK,
        "",
        3,
        "the file",
    ),
]


def test_the_table_of_lies(server: Server) -> None:
    rows = ["| the server's lie | what zoo did | requests | left in the cache |", "| --- | --- | --- | --- |"]
    for number, (lie, answers, network, words, requests, left) in enumerate(LIES):
        server.answers, server.requests = list(answers), []
        weights = Weights(tag=f"v{number}", url=f"{server.address}/m", sha256_prefix=hashlib.sha256(GOOD).hexdigest())
        before = files()
        message = ""
        try:
            fetched = fetch(ARCHITECTURE, weights, network=network)
            assert fetched.sha256 == hashlib.sha256(GOOD).hexdigest(), lie
        except DownloadError as error:
            message = str(error)
        new = files() - before
        kept = "the file" if len(new) == 2 else "a part" if new else "nothing"
        assert bool(words) == bool(message), lie
        assert words in message, lie
        assert (len(server.requests), kept) == (requests, left), lie
        if kept == "a part":
            (part,) = new
            assert GOOD.startswith((cache_folder() / part).read_bytes()), lie
        did = message.split(" With the file")[0].replace(server.address, "http://…") or "fetched it whole"
        rows.append(f"| {lie} | {re.sub('[0-9a-f]{16}…', '…', did)} | {requests} | {kept} |")
    assert "\n".join(rows) in DOCS.read_text(encoding="utf-8")


# Mirrors and proxies


def test_a_mirror_stands_in_for_the_beginning_of_an_address(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    content = pth()
    server.answers = [send(content)]
    prefix = hashlib.sha256(content).hexdigest()[:8]
    monkeypatch.setenv(
        "ZOO_MIRROR", f"https://other.invalid=http://other.invalid, https://x.invalid={server.address}/m/"
    )
    weights = Weights(tag="v1", url="https://x.invalid/models/t.pth", sha256_prefix=prefix)
    listener = Listener()
    assert holds_state(fetch(ARCHITECTURE, weights, progress=listener, network=NETWORK).path)
    assert server.requests == ["/m/models/t.pth"]
    assert any("mirror" in line for line in listener.lines)
    record = msgspec.json.decode(Path(f"{stored_path(ARCHITECTURE, weights)}.json").read_bytes(), type=Record)
    assert record.url == weights.url


def test_the_endpoint_of_the_hub_is_obeyed(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    content = save(STATE)
    server.answers = [send(content)]
    monkeypatch.setenv("HF_ENDPOINT", f"{server.address}/")
    digest = hashlib.sha256(content).hexdigest()
    source, state = resolve_weights(ARCHITECTURE, "hf-hub:org/tiny@v2", sha256=digest, network=NETWORK)
    assert server.requests == ["/org/tiny/resolve/v2/model.safetensors"]
    assert (source.kind, source.spec, source.sha256) == ("hub", "hf-hub:org/tiny@v2", digest)
    assert state is not None


def test_an_unprotected_mirror_needs_a_published_hash(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    with pytest.raises(DownloadError, match="not protected"):
        resolve_weights(ARCHITECTURE, "hf-hub:org/tiny", network=NETWORK)
    assert server.requests == []


@pytest.mark.parametrize(
    "setting", [("ZOO_MIRROR", "x"), ("ZOO_MIRROR", "https://a=b"), ("HF_ENDPOINT", "mirror.example")]
)
def test_a_mirror_that_cannot_be_understood_is_named(setting: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(*setting)
    with pytest.raises(OptionError, match=setting[0]):
        fetch(ARCHITECTURE, Weights(tag="v1", url="https://x.invalid/t.pth"), network=NETWORK)


class Proxy(http.server.ThreadingHTTPServer):
    """Forwards plain requests, and tunnels, to one server whatever they ask for."""

    daemon_threads = True

    def __init__(self, target: tuple[str, int]) -> None:
        super().__init__(("127.0.0.1", 0), Forward)
        self.target = target
        self.asked: list[str] = []


class Forward(http.server.BaseHTTPRequestHandler):
    server: Proxy

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        path = "/" + self.path.split("/", 3)[3]
        with closing(http.client.HTTPConnection(*self.server.target)) as onward:
            onward.request("GET", path)
            response = onward.getresponse()
            content = response.read()
        send(content, status=response.status)(self)

    def do_CONNECT(self) -> None:
        self.server.asked.append(self.path)
        with socket.create_connection(self.server.target) as onward:
            self.send_response(200)
            self.end_headers()
            ways = {self.connection: onward, onward: self.connection}
            while ready := select.select(list(ways), [], [], 5)[0]:
                for end in ready:
                    if not (data := end.recv(1 << 16)):
                        return
                    ways[end].sendall(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serving(server: http.server.ThreadingHTTPServer) -> Iterator[str]:
    with server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def test_a_proxy_is_used_but_for_the_hosts_it_is_not_for(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    content = pth()
    server.answers = [send(content)]
    digest = hashlib.sha256(content).hexdigest()
    proxy = Proxy(("127.0.0.1", server.server_address[1]))
    with serving(proxy) as address:
        monkeypatch.setenv("http_proxy", address)
        weights = Weights(tag="v1", url="http://weights.invalid/x.pth", sha256_prefix=digest)
        assert holds_state(fetch(ARCHITECTURE, weights, network=NETWORK).path)
        assert proxy.asked == ["http://weights.invalid/x.pth"]
        assert server.requests == ["/x.pth"]
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        fetch(ARCHITECTURE, server.weights("y.pth", content, tag="v2"), network=NETWORK)
        assert len(proxy.asked) == 1
        assert server.requests == ["/x.pth", "/y.pth"]


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signs itself, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl command")
    folder = tmp_path_factory.mktemp("tls")
    words = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
    command = ["openssl", *words.split(), "-out", str(folder / "cert.pem"), "-keyout", str(folder / "key.pem")]
    subprocess.run(command, check=True, capture_output=True)
    return folder / "cert.pem", folder / "key.pem"


def protect(server: Server, certificate: tuple[Path, Path]) -> str:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    return f"https://127.0.0.1:{server.server_address[1]}"


def test_https_is_fetched_directly_and_through_a_tunnel(
    server: Server, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    address = protect(server, certificate)
    content = save(STATE)
    server.answers = [send(content)]
    message = failure(Weights(tag="v1", url=f"{address}/m.safetensors"), network=Network(timeout_s=5.0, waits_s=()))
    assert "CERTIFICATE_VERIFY_FAILED" in message.upper()
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    assert holds_state(fetch(ARCHITECTURE, Weights(tag="v1", url=f"{address}/m.safetensors"), network=NETWORK).path)
    proxy = Proxy(("127.0.0.1", server.server_address[1]))
    with serving(proxy) as proxy_address:
        monkeypatch.setenv("https_proxy", proxy_address)
        fetch(ARCHITECTURE, Weights(tag="v2", url=f"{address}/n.safetensors"), network=NETWORK)
        assert proxy.asked == [address.removeprefix("https://")]


def test_no_redirect_leads_from_https_to_http(
    server: Server, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    address = protect(server, certificate)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    server.answers = [send(b"", status=302, Location=f"{address.replace('https', 'http')}/m")]
    assert "not protected" in failure(Weights(tag="v1", url=f"{address}/m.safetensors"))
    assert len(server.requests) == 1


# Without a published hash


def test_without_a_hash_only_safetensors_are_used(server: Server) -> None:
    server.answers = [send(pth())]
    with pytest.raises(WeightsError, match="no hash is published"):
        fetch(ARCHITECTURE, server.weights("model.bin"), network=NETWORK)
    assert not files()
    server.answers = [send(save(STATE))]
    fetched = fetch(ARCHITECTURE, server.weights("model.safetensors"), network=NETWORK)
    assert fetched.sha256 == hashlib.sha256(save(STATE)).hexdigest()


# Without a network


def test_without_a_network_the_url_and_the_path_are_named() -> None:
    weights = Weights(tag="v1", url="http://127.0.0.1:1/tiny-0123abcd.pth", sha256_prefix="0123abcd")
    path = cache_folder() / "weights" / "incoming" / "tiny-0123abcd.pth"
    for message in (failure(weights), failure(weights, offline=True)):
        assert "http://127.0.0.1:1/tiny-0123abcd.pth" in message
        assert str(path) in message


@pytest.mark.parametrize("offline", [True, False])
def test_a_file_put_there_by_hand_is_used(offline: bool) -> None:
    content = pth()
    digest = hashlib.sha256(content).hexdigest()
    weights = Weights(tag="v1", url=f"http://127.0.0.1:1/tiny-{digest[:8]}.pth", sha256_prefix=digest[:8])
    path = incoming_path(ARCHITECTURE, weights)
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    assert holds_state(fetch(ARCHITECTURE, weights, offline=offline).path)
    assert path.read_bytes() == content


def test_a_wrong_file_put_there_by_hand_is_named_and_left_out(server: Server) -> None:
    content = pth()
    weights = server.weights("tiny.pth", content)
    path = incoming_path(ARCHITECTURE, weights)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"something else")
    failure(weights, offline=True)
    server.answers = [send(content)]
    listener = Listener()
    assert holds_state(fetch(ARCHITECTURE, weights, progress=listener, network=NETWORK).path)
    assert any(str(path) in line and "left out" in line for line in listener.lines)


def test_files_of_one_name_for_two_models_have_two_places() -> None:
    url = "https://example.invalid/{}/model.safetensors"
    paths = {incoming_path(ARCHITECTURE, Weights(tag=tag, url=url.format(tag))) for tag in ("a", "b")}
    assert len(paths) == 2


def test_names_from_facts_stay_in_the_cache() -> None:
    architecture = Architecture(name="..", family="x", plugin="../..")
    weights = Weights(tag="../../../x", url="https://example.invalid/..%2f..%2fetc%2fpasswd", sha256_prefix="")
    for path in (stored_path(architecture, weights), incoming_path(architecture, weights)):
        assert cache_folder().resolve() in path.resolve().parents


# The cache


def test_a_damaged_cache_is_noticed_and_fetched_again(server: Server) -> None:
    content = pth()
    server.answers = [send(content)]
    weights = server.weights("tiny.pth", content)
    path = fetch(ARCHITECTURE, weights, network=NETWORK).path
    good = path.read_bytes()
    record = path.with_name(path.name + ".json")
    damaged = bytearray(good)
    damaged[-1] ^= 1
    for i, spoil in enumerate(
        [
            lambda: path.write_bytes(damaged),
            lambda: path.write_bytes(good[:-1]),
            lambda: path.write_bytes(b""),
            lambda: path.unlink(),
            lambda: record.unlink(),
            lambda: record.write_bytes(b"{"),
            lambda: record.write_bytes(b"{}"),
        ]
    ):
        spoil()
        listener = Listener()
        assert holds_state(fetch(ARCHITECTURE, weights, progress=listener, network=NETWORK).path)
        assert path.read_bytes() == good
        assert len(server.requests) == i + 2
        assert bool([line for line in listener.lines if "replaced" in line]) == (i < 3)
    path.write_bytes(damaged)
    with pytest.raises(DownloadError, match="offline"):
        fetch(ARCHITECTURE, weights, offline=True)


def test_a_record_holds_what_the_lock_will_need(server: Server) -> None:
    content = pth()
    server.answers = [send(content)]
    weights = server.weights("tiny.pth", content)
    path = fetch(ARCHITECTURE, weights, network=NETWORK).path
    record = msgspec.json.decode(path.with_name(path.name + ".json").read_bytes(), type=Record)
    assert (record.url, record.size_bytes) == (weights.url, len(content))
    assert record.sha256 == hashlib.sha256(content).hexdigest()
    assert record.stored_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_file_is_hashed_again_only_when_it_looks_changed(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    content = pth()
    server.answers = [send(content)]
    weights = server.weights("tiny.pth", content)
    path = fetch(ARCHITECTURE, weights, network=NETWORK).path
    os.utime(path, ns=(1, 1))  # as after a day, when its time can be trusted
    hashed: list[Path] = []
    monkeypatch.setattr("zoo.weights.cache_records.sha256_of", lambda path: hashed.append(path) or sha256_of(path))
    for count in (1, 1):
        fetch(ARCHITECTURE, weights, offline=True)
        assert hashed == [path] * count
    path.write_bytes(path.read_bytes())
    os.utime(path, ns=(1, 1))  # the time of its last change cannot be set
    fetch(ARCHITECTURE, weights, offline=True)
    assert len(hashed) == 2


PROCESSES = """
import os, sys
if sys.argv[3] == "no-op":
    import fcntl
    fcntl.flock = lambda *arguments: None
import zoo.weights.cache_entries
from zoo.architecture import Architecture, Weights
from zoo.weights.download import fetch
architecture = Architecture(name="tiny", family="tiny", plugin="test")
weights = Weights(tag="v1", url=sys.argv[1], sha256_prefix=sys.argv[2])
children = []
for _ in range(8):
    if (child := os.fork()) == 0:
        os.write(1, f"{fetch(architecture, weights).sha256}\\n".encode())
        os._exit(0)
    children.append(child)
sys.exit(max(os.waitpid(child, 0)[1] for child in children))
"""


@pytest.mark.parametrize("locks", ["work", "no-op"])
def test_eight_processes_on_one_cache_leave_one_good_file(server: Server, locks: str) -> None:
    content = pth(BIG)
    server.answers = [send(content)]
    weights = server.weights("tiny.pth", content)
    command = [sys.executable, "-c", PROCESSES, str(weights.url), weights.sha256_prefix, locks]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [hashlib.sha256(content).hexdigest()] * 8
    assert len(files()) == 2
    assert fetch(ARCHITECTURE, weights, offline=True).size_bytes == len(content)
    assert len(server.requests) == 1 if locks == "work" else len(server.requests) <= 8


def test_a_process_that_hangs_is_not_waited_for(server: Server) -> None:
    content = pth()
    server.answers = [send(content)]
    weights = server.weights("tiny.pth", content)
    lock = stored_path(ARCHITECTURE, weights).parent / "partial" / f"{stored_path(ARCHITECTURE, weights).stem}.lock"
    lock.parent.mkdir(parents=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        listener = Listener()
        network = Network(timeout_s=0.1, waits_s=())
        assert holds_state(fetch(ARCHITECTURE, weights, progress=listener, network=network).path)
    assert any("another process" in line for line in listener.lines)


# Files that other tools fetched


def hub_cache(content: bytes, *, name: str = "org--tiny", blob: str = "") -> Path:
    folder = Path(os.environ["HF_HOME"]) / "hub" / f"models--{name}"
    commit = "ab" * 20
    snapshot = folder / "snapshots" / commit / "model.safetensors"
    target = folder / "blobs" / (blob or hashlib.sha256(content).hexdigest())
    for path in (snapshot, target, folder / "refs" / "main"):
        path.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    snapshot.symlink_to(Path("../../blobs") / target.name)
    (folder / "refs" / "main").write_text(commit)
    return target


@pytest.mark.parametrize("offline", [True, False])
@pytest.mark.parametrize("spec", ["hf-hub:org/tiny", "hf_hub:org/tiny@main", f"hf-hub:org/tiny@{'ab' * 20}"])
def test_the_local_cache_of_the_hub_is_used_first(spec: str, offline: bool) -> None:
    content = save(STATE)
    hub_cache(content)
    source, state = resolve_weights(ARCHITECTURE, spec, offline=offline, network=NETWORK)
    assert source.sha256 == hashlib.sha256(content).hexdigest()
    assert state is not None
    assert torch.equal(state["a.weight"], STATE["a.weight"])


def test_published_weights_on_the_hub_are_found_in_its_local_cache() -> None:
    content = save(STATE)
    hub_cache(content)
    weights = Weights(tag="v1", url="https://huggingface.co/org/tiny/resolve/main/model.safetensors")
    assert holds_state(fetch(ARCHITECTURE, weights, offline=True).path)


def test_a_damaged_file_of_the_hubs_cache_is_left_out() -> None:
    content = save(STATE)
    target = hub_cache(content)
    target.write_bytes(content[:-1] + b"x")
    weights = Weights(tag="v1", url="https://huggingface.co/org/tiny/resolve/main/model.safetensors")
    listener = Listener()
    with pytest.raises(DownloadError, match="offline"):
        fetch(ARCHITECTURE, weights, offline=True, progress=listener)
    assert any("left out" in line for line in listener.lines)


@pytest.mark.parametrize("spec", ["hf-hub:", "hf-hub:tiny", "hf-hub:../../etc/x", "hf-hub:a/b@..", "hf-hub:a/b/c"])
def test_what_is_no_name_on_the_hub_is_named(spec: str) -> None:
    with pytest.raises(WeightsError, match="is not hf-hub:ORG/NAME"):
        resolve_weights(ARCHITECTURE, spec)


def test_the_cache_of_torch_hub_is_used_where_the_hash_agrees() -> None:
    content = pth()
    digest = hashlib.sha256(content).hexdigest()
    folder = Path(os.environ["TORCH_HOME"]) / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / "tiny.pth").write_bytes(content)
    url = "https://download.pytorch.org/models/tiny.pth"
    assert holds_state(fetch(ARCHITECTURE, Weights(tag="a", url=url, sha256_prefix=digest[:8]), offline=True).path)
    for prefix in ("0" * 8, ""):
        with pytest.raises(DownloadError, match="offline"):
            fetch(ARCHITECTURE, Weights(tag="b", url=url, sha256_prefix=prefix), offline=True)


def test_a_cache_that_cannot_be_written_is_named(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    content = pth()
    server.answers = [send(content)]
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(StorageError, match="cannot write"):
        fetch(ARCHITECTURE, server.weights("tiny.pth", content), network=NETWORK)


def test_a_full_disk_is_not_taken_for_a_broken_connection(server: Server) -> None:
    content = pth({"a": torch.zeros(100_000)})
    server.answers = [send(content)]
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(StorageError, match="cannot write"):
            fetch(ARCHITECTURE, server.weights("tiny.pth", content), network=NETWORK)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert len(server.requests) == 1
    assert not files()
