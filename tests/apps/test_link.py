"""`cascade link` as its users have it: a process, its lines, its signals, its refusals."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cascade.cli import main
from cascade.links.profiles import load_profile, profile_names

COMMAND = [sys.executable, "-W", "error", "-m", "cascade.cli", "link"]


@contextmanager
def echo_server() -> Iterator[int]:
    """The program at the other end; gives its port."""

    def serve(connection: socket.socket) -> None:
        with connection:
            while data := connection.recv(65_536):
                connection.sendall(data)

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@contextmanager
def running(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(["link", *arguments])
    assert ended.value.code == 2
    return capsys.readouterr().err


def ask(port: int, data: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while more := connection.recv(65_536):
            answer += more
        return answer


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_carries_bytes_says_where_and_stops_cleanly(number: signal.Signals, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    with (
        echo_server() as port,
        running("--to", f"127.0.0.1:{port}", "--profile", "wifi", "--log", str(log), "--json") as process,
    ):
        assert process.stdout is not None
        hello = json.loads(process.stdout.readline())
        assert hello["to"] == f"127.0.0.1:{port}"
        assert hello["profile"]["up"]["rate_mbit_per_s"] == 50
        host, _, listening = hello["listen"].rpartition(":")
        assert host == "127.0.0.1"
        assert ask(int(listening), b"x" * 10_000) == b"x" * 10_000
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
        assert (process.returncode, err) == (0, "")
    goodbye = json.loads(out)
    assert (goodbye["connections"], goodbye["failed"], goodbye["records_left_out"]) == (1, 0, 0)
    assert goodbye["up"]["bytes"] == goodbye["down"]["bytes"] == 10_000
    records = [json.loads(line) for line in log.read_text().splitlines()]
    assert sum(record["bytes"] for record in records if record["way"] == "up") == 10_000
    assert all(record["arrived_s"] > record["sent_s"] for record in records)


def test_without_json_it_speaks_to_people() -> None:
    with echo_server() as port, running("--to", f"127.0.0.1:{port}", "--profile", "3g") as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("listening on 127.0.0.1:")
        assert f"to 127.0.0.1:{port} over 3g; Ctrl-C stops it" in line
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")
    assert out == "stopped after 0 connections: 0 bytes up, 0 bytes down, 0 stalls\n", (
        "no live line in a pipe"
    )


def test_a_port_in_use_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        err = refused(capsys, "--listen", f"127.0.0.1:{port}", "--to", "127.0.0.1:9")
    assert f"cascade: cannot listen on 127.0.0.1:{port}: " in err
    assert "choose another port, or 0 for any" in err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "to: say where the connections go"),
        (["--to", "edge"], "to: must be HOST:PORT with a port up to 65535, not 'edge'"),
        (["--to", "edge:70000"], "to: must be HOST:PORT"),
        (["--to", "edge:0"], "to: needs a port that somebody listens on"),
        (["--to", "edge:1", "--listen", ":x"], "listen: must be HOST:PORT"),
        (["--to", "edge:1", "--profile", "lte5"], "profile: there is no 'lte5'; there are lan, wifi, lte"),
        (["--to", "edge:1", "--trace-up", "/missing"], "trace: cannot read /missing"),
        (["--to", "127.0.0.1:1", "--log", "/missing/log"], "log: cannot write /missing/log"),
    ],
)
def test_wrong_usage_is_explained(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert complaint in refused(capsys, *arguments)


def test_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["link", "--list", "--json"])
    assert ended.value.code == 0
    listed: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["profiles"]
    assert [profile["name"] for profile in listed] == list(profile_names())
    assert all(profile["sources"] for profile in listed)
    assert listed[2]["down"]["delay_ms"] == 1000 * load_profile("lte").down.delay_s
    with pytest.raises(SystemExit):
        main(["link", "--list"])
    assert "lossy-wifi" in capsys.readouterr().out


def test_a_trace_takes_the_place_of_the_rate(tmp_path: Path) -> None:
    (tmp_path / "up").write_text("1\n2\n")
    with (
        echo_server() as port,
        running("--to", f"127.0.0.1:{port}", "--trace-up", str(tmp_path / "up"), "--json") as process,
    ):
        assert process.stdout is not None
        hello = json.loads(process.stdout.readline())
        assert hello["profile"]["up"]["rate_mbit_per_s"] == 12
        assert hello["profile"]["down"]["rate_mbit_per_s"] == 1000
        assert ask(int(hello["listen"].rpartition(":")[2]), b"through") == b"through"
