"""What number does each measure of a threshold have?  A table: measure -> function."""

from __future__ import annotations

from collections.abc import Callable

from loadtests.measure import measures_clients as c
from loadtests.measure import measures_delivery as d
from loadtests.measure import measures_publish as p
from loadtests.measure import measures_recovery as f
from loadtests.measure import measures_target as g
from loadtests.measure import measures_time as t
from loadtests.measure.analysis import Analysis
from loadtests.measure.attribution import BROKER, CHARGED, DEFECT, NOT_REPLAYED, UNATTRIBUTED
from loadtests.measure.selectors import Figure
from loadtests.model.profile.tables import Threshold

MEASURES: dict[str, Callable[[Analysis, Threshold], Figure]] = {
    "deliveries": d.deliveries_,
    "published": d.published_,
    "delivery_rate": d.delivery_rate,
    "received_per_s": d.received_per_s,
    "lost_defect": d.lost(DEFECT),
    "lost_disconnected": d.lost_disconnected,
    "lost_not_replayed": d.lost(NOT_REPLAYED),
    "lost_charged": d.lost(CHARGED),
    "lost_total": d.lost(DEFECT, CHARGED, BROKER, UNATTRIBUTED, NOT_REPLAYED),
    "repeated": d.repeated_,
    "missing_copies": d.missing_copies,
    "reordered": d.reordered_,
    "foreign": d.strange("foreign"),
    "unasked": d.unasked,
    "not_admitted": d.not_admitted,
    "publish_failed": p.publishes("FAILED"),
    "publish_unknown": p.publishes("UNKNOWN"),
    "late": d.late_,
    "latency_mean_ms": t.of_spread("mean", t.latency),
    "latency_p50_ms": t.latency_percentile("p50"),
    "latency_p95_ms": t.latency_percentile("p95"),
    "latency_p99_ms": t.latency_percentile("p99"),
    "latency_max_ms": t.of_spread("max", t.latency),
    "slowest_client_p95_ms": c.slowest_client,
    "service_p95_ms": t.of_spread("p95", t.service),
    "service_p99_ms": t.of_spread("p99", t.service),
    "own_lag_p99_ms": t.of_spread("p99", t.own_lag),
    "query_mean_ms": g.query("mean"),
    "query_p95_ms": g.query("p95"),
    "query_max_ms": g.query("max"),
    "query_failed": g.query_failed,
    "recovery_s": f.of_faults("recovery_s"),
    "outage_s": f.of_faults("outage_s"),
    "not_recovered": f.not_recovered,
    "clients_not_back": f.clients_not_back,
    "growth_mb": g.growth_mb,
    "growth_mb_per_h": g.growth_slope,
    "cpu_mean_percent": g.cpu,
    "health_ms": g.health,
    "clean_coverage": g.coverage,
    "connected": g.connected,
    "stray": d.strange("stray"),
    "undecodable": d.strange("undecodable"),
    "protocol": d.strange("protocol"),
    "altered": d.altered_,
    "restamped": d.strange("restamped"),
}
