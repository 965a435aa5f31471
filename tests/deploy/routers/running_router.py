"""A router in its own process, by the very file of deploy/routers: the test changes ports alone."""

import os
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.deploy.routers.router_environment import (
    CADDY,
    ENVOY,
    NGINX,
    SMG,
    VLLM_ROUTER,
    RouterPackage,
    SystemProgram,
)

FILES = Path(__file__).resolve().parents[3] / "deploy" / "routers"
CHAT = "/v1/chat/completions"
STARTING = 120.0  # seconds, on a machine that does much else


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class RunningRouter:
    """A process and its URL."""

    def __init__(
        self,
        process: subprocess.Popen[str],
        url: str,
        log: Path,
        trust: ssl.SSLContext | None,
        *,
        asks_readiness: bool,
    ) -> None:
        """`trust` knows its certificate, if it has one."""
        self.asks_readiness = asks_readiness
        self._process, self._log, self.url = process, log, url
        self.trust: ssl.SSLContext | bool = True if trust is None else trust

    def post(self, body: dict[str, Any], **headers: str) -> httpx.Response:
        """A chat request and its whole answer."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return httpx.post(
            f"{self.url}{CHAT}", json=body, headers=named, timeout=300, verify=self.trust
        )

    def stream(
        self, body: dict[str, Any], **headers: str
    ) -> AbstractContextManager[httpx.Response]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return httpx.stream(
            "POST", f"{self.url}{CHAT}", json=body, headers=named, timeout=300, verify=self.trust
        )

    def wait_until_it_serves(self, *, is_alone: bool) -> None:
        """`is_alone`: no replica is there, so an answer of any kind will do."""
        ends = time.monotonic() + STARTING
        while True:
            assert self._process.poll() is None, self.log()
            assert time.monotonic() < ends, f"not within {STARTING:g} s: it serves\n{self.log()}"
            try:
                answer = httpx.get(f"{self.url}/v1/models", timeout=10, verify=self.trust)
                if answer.is_success or is_alone:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.2)

    def log(self) -> str:
        return self._log.read_text()[-6000:]

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


@dataclass(frozen=True)
class Router:
    """One that is tried: its package, and how it is started over these replicas' ports."""

    name: str
    package: RouterPackage | SystemProgram
    command: Callable[[Path, Sequence[int], int, Path], tuple[list[str], dict[str, str]]]
    asks_readiness: bool = True  # of each replica, every second
    finds_prefixes: bool = True  # docs/cluster.md has what vllm-router reached
    is_tls: bool = False  # with the certificate of `certificate`

    def start(self, ports: Sequence[int], folder: Path, *, is_alone: bool = False) -> RunningRouter:
        program = self.package.installed()
        port = free_port()
        command, variables = self.command(program, ports, port, folder)
        log = folder / f"{self.name}.log"
        with log.open("w") as out:
            process = subprocess.Popen(
                command,
                stdout=out,
                stderr=subprocess.STDOUT,
                text=True,
                env={**os.environ, **variables},  # noqa: TID251 (a child wants a whole one)
            )
        url = f"https://localhost:{port}" if self.is_tls else f"http://127.0.0.1:{port}"
        trust = None
        if self.is_tls:
            trust = ssl.create_default_context(cafile=certificate(folder)[0])
        running = RunningRouter(process, url, log, trust, asks_readiness=self.asks_readiness)
        try:
            running.wait_until_it_serves(is_alone=is_alone)
        except BaseException:
            running.stop()
            raise
        return running


def _envoy(
    program: Path, ports: Sequence[int], port: int, folder: Path
) -> tuple[list[str], dict[str, str]]:
    numbers = zip((9901, 8080, 8001, 8002), (free_port(), port, *ports), strict=True)
    text = _replaced(
        "envoy.yaml", {f"port_value: {old}}}": f"port_value: {new}}}" for old, new in numbers}
    )
    file = folder / "envoy.yaml"
    file.write_text(text)
    quiet = ["--log-level", "warning", "--concurrency", "1", "--disable-hot-restart"]
    return [str(program), "-c", str(file), *quiet], {}


def _shell(script: str, variable: str) -> Callable[..., tuple[list[str], dict[str, str]]]:
    def command(
        program: Path, ports: Sequence[int], port: int, _: Path
    ) -> tuple[list[str], dict[str, str]]:
        return ["sh", str(FILES / script)], {
            variable: str(program),
            "WORKERS": " ".join(f"http://127.0.0.1:{port}" for port in ports),
            "PORT": str(port),
            "METRICS_PORT": str(free_port()),
        }

    return command


def certificate(folder: Path) -> tuple[Path, Path]:
    """Of localhost, signed by itself, and its key."""
    found = folder / "localhost.crt", folder / "localhost.key"
    if not found[0].exists():
        names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        files = ["-out", str(found[0]), "-keyout", str(found[1])]
        command = ["openssl", "req", "-x509", "-days", "2", *key, *names, *files]
        subprocess.run(command, check=True, capture_output=True)
    return found


def _replaced(file: str, changes: dict[str, str]) -> str:
    """The file with nothing changed but these, each of which stands there once."""
    text = (FILES / file).read_text()
    for old, new in changes.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def _nginx(
    program: Path, ports: Sequence[int], port: int, folder: Path
) -> tuple[list[str], dict[str, str]]:
    public, private = certificate(folder)
    server = _replaced(
        "nginx.conf",
        {
            "listen 443 ssl http2;": f"listen 127.0.0.1:{port} ssl http2;",
            "/etc/ssl/thirdeye.crt": str(public),
            "/etc/ssl/thirdeye.key": str(private),
            "server 127.0.0.1:8001 ": f"server 127.0.0.1:{ports[0]} ",
            "server 127.0.0.1:8002 ": f"server 127.0.0.1:{ports[1]} ",
        },
    )
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    spaces = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
    owner = "user root;" if os.getuid() == 0 else ""
    file = folder / "nginx.conf"
    file.write_text(
        f"{owner} daemon off; pid {folder}/pid; error_log stderr warn;"
        f"events {{}} http {{ access_log off; {spaces}\n{server}\n}}"
    )
    return [str(program), "-c", str(file), "-e", "stderr"], {}


def _caddy(
    program: Path, ports: Sequence[int], port: int, folder: Path
) -> tuple[list[str], dict[str, str]]:
    public, private = certificate(folder)
    site = "{$SITE:localhost} {"
    text = _replaced("Caddyfile", {site: f"{site}\n\ttls {public} {private}"})
    file = folder / "Caddyfile"
    file.write_text("{\n\tadmin off\n\tauto_https disable_redirects\n}\n" + text)
    return [str(program), "run", "--adapter", "caddyfile", "--config", str(file)], {
        "SITE": f"https://localhost:{port}",
        "REPLICAS": " ".join(f"127.0.0.1:{port}" for port in ports),
        "XDG_DATA_HOME": str(folder),
        "XDG_CONFIG_HOME": str(folder),
    }


ROUTERS = {
    router.name: router
    for router in (
        Router("envoy", ENVOY, _envoy),
        Router("smg", SMG, _shell("smg.sh", "SMG")),
        Router(
            "vllm-router",
            VLLM_ROUTER,
            _shell("vllm-router.sh", "VLLM_ROUTER"),
            finds_prefixes=False,
        ),
        Router("nginx", NGINX, _nginx, asks_readiness=False, is_tls=True),
        Router("caddy", CADDY, _caddy, is_tls=True),
    )
}
