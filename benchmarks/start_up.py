"""How quickly `orch` starts, as ratios to a bare Python in the same run; and with 10,000 units.

    python benchmarks/start_up.py [--rounds 15] [--units 10000]

Each round runs every command once, one after the other, so that the machine's noise hits all alike. Every figure is
the median of the rounds. A start must stay under 300 ms; the line with all units is work, not start.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ORCH = (sys.executable, "-m", "orchestrator_app")
SETTINGS = """
[workflow]
isolation = "none"
phases = ["RUN"]
[phases.RUN]
agent = "none"
[agents.none]
command = ["true"]
"""
COMMANDS: dict[str, tuple[str, ...]] = {
    "orch --version": ("--version",),
    "orch emit --help": ("emit", "--help"),
    "orch status": ("status",),
    "orch show NAME": ("show", "unit-00000"),
    "orch ls --limit 20": ("ls", "--limit", "20"),
    "orch ls --json, all units": ("ls", "--json"),
    "Tab behind `orch show unit-0000`": (),
}
TAB = {"_ORCH_COMPLETE": "bash_complete", "COMP_WORDS": "orch show unit-0000", "COMP_CWORD": "2"}


def seconds(command: tuple[str, ...], root: Path, **env: str) -> float:
    began = time.perf_counter()
    subprocess.run(command, cwd=root, env={**os.environ, **env}, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--units", type=int, default=10_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "project"
        root.mkdir()
        (root / "orchestrator.toml").write_text(SETTINGS)
        with open(Path(folder) / "server.out", "wb") as output:
            server = subprocess.Popen([*ORCH, "serve", "--port", "0"], cwd=root, stdout=output, stderr=output)
        try:
            while subprocess.run([*ORCH, "status"], cwd=root, capture_output=True).returncode:
                assert server.poll() is None, (Path(folder) / "server.out").read_text()
                time.sleep(0.1)
            subprocess.run([*ORCH, "pause", "--dispatch"], cwd=root, check=True, stdout=subprocess.DEVNULL)
            units = json.dumps([{"name": f"unit-{number:05}"} for number in range(options.units)])
            subprocess.run(
                [*ORCH, "import", "-"], cwd=root, input=units.encode(), check=True, stdout=subprocess.DEVNULL
            )
            measure(root, options.rounds)
        finally:
            subprocess.run([*ORCH, "stop", "--agents"], cwd=root, stdout=subprocess.DEVNULL)
            server.wait(60)


def measure(root: Path, rounds: int) -> None:
    bare: list[float] = []
    found: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(rounds):
        bare.append(seconds((sys.executable, "-c", "pass"), root))
        for name, arguments in COMMANDS.items():
            found[name].append(seconds((*ORCH, *arguments), root, **({} if arguments else TAB)))
    print(f"python -c pass: {statistics.median(bare) * 1000:.0f} ms")
    for name, times in found.items():
        middle = statistics.median(times)
        ratio = statistics.median(time / base for time, base in zip(times, bare, strict=True))
        print(f"{name:<34} {middle * 1000:4.0f} ms  {ratio:4.1f} x")


if __name__ == "__main__":
    main()
