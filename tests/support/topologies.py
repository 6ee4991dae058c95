"""Real Sentinels and a real cluster, made through redis-py."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import redis

from tests.support.processes import until
from tests.support.server import Server, binaries

MASTER = "main"
SLOTS = 16_384
_REPLICA = ("--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1")
_AOF = ("--appendonly", "yes", "--appendfsync", "everysec")


class SentinelProcess:
    """One Sentinel, whose configuration is a file that it rewrites."""

    def __init__(
        self, binary: str, primary: Server, settings: tuple[str, ...], *, ip: str = "127.0.0.1"
    ) -> None:
        self.server = Server(binary)  # for its port and its folder
        self.file = self.server.folder / "sentinel.conf"
        self.file.write_text(
            "\n".join(
                (
                    *(
                        ("port 0", f"tls-port {self.server.port}")
                        if any(line.startswith("tls-") for line in settings)
                        else (f"port {self.server.port}",)
                    ),
                    *(["bind 127.0.0.1"] if ip == "127.0.0.1" else []),
                    f"dir {self.server.folder}",
                    f"sentinel monitor {MASTER} {ip} {primary.port} 2",
                    f"sentinel down-after-milliseconds {MASTER} 1000",
                    f"sentinel failover-timeout {MASTER} 2000",
                    *settings,
                )
            )
        )
        self.binary = binary

    def start(self) -> SentinelProcess:
        with (self.server.folder / "server.log").open("ab") as log:
            command = [self.binary, str(self.file), "--sentinel"]
            self.server.process = subprocess.Popen(command, stdout=log, stderr=log)
        return self


class SentinelSystem:
    """A primary, two replicas of it and three Sentinels."""

    def __init__(
        self, binary: str, *options: str, sentinel: tuple[str, ...] = (), **client: Any
    ) -> None:
        """`options`: of each server; `sentinel`: lines of each Sentinel; `client`: how to ask."""
        self._client = client
        self._tls = {name: value for name, value in client.items() if name.startswith("ssl")}
        self.servers = [Server(binary, *_REPLICA, *_AOF, *options) for _ in range(3)]
        for server in self.servers:
            server.options += () if server is self.servers[0] else self._of(self.servers[0])
        self.sentinels = [SentinelProcess(binary, self.servers[0], sentinel) for _ in range(3)]

    @staticmethod
    def _of(primary: Server) -> tuple[str, ...]:
        return ("--replicaof", f"127.0.0.1 {primary.port}")

    @property
    def hosts(self) -> str:
        return ",".join(f"127.0.0.1:{each.server.port}" for each in self.sentinels)

    @property
    def url(self) -> str:
        return f"redis+sentinel://{self.hosts}/{MASTER}/0"

    def start(self) -> SentinelSystem:
        for server in self.servers:
            server.start(ready=not self._client)
        until(self._replicate, within=20, what="replicas")
        for each in self.sentinels:
            each.start()
        until(self.ready, within=30, what="Sentinels")
        return self

    def _replicate(self) -> bool:
        with self.servers[0].client(**self._client) as asked, suppress(redis.ConnectionError):
            return int(asked.info("replication")["connected_slaves"]) == 2
        return False

    def told(self) -> Iterator[dict[str, Any]]:
        """What each Sentinel knows of the primary."""
        for each in self.sentinels:
            with each.server.client(**self._tls) as asked, suppress(redis.ConnectionError):
                yield asked.sentinel_masters()[MASTER]

    def primary_port(self) -> int:
        """The primary in the eyes of the most Sentinels."""
        ports = [int(state["port"]) for state in self.told()]
        return max(set(ports), key=ports.count)

    @property
    def primary(self) -> Server:
        port = self.primary_port()
        return next(server for server in self.servers if server.port == port)

    def usable(self) -> bool:
        """Whether there is a replica for a failover; Sentinels take 10 s to make it two again."""
        return self.ready(replicas=1)

    def ready(self, *, replicas: int = 2) -> bool:
        """Whether every Sentinel knows the others, and so many replicas that are up."""
        known = list(self.told())
        if len(known) < 3 or any(
            int(state["num-other-sentinels"]) < 2
            or int(state["num-slaves"]) < 2
            or state["is_sdown"]
            for state in known
        ):
            return False
        for each in self.sentinels:
            with each.server.client(**self._tls) as asked:
                rows = asked.sentinel_slaves(MASTER)
                up = [not row["is_sdown"] and row["master-link-status"] == "ok" for row in rows]
                if sum(up) < replicas:
                    return False
        return len({int(state["port"]) for state in known}) == 1

    def fail_over(self) -> None:
        """Order a failover; returns at once."""
        with self.sentinels[0].server.client(**self._tls) as asked:
            asked.execute_command("SENTINEL", "FAILOVER", MASTER)

    def promoted(self, *, but: int) -> bool:
        """Whether the Sentinels name another primary than that on port `but`, and it is one."""
        port = self.primary_port()
        if port == but:
            return False
        found = next(server for server in self.servers if server.port == port)
        with found.client(**self._client) as asked, suppress(redis.ConnectionError):
            return bool(asked.role()[0] == b"master")
        return False

    def stop(self) -> None:
        for each in self.sentinels:
            each.server.stop()
        for server in self.servers:
            server.stop()


class ClusterSystem:
    """A cluster of three primaries and three replicas."""

    def __init__(self, binary: str, *options: str, primaries: int = 3, **client: Any) -> None:
        own = ("--cluster-enabled", "yes", "--cluster-node-timeout", "1000")
        own += ("--cluster-replica-validity-factor", "0", "--cluster-require-full-coverage", "no")
        self._client = client
        self._primaries = primaries
        self.servers = [
            Server(binary, *_REPLICA, *_AOF, *own, *options) for _ in range(2 * primaries)
        ]

    @property
    def hosts(self) -> str:
        return ",".join(f"127.0.0.1:{server.port}" for server in self.servers)

    @property
    def url(self) -> str:
        return f"redis+cluster://{self.hosts}"

    def at(self, server: Server) -> redis.Redis:
        return server.client(**self._client)

    def start(self) -> ClusterSystem:
        for server in self.servers:
            server.start(ready=not self._client)
        until(self._answer, within=20, what="nodes")
        count = self._primaries
        with self.at(self.servers[0]) as first:
            for n, server in enumerate(self.servers):
                with self.at(server) as node:
                    node.execute_command("CLUSTER", "SET-CONFIG-EPOCH", n + 1)
                    if n < count:
                        slots = range(n * SLOTS // count, (n + 1) * SLOTS // count)
                        node.execute_command("CLUSTER", "ADDSLOTS", *slots)
                    first.execute_command("CLUSTER", "MEET", "127.0.0.1", server.port)
        until(lambda: all(self._known(server) == 2 * count for server in self.servers), within=20)
        for n in range(count):
            id = self.id(self.servers[n])
            with self.at(self.servers[count + n]) as replica:
                replica.execute_command("CLUSTER", "REPLICATE", id)
        until(self.ready, within=20, what="the cluster")
        return self

    def _answer(self) -> bool:
        try:
            for server in self.servers:
                with self.at(server) as node:
                    node.ping()
        except redis.ConnectionError:
            return False
        return True

    def _known(self, server: Server) -> int:
        with self.at(server) as node:
            return int(node.execute_command("CLUSTER INFO")["cluster_known_nodes"])

    def id(self, server: Server) -> str:
        with self.at(server) as node:
            told: Any = node.execute_command("CLUSTER", "MYID")
            return str(told.decode())

    def usable(self) -> bool:
        """Whether a failover can be had, and everybody knows everybody."""
        return self.ready()

    def ready(self) -> bool:
        """Whether every node agrees that all is well, and every replica follows its primary."""
        try:
            for server in self.servers:
                with self.at(server) as node:
                    info = node.execute_command("CLUSTER INFO")
                    if info["cluster_state"] != "ok" or info["cluster_size"] != str(
                        self._primaries
                    ):
                        return False
                    if int(info["cluster_slots_ok"]) != SLOTS:
                        return False
                    replication = node.info("replication")
                    if replication.get("master_link_status", "up") != "up":
                        return False
                    if replication["role"] == "master" and not replication["connected_slaves"]:
                        return False
        except redis.RedisError:
            return False
        return True

    def owner(self, slot: int) -> Server:
        """The primary that has a slot, in the eyes of a node that is up."""
        for server in self.servers:
            if server.process is None:
                continue
            with self.at(server) as node, suppress(redis.RedisError):
                raw: Any = node.execute_command("CLUSTER", "SLOTS")
                for row in raw:
                    if row[0] <= slot <= row[1]:
                        port = row[2][1]
                        return next(each for each in self.servers if each.port == port)
        raise AssertionError(f"nobody has slot {slot}")

    def another(self, slot: int) -> Server:
        """A primary that does not have a slot."""
        owners = {each.port: each for each in map(self.owner, (0, 6_000, 16_000))}
        del owners[self.owner(slot).port]
        return next(iter(owners.values()))

    def replica_of(self, primary: Server) -> Server:
        with self.at(primary) as node:
            info = node.info("replication")
        return next(s for s in self.servers if s.port == info["slave0"]["port"])

    def stop(self) -> None:
        for server in self.servers:
            server.stop()


def slot_of(key: str) -> int:
    return int(redis.crc.key_slot(key.encode()))


class Move:
    """A slot on its way from its primary to another one, key by key as redis-cli moves it."""

    def __init__(self, system: ClusterSystem, slot: int, to: Server) -> None:
        self.system, self.slot, self.to = system, slot, to
        self.source = system.owner(slot)

    def begin(self) -> None:
        to_id, from_id = self.system.id(self.to), self.system.id(self.source)
        with self.system.at(self.to) as target, self.system.at(self.source) as source:
            target.execute_command("CLUSTER", "SETSLOT", self.slot, "IMPORTING", from_id)
            source.execute_command("CLUSTER", "SETSLOT", self.slot, "MIGRATING", to_id)

    def keys(self, most: int = 100, *, pause_s: float = 0) -> int:
        """Move keys; returns how many, 0 if there are none left."""
        with self.system.at(self.source) as source:
            keys: Any = source.execute_command("CLUSTER", "GETKEYSINSLOT", self.slot, most)
            if keys:
                words = ("MIGRATE", "127.0.0.1", self.to.port, "", 0, 5_000, "KEYS", *keys)
                source.execute_command(*words)
        time.sleep(pause_s)
        return len(keys)

    def end(self) -> None:
        to_id = self.system.id(self.to)
        for server in (self.to, self.source):
            with self.system.at(server) as node:
                node.execute_command("CLUSTER", "SETSLOT", self.slot, "NODE", to_id)

    def run(self, *, pause_s: float = 0) -> None:
        self.begin()
        while self.keys(10, pause_s=pause_s):
            pass
        self.end()


@contextmanager
def sentinels(*options: str, binary: str | None = None, **more: Any) -> Iterator[SentinelSystem]:
    system = SentinelSystem(binary or binaries()["valkey"], *options, **more)
    try:
        yield system.start()
    finally:
        system.stop()


@contextmanager
def cluster(*options: str, binary: str | None = None, **more: Any) -> Iterator[ClusterSystem]:
    system = ClusterSystem(binary or binaries()["valkey"], *options, **more)
    try:
        yield system.start()
    finally:
        system.stop()
