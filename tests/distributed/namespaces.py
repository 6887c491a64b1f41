"""Two network namespaces as two hosts: each has an address and a line to the other, no more.

They share the file system, the process ids and the host's name.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import pytest


def why_not() -> str | None:
    """Why there can be no namespaces here; None where there can."""
    if shutil.which("ip") is None:
        return "there is no `ip` (Debian: iproute2)"
    if os.geteuid():
        return "network namespaces need root"
    name = f"dlm-try-{os.getpid()}"
    tried = _ip("netns", "add", name, check=False)
    if tried.returncode:
        return f"no network namespace can be made: {tried.stderr.strip()}"
    _ip("netns", "del", name)
    return None


@dataclass(frozen=True)
class TwoHosts:
    """Host 0 and host 1."""

    names: tuple[str, str]
    devices: tuple[str, str]
    addresses: tuple[str, str]

    def popen(
        self, host: int, command: list[str], environment: Mapping[str, str]
    ) -> subprocess.Popen[str]:
        """Start a command on a host; gloo is told which line to use."""
        return subprocess.Popen(
            ["ip", "netns", "exec", self.names[host], *command],
            env={**environment, "GLOO_SOCKET_IFNAME": self.devices[host]},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip

    def cut(self) -> None:
        """Take the line away: packets vanish, and nobody is told."""
        _ip("-n", self.names[1], "link", "set", self.devices[1], "down")

    def mend(self) -> None:
        """Give it back."""
        _ip("-n", self.names[1], "link", "set", self.devices[1], "up")


@contextmanager
def two_hosts() -> Iterator[TwoHosts]:
    """Two hosts for as long as the block lasts; whatever still runs on them is ended then."""
    if reason := why_not():
        pytest.skip(reason)
    own = os.getpid() % 100_000  # a device's name has 15 characters at most
    hosts = TwoHosts(
        (f"dlm-a-{own}", f"dlm-b-{own}"), (f"dlma{own}", f"dlmb{own}"), ("10.213.7.1", "10.213.7.2")
    )
    try:
        for name in hosts.names:
            _ip("netns", "add", name)
        first, second = hosts.names
        _ip("link", "add", hosts.devices[0], "netns", first, "type", "veth",
            "peer", "name", hosts.devices[1], "netns", second)  # fmt: skip
        for name, device, address in zip(*vars(hosts).values(), strict=True):
            _ip("-n", name, "addr", "add", f"{address}/24", "dev", device)
            for link in ("lo", device):
                _ip("-n", name, "link", "set", link, "up")
        yield hosts
    finally:
        for name in hosts.names:
            _end_all(name)
            _ip("netns", "del", name, check=False)  # its device goes with it


def _end_all(name: str) -> None:
    for pid in _ip("netns", "pids", name, check=False).stdout.split():
        subprocess.run(["kill", "-KILL", pid], check=False, capture_output=True)


def _ip(*words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["ip", *words], check=check, capture_output=True, text=True, timeout=30)
