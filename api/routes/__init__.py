"""The routes, one noun per file. A handler parses, calls one thing, and returns a model."""

from fastapi import APIRouter

from api.routes import (
    artifacts,
    candidates,
    datasets,
    evaluations,
    events,
    exports,
    figures,
    health,
    jobs,
    pareto,
    plugins,
    preflights,
    session,
    tables,
    trust,
    workers,
)

ROUTERS: tuple[APIRouter, ...] = (
    jobs.router,
    preflights.router,
    candidates.router,
    pareto.router,
    trust.router,
    events.router,
    figures.router,
    artifacts.router,
    exports.router,
    evaluations.router,
    workers.router,
    plugins.router,
    datasets.router,
    tables.router,
    session.router,
    health.router,
)

__all__ = ["ROUTERS"]
