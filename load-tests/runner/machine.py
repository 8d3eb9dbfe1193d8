"""What the machine is and does: its description, CPU books, the disk's commit latency. Changes nothing but scratch files."""

import os
import platform
import statistics
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TICK_S = 1 / os.sysconf("SC_CLK_TCK")
RELEASE = ROOT / "target" / "release"


def output(*command):
    """Standard output of a command, empty if it is missing or fails."""
    try:
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def environment():
    """This process's environment without settings of the service, which would be measured along."""
    return {name: value for name, value in os.environ.items() if not name.startswith("VERDICT__")}


def describe():
    """What a figure depends on."""
    models = [line.split(":", 1)[1].strip() for line in read("/proc/cpuinfo").splitlines() if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "rustc": output("rustc", "--version"),
        "commit": output("git", "rev-parse", "--short", "HEAD") + ("+changes" if output("git", "status", "--porcelain") else ""),
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def read(path):
    """A file's text, empty if there is none."""
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def busy_s():
    """CPU seconds that all cores have spent on anything but idling, time stolen by the hypervisor included."""
    fields = [int(field) for field in read("/proc/stat").splitlines()[0].split()[1:9]]
    idle = fields[3] + fields[4]
    return (sum(fields) - idle) * TICK_S


def process_s(pid):
    """CPU seconds of a process and all its threads."""
    fields = read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK_S


def file_system(directory):
    """The kind of file system under a directory, such as `ext2/ext3`."""
    return output("stat", "-f", "-c", "%T", str(directory))


def disk_commits(directory, commits=400, size=16 * 1024):
    """Latency of append + fdatasync in microseconds: what a durable answer waits for at the least."""
    path = Path(directory) / "commit-probe"
    block = os.urandom(size)
    took = []
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    try:
        for _ in range(commits):
            start = time.perf_counter()
            os.write(descriptor, block)
            os.fdatasync(descriptor)
            took.append((time.perf_counter() - start) * 1e6)
    finally:
        os.close(descriptor)
        path.unlink()
    took.sort()
    at = lambda share: round(took[min(int(len(took) * share), len(took) - 1)])
    return {"commits": commits, "bytes": size, "p50_us": at(0.5), "p99_us": at(0.99), "max_us": at(1.0)}


def spread(values):
    """Median, least and most."""
    values = list(values)
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def shown(figures, pattern="{:.2f}"):
    """A spread as `median (min-max)`."""
    text = lambda key: pattern.format(figures[key])
    return f"{text('median')} ({text('min')}–{text('max')})"
