"""`clipbias cache`: the features and indices that are kept between runs."""

from __future__ import annotations

import typer

from clipbias.cli.console import AsCsv, AsJson, say


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(help="Features and indices kept between runs: look, check, clear.", no_args_is_help=True)
    app.add_typer(group, name="cache")
    group.command("info")(info)
    group.command("verify")(verify)
    group.command("clear")(clear)


def info(as_json: AsJson = False, as_csv: AsCsv = False) -> None:
    """Say where the cache lies, and what each model keeps in it."""
    from collections import Counter
    from contextlib import suppress

    from clipbias.cli.console import note, printed
    from clipbias.data.index import OWN
    from clipbias.data.roots import cache_folder
    from clipbias.probe.store import open_store, shard_paths

    store = open_store()
    sizes: Counter[str] = Counter()
    for path in shard_paths(store.folder):
        with suppress(FileNotFoundError):  # another process may trim the cache
            sizes[path.parent.name] += path.stat().st_size
    indices = sum(f.stat().st_size for f in (cache_folder() / "index").glob(f"{OWN}*.arrow"))
    kept = [{"kind": "features", "name": space, "bytes": size} for space, size in sizes.most_common()]
    records = [{"kind": "indices", "name": "", "bytes": indices}, *kept]
    whole = {"folder": str(cache_folder()), "limit_bytes": store.limit, "kept": records}
    if printed(records, as_json, as_csv, whole):
        return
    say(f"{cache_folder()}: {(sum(sizes.values()) + indices) / 1e6:,.1f} MB")
    say(f"  {indices / 1e6:10,.1f} MB  indices of annotation files")
    for space, size in sizes.most_common():
        say(f"  {size / 1e6:10,.1f} MB  {space}")
    note(f"features may take {store.limit / 1e9:g} GB (CLIPBIAS_CACHE_GB); the least recently used go first")


def verify() -> None:
    """Check every kept feature; remove what is damaged (exit code 1)."""
    from clipbias.errors import CheckFailed, UserError
    from clipbias.probe.store import open_store, read_shard, shard_paths

    damaged = read = kept = 0
    for path in shard_paths(open_store().folder):
        read += 1
        try:
            read_shard(path)
        except UserError as error:
            say(error)
            damaged += 1
            try:
                path.unlink(missing_ok=True)
            except OSError as problem:
                say(f"{path}: cannot be removed ({problem.strerror})")
                kept += 1
    say(f"{read} files read, {damaged} damaged")
    if damaged:
        removed = f"{damaged - kept} of {damaged}" if kept else f"{damaged}"
        raise CheckFailed(f"{removed} damaged files were removed; what they held is computed again when needed")


def clear() -> None:
    """Remove what clipbias keeps there; nothing else is touched."""
    from contextlib import suppress

    from clipbias.data.index import OWN
    from clipbias.data.roots import cache_folder
    from clipbias.errors import UserError

    for name in ("embeddings", "index", "digests"):
        folder = cache_folder() / name
        for path in [*folder.glob(f"{OWN}*"), *folder.glob(f"*/{OWN}*")]:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise UserError(f"{path}: cannot be removed ({error.strerror})") from error
        for empty in [*folder.glob("*/"), folder]:
            with suppress(OSError):  # others' files are in it
                empty.rmdir()
    say(f"{cache_folder()}: cleared")
