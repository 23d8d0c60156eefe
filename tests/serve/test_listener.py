"""One listening socket for many processes: handed out, shared, and outliving whoever dies."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cluster.running import free_port, port_is_free
from models.errors import InputError
from serve.listener import bound, listening, obtain

ROOT = Path(__file__).parents[2]
# Answers every connection with its process's number.
ANSWERING = """
import os, sys
from serve.listener import obtain
sock = obtain(sys.argv[1], "127.0.0.1", int(sys.argv[2]))
sock.setblocking(True)
print("listening", flush=True)
while True:
    made, _ = sock.accept()
    made.sendall(str(os.getpid()).encode())
    made.close()
"""


# Prints how many descriptors it was given.
ASKING = """
import socket, sys
with socket.socket(socket.AF_UNIX) as asking:
    asking.settimeout(5)
    asking.connect("\\0" + sys.argv[1])
    print(len(socket.recv_fds(asking, 1, 1)[1]))
"""


def answering(name: str, port: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", ANSWERING, name, str(port)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert child.stdout is not None
    assert child.stdout.readline() == "listening\n"
    return child


def asked(port: int) -> int:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        return int(sock.recv(100))


def test_a_connection_waits_for_the_next_process_where_the_last_one_has_died() -> None:
    port = free_port()
    with listening("127.0.0.1", port) as name:
        with pytest.raises(ConnectionRefusedError):
            asked(port)  # nobody is ready yet
        first = answering(name, port)
        try:
            assert asked(port) == first.pid
        finally:
            first.kill()
            first.wait(10)
        with socket.create_connection(("127.0.0.1", port), timeout=20) as waiting:
            second = answering(name, port)
            try:
                assert int(waiting.recv(100)) == second.pid
            finally:
                second.kill()
                second.wait(10)
    assert port_is_free("127.0.0.1", port)


def test_a_process_that_hangs_takes_no_connection_from_the_others() -> None:
    port = free_port()
    with listening("127.0.0.1", port) as name:
        hanging, well = answering(name, port), answering(name, port)
        try:
            os.kill(hanging.pid, signal.SIGSTOP)
            time.sleep(0.1)
            with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
                sock.recv(100)  # one that the hanging process was woken for may be lost to it
            assert {asked(port) for _ in range(20)} == {well.pid}
        finally:
            for child in (hanging, well):
                child.kill()
                child.wait(10)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_another_user_of_the_machine_is_given_nothing() -> None:
    port = free_port()
    stranger = f"import array, encodings.idna, os, socket\nos.setgid(65534); os.setuid(65534)\n{ASKING}"
    with listening("127.0.0.1", port) as name:
        for code, expected in ((ASKING, "1"), (stranger, "0")):
            command = [sys.executable, "-c", code, name]
            assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == expected


def test_where_nobody_hands_out_a_socket_one_of_its_own_is_made() -> None:
    port = free_port()
    one, two = (obtain("millwright-nobody", "127.0.0.1", port) for _ in range(2))
    with one, two:
        assert one.getsockname() == two.getsockname() == ("127.0.0.1", port)


def test_an_address_that_is_not_ours_or_in_use_is_refused() -> None:
    with pytest.raises(InputError, match=r"Cannot listen there: .*192\.0\.2\.1"):
        bound("192.0.2.1", free_port())
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(InputError, match="free port"), listening("127.0.0.1", taken.getsockname()[1]):
            pass
