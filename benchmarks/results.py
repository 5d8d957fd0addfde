"""From times to ratios: medians, spreads, the best peer, and whether the machine was quiet enough to be believed.

Nothing is imported here that would have to be timed; the arithmetic is tested on made-up numbers.
"""

import statistics

OURS, YARDSTICK, LIMIT = "minnet", "memcpy", "matrix products"  # LIMIT: numpy's, all that an epoch has of them
NOISY = 0.1  # a median spread above this is called noisy, and so is a larger share of a CPU taken by other processes


def record(case, seconds, calls):
    """All about one case: the times of every contender, and how minnet compares."""
    times = {name: summary(seconds[name]) | {"calls": calls[name], "rounds": seconds[name]} for name in seconds}
    about = {"name": case.name, "size": case.size, "dtype": case.dtype, "bytes": case.bytes}
    return about | {"times": times} | comparison(times)


def summary(seconds):
    """Median seconds a call, and the spread: interquartile range / median."""
    median = statistics.median(seconds)
    low, _, high = statistics.quantiles(seconds, n=4, method="inclusive") if len(seconds) > 1 else (median,) * 3
    return {"median": median, "spread": (high - low) / median}


def comparison(times):
    """The fastest peer, its time / minnet's (above 1 minnet is faster), minnet's / memcpy's; None where unknown."""
    peers = {name: time["median"] for name, time in times.items() if name not in (OURS, YARDSTICK, LIMIT)}
    best = min(peers, key=peers.get, default=None)
    ours = times[OURS]["median"] if OURS in times else None
    return {
        "best_peer": best,
        "ratio": peers[best] / ours if ours and best else None,
        "ratio_to_memcpy": ours / times[YARDSTICK]["median"] if ours else None,
    }


def noise(records):
    """Median spread over the cases, of memcpy and of all contenders."""
    copies = [record["times"][YARDSTICK]["spread"] for record in records]
    everyone = [time["spread"] for record in records for time in record["times"].values()]
    return {"memcpy": statistics.median(copies), "all": statistics.median(everyone)}


def is_noisy(spreads):
    """Whether the figures of a run are to be read with care."""
    return max(spreads.values()) > NOISY


def is_disturbed(record):
    """Whether other processes took part of a CPU while this case was timed."""
    return record["others"] is not None and record["others"] > NOISY


def losses(records):
    """The records in which the best peer is faster than minnet."""
    return [record for record in records if record["ratio"] is not None and record["ratio"] < 1]
