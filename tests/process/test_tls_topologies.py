"""TLS to a cluster and to Sentinels, everywhere: clients, replication, the cluster's own bus.

Needs an installed server that was built with TLS (Debian: redis-server).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import trustme
from click.testing import CliRunner

import callbacks
from callbacks import admin
from callbacks.cli.doctor import doctor
from tests.conftest import forget_runtime
from tests.process.conftest import SETTINGS
from tests.process.faults import OPEN
from tests.support.processes import Groups, clean_environment, until
from tests.support.server import Server, tls_binary
from tests.support.target import Target
from tests.support.topologies import ClusterSystem, SentinelSystem, cluster, sentinels, slot_of

pytestmark = pytest.mark.long


class Certificates:
    """A CA of the test's own; `right` is for these servers, `wrong` for another name."""

    def __init__(self, folder: Path) -> None:
        ca = trustme.CA()
        self.ca = folder / "ca.pem"
        ca.cert_pem.write_to_path(self.ca)
        self.right = self._made(ca, folder, "127.0.0.1")
        self.wrong = self._made(ca, folder, "other.example")

    @staticmethod
    def _made(ca: trustme.CA, folder: Path, name: str) -> tuple[Path, Path]:
        made, files = ca.issue_cert(name), (folder / f"{name}.pem", folder / f"{name}.key")
        made.cert_chain_pems[0].write_to_path(files[0])
        made.private_key_pem.write_to_path(files[1])
        return files

    def lines(self, pair: tuple[Path, Path]) -> tuple[tuple[str, str], ...]:
        return (
            ("tls-cert-file", str(pair[0])),
            ("tls-key-file", str(pair[1])),
            ("tls-ca-cert-file", str(self.ca)),
            ("tls-auth-clients", "no"),
            ("tls-replication", "yes"),
        )


@pytest.fixture(scope="module")
def binary() -> str:
    found = tls_binary()
    if found is None:
        pytest.skip("no installed redis-server or valkey-server was built with TLS")
    return found


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module", params=["cluster", "sentinel"])
def topology(
    request: pytest.FixtureRequest, binary: str, certificates: Certificates
) -> Iterator[ClusterSystem | SentinelSystem]:
    """Servers with certificates for 127.0.0.1, which nothing in the system trusts."""
    lines = certificates.lines(certificates.right)
    options = [word for name, value in lines for word in (f"--{name}", value)]
    trust: dict[str, Any] = {"ssl": True, "ssl_ca_certs": str(certificates.ca)}
    if request.param == "cluster":
        options += ["--tls-cluster", "yes"]
        with cluster(*options, binary=binary, **trust) as system:
            yield system
        return
    of_each = tuple(f"{name} {value}" for name, value in lines)
    with sentinels(*options, binary=binary, sentinel=of_each, **trust) as watched:
        yield watched


def url_of(topology: ClusterSystem | SentinelSystem) -> str:
    return topology.url.replace("redis", "rediss", 1)


def fail_over(topology: ClusterSystem | SentinelSystem, trust: dict[str, Any]) -> None:
    if isinstance(topology, SentinelSystem):
        old = topology.primary_port()
        topology.fail_over()
        until(lambda: topology.promoted(but=old), within=20)
        return
    replica = topology.replica_of(topology.owner(slot_of("callbacks")))
    with replica.client(**trust) as raw:
        raw.execute_command("CLUSTER", "FAILOVER")
        until(lambda: raw.role()[0] == b"master", within=20)


@pytest.mark.parametrize("trust", ["by its CA", "blindly"])
def test_callbacks_are_delivered_over_tls_also_after_a_failover(
    trust: str,
    topology: ClusterSystem | SentinelSystem,
    certificates: Certificates,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    environ = {f"CALLBACKS_{name.upper()}": str(value) for name, value in OPEN.items()} | SETTINGS
    environ["REDIS_URL"] = url_of(topology)
    if trust == "blindly":
        environ["CALLBACKS_REDIS_TLS_VERIFY"] = "false"
    else:
        environ["REDIS_URL"] += f"?ssl_ca_certs={certificates.ca}"
    until(topology.usable, within=40)
    forget = forget_runtime()
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    try:
        with Target() as target, Groups(clean_environment(**environ), tmp_path) as groups:
            workers = groups.worker()
            lanes = [f"{trust[:2]}-{n}" for n in range(20)]
            ids = {callbacks.enqueue(target.url, 1, lane=lane).id for lane in lanes}
            until(lambda: set(target.counts()) == ids, within=30)
            fail_over(topology, {"ssl": True, "ssl_ca_certs": str(certificates.ca)})
            ids |= {_insist(target.url, lane) for lane in lanes}
            until(lambda: set(target.counts()) >= ids, within=30)
            assert admin.status().dead == 0
            told = CliRunner().invoke(doctor).output
            assert "failure" not in told, told
            assert workers.process.poll() is None
    finally:
        forget()


def _insist(url: str, lane: str) -> str:
    """Enqueue, and again with the same id, as an application does."""
    id = f"{lane}-again"
    give_up = time.monotonic() + 20
    while True:
        try:
            return callbacks.enqueue(url, 1, lane=lane, id=id).id
        except redis.RedisError:
            assert time.monotonic() < give_up
            time.sleep(0.1)


def test_a_certificate_that_nobody_vouches_for_is_refused(
    topology: ClusterSystem | SentinelSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget = forget_runtime()
    monkeypatch.setenv("REDIS_URL", url_of(topology))
    try:
        began = time.monotonic()
        with pytest.raises(redis.ConnectionError) as raised:
            callbacks.enqueue("https://a.example/x", 1, id="c-1")
        assert raised.value.callback_id == "c-1"  # type: ignore[attr-defined]
        assert time.monotonic() - began < 20
        told = CliRunner().invoke(doctor).output
        assert "certificate" in told.lower()
    finally:
        forget()


def test_a_certificate_for_another_name_is_refused_unless_nothing_is_verified(
    binary: str, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = certificates.lines(certificates.wrong)
    server = Server(binary, *(word for name, value in lines for word in (f"--{name}", value)))
    url = f"rediss://127.0.0.1:{server.port}/0?ssl_ca_certs={certificates.ca}"
    forget = forget_runtime()
    monkeypatch.setenv("REDIS_URL", url)
    try:
        server.start(ready=False)
        with server.client(ssl=True, ssl_cert_reqs="none", ssl_check_hostname=False) as raw:
            until(raw.ping, within=20)
        with pytest.raises(
            redis.ConnectionError, match=r"certificate is not valid for '127\.0\.0\.1'"
        ):
            callbacks.enqueue("https://a.example/x", 1)
        monkeypatch.setenv("CALLBACKS_REDIS_TLS_VERIFY", "false")
        forget()
        assert callbacks.enqueue("https://a.example/x", 1).accepted
    finally:
        forget()
        server.stop()
