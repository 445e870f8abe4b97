"""Several processes that share a run, as the elastic agent would tell them."""

import multiprocessing
import os
import pickle
import queue
import socket
import traceback

import torch

# Forking is quick, but where there is a card autograd has threads, which no fork survives.
START_METHOD = "spawn" if torch.cuda.is_available() else "fork"


def in_ranks(work, *arguments, processes=2, seconds=240):
    """What `work(*arguments)` returns on each rank; a failure on one is an AssertionError here."""
    context = multiprocessing.get_context(START_METHOD)
    results = context.Queue()
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    ranks = [
        context.Process(target=_rank, args=(rank, processes, port, results, work, arguments))
        for rank in range(processes)
    ]
    for process in ranks:
        process.start()
    try:
        answers = dict(results.get(timeout=seconds) for _ in ranks)
    except queue.Empty:
        raise AssertionError(f"no answer in {seconds} s") from None
    finally:
        for process in ranks:
            process.join(timeout=1)
            process.kill()
    found = {rank: pickle.loads(answer) for rank, answer in answers.items()}
    for rank, (failed, answer) in found.items():
        assert not failed, f"rank {rank}:\n{answer}"
    return [found[rank][1] for rank in range(processes)]


def _rank(rank, processes, port, results, work, arguments):
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes),
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_RUN_ID": "test",
    }
    try:
        answer = (False, work(*arguments))
    except BaseException:
        answer = (True, traceback.format_exc())
    # By value: torch would hand over tensors in memory that goes with this process.
    results.put((rank, pickle.dumps(answer)))
