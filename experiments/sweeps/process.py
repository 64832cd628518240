"""The process in which one cell of a sweep is done: ``python -m experiments.sweeps.process``.

A new process takes some seconds to start. In return the peak of memory is that of the run alone, its memory is given back, and
a process that dies stops nothing else. It reads the job, a line of JSON, from its standard input, and writes its progress, a
line each, to its standard output. When its input ends, the sweep itself is gone, and the process stops as it does on SIGTERM.
"""

import json
import os
import signal
import sys
import threading
import time
import traceback
from typing import Any

import torch

from discrepancy.errors import DiscrepancyError, out_of_memory
from experiments.config import build, load_parts, load_plugins
from experiments.run import Interrupted
from experiments.sweeps.cell import Job, perform

__all__ = ["main"]

SECONDS_BETWEEN_MESSAGES = 0.5


def main() -> None:
    """The process."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # whatever prints, prints into the log
    request = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_stop_when_alone, daemon=True).start()
    last = 0.0

    def send(**what: Any) -> None:
        out.write(json.dumps(what) + "\n")

    def advancing(stage: str, share: float, note: str) -> None:
        nonlocal last
        if time.monotonic() - last >= SECONDS_BETWEEN_MESSAGES or share == 1:
            last = time.monotonic()
            send(stage=stage, share=share, note=note)

    try:
        if request["threads"]:
            torch.set_num_threads(request["threads"])
        load_plugins()
        for path in request["imports"]:
            load_parts(path)
        perform(build(Job, request["job"]), advancing)
    except Interrupted as stopped:
        send(end="interrupted", reason=str(stopped))
    except DiscrepancyError as error:
        send(end="failed", reason=str(error))
    except Exception as error:
        traceback.print_exc()
        send(end="failed", reason=out_of_memory(error) or " ".join(f"{type(error).__name__}: {error}".split()))
    else:
        send(end="done", reason="")
    finally:
        out.close()


def _stop_when_alone() -> None:
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
