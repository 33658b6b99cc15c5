"""What a run writes about itself: metrics as JSON lines, trackers if asked, and the environment it ran in."""

from xenoglot.tracking.environment import environment
from xenoglot.tracking.metrics_log import MetricsLog, read_metrics, write_json
from xenoglot.tracking.trackers import Tracker, Trackers, open_trackers, require_trackers

__all__ = [
    "MetricsLog",
    "Tracker",
    "Trackers",
    "environment",
    "open_trackers",
    "read_metrics",
    "require_trackers",
    "write_json",
]
