"""What every worker speaks: it says once that it is ready and what it races, then answers rounds.

    worker: ready <TAB> versions <TAB> output shape, as 32x1280 <TAB> parameters of the backbone
    runner: seconds that a round should last
    worker: pictures a second in that round
"""
import os
import sys
import time

THREADS = int(os.environ.get("RACE_THREADS", "2"))
BATCH = 32


def serve(versions, shape, parameters, batches):
    """Answers rounds until the runner closes the line. `batches(enough)` works until `enough()`
    says so, at least one batch, and returns how many pictures it has done."""
    dims = "x".join(str(side) for side in shape)
    print("ready", versions, dims, parameters, sep="\t", flush=True)
    for line in sys.stdin:
        start = time.perf_counter()
        end = start + float(line)
        pictures = batches(lambda: time.perf_counter() >= end)
        print(pictures / (time.perf_counter() - start), flush=True)


def repeated(batch):
    """Rounds of a function that does one batch."""

    def batches(enough):
        done = 0
        while done == 0 or not enough():
            batch()
            done += BATCH
        return done

    return batches
