"""Published weights from a server on loopback that tells the truth, lies, stalls and breaks."""

import hashlib
import http.server
import io
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
import torch
from safetensors.torch import load_file, save
from torch import Tensor

from zoo.architecture import Architecture, Weights
from zoo.cache_records import Record
from zoo.download import fetch, incoming_path, stored_path
from zoo.errors import DownloadError, OptionError, StorageError, WeightsError
from zoo.files import cache_folder
from zoo.progress import Advance
from zoo.safetensors_check import check_safetensors
from zoo.transfer import Network
from zoo.weights import resolve_weights

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
        self.done = threading.Event()

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


def test_processes_on_one_cache_leave_one_good_file(server: Server) -> None:
    content = pth()
    server.answers = [send(content)]
    weights = server.weights("tiny.pth", content)
    code = (
        "import sys; from zoo.architecture import Architecture, Weights; from zoo.download import fetch;"
        "a = Architecture(name='tiny', family='tiny', plugin='test');"
        "print(fetch(a, Weights(tag='v1', url=sys.argv[1], sha256_prefix=sys.argv[2])).sha256)"
    )
    arguments = [sys.executable, "-c", code, str(weights.url), weights.sha256_prefix]
    processes = [subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = {process.communicate(timeout=120)[0].strip() for process in processes}
    assert outputs == {hashlib.sha256(content).hexdigest()}
    assert len(files()) == 2
    assert holds_state(fetch(ARCHITECTURE, weights, offline=True).path)


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
