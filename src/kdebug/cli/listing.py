"""ls and tree: directories as their namesakes show them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import Any

import click

from kdebug.cli.console import Document, emit
from kdebug.cli.files import entry_document, file_callback, file_verb
from kdebug.cli.find import Answers, collect, found_document
from kdebug.cli.long_listing import Row, long_lines, ordered_rows, rows_of_entries, rows_of_page
from kdebug.cli.table import exact, size, table
from kdebug.cli.verb import Common, common_options, with_target
from kdebug.errors import ProtocolViolation, UsageError
from kdebug.expression import parse
from kdebug.protocol.files import Entry
from kdebug.protocol.requests import MAX_PAGE
from kdebug.protocol.search import MAX_DEPTH, Find, Found, HeldFile, ListDeleted
from kdebug.sanitise import one_line
from kdebug.target import Target
from kdebug.target.search import directory, search_pages, tables
from kdebug.target.target import MAX_ROWS

SORTS: dict[str, Callable[[Entry], Any]] = {
    "name": lambda entry: entry.name,
    "size": lambda entry: (-(entry.size_bytes or 0), entry.name),
    "time": lambda entry: (-(entry.mtime_ns or 0), entry.name),
}


def ordered(entries: list[Entry], sort: str, reverse: bool) -> list[Entry]:
    """Largest and newest first, as ls; "none" is the kernel's order."""
    if sort == "none":
        return entries[::-1] if reverse else entries
    return sorted(entries, key=SORTS[sort], reverse=reverse)


def shown(name: str, hidden: str) -> bool:
    """Whether ls would show it: `hidden` is "", "A" (all but . and ..) or "a"."""
    return bool(hidden) or not name.startswith(".")


LS_OPTIONS = (
    click.option("-l", "long", is_flag=True, help="also mode, owner, size and time (as -o wide)"),
    click.option("-a", "--all", "every", is_flag=True, help="also names that begin with a dot, . and .."),
    click.option("-A", "--almost-all", "almost", is_flag=True, help="the same without . and .."),
    click.option("-R", "--recursive", "recursive", is_flag=True, help="what is below, too"),
    click.option("--depth", type=click.IntRange(1, MAX_DEPTH), help="at most so deep; implies -R"),
    click.option("--sort", type=click.Choice(("name", "size", "time", "none")), default="name"),
    click.option("-S", "by_size", is_flag=True, help="--sort size"),
    click.option("-t", "by_time", is_flag=True, help="--sort time"),
    click.option("-U", "unsorted", is_flag=True, help="--sort none"),
    click.option("-r", "--reverse", "reverse", is_flag=True, help="the other way round"),
    click.option("-h", "--human-readable", "human", is_flag=True, help="sizes as 1.5K, 23.4M"),
    click.option("-d", "--directory", "itself", is_flag=True, help="the directory itself"),
    click.option("--limit", type=click.IntRange(min=1), help="stop after this many entries"),
    click.option("--deleted", is_flag=True, help="TARGET only: deleted files that are still open"),
)


async def ls(
    target: Target, path: str, common: Common, by_size: bool, by_time: bool, unsorted: bool, **given: Any
) -> int:
    sort = "size" if by_size else "time" if by_time else "none" if unsorted else given["sort"]
    # Documents hold every name: what is hidden from people must not be hidden from programs.
    almost = given["almost"] or common.output in ("json", "yaml")
    given |= {"sort": sort, "hidden": "a" if given["every"] else "A" if almost else ""}
    found = await target.stat(path, follow=not given["itself"])
    if (given["recursive"] or given["depth"]) and found.entry.kind == "dir":
        return await _ls_recursive(target, path, common, given)
    long = given["long"] or common.output == "wide"
    whole = found.entry.kind == "dir" and not given["itself"] and given["limit"] is None
    if whole and long and common.output in ("table", "wide"):
        return await _ls_columns(target, path, given)
    if found.entry.kind == "dir" and not given["itself"]:
        entries, truncated = await fetch_entries(target, path, given["limit"], given["hidden"])
    else:
        entries, truncated = [found.entry], False
    entries = ordered(entries, given["sort"], given["reverse"])
    if given["hidden"] == "a" and found.entry.kind == "dir" and not given["itself"]:
        entries = [*await _dots(target, path), *entries]
    notes = [f"only the first {len(entries)} entries are listed (--limit)"] if truncated else []
    failed = sum(1 for entry in entries if entry.error)
    notes += _failed_note(failed)
    data = lambda: _entries_document(path, map(entry_document, entries), truncated)  # noqa: E731
    lines = lambda wide: listing_lines(entries, long, given["human"])  # noqa: E731
    names = lambda: (entry.name for entry in entries)  # noqa: E731
    return emit(Document(data, lines, names=names, notes=notes, partial=bool(failed)), common.output)


def _failed_note(failed: int) -> list[str]:
    return [f"{failed} entries could not be examined; -l shows why"] if failed else []


def _entries_document(path: str, rows: Iterable[dict[str, Any]], truncated: bool) -> dict[str, Any]:
    data: dict[str, Any] = {}
    exact(data, "path", path)
    return data | {"entries": list(rows), "truncated": truncated}


async def _ls_columns(target: Target, path: str, given: dict[str, Any]) -> int:
    """A whole directory in long lines: it is never made into entries, of which there may be many."""
    rows: list[Row] = []
    async with contextlib.aclosing(tables(target, path)) as pages:
        async for page in pages:
            rows += rows_of_page(page)
    if not given["hidden"]:
        rows = [row for row in rows if shown(row[0], "")]
    rows = ordered_rows(rows, given["sort"], given["reverse"])
    failed = sum(1 for row in rows if row[4] is not None and row[4].error)
    if given["hidden"] == "a":
        rows = [*rows_of_entries(await _dots(target, path)), *rows]
    document = Document({}, lambda wide: long_lines(rows, given["human"]), notes=_failed_note(failed))
    document.partial = bool(failed)
    return emit(document, "table")


def listing_lines(entries: list[Entry], long: bool, human: bool) -> list[str]:
    if not long:
        return [one_line(entry.name) for entry in entries]
    return long_lines(list(rows_of_entries(entries)), human)


async def _dots(target: Target, path: str) -> list[Entry]:
    found = [await target.stat(f"{path.rstrip('/')}/{dots}", follow=True) for dots in (".", "..")]
    return [_renamed(stat.entry, dots) for stat, dots in zip(found, (".", ".."), strict=True)]


def _renamed(entry: Entry, name: str) -> Entry:
    return Entry(**vars(entry) | {"name": name})


async def fetch_entries(
    target: Target, path: str, limit: int | None, hidden: str
) -> tuple[list[Entry], bool]:
    entries: list[Entry] = []
    async with contextlib.aclosing(directory(target, path)) as pages:
        async for page in pages:
            entries += [entry for entry in page if shown(entry.name, hidden)]
            if limit is not None and len(entries) > limit:
                return entries[:limit], True
    return entries, False


class Node:
    """A directory of a tree that was found, with what is in it."""

    def __init__(self, path: str, depth: int) -> None:
        self.path = path
        self.depth = depth
        self.entries: list[Entry] = []
        self.errors: list[str] = []


def by_directory(top: str, rows: list[Found], hidden: str) -> dict[str, Node]:
    """Path of each directory -> its node, in the order of the walk. Hidden directories are left out with
    everything below them."""
    nodes: dict[str, Node] = {}
    for row in rows:
        if row.entry.error and row.entry.mode is None and row.entry.kind == "dir":
            if row.path in nodes:
                nodes[row.path].errors.append(row.entry.error)
            continue
        if row.depth:
            parent = nodes.get(row.path.rpartition("/")[0] or "/")
            if parent is None or not shown(row.entry.name, hidden):
                continue
            parent.entries.append(row.entry)
        if row.entry.kind == "dir":
            key = row.path if row.depth else (top.rstrip("/") or "/")
            nodes[key] = Node(row.path, row.depth)
    return nodes


async def _ls_recursive(target: Target, path: str, common: Common, given: dict[str, Any]) -> int:
    depth = given["depth"] or MAX_DEPTH
    answers = await _tree_rows(target, path, depth, given["limit"])
    nodes = by_directory(path, answers.rows, given["hidden"])

    def lines(wide: bool) -> list[str]:
        out: list[str] = []
        for node in _in_order(path, nodes, given["sort"], given["reverse"]):
            if node.depth >= depth:
                continue  # not looked into
            entries = ordered(node.entries, given["sort"], given["reverse"])
            out += ["", f"{one_line(node.path)}:"] if out else [f"{one_line(node.path)}:"]
            out += listing_lines(entries, given["long"] or wide, given["human"])
        return out

    return _emit_tree(path, common, answers, [r for r in answers.rows if r.depth], lines)


async def _tree_rows(target: Target, path: str, depth: int, limit: int | None) -> Answers:
    answers = Answers()
    request = Find(path=path, follow=True, max_depth=depth, limit=MAX_PAGE)
    await collect(target, request, answers.rows.extend, answers, limit or MAX_ROWS)
    return answers


def _emit_tree(
    path: str, common: Common, answers: Answers, rows: list[Found], lines: Callable[[bool], list[str]]
) -> int:
    data = lambda: _entries_document(path, map(found_document, rows), answers.truncated)  # noqa: E731
    notes = [f"only the first {len(answers.rows)} names are shown"] if answers.truncated else []
    document = Document(data, lines, notes=notes, partial=bool(answers.failed))
    document.names = lambda: (row.path for row in rows)
    return emit(document, common.output)


def _in_order(top: str, nodes: dict[str, Node], sort: str, reverse: bool) -> list[Node]:
    """Each directory before those in it, these sorted."""
    out, todo = [], [top.rstrip("/") or "/"]
    while todo:
        key = todo.pop()
        node = nodes.get(key)
        if node is None:
            continue  # deeper than asked for
        out.append(node)
        inner = [entry for entry in ordered(node.entries, sort, reverse) if entry.kind == "dir"]
        todo += [f"{key.rstrip('/')}/{entry.name}" for entry in reversed(inner)]
    return out


@file_verb(
    "tree",
    "Draw a directory of the target and everything below it.",
    click.option("-L", "--depth", "depth", type=click.IntRange(1, MAX_DEPTH), help="at most so deep"),
    click.option("-a", "--all", "every", is_flag=True, help="also names that begin with a dot"),
    click.option("-d", "dirs_only", is_flag=True, help="directories only"),
    click.option("-s", "sizes", is_flag=True, help="with sizes in bytes"),
    click.option("-h", "human", is_flag=True, help="with sizes as 1.5K, 23.4M"),
    click.option("--limit", type=click.IntRange(min=1), help="stop after this many names"),
    formats=("table", "json", "yaml", "name"),
    help_flags=("--help",),
)
async def tree(
    target: Target, path: str, common: Common, depth: int | None, every: bool, dirs_only: bool,
    sizes: bool, human: bool, limit: int | None,
) -> int:  # fmt: skip
    answers = await _tree_rows(target, path, depth or MAX_DEPTH, limit)
    nodes = by_directory(path, answers.rows, "A" if every else "")
    label = lambda entry: _label(entry, sizes or human, human)  # noqa: E731

    def lines(wide: bool) -> list[str]:
        drawn = [one_line(path), *draw(path, nodes, label, dirs_only)]
        folders = sum(entry.kind == "dir" for node in nodes.values() for entry in node.entries)
        files = sum(len(node.entries) for node in nodes.values()) - folders
        return [*drawn, "", _counts(folders, 0 if dirs_only else files, dirs_only)]

    return _emit_tree(path, common, answers, [row for row in answers.rows if row.depth], lines)


def _label(entry: Entry, sizes: bool, human: bool) -> str:
    name = entry.name if entry.link_target is None else f"{entry.name} -> {entry.link_target}"
    if not sizes:
        return one_line(name)
    text = size(entry.size_bytes) if human else str(entry.size_bytes)
    return f"[{text:>{7 if human else 12}}]  {one_line(name)}"


def draw(top: str, nodes: dict[str, Node], label: Callable[[Entry], str], dirs_only: bool) -> list[str]:
    """The branches, without recursion: a tree may be deeper than Python's stack."""
    lines: list[str] = []
    todo: list[tuple[str, str, Entry | None, bool]] = [(top.rstrip("/") or "/", "", None, True)]
    while todo:
        key, indent, entry, last = todo.pop()
        node = nodes.get(key) if entry is None or entry.kind == "dir" else None
        errors = f"  [{'; '.join(map(one_line, node.errors))}]" if node is not None and node.errors else ""
        if entry is not None:
            lines.append(f"{indent}{'└── ' if last else '├── '}{label(entry)}{errors}")
            indent += "    " if last else "│   "
        elif errors:
            lines.append(errors.strip())
        inner = ordered(node.entries, "name", False) if node is not None else []
        inner = [other for other in inner if other.kind == "dir" or not dirs_only]
        for position, other in enumerate(reversed(inner)):
            todo.append((f"{key.rstrip('/')}/{other.name}", indent, other, position == 0))
    return lines


def _counts(folders: int, files: int, dirs_only: bool) -> str:
    text = f"{folders} director{'y' if folders == 1 else 'ies'}"
    return text if dirs_only else f"{text}, {files} file{'' if files == 1 else 's'}"


async def ls_deleted(target: Target, common: Common, human: bool) -> int:
    """Every deleted file that a process of the target still holds open, largest first."""
    rows: list[HeldFile] = []
    async for page in search_pages(target, ListDeleted(limit=MAX_PAGE)):
        rows += page.items
        if len(rows) > MAX_ROWS:
            raise ProtocolViolation("the agent's list of deleted files does not end")
    failed = [row for row in rows if row.error]
    held = sorted((row for row in rows if not row.error), key=lambda row: -(row.allocated_bytes or 0))
    notes = [
        f"the descriptors of process {row.pid} ({row.process}) are not known: {row.error}" for row in failed
    ]
    lines = lambda wide: table(HELD_HEADERS, [_held_row(row, human) for row in held], right="PID FD SIZE")  # noqa: E731
    names = lambda: (f"deleted:{row.pid}/{row.fd}" for row in held)  # noqa: E731
    data = {"deleted": [_held_document(row) for row in rows]}
    return emit(Document(data, lines, names=names, notes=notes, partial=bool(failed)), common.output)


HELD_HEADERS = ["PID", "FD", "SIZE", "ACCESS", "PROCESS", "READ IT AS", "PATH"]


def _held_row(row: HeldFile, human: bool) -> list[object]:
    length = size(row.size_bytes) if human else row.size_bytes
    return [row.pid, row.fd, length, row.access, row.process, f"deleted:{row.pid}/{row.fd}", row.path]


def _held_document(row: HeldFile) -> dict[str, Any]:
    document: dict[str, Any] = {"pid": row.pid, "fd": None if row.error else row.fd}
    exact(document, "path", None if row.error else row.path)
    document |= {"size_bytes": row.size_bytes, "allocated_bytes": row.allocated_bytes}
    document |= {"inode": row.inode, "device": row.device, "access": row.access}
    exact(document, "process", row.process)
    if row.error:
        document["error"] = row.error
    return document


def _ls_command() -> click.Command:
    listing = file_callback("ls", ls)

    def callback(location: str, common: Common, deleted: bool, **options: Any) -> int:
        if not deleted:
            return listing(location=location, common=common, **options)
        expression = parse(location)
        if expression.path:
            raise UsageError("--deleted takes no path", next_step="it lists what all processes hold")
        return with_target(expression, common, lambda target: ls_deleted(target, common, options["human"]))

    formats = ("table", "wide", "json", "yaml", "name")
    decorated: Any = common_options(formats, short_selector=False)(callback)
    for option in reversed(LS_OPTIONS):
        decorated = option(decorated)
    decorated.__click_params__ += listing.__click_params__  # type: ignore[attr-defined]
    decorated = click.argument("location", metavar="TARGET:/PATH")(decorated)
    help_text = "List a directory of the target; a file is listed as itself."
    return click.command("ls", help=help_text, context_settings={"help_option_names": ["--help"]})(
        decorated
    )


COMMANDS: dict[str, click.Command] = {"ls": _ls_command(), "tree": tree}
