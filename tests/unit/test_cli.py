"""The command line as a user meets it: real processes, real exit codes, over every kind of agent."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import pty
import shlex
import signal
import subprocess
import sys
import tempfile
import termios
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import needs_root
from support.stuck import stuck_file_system

KDEBUG = [sys.executable, "-m", "kdebug.cli.entry"]


def kdebug(*arguments: str, agent: str = "thread", **options: Any) -> subprocess.CompletedProcess[bytes]:
    environment = os.environ | {"KDEBUG_LOCAL_AGENT": agent}
    return subprocess.run(
        [*KDEBUG, *arguments], capture_output=True, env=environment, timeout=60, **options
    )


def document(*arguments: str, agent: str = "thread") -> Any:
    done = kdebug(*arguments, "-o", "json", agent=agent)
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def victim() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "1000"], env={"DB_PASSWORD": "s3cret", "PLAIN": "x"})
    yield process
    process.kill()
    process.wait()


@pytest.fixture(params=["thread", "process", "delivered"])
def agent(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_verbs_tell_the_truth_over_every_agent(
    victim: subprocess.Popen[bytes], agent: str, tmp_path: Path
) -> None:
    target = f"local:{victim.pid}"
    rows = {row["pid"]: row for row in document("ps", target, agent=agent)["processes"]}
    assert rows[victim.pid]["cmdline"] == ["sleep", "1000"]
    assert rows[victim.pid]["ppid"] == os.getpid()
    assert document("proc", target, agent=agent)["cwd"] == os.getcwd()
    values = {
        row["name"]: (row["value"], row["masked"])
        for row in document("env", target, agent=agent)["variables"]
    }
    assert values == {"DB_PASSWORD": (None, True), "PLAIN": ("x", False)}
    revealed = document("env", target, "--reveal", agent=agent)["variables"]
    assert {row["name"]: row["value"] for row in revealed}["DB_PASSWORD"] == "s3cret"
    limits = {row["name"]: row for row in document("limits", target, agent=agent)["limits"]}
    assert limits["Max open files"]["used"] == len(os.listdir(f"/proc/{victim.pid}/fd"))
    maps = document("maps", target, agent=agent)["maps"]
    assert len(maps) == len(Path(f"/proc/{victim.pid}/maps").read_text().splitlines())
    fds = document("fds", target, agent=agent)["fds"]
    assert {str(row["fd"]): row["target"] for row in fds} == {
        fd: os.readlink(f"/proc/{victim.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{victim.pid}/fd")
    }
    mounts = {row["path"] for row in document("mounts", target, agent=agent)["mounts"]}
    assert "/" in mounts and "/proc" in mounts
    assert document("net", target, agent=agent)["interfaces"]
    assert {check["name"] for check in document("doctor", target, agent=agent)["checks"]} >= {
        "files read",
        "fds",
    }


def test_cat_is_byte_exact(victim: subprocess.Popen[bytes], agent: str, tmp_path: Path) -> None:
    data = os.urandom(5 * 1024 * 1024 + 17)
    (tmp_path / "big").write_bytes(data)
    assert kdebug("cat", f"local:{victim.pid}:{tmp_path}/big", agent=agent).stdout == data
    with open(tmp_path / "sparse", "wb") as file:
        file.seek(3_000_000)
        file.write(b"x")
        file.truncate(7_000_000)
    done = kdebug("cat", f"local:{victim.pid}:{tmp_path}/sparse", agent=agent)
    assert done.stdout == (tmp_path / "sparse").read_bytes()


def test_names_are_exact_in_json_and_escaped_in_tables(
    victim: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    raw = b"\x1b]0;owned\x07\xff\n"
    open(os.path.join(os.fsencode(tmp_path), raw), "w").close()
    (entry,) = document("ls", f"local:{victim.pid}:{tmp_path}")["entries"]
    assert base64.b64decode(entry["name_base64"]) == raw
    shown = kdebug("ls", f"local:{victim.pid}:{tmp_path}").stdout
    assert shown == b"\\x1b]0;owned\\x07\\xff\\n\n"
    assert kdebug("ls", f"local:{victim.pid}:{tmp_path}", "-o", "name").stdout == shown


@pytest.mark.parametrize(("form", "load"), [("json", json.loads), ("yaml", yaml.safe_load)])
def test_documents_are_exact_and_safe_for_a_terminal(
    victim: subprocess.Popen[bytes], tmp_path: Path, form: str, load: Callable[[bytes], Any]
) -> None:
    name = "\u202egnp\u2066.\x9b31m\x1b[2J größe \U000e0041"
    (tmp_path / name).touch()
    shown = kdebug("ls", f"local:{victim.pid}:{tmp_path}", "-o", form).stdout
    assert [entry["name"] for entry in load(shown)["entries"]] == [name]
    assert {byte for byte in shown if not 0x20 <= byte < 0x7F} == {0x0A}


@needs_root
def test_lines_of_hosts_are_exact_in_json(tmp_path: Path) -> None:
    odd = b"192.0.2.2 caf\xe9\x1b[31m"
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/hosts").write_bytes(b"192.0.2.1 plain\n" + odd + b"\n")
    script = "import os, sys; os.chroot(sys.argv[1]); print('ready', flush=True); input()"
    process = subprocess.Popen(
        [sys.executable, "-S", "-c", script, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        dns = document("net", f"local:{process.pid}")["dns"]
        assert dns["hosts"] == ["192.0.2.1 plain", "192.0.2.2 caf\ufffd\x1b[31m"]
        plain, exact = dns["hosts_base64"]
        assert plain is None and base64.b64decode(exact) == odd
    finally:
        process.communicate()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["ps", "local:0"], 2, "not a process id"),
        (["ps", "local:x"], 2, "not a process id"),
        (["ps", "local:4194305"], 4, "there is no process 4194305"),
        (["ps", "web-0", "--kubeconfig", "/nonexistent"], 4, "no kubeconfig is at /nonexistent"),
        (["ps", "Nonsense!"], 2, "not the name of a Kubernetes object"),
        (["psx", "demo:"], 2, "did you mean ps?"),
        (["ps", "demo:", "--tre"], 2, "--tree"),
        (["ps"], 2, "one target is wanted"),
        (["ps", "demo:", "-o", "xml"], 2, "xml"),
        (["ls", "local:1"], 2, "needs a path"),
        (["ls", "local:1:etc"], 2, "not absolute"),
        (["ps", "local:1:/etc"], 2, "takes no path"),
        (["cat", "local:{victim}:/missing"], 4, "does not exist"),
        (["cat", "local:{victim}:/etc"], 1, "is a directory"),
        (["cat", "local:{victim}:/etc/passwd/x"], 1, "not a directory"),
        (["cat", "local:{victim}:/dev/zero"], 1, "character device"),
        (["cat", "local:{victim}:/proc/self/exe"], 1, "magic link"),
        (["ls", "local:{victim}:/" + "a/" * 2100], 2, "Linux takes at most 4095"),
        (["completion", "tcsh"], 2, "tcsh"),
        (["ps", "demo:", "--timeout", "-1"], 2, "--timeout"),
    ],
)
def test_bad_input_is_one_line_and_the_right_code(
    victim: subprocess.Popen[bytes], arguments: list[str], code: int, words: str
) -> None:
    done = kdebug(*[argument.replace("{victim}", str(victim.pid)) for argument in arguments])
    text = done.stderr.decode()
    assert done.returncode == code, text
    assert words in text
    assert len(text.splitlines()) == 1 and "Traceback" not in text
    assert done.stdout == b""


STRANGER = """
import os, pkgutil, importlib, sys
import kdebug.cli.files, kdebug.open, kdebug.agent.dispatch, kdebug.target.local, encodings.idna
from kdebug.cli.main import run
os.setgroups([]); os.setresgid(4243, 4243, 4243); os.setresuid(4243, 4243, 4243)
os._exit(run(sys.argv[1:]))
"""


@needs_root
def test_a_stranger_is_denied_with_what_would_do() -> None:
    owner = subprocess.Popen(["sleep", "1000"], user=4242, group=4242)
    try:
        command = [sys.executable, "-c", STRANGER, "ls", f"local:{owner.pid}:/"]
        done = subprocess.run(command, capture_output=True, timeout=60)
        assert done.returncode == 3, done.stderr.decode()
        assert b"wants uid 4242 and gid 4242" in done.stderr
    finally:
        owner.kill()
        owner.wait()


def test_a_reader_that_leaves_had_enough(victim: subprocess.Popen[bytes]) -> None:
    command = [*KDEBUG, "maps", f"local:{os.getpid()}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as writer:
        assert writer.stdout is not None and writer.stderr is not None
        assert writer.stdout.readline()
        writer.stdout.close()
        assert writer.wait(60) == 0 and writer.stderr.read() == b""


def on_terminal(columns: int, *arguments: str) -> list[str]:
    """The lines that a terminal of this width is sent."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, columns))
    process = subprocess.Popen([*KDEBUG, *arguments], stdout=theirs, stdin=subprocess.DEVNULL)
    os.close(theirs)
    received = b""
    # EIO: nobody holds the other end any more.
    with contextlib.suppress(OSError):
        while piece := os.read(ours, 65536):
            received += piece
    os.close(ours)
    assert process.wait(20) == 0
    return received.decode().splitlines()


def test_a_table_ends_at_the_edge_of_the_terminal(victim: subprocess.Popen[bytes]) -> None:
    whole = kdebug("maps", f"local:{victim.pid}").stdout.decode().splitlines()
    lines = on_terminal(50, "maps", f"local:{victim.pid}")
    assert any(len(line) > 50 for line in whole)
    assert lines == [line if len(line) <= 50 else f"{line[:49]}…" for line in whole]


@pytest.mark.parametrize("agent", ["thread", "process"])
def test_interrupt_leaves_one_line_and_nothing_running(victim: subprocess.Popen[bytes], agent: str) -> None:
    environment = os.environ | {"KDEBUG_LOCAL_AGENT": agent}
    command = [*KDEBUG, "top", f"local:{victim.pid}", "--iterations", "1000", "-d", "0.1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    # On a busy machine top may have said that it looks less often.
    lines = [line for line in errors.splitlines() if not line.startswith(b"kdebug: looking every")]
    assert (process.returncode, lines) == (130, [b"kdebug: interrupted"])
    left = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True)
    assert left.stdout == b""


def test_help_and_local_load_no_kubernetes_and_no_ui() -> None:
    script = (
        "import sys; from kdebug.cli.main import run; run(sys.argv[1:])\n"
        "unwanted = {'kubernetes', 'textual', 'prompt_toolkit', 'aiohttp'}\n"
        "print(sorted({m.split('.')[0] for m in sys.modules} & unwanted), file=sys.stderr)"
    )
    for arguments in (["--help"], ["ps", f"local:{os.getpid()}"]):
        done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, timeout=60)
        assert done.stderr.decode().splitlines()[-1] == "[]"


def test_the_agent_loads_only_the_standard_library() -> None:
    script = (
        "import sys; sys.path.insert(0, 'src')\n"
        "import kdebug.agent.startup, kdebug.agent.dispatch\n"
        "known = sys.stdlib_module_names | {'kdebug', '__main__'}\n"
        "print(sorted(m for m in sys.modules if m.split('.')[0] not in known))"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell: str) -> None:
    done = kdebug("completion", shell)
    assert done.returncode == 0 and b"_KDEBUG_COMPLETE" in done.stdout


@pytest.mark.parametrize("form", ["yaml", "wide", "name", "table"])
def test_every_format(victim: subprocess.Popen[bytes], form: str) -> None:
    done = kdebug("ps", f"local:{victim.pid}", "-o", form)
    assert done.returncode == 0 and str(victim.pid).encode() in done.stdout


def test_a_time_beyond_64_bits_of_nanoseconds_is_told(
    victim: subprocess.Popen[bytes], agent: str, shared_memory: Path
) -> None:
    """Anyone may set it, and it must not end the session."""
    done = subprocess.run(["touch", "-d", "@4611686018427387904", shared_memory / "far"])
    assert done.returncode == 0
    listing = document("ls", f"local:{victim.pid}:{shared_memory}", agent=agent)
    assert listing["entries"][0]["mtime_ns"] == os.stat(shared_memory / "far").st_mtime_ns > 2**64
    assert kdebug("cat", f"local:{victim.pid}:{shared_memory}/far", agent=agent).returncode == 0


@pytest.mark.parametrize("name", [b"\xc3\xa9", b"\xe9"])
def test_the_locale_has_no_say_in_names(
    victim: subprocess.Popen[bytes], agent: str, tmp_path: Path, name: bytes
) -> None:
    """Python without its UTF-8 mode takes ASCII for the encoding of file names in the C locale."""
    folder = os.path.join(os.fsencode(tmp_path), name)
    os.mkdir(folder)
    os.symlink(name, os.path.join(folder, b"link-" + name))
    environment = os.environ | {
        "KDEBUG_LOCAL_AGENT": agent, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0",
    }  # fmt: skip
    location = f"local:{victim.pid}:".encode() + folder
    for verb in ("ls", "stat"):
        done = subprocess.run(
            [*KDEBUG, verb, location, "-o", "json"], capture_output=True, env=environment, timeout=60
        )
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        if verb == "ls":
            found = found["entries"][0]
            assert raw(found, "link_target") == name
            assert raw(found, "name") == b"link-" + name
        else:
            assert raw(found, "resolved") == folder
        assert ("name_base64" in found) is (name == b"\xe9")


def raw(row: dict[str, str], key: str) -> bytes:
    return base64.b64decode(row[f"{key}_base64"]) if f"{key}_base64" in row else row[key].encode()


@pytest.fixture
def shared_memory() -> Iterator[Path]:
    """A folder on a tmpfs, which takes any time."""
    if not os.access("/dev/shm", os.W_OK):
        pytest.skip("needs /dev/shm")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


@pytest.mark.parametrize("closed", ["0<&-", "2>&-", "0<&- 2>&-"])
def test_closed_standard_streams_do_no_harm(
    victim: subprocess.Popen[bytes], agent: str, closed: str
) -> None:
    script = f"exec {shlex.join(KDEBUG)} cat local:{victim.pid}:/etc/passwd {closed}"
    environment = os.environ | {"KDEBUG_LOCAL_AGENT": agent}
    done = subprocess.run(["sh", "-c", script], capture_output=True, env=environment, timeout=60)
    assert (done.returncode, done.stdout) == (0, Path("/etc/passwd").read_bytes())


@pytest.mark.parametrize("verb", ["version", "--help", "ps local:{}", "cat local:{}:/etc/passwd"])
@pytest.mark.parametrize("away", [">&-", ">/dev/full"])
def test_output_that_cannot_be_written_is_one_line(
    victim: subprocess.Popen[bytes], verb: str, away: str
) -> None:
    script = f"exec {shlex.join(KDEBUG)} {verb.format(victim.pid)} {away}"
    done = subprocess.run(["sh", "-c", script], capture_output=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith(b"kdebug: writing the output failed: ") and done.stderr.count(b"\n") == 1


def test_an_interrupt_while_the_verbs_are_loaded_is_one_line() -> None:
    """The click that is loaded interrupts: as Ctrl-C in the first tenth of a second."""
    script = (
        "import sys, types, signal, os\n"
        "class Interrupts:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'click': signal.raise_signal(signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupts())\n"
        "from kdebug.cli.entry import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"kdebug: interrupted\n")


@needs_root
@pytest.mark.parametrize("verb", ["ls", "stat", "cat"])
def test_a_file_system_that_never_answers_is_a_deadline(
    victim: subprocess.Popen[bytes], agent: str, tmp_path: Path, verb: str
) -> None:
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(stuck_file_system(tmp_path))
        except OSError as error:
            pytest.skip(f"no FUSE here: {error}")
        done = kdebug(verb, f"local:{victim.pid}:{tmp_path}/x", "--timeout", "1", agent=agent)
    assert done.returncode == 5 and b"--timeout" in done.stderr and done.stderr.count(b"\n") == 1


def test_an_error_is_one_line_whatever_is_named_in_it(
    victim: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    """A second line that begins as ours would be believed."""
    name = "x\nkdebug: \x1b[2Jall is well"
    done = subprocess.run(
        [*KDEBUG, "ls", f"local:{victim.pid}:{tmp_path}/{name}"], capture_output=True, timeout=60
    )
    assert done.returncode != 0 and done.stdout == b""
    assert b"x\\nkdebug: \\x1b[2Jall is well" in done.stderr
    assert done.stderr.count(b"\n") == 1 and b"\x1b" not in done.stderr
