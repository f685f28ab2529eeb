"""Measures jacfwd and jacrev over a grid of inputs, outputs and depths, for the tutorial's figure.

    python benchmarks/modes_grid.py docs/assets/figures/modes.json

The function is a chain: `depth` layers of width 64 between n inputs and m outputs, in float64, on
one thread. Time: the best of several calls, over several rounds (a disturbance makes a call slower,
never faster). Memory: for JAX what the compiled program says it needs beside its arguments
(temporary buffers and the result); for PyTorch the most bytes of tensors alive at once during the
call. Memory is the same from run to run; time is the machine's.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import itertools
import json
import os
import platform
import time
import weakref

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# One thread: the flag is XLA's for its CPU backend.
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_cpu_multi_thread_eigen=false"
).strip()

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

SIZES = (1, 4, 16, 64, 256, 1024)
DEPTHS = (1, 4, 16, 64, 256)
WIDTH = 64
MODES = ("jacfwd", "jacrev")


def arguments(n: int, m: int, depth: int) -> tuple[np.ndarray, ...]:
    """An input of n numbers, and the matrices of the chain that takes it to m."""
    random = np.random.default_rng(0)
    scale = WIDTH**-0.5
    return (
        random.normal(size=n),
        random.normal(size=(WIDTH, n)) * n**-0.5,
        random.normal(size=(depth, WIDTH, WIDTH)) * scale,
        random.normal(size=(m, WIDTH)) * scale,
    )


def chain_jax(x, first, layers, last):
    """The chain, its layers as a scan."""
    h, _ = jax.lax.scan(lambda h, w: (jnp.tanh(w @ h), None), first @ x, layers)
    return last @ h


def chain_torch(x, first, layers, last):
    """The same chain, its layers as a loop."""
    h = first @ x
    for w in layers:
        h = torch.tanh(w @ h)
    return last @ h


class Alive(TorchDispatchMode):
    """Counts the bytes of the tensors that operations make and that are still alive."""

    def __init__(self):
        super().__init__()
        self.now = self.most = 0
        self.seen: weakref.WeakSet = weakref.WeakSet()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        """Runs the operation, and counts the storages that it made."""
        known = {id(leaf.untyped_storage()) for leaf in tree_leaves(args) if _is_tensor(leaf)}
        out = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if not _is_tensor(leaf):
                continue
            storage = leaf.untyped_storage()
            if id(storage) not in known and storage not in self.seen:
                self.seen.add(storage)
                self.now += storage.nbytes()
                weakref.finalize(storage, self._freed, storage.nbytes())
        self.most = max(self.most, self.now)
        return out

    def _freed(self, size: int) -> None:
        self.now -= size


def _is_tensor(leaf: object) -> bool:
    return isinstance(leaf, torch.Tensor)


def best_time(call, least: int = 5, budget: float = 0.06) -> float:
    """Seconds of the fastest of at least `least` calls, more while the budget lasts."""
    call()
    times = []
    begun = time.perf_counter()
    while len(times) < least or (time.perf_counter() - begun < budget and len(times) < 50):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def measure_jax(mode: str, n: int, m: int, depth: int) -> tuple[float, int]:
    """Time and memory of a compiled Jacobian."""
    values = [jnp.asarray(value) for value in arguments(n, m, depth)]
    compiled = jax.jit(getattr(jax, mode)(chain_jax)).lower(*values).compile()
    memory = compiled.memory_analysis()
    size = memory.temp_size_in_bytes + memory.output_size_in_bytes
    return best_time(lambda: jax.block_until_ready(compiled(*values))), size


def measure_torch(mode: str, n: int, m: int, depth: int) -> tuple[float, int]:
    """Time and memory of an eager Jacobian."""
    values = [torch.from_numpy(value) for value in arguments(n, m, depth)]
    jacobian = getattr(torch.func, mode)(chain_torch)
    jacobian(*values)
    with Alive() as alive:
        jacobian(*values)
    return best_time(lambda: jacobian(*values)), alive.most


MEASURES = {"jax": measure_jax, "torch": measure_torch}


def processor() -> str:
    """The processor's name, where the system says it."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as info:
        for line in info:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def main() -> None:
    """Measures the grid and writes it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("json", help="the file to write")
    parser.add_argument("--rounds", type=int, default=3, help="how often the grid is measured")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    torch.set_num_threads(1)
    shape = (len(SIZES), len(SIZES), len(DEPTHS))
    data: dict = {
        "machine": processor(),
        "date": datetime.date.today().isoformat(),
        "versions": {"torch": torch.__version__.split("+")[0], "jax": jax.__version__},
        "width": WIDTH,
        "inputs": SIZES,
        "outputs": SIZES,
        "depths": DEPTHS,
        "seconds": {},
        "bytes": {},
    }
    for framework, measure in MEASURES.items():
        seconds = {mode: np.full(shape, np.inf) for mode in MODES}
        sizes = {mode: np.zeros(shape, dtype=int) for mode in MODES}
        for turn, i, j, k in itertools.product(range(options.rounds), *map(range, shape)):
            for mode in MODES:
                time_taken, size = measure(mode, SIZES[i], SIZES[j], DEPTHS[k])
                seconds[mode][i, j, k] = min(seconds[mode][i, j, k], time_taken)
                sizes[mode][i, j, k] = size
            if j == k == 0:
                print(f"{framework}, round {turn + 1}, inputs: {SIZES[i]}", flush=True)
        data["seconds"][framework] = {
            mode: [[[float(f"{x:.3g}") for x in row] for row in plane] for plane in seconds[mode]]
            for mode in MODES
        }
        data["bytes"][framework] = {mode: sizes[mode].tolist() for mode in MODES}
    with open(options.json, "w") as file:
        json.dump(data, file, separators=(",", ":"))
        file.write("\n")


if __name__ == "__main__":
    main()
