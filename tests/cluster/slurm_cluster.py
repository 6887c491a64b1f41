"""A real Slurm of two nodes on this one machine, in a directory of its own."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "scancel")
NODES = ("n1", "n2")

CONFIGURATION = """
ClusterName=dlmtest
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={place}/munge.socket
StateSaveLocation={place}/state
SlurmdSpoolDir={place}/spool-%n
SlurmctldPidFile={place}/slurmctld.pid
SlurmdPidFile={place}/slurmd-%n.pid
SlurmctldLogFile={place}/slurmctld.log
SlurmdLogFile={place}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1,batch_sched_delay=0,sched_min_interval=0
JobRequeue=1
KillWait=20
MinJobAge=600
ReturnToService=0
MpiDefault=none
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
{nodes}
PartitionName=test Nodes=n[1-2] Default=YES MaxTime=INFINITE State=UP
"""


def _path() -> str:
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def missing_programs() -> list[str]:
    """What a test of a real Slurm lacks on this machine."""
    lacking = [name for name in PROGRAMS if shutil.which(name, path=_path()) is None]
    return lacking if os.geteuid() == 0 else [*lacking, "root's rights"]


needs_slurm = [
    pytest.mark.slow,
    pytest.mark.skipif(
        bool(missing_programs()),
        reason=f"a real Slurm needs {', '.join(missing_programs())} (Debian: slurmctld slurmd "
        "slurm-client munge)",
    ),
]
"""Marks of a file of tests of it."""


@dataclass
class SlurmCluster:
    """Daemons in ``place``; enter it to start them, leave it to stop them and all they started."""

    place: Path
    environment: dict[str, str] = field(default_factory=dict)
    daemons: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    def __enter__(self) -> "SlurmCluster":
        for name in ("state", *(f"spool-{node}" for node in NODES)):
            (self.place / name).mkdir(parents=True)
        configuration = self.place / "slurm.conf"
        configuration.write_text(_configuration(self.place))
        self.environment = {**os.environ, "PATH": _path(), "SLURM_CONF": str(configuration)}
        try:
            self._start_munge()
            self._start("slurmctld", "slurmctld", "-D")
            for node in NODES:
                self.start_node(node)
            self._await_nodes()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        if "slurmctld" in self.daemons:
            self.call("scancel", "--full", "--user=root", check=False)
            time.sleep(1)
        for node in NODES:
            self.kill_node(node)
        for process in reversed(self.daemons.values()):
            process.kill()
            process.wait()

    def call(self, *command: str, check: bool = True) -> str:
        """Standard output of one of Slurm's own commands."""
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=60
        )
        assert not check or done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout.strip()

    def start_node(self, node: str) -> None:
        """A slurmd; after `kill_node` the node also has to be resumed."""
        self._start(f"slurmd-{node}", "slurmd", "-D", "-N", node)

    def kill_node(self, node: str) -> None:
        """The power is cut: slurmd and everything that it started are gone at once."""
        daemon = self.daemons.pop(f"slurmd-{node}", None)
        if daemon is None:
            return
        daemon.kill()
        daemon.wait()
        for pid in _of_node(node, self.place):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def states_of(self, job: str) -> list[str]:
        """``PENDING Dependency``, ``RUNNING None``, ...; a job array has one a task."""
        shown = self.call("squeue", "--noheader", "--states=all", "--jobs", job, "--format=%T %r")
        return shown.splitlines()

    def _start(self, name: str, *command: str) -> None:
        log = (self.place / f"{name}.out").open("ab")
        self.daemons[name] = subprocess.Popen(
            command, env={**self.environment, "DLM_TEST_NODE": name}, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip

    def _start_munge(self) -> None:
        key = self.place / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        self._start(
            "munged", "munged", "--foreground", "--force", f"--key-file={key}",
            f"--socket={self.place}/munge.socket", f"--pid-file={self.place}/munged.pid",
            f"--log-file={self.place}/munged.log", f"--seed-file={self.place}/munged.seed",
        )  # fmt: skip
        _await(lambda: (self.place / "munge.socket").exists(), "munged", self.place)

    def _await_nodes(self) -> None:
        def ready() -> bool:
            shown = self.call("sinfo", "--noheader", "--Node", "--format=%N %T", check=False)
            return shown.split() == ["n1", "idle", "n2", "idle"]

        _await(ready, "two idle nodes", self.place)


def _configuration(place: Path) -> str:
    ports = _free_ports(1 + len(NODES))
    nodes = "\n".join(
        f"NodeName={node} NodeHostname=localhost NodeAddr=127.0.0.1 Port={port} CPUs=8 "
        "RealMemory=4000 State=UNKNOWN"
        for node, port in zip(NODES, ports[1:], strict=True)
    )
    return CONFIGURATION.format(
        host=socket.gethostname().partition(".")[0], port=ports[0], place=place, nodes=nodes
    )


def _await(condition: Callable[[], bool], what: str, place: Path) -> None:
    end = time.monotonic() + 30
    while not condition():
        if time.monotonic() > end:
            files = [*place.glob("*.log"), *place.glob("*.out")]
            logs = "\n".join(f"== {file.name}\n{file.read_text()[-800:]}" for file in files)
            raise TimeoutError(f"Slurm did not come to {what}:\n{logs}")
        time.sleep(0.1)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _of_node(node: str, place: Path) -> list[int]:
    """Processes whose environment says that this node's slurmd started them."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            variables = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        ours = f"SLURM_CONF={place}/slurm.conf".encode() in variables
        named = (f"DLM_TEST_NODE=slurmd-{node}".encode(), f"SLURMD_NODENAME={node}".encode())
        if ours and any(name in variables for name in named):
            found.append(int(entry.name))
    return [pid for pid in found if pid != os.getpid()]


def main() -> None:
    """`python tests/cluster/slurm_cluster.py`: a Slurm to try things on, until Ctrl-C."""
    with (
        tempfile.TemporaryDirectory() as place,
        SlurmCluster(Path(place)) as cluster,
        suppress(KeyboardInterrupt),
    ):
        print(f"export SLURM_CONF={cluster.environment['SLURM_CONF']} MASTER_ADDR=127.0.0.1")
        print("in another shell; partition `test`, nodes n1 and n2. Ctrl-C ends it", flush=True)
        signal.pause()


if __name__ == "__main__":
    main()
