"""Import time, and how cost grows: with calls made before, and with the number of leaves."""

from __future__ import annotations

import gc
import statistics
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from typing import Any

from cases import Exponent, many_leaves, pow_static
from measure import Row, counted_row, guarded, interleaved, timed_row

_IMPORT = """
import sys, time
start = time.perf_counter()
import diptych
seconds = time.perf_counter() - start
frameworks = [name for name in ("torch", "jax") if name in sys.modules]
print(seconds, *frameworks)
"""


def import_time(rounds: int) -> list[Row]:
    """Seconds of `import diptych` in a fresh interpreter, against the bound of 0.2 s."""
    what, variant, against = "import diptych", "fresh interpreter", "0.2 s"

    def measure() -> list[Row]:
        seconds = []
        for _ in range(rounds):
            done = subprocess.run(
                [sys.executable, "-c", _IMPORT], capture_output=True, text=True, check=True
            )
            spent, *frameworks = done.stdout.split()
            if frameworks:
                raise RuntimeError(f"import diptych imports {' and '.join(frameworks)}")
            seconds.append(float(spent))
        median = statistics.median(seconds)
        ratio, least = median / 0.2, min(seconds) / 0.2
        return [Row(what, variant, against, ratio, 1.0, least, median, 0.2, "s", rounds)]

    return guarded(what, variant, against, 1.0, measure)


def _torch() -> tuple[Callable[[Any, Any, int], Any], Callable[[], Any]]:
    import torch

    from hand_torch import plain_pow

    def call(f: Any, n: Any, size: int) -> Any:
        x = torch.ones(size, requires_grad=True)
        return torch.autograd.grad(f(x, n), x, torch.ones(size))

    return call, plain_pow


def _jax() -> tuple[Callable[[Any, Any, int], Any], Callable[[], Any]]:
    import jax
    import jax.numpy as jnp

    from hand_jax import vjp_pow

    def call(f: Any, n: Any, size: int) -> Any:
        _, pullback = jax.vjp(lambda x: f(x, n), jnp.ones(size))
        return jax.block_until_ready(pullback(jnp.ones(size)))

    return call, vjp_pow


def calls_before(framework: str, many: int, rounds: int) -> list[Row]:
    """One call's time and the memory held, before and after many calls of other kinds."""
    what = f"{framework}, after {many:,} calls"
    call, by_hand = _torch() if framework == "torch" else _jax()
    sizes = (lambda i: 1 + i) if framework == "torch" else (lambda i: 1 + i % 7)

    def left_behind(step: Callable[[int], Any]) -> float:
        """Bytes of Python memory that a call leaves behind once bounded caches are full."""
        filled = max(many // 5, min(many // 2, 700))
        tracemalloc.start()
        for i in range(filled):
            step(i)
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        for i in range(filled, many):
            step(i)
        gc.collect()
        after = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        return max(0.0, (after - before) / (many - filled))

    def measure() -> list[Row]:
        young, old, hand, rows = pow_static(), pow_static(), by_hand(), []
        call(old, 3, 16)
        pairs = {
            "new shapes and statics": (
                lambda i: call(old, Exponent(2 + i % 3), sizes(i)),
                lambda i: call(hand, Exponent(2 + i % 3), sizes(i)),
            ),
            "new rules": (
                lambda i: call(pow_static(), 3, 16),
                lambda i: call(by_hand(), 3, 16),
            ),
        }
        for label, (step, step_by_hand) in pairs.items():
            # What the framework itself leaves behind is no fault of the rule's; 64 B is noise.
            allowed = max(64.0, left_behind(step_by_hand))
            bound = 1.0 if framework == "torch" else 1.5  # JAX's own caches come and go
            rows.append(
                counted_row(
                    f"{what}: memory",
                    label,
                    "hand-written",
                    left_behind(step),
                    allowed,
                    bound=bound,
                    unit="B",
                )
            )
        samples = interleaved(
            {"diptych": lambda: call(old, 3, 16), "young": lambda: call(young, 3, 16)}, 10 * rounds
        )
        rows.append(
            timed_row(
                f"{what}: time", "call again", "a new rule", samples, theirs="young", bound=1.1
            )
        )
        return rows

    return guarded(what, "new shapes, statics, rules", "flat", None, measure)


def leaves(framework: str, rounds: int) -> list[Row]:
    """Cost of a call for each leaf, with 10, 100 and 1,000 leaves."""
    what = f"{framework}, cost per leaf"

    def torch_calls() -> dict[str, Callable[[int], Callable[[], Any]]]:
        import torch

        from hand_torch import plain_many

        def gradient(make: Callable[[], Any]) -> Callable[[int], Callable[[], Any]]:
            def of(count: int) -> Callable[[], Any]:
                f = make()
                xs = [torch.ones(4, requires_grad=True) for _ in range(count)]
                bars = [torch.ones(4) for _ in range(count)]
                return lambda: torch.autograd.grad(f(xs), xs, bars)

            return of

        def without(count: int) -> Callable[[], Any]:
            f, xs = many_leaves(), [torch.ones(4) for _ in range(count)]
            return lambda: f(xs)

        return {
            "forward+backward": gradient(many_leaves),
            "hand-written": gradient(plain_many),
            "call, no grad": without,
        }

    def jax_calls() -> dict[str, Callable[[int], Callable[[], Any]]]:
        import jax
        import jax.numpy as jnp

        from hand_jax import vjp_many

        def gradient(make: Callable[[], Any]) -> Callable[[int], Callable[[], Any]]:
            def of(count: int) -> Callable[[], Any]:
                f, xs = make(), [jnp.ones(4) for _ in range(count)]

                def run() -> Any:
                    out, pullback = jax.vjp(f, xs)
                    return jax.block_until_ready(pullback(out))

                return run

            return of

        def without(count: int) -> Callable[[], Any]:
            f, xs = many_leaves(), [jnp.ones(4) for _ in range(count)]
            return lambda: jax.block_until_ready(f(xs))

        return {
            "forward+backward": gradient(many_leaves),
            "hand-written": gradient(vjp_many),
            "call, no grad": without,
        }

    def measure() -> list[Row]:
        calls, rows = (torch_calls if framework == "torch" else jax_calls)(), []
        hand = calls.pop("hand-written")
        for variant, of in calls.items():
            samples = interleaved({str(n): of(n) for n in (10, 100, 1000)}, rounds, 0.01)
            each = {n: [s / int(n) for s in times] for n, times in samples.items()}
            for n in ("100", "1000"):
                rows.append(
                    timed_row(
                        what,
                        f"{variant}, {n} leaves",
                        "with 10 leaves",
                        each,
                        ours=n,
                        theirs="10",
                        bound=1.2,
                    )
                )
        both = interleaved(
            {"diptych": calls["forward+backward"](1000), "hand": hand(1000)}, rounds, 0.01
        )
        rows.append(
            timed_row(
                what,
                "1000 leaves, forward+backward",
                "hand-written",
                both,
                theirs="hand",
                unit="ms",
            )
        )
        return rows

    return guarded(what, "10, 100, 1000 leaves", "linear", 1.2, measure)
