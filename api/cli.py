"""The command line, `nas`. Everything heavy loads inside the command that needs it."""

from __future__ import annotations

import importlib
import os
import signal
import threading
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, get_args

import typer

from api.console import (
    print_datasets,
    print_error,
    print_front,
    print_job,
    print_jobs,
    print_json,
    print_outcome,
    print_plugins,
    print_preflight,
    print_tables,
    print_trust,
    say,
)
from api.installation import check_installation, version
from api.logs import log_to_terminal
from api.options import (
    DEFAULT_PORT,
    AsJson,
    Folder,
    Host,
    JobRef,
    LeaseSeconds,
    Port,
    PreflightMemory,
    PreflightSeconds,
    SpecPath,
    StoreUrl,
    Token,
    Url,
    WatchParent,
    Workers,
    among,
    settings_of,
)
from api.runs import begin_or_go_on
from nas.client import Client, JobHandle
from nas.resources import JobState, Phase, TableInfo
from nas.spec import ExportFormat, JobSpec
from nas.yaml import read_yaml
from searchspaces import NASError, ServiceError, one_of


class _Commands(typer.core.TyperGroup):
    """Shows our own errors as a line or a table, without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except NASError as error:
            print_error(error)
            raise typer.Exit(1) from error


_OPTIONS: dict[str, Any] = {"no_args_is_help": True, "pretty_exceptions_enable": False, "add_completion": False}
app = typer.Typer(cls=_Commands, help="Neural architecture search as a service.", **_OPTIONS)
data = typer.Typer(help="Registered data sets.", **_OPTIONS)
plugins = typer.Typer(help="Search spaces, recipes, searchers and all other plug-ins.", **_OPTIONS)
app.add_typer(data, name="data")
app.add_typer(plugins, name="plugins")


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context, show_version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False
) -> None:
    if show_version:
        say(f"nas {version()}")
        raise typer.Exit
    check_installation()


# --- processes --------------------------------------------------------------------------------------------------------


@app.command()
def up(
    *,
    host: Host = None,
    port: Port = None,
    folder: Folder = None,
    store: StoreUrl = None,
    workers: Workers = None,
    lease_seconds: LeaseSeconds = None,
    announce: Annotated[bool, typer.Option("--announce", help="Print NAS_URL=... when ready.")] = False,
    watch_parent: WatchParent = False,
) -> None:
    """Start the service: server, page and worker processes, until Ctrl-C."""
    serving = _server_part("api.serving")
    log_to_terminal()
    given = {"host": host, "port": port, "folder": folder, "store": store}
    settings = _settings(**given, workers=workers, lease_seconds=lease_seconds)
    if not announce:
        public = f", for others on {settings.public_url}" if settings.public_url else ""
        place = f"{settings.address}{public} (Ctrl-C ends it)" if settings.port else f"a free port{public}"
        say(f"serving on {place}")
    serving.serve(settings, announce=announce or not settings.port, watch_parent=watch_parent)


@app.command()
def worker(
    *,
    folder: Annotated[Path, typer.Option(envvar="NAS_FOLDER", help="Where artifacts and checkpoints lie.")],
    store: Annotated[
        str | None, typer.Option(envvar="NAS_STORE", help="SQLAlchemy URL of the store; else SQLite in the folder.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda:N; else each job's own choice.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of torch.")] = None,
    lease_seconds: Annotated[
        float,
        typer.Option(envvar="NAS_LEASE_SECONDS", min=0.5, max=3600, help="How long a silent worker keeps a unit."),
    ] = 30.0,
    preflight_seconds: PreflightSeconds = 600.0,
    preflight_memory: PreflightMemory = None,
    watch_parent: WatchParent = False,
) -> None:
    """Start one more worker on a store, until Ctrl-C; work in progress is given back with its checkpoint."""
    log_to_terminal()
    _server_part("api.worker").run_worker(
        store,
        folder,
        device=device,
        lease_seconds=lease_seconds,
        threads=threads,
        preflight_seconds=preflight_seconds,
        preflight_memory=preflight_memory,
        watch_parent=watch_parent,
    )


@app.command()
def run(
    spec: SpecPath,
    *,
    once: Annotated[bool, typer.Option("--once", help="End with the job instead of serving on.")] = False,
    host: Host = None,
    port: Port = None,
    folder: Folder = None,
    workers: Workers = None,
) -> None:
    """Start the service, run one job (or go on with it), print its front and page, and keep serving until Ctrl-C.

    A budget, name or labels that were edited since are changed on the unfinished job of the same spec.
    """
    wanted = JobSpec.from_yaml(spec)
    serving = _server_part("api.serving")
    settings = _settings(host=host, port=port, folder=folder, workers=workers)
    signal.signal(signal.SIGTERM, _leave)
    log_to_terminal()
    try:
        with serving.running(settings) as url, Client(url, _own_token(settings)) as client:
            handle, notes = begin_or_go_on(client, wanted)
            page = _page(settings.public_url or url, handle)
            say(f"job {handle.job_id} ({handle.job.name}), page: {page}")
            for note in notes:
                say(f"note: {note}")
            handle.wait()
            print_outcome(handle, page)
            is_refused = handle.state is JobState.FAILED and handle.job.progress.phase is Phase.PREFLIGHT
            if not once and not is_refused:
                say("still serving; Ctrl-C ends it, and the next run goes on with the same store.")
                threading.Event().wait()
    except KeyboardInterrupt:
        say("ended; what was found is kept, and an unfinished job goes on with the next run.")
        raise typer.Exit(130 if once else 0) from None
    if handle.state is not JobState.SUCCEEDED:
        raise typer.Exit(1)


# --- jobs -------------------------------------------------------------------------------------------------------------


@app.command()
def submit(
    spec: SpecPath,
    *,
    watch: Annotated[bool, typer.Option("--watch", help="Wait for the job and show its progress.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what the job would meet.")] = False,
    url: Url = None,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Submit a job."""
    with _client(url, token) as client:
        if dry_run:
            report = client.dry_run(spec, tell=lambda words: say(words, to_error=True))
            return print_json(report) if as_json else print_preflight(report)
        handle = client.submit(spec)
        if not as_json:
            say(f"job {handle.job_id} ({handle.job.name}), page: {_page(client.url, handle)}")
        if watch:
            handle.wait(progress=not as_json)
            if not as_json:
                print_outcome(handle, _page(client.url, handle))
        if as_json:
            print_json(handle.job)
        if watch and handle.state is not JobState.SUCCEEDED:
            raise typer.Exit(1)


@app.command()
def jobs(
    *,
    state: Annotated[str | None, typer.Option(help="Only jobs in this state.")] = None,
    label: Annotated[str | None, typer.Option(help="Only jobs labelled KEY:VALUE, or KEY.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, newest first.")] = 50,
    url: Url = None,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """List jobs, newest first."""
    with _client(url, token) as client:
        found = [handle.job for handle in client.jobs(state=state.upper() if state else None, label=label, limit=limit)]
    print_json(found) if as_json else print_jobs(found)


@app.command()
def show(job: JobRef, *, url: Url = None, token: Token = None, as_json: AsJson = False) -> None:
    """Show one job: state, progress, what it spent, trust, deliveries."""
    with _client(url, token) as client:
        handle = client.find_job(job)
        print_json(handle.job) if as_json else print_job(handle.job, _page(client.url, handle))


@app.command()
def pareto(job: JobRef, *, url: Url = None, token: Token = None, as_json: AsJson = False) -> None:
    """Print the Pareto front of a job."""
    with _client(url, token) as client:
        front = client.find_job(job).pareto()
    print_json(front) if as_json else print_front(front)


@app.command()
def trust(job: JobRef, *, url: Url = None, token: Token = None, as_json: AsJson = False) -> None:
    """Say how far the ranking of a job can be trusted, from the networks trained for real so far."""
    with _client(url, token) as client:
        report = client.find_job(job).measure_trust()
    print_json(report) if as_json else print_trust(report)


@app.command()
def export(
    job: JobRef,
    *,
    candidate: Annotated[
        str, typer.Option(help="Digest of a candidate, or `best`: the first by the job's evidence.")
    ] = "best",
    format: Annotated[
        str,
        typer.Option(help="onnx, torch_export or pytorch.", metavar="FORMAT", callback=among(*get_args(ExportFormat))),
    ] = "onnx",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder (all files), or a .zip, .onnx or .pt2 file.")
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="trained (trains first if need be) or inherited; else as delivered, or inherited where there is a "
            "supernet.",
            metavar="WEIGHTS",
            callback=among("trained", "inherited"),
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """Save a candidate as a model that runs without this software; waits until it is made."""
    with _client(url, token) as client:
        found = client.find_job(job).candidate(candidate)
        where = output or Path(f"{found.digest}-{format}")
        saved = found.export(where, format=format, weights=weights, overwrite=overwrite)  # type: ignore[arg-type]
    say(f"{found.digest} ({found.text}) is in {saved}")


def _verb(name: str, help: str) -> None:
    def act(job: JobRef, *, url: Url = None, token: Token = None, as_json: AsJson = False) -> None:
        with _client(url, token) as client:
            handle = client.find_job(job)
            getattr(handle, name)()
        print_json(handle.job) if as_json else say(f"job {handle.job_id} is {handle.state.value}")

    app.command(name, help=help)(act)


_verb("pause", "Halt a job, keeping everything; `nas resume` goes on.")
_verb("resume", "Go on with a paused job.")
_verb("stop", "End the search of a job early; what was found is still audited and delivered.")
_verb("cancel", "End a job without delivering. What it found stays readable.")


# --- data sets and plug-ins -------------------------------------------------------------------------------------------


@data.command("add")
def data_add(
    name: Annotated[str, typer.Argument(help="What specs call it.")],
    path: Annotated[Path, typer.Argument(help="A folder with one folder of images per class, or an .npz file.")],
    *,
    plugin: Annotated[str | None, typer.Option(help="Its format; else told from the path.")] = None,
    size: Annotated[int | None, typer.Option(min=1, help="Crop images to a square of so many pixels a side.")] = None,
    config: Annotated[
        list[str], typer.Option(metavar="KEY=VALUE", help="A setting of the format, such as mode=grey; repeatable.")
    ] = [],  # noqa: B006 - typer copies it
    replace: Annotated[
        bool, typer.Option("--replace", help="Let one of this name, if there is one, give way.")
    ] = False,
    url: Url = None,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Register a data set under a name; it is read whole once."""
    path = path.expanduser()
    form = plugin or ("image_folder" if path.is_dir() else "npz")
    settings = {**settings_of(config), **({} if size is None else {"size": size}), "path": str(path)}
    with _client(url, token) as client:
        info = client.add_dataset(name, form, settings, replace=replace)
    print_json(info) if as_json else print_datasets([info])


@data.command("list")
def data_list(*, url: Url = None, token: Token = None, as_json: AsJson = False) -> None:
    """List the registered data sets, and the tables that searches can look up, with their digests."""
    with _client(url, token) as client:
        found, tables = client.datasets(), client.tables()
    if as_json:
        print_json([*found, *tables])
        return
    print_datasets(found)
    print_tables(tables)


@data.command("check")
def data_check(
    name: Annotated[str, typer.Argument(help="A registered data set, or a table.")],
    *,
    url: Url = None,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Read a data set or a table again: whether its files are there and still what they were."""
    with _client(url, token) as client:
        is_table = name in {info.name for info in client.tables()} - {info.name for info in client.datasets()}
        info = client.table(name) if is_table else client.check_dataset(name)
    if as_json:
        print_json(info)
    elif isinstance(info, TableInfo):
        print_tables([info])
    else:
        print_datasets([info])
    if info.error or not info.available:
        raise typer.Exit(1)


@plugins.command("list")
def plugins_list(
    kind: Annotated[str | None, typer.Argument(help="spaces, costs, searchers ...; else all.")] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """List the plug-ins that are installed here."""
    from nas.plugins import KINDS, describe, registry

    if kind is not None and kind not in KINDS:
        raise typer.BadParameter(f"{kind!r} is no kind, {one_of(kind, KINDS)}")
    found = [describe(each, name) for each in ([kind] if kind else KINDS) for name in registry(each)]
    print_json(found) if as_json else print_plugins(found)


@plugins.command("check")
def plugins_check(
    reference: Annotated[
        str,
        typer.Argument(metavar="MODULE", help="A module or FILE.py with a PLUGIN, KIND:NAME, or a kind for all of it."),
    ],
    *,
    config: Annotated[str, typer.Option(metavar="YAML", help="Settings to check it with: {path: data.npz}.")] = "{}",
    kind: Annotated[str | None, typer.Option(help="Of a module's plug-in, where what makes it does not say.")] = None,
) -> None:
    """Run the contract of its kind on a plug-in, as the tests do, and say what it breaks."""
    try:
        settings = read_yaml(config)
    except ValueError as error:
        raise typer.BadParameter(f"{config!r} is no YAML: {error}.") from error
    if not isinstance(settings, dict):
        raise typer.BadParameter(f"{config!r} is no mapping, such as {{path: data.npz}}.")
    from nas.plugins import KINDS

    if kind is not None and kind not in KINDS:
        raise typer.BadParameter(f"{kind!r} is no kind; there are {', '.join(KINDS)}.")
    checks = _server_part("api.plugin_checks")
    is_broken = False
    for found in checks.find(reference, kind):
        broken = checks.check(found, settings)
        is_broken = is_broken or broken is not None
        say(f"{found.kind}:{found.name}: {'keeps the contract' if broken is None else broken}", keep_lines=True)
    if is_broken:
        raise typer.Exit(1)


# --- inside -----------------------------------------------------------------------------------------------------------


def _client(url: str | None, token: str | None) -> Client:
    return Client(url or f"http://127.0.0.1:{os.environ.get('NAS_PORT', DEFAULT_PORT)}", token)


def _page(url: str, handle: JobHandle) -> str:
    return f"{url}/#/jobs/{handle.job_id}"


def _settings(**given: object) -> Any:
    module = _server_part("api.settings")
    for word in module.misspelt(os.environ):
        say(f"note: {word}", to_error=True)
    return module.Settings.load(**{name: value for name, value in given.items() if value is not None})


def _own_token(settings: Any) -> str | None:
    """A token of this very server that may submit, if it asks for one."""
    may = (token for token, scopes in settings.tokens.items() if {"submit", "admin"} & set(scopes))
    return next(may, None)


def _server_part(module: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ServiceError(
            f"{error.name} is not installed, and this command needs it; install nas-service[server,train].",
            code="MISSING_LIBRARY",
        ) from error


def _leave(*_: object) -> None:
    raise KeyboardInterrupt


def main() -> None:
    """The entry point of `nas`."""
    app()
