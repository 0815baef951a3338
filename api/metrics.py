"""What Prometheus reads at /metrics: every app has a registry of its own."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import Scope

from db import Store

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_METHODS = frozenset({"GET", "HEAD", "POST", "PATCH", "PUT", "DELETE", "OPTIONS"})


class Metrics:
    """Counts of requests, and of what the store holds when somebody looks."""

    def __init__(self, store: Store) -> None:
        self._registry = CollectorRegistry()
        labels = ("method", "route", "status")
        self._requests = Counter("nas_http_requests", "Requests answered.", labels, registry=self._registry)
        self._seconds = Histogram(
            "nas_http_request_seconds",
            "Seconds from a request to the end of its answer; event streams are left out.",
            ("method", "route"),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._registry.register(_StoreCollector(store))

    def observe(self, scope: Scope, status: int, seconds: float) -> None:
        """Count one answered request. Labels come from the routes, so that no request can make up new ones."""
        route = getattr(scope.get("route"), "path", None) or "(none)"
        method = scope["method"] if scope["method"] in _METHODS else "(other)"
        self._requests.labels(method, route, str(status)).inc()
        if not scope.get("state", {}).get("is_stream"):
            self._seconds.labels(method, route).observe(seconds)

    def text(self) -> bytes:
        """All of it in the exposition format."""
        return generate_latest(self._registry)


class _StoreCollector(Collector):
    """What the store holds, counted when Prometheus asks."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def describe(self) -> Iterable[Metric]:
        """Nothing: registering must not read the store."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """One family for each kind of thing that is counted."""
        counts = self._store.counts()
        for name, text, by_state in (
            ("nas_jobs", "Jobs by state.", counts.jobs),
            ("nas_units", "Units of work by state.", counts.units),
            ("nas_workers", "Workers by state.", counts.workers),
        ):
            family = GaugeMetricFamily(name, text, labels=["state"])
            for state, number in sorted(by_state.items()):
                family.add_metric([state], number)
            yield family
        evaluations = CounterMetricFamily("nas_evaluations", "Evaluations by state.", labels=["state"])
        for state, number in sorted(counts.evaluations.items()):
            evaluations.add_metric([state], number)
        yield evaluations
