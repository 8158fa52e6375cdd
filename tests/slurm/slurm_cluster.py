"""A real Slurm on this machine: munge, slurmctld and several slurmds with fake GPUs.

Everything lies in one fresh folder, so a Slurm of the system's own is never touched.
"""

import contextlib
import itertools
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "sinfo")
ACCOUNTANTS = ("slurmdbd", "sacctmgr", "sacct", "mariadbd", "mariadb-install-db")
CPUS, GPUS, SHARDS = 4, 4, 16  # of each node

CONF = """
ClusterName=lab
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={root}/run/munge.sock,cred_expire=5
CredType=cred/munge
SlurmctldPort={port}
SlurmctldPidFile={root}/run/slurmctld.pid
SlurmdPidFile={root}/run/slurmd.%n.pid
SlurmctldLogFile={root}/log/slurmctld.log
SlurmdLogFile={root}/log/slurmd.%n.log
StateSaveLocation={root}/state/ctld
SlurmdSpoolDir={root}/state/slurmd.%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=sched_min_interval=0,batch_sched_delay=0,bf_interval=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
JobRequeue=1
GresTypes=gpu,shard
ReturnToService=2
SlurmdParameters=config_overrides
InactiveLimit=0
KillWait=5
MinJobAge=3600
MessageTimeout=30
SlurmdTimeout=15
JobAcctGatherType=jobacct_gather/linux
JobCompType=jobcomp/filetxt
JobCompLoc={root}/log/jobcomp.txt
"""

ACCOUNTING = """
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={port}
AccountingStoragePass={root}/run/munge.sock
AccountingStorageEnforce=associations,limits,qos
"""

DBD = """
DbdHost={host}
DbdAddr=127.0.0.1
DbdPort={port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={root}/run/munge.sock
PidFile={root}/run/slurmdbd.pid
LogFile={root}/log/slurmdbd.log
StorageType=accounting_storage/mysql
StorageUser=root
StorageLoc=accounts
"""


def missing(programs: tuple[str, ...] = PROGRAMS) -> str:
    """Why no cluster can be started here, or nothing."""
    if os.geteuid():
        return "starting Slurm's daemons needs root"
    paths = os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"])
    lacking = [name for name in programs if not shutil.which(name, path=paths)]
    return f"not installed: {', '.join(lacking)} (see .ci/run)" if lacking else ""


class Cluster:
    """Starts with ``start`` and must be ended with ``stop``.

    Args:
        root: an empty folder.
        partitions: name of each to its number of machines, which are called n1, n2 …; jobs go to
            the first unless they name another, and preempting ones anywhere with ``urgent``.
        accounting: whether slurmdbd keeps the accounts, which makes limits possible.
    """

    def __init__(self, root: Path, partitions: dict[str, int], accounting: bool = False) -> None:
        self.root, self.partitions, self.accounting = root, partitions, accounting
        self.nodes = [f"n{number}" for number in range(1, sum(partitions.values()) + 1)]
        self.conf = root / "etc/slurm.conf"
        self.environment = {
            **os.environ,
            "SLURM_CONF": str(self.conf),
            "XDG_CACHE_HOME": str(root / "cache"),
            "PATH": os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"]),
        }

    def start(self) -> None:
        """Writes the configuration and starts every daemon."""
        for name in ("etc", "run", "log", "state/ctld"):
            (self.root / name).mkdir(parents=True)
        key = self.root / "etc/munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o600)
        for index in range(GPUS):
            self.call("mknod", str(self.root / f"run/gpu{index}"), "c", "1", "3")
        self._configure()
        run = self.root / "run"
        self.call(
            "munged",
            "--force",
            f"--key-file={key}",
            f"--socket={run}/munge.sock",
            f"--pid-file={run}/munged.pid",
            f"--log-file={self.root}/log/munged.log",
            f"--seed-file={run}/munged.seed",
        )
        if self.accounting:
            self._start_accounting()
        self.start_controller()
        for node in self.nodes:
            self.start_node(node)
        self.wait_for_nodes()

    def _configure(self) -> None:
        host = socket.gethostname().partition(".")[0]
        port, self.dbd_port, *ports = _free_ports(len(self.nodes) + 2)
        lines = [CONF.format(root=self.root, host=host, port=port)]
        if self.accounting:
            lines.append(ACCOUNTING.format(root=self.root, port=self.dbd_port))
        for node, port in zip(self.nodes, ports, strict=True):
            lines.append(
                f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} "
                f"CPUs={CPUS} RealMemory=8000 Gres=gpu:fake:{GPUS},shard:{SHARDS} "
                "State=UNKNOWN"
            )
        left, default = iter(self.nodes), "YES"
        for name, count in self.partitions.items():
            nodes = ",".join(itertools.islice(left, count))
            lines.append(
                f"PartitionName={name} Nodes={nodes} MaxTime=INFINITE State=UP Default={default} "
                "PriorityTier=10 GraceTime=60"
            )
            default = "NO"
        lines.append(
            "PartitionName=urgent Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=100 "
            "PreemptMode=off"
        )
        self.conf.write_text("\n".join(lines) + "\n")
        gres = f"Name=gpu Type=fake File={self.root}/run/gpu[0-{GPUS - 1}]\n"
        gres += f"Name=shard Count={SHARDS}\n"
        (self.root / "etc/gres.conf").write_text(gres)
        (self.root / "etc/cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")

    def _start_accounting(self) -> None:
        """A database of its own, slurmdbd, and a quality of service that is worth one job."""
        data, socket_path = self.root / "db", self.root / "run/db.sock"
        self.call("mariadb-install-db", "--no-defaults", "--user=root", f"--datadir={data}")
        options = ("--skip-networking", "--innodb-flush-log-at-trx-commit=0")
        files = (f"--socket={socket_path}", f"--pid-file={self.root}/run/mariadbd.pid")
        with open(self.root / "log/db.log", "wb") as log:
            self.database = subprocess.Popen(
                ["mariadbd", "--no-defaults", "--user=root", f"--datadir={data}", *options, *files],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        conf = self.root / "etc/slurmdbd.conf"
        host = socket.gethostname().partition(".")[0]
        conf.write_text(DBD.format(root=self.root, host=host, port=self.dbd_port))
        conf.chmod(0o600)
        self.environment["MYSQL_UNIX_PORT"] = str(socket_path)
        self._eventually(lambda: socket_path.exists())
        self._daemon("slurmdbd")
        add = ("sacctmgr", "-i", "add")
        self._eventually(lambda: self.call(*add, "cluster", "lab"))
        self.call(*add, "qos", "one", "MaxSubmitJobsPerUser=1")
        self.call("sacctmgr", "-i", "modify", "user", "root", "set", "qos=normal,one")

    def _eventually(self, action: Callable[[], Any]) -> None:
        """Tries for half a minute until it returns something and raises nothing."""
        end = time.monotonic() + 30
        while True:
            try:
                if action():
                    return
            except RuntimeError:
                if time.monotonic() > end:
                    raise
            time.sleep(0.1)

    def call(self, *command: str, timeout: float = 60) -> str:
        """Runs a client command against this cluster and returns what it prints."""
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=timeout
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
        return done.stdout

    def start_controller(self) -> None:
        self._daemon("slurmctld", "-f", str(self.conf))

    def stop_controller(self) -> None:
        self._kill("slurmctld")

    def start_node(self, node: str) -> None:
        (self.root / f"state/slurmd.{node}").mkdir(exist_ok=True)
        self._daemon("slurmd", "-N", node, "-f", str(self.conf))

    def kill_node(self, node: str) -> None:
        """Ends a node as a power cut does: nothing is left that could report an end."""
        daemon = int((self.root / f"run/slurmd.{node}.pid").read_text())
        for process in [daemon, *self._steps(node)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self.signal(signal.SIGKILL, f"SLURMD_NODENAME={node}")

    def _steps(self, node: str) -> list[int]:
        """The slurmstepds of a node, which write into its log."""
        log = f"{self.root}/log/slurmd.{node}.log"
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if (process / "comm").read_text().startswith("slurmstepd") and any(
                    os.readlink(handle) == log for handle in (process / "fd").iterdir()
                ):
                    found.append(int(process.name))
        return found

    def signal(self, number: int, variable: str) -> None:
        """To all processes of this cluster's jobs with ``NAME=value`` in their environment."""
        marks = {variable.encode(), f"SLURM_CONF={self.conf}".encode()}
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if marks <= set((process / "environ").read_bytes().split(b"\0")):
                    os.kill(int(process.name), number)

    def _daemon(self, *command: str) -> None:
        # Daemons keep the streams that they are given: a pipe would never close.
        subprocess.run(
            command,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
            timeout=60,
        )

    def _kill(self, name: str) -> None:
        path = self.root / f"run/{name}.pid"
        if not path.exists():
            return
        process = int(path.read_text())
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, number)
            end = time.monotonic() + 10
            while Path(f"/proc/{process}").exists() and time.monotonic() < end:
                time.sleep(0.05)

    def wait_for_nodes(self) -> None:
        """Until every node takes jobs."""
        end = time.monotonic() + 60
        while True:
            with contextlib.suppress(RuntimeError, subprocess.TimeoutExpired):
                idle = self.call("sinfo", "-h", "-p", "urgent", "-t", "idle", "-o", "%D").split()
                if idle == [str(len(self.nodes))]:
                    return
            if time.monotonic() > end:
                raise RuntimeError(self.call("sinfo", "-N", "-l"))
            time.sleep(0.2)

    def stop(self) -> None:
        """Cancels all jobs and ends every daemon."""
        with contextlib.suppress(RuntimeError, subprocess.TimeoutExpired):
            self.call("scancel", "-u", "root", timeout=20)
            end = time.monotonic() + 15
            while self.call("squeue", "-h", timeout=20).strip() and time.monotonic() < end:
                time.sleep(0.3)
        names = [path.stem for path in (self.root / "run").glob("slurmd.*.pid")]
        for name in ["slurmctld", *names, "slurmdbd", "mariadbd", "munged"]:
            self._kill(name)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for found in sockets:
            found.bind(("127.0.0.1", 0))
        return [found.getsockname()[1] for found in sockets]
