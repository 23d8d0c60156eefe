from __future__ import annotations

import importlib.util
import os
import subprocess
from pathlib import Path

import pytest

from serve.haproxy import binary, launched, launcher, mended

CONFIGURATION = """frontend prometheus
    bind :9101
    mode http
frontend http_frontend
    bind *:8000
listen stats
  bind *:8404
  stats enable
"""


def test_only_the_service_itself_may_listen_beyond_loopback() -> None:
    found = mended(CONFIGURATION)
    assert "frontend prometheus\n    bind 127.0.0.1:9101" in found
    assert "listen stats\n  bind 127.0.0.1:8404" in found
    assert "frontend http_frontend\n    bind *:8000" in found
    assert mended(found) == found


def test_rays_own_template_is_mended() -> None:
    ray = importlib.util.find_spec("ray")  # its file is read: importing it would fix its environment for the whole run
    assert ray is not None
    assert ray.submodule_search_locations is not None
    text = (Path(ray.submodule_search_locations[0]) / "serve" / "_private" / "haproxy_templates.py").read_text("utf-8")
    found = mended(text.replace("{{ config.metrics_port }}", "9101").replace("{{ config.stats_port }}", "8404"))
    assert "bind 127.0.0.1:9101" in found
    assert "bind 127.0.0.1:8404" in found


def test_the_launcher_becomes_the_binary_with_its_arguments(tmp_path: Path) -> None:
    config = tmp_path / "with blank" / "haproxy.cfg"
    config.parent.mkdir()
    config.write_text(CONFIGURATION)
    path = launcher(tmp_path / "run", "/bin/cat")
    done = subprocess.run([path, "-u", "--", str(config)], capture_output=True, text=True, check=True)
    assert done.stdout == CONFIGURATION  # no -f, nothing mended
    echo = launcher(tmp_path / "run", "/bin/echo")
    done = subprocess.run([echo, "-db", "-f", str(config)], capture_output=True, text=True, check=True)
    assert done.stdout == f"-db -f {config}\n"
    assert config.read_text() == mended(CONFIGURATION)
    assert b"503 Service Unavailable" in (config.parent / "500.http").read_bytes()


def test_haproxy_takes_the_mended_answer_for_a_replica_that_is_gone(tmp_path: Path) -> None:
    config = tmp_path / "haproxy.cfg"
    config.write_text(
        "defaults\n  mode http\n  timeout connect 1s\n  timeout client 1s\n  timeout server 1s\n"
        f"  errorfile 503 {tmp_path / '500.http'}\nfrontend f\n  bind 127.0.0.1:1\n"
    )
    done = subprocess.run([launcher(tmp_path, binary()), "-c", "-f", str(config)], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_environment_is_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_SERVE_HAPROXY_BINARY_PATH", raising=False)
    before = dict(os.environ)
    with launched(tmp_path):
        assert os.environ["RAY_SERVE_HAPROXY_BINARY_PATH"] == str(tmp_path / "haproxy-launcher")
    assert dict(os.environ) == before


def test_only_its_owner_commands_it_and_no_head_takes_an_hour() -> None:
    text = "global\n    stats socket /x/admin.sock mode 666 level admin expose-fd listeners\ndefaults\n    mode http\n"
    found = mended(text)
    assert "stats socket /x/admin.sock mode 600 level admin expose-fd listeners\n" in found
    assert "\ndefaults\n    timeout http-request 20s\n    mode http\n" in found
    assert mended(found) == found


def test_a_path_is_no_shell_command(tmp_path: Path) -> None:
    folder = tmp_path / 'a "$(touch owned)"'
    folder.mkdir()
    echo = folder / "echo"
    echo.symlink_to("/bin/echo")
    done = subprocess.run([launcher(folder, str(echo)), "x"], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout == "x\n"
    assert not (tmp_path / "owned").exists()
