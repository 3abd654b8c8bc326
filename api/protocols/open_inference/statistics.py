"""What the engine has counted, in the protocol's words: samples are inferences, runs of the graph are executions."""

from typing import Any

from models.batching import Engine
from models.surrogate import Surrogate

NONE = {"count": 0, "ns": 0}


def statistics(surrogate: Surrogate, engine: Engine) -> dict[str, Any]:
    """Statistics of one version; durations are sums over samples, and of batches over runs."""
    facts = engine.statistics(surrogate.graphs["model"])
    batches = sorted(facts.batches.items())
    computed = sum(size * ns for size, (_, ns) in batches)
    copied = {"count": facts.samples, "ns": 0}
    return {
        "name": surrogate.manifest.name,
        "version": surrogate.manifest.version,
        "last_inference": int(facts.last * 1000),
        "inference_count": facts.samples,
        "execution_count": facts.runs,
        "inference_stats": {
            "success": {"count": facts.samples, "ns": facts.queued_ns + computed},
            "fail": {"count": facts.failures + facts.dropped, "ns": 0},
            "queue": {"count": facts.samples, "ns": facts.queued_ns},
            "compute_input": copied,
            "compute_infer": {"count": facts.samples, "ns": computed},
            "compute_output": copied,
            "cache_hit": NONE,
            "cache_miss": NONE,
        },
        "response_stats": {},
        "batch_stats": [
            {
                "batch_size": size,
                "compute_input": {"count": runs, "ns": 0},
                "compute_infer": {"count": runs, "ns": ns},
                "compute_output": {"count": runs, "ns": 0},
            }
            for size, (runs, ns) in batches
        ],
        "memory_usage": [],
    }
