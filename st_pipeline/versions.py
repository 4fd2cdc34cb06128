"""Code versions: raised when an asset's output would change for the same inputs and configuration."""

from __future__ import annotations

VERSIONS = {
    "raw_files": 1,
    "sensors": 1,
    "raw_readings": 2,
    "edges": 1,
    "readings": 2,
    "node_set": 1,
    "tensor": 1,
    "adjacency": 1,
    "drift": 1,
    "advice": 1,
    "model": 3,
    "evaluation": 2,
    "baseline": 1,
    "forecast": 1,
    "forecast_scores": 1,
    "report": 3,
    "leaderboard": 1,
    "champion": 1,
    "comparison": 1,
    "study": 1,
    "drill": 1,
    "insight": 1,
    "prompt_analysis": 1,
}
