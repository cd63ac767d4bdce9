"""Children that do not outlive us: each in a group of its own, stopped in reverse order."""

import ctypes
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

PR_SET_PDEATHSIG = 1


class Trouble(Exception):
    """Something that the person at the terminal can do something about; one line."""


def die_with_parent(parent):
    """Runs in the child: the kernel ends it when the demo is gone, however it went."""
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


class Children:
    def __init__(self, log_folder):
        self.log_folder = log_folder
        self.running = []

    def start(self, name, command, env=None):
        env = {**os.environ, **(env or {})}
        env.pop("DATABASE_URL", None)  # the demo's state is its own
        log = os.path.join(self.log_folder, name + ".log")
        parent = os.getpid()
        with open(log, "ab") as out:
            child = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=env,
                start_new_session=True,
                preexec_fn=lambda: die_with_parent(parent),
            )
        self.running.append((name, child, log))

    def check(self):
        """Raises when one of them has ended."""
        for name, child, log in self.running:
            if child.poll() is not None:
                raise Trouble(f"{name} ended with {child.returncode}: {last_line(log)} (see {log})")

    def wait_for(self, what, ready, limit=20.0):
        deadline = time.monotonic() + limit
        while True:
            self.check()
            value = ready()
            if value:
                return value
            if time.monotonic() > deadline:
                raise Trouble(f"{what}: not after {limit:.0f} s; the logs are in {self.log_folder}")
            time.sleep(0.02)

    def stop(self):
        for _, child, _ in reversed(self.running):
            if child.poll() is None:
                child.terminate()
        deadline = time.monotonic() + 5
        for _, child, _ in reversed(self.running):
            try:
                child.wait(max(0.05, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        self.running = []


def last_line(path):
    with open(path, encoding="utf-8", errors="replace") as log:
        lines = [line.strip() for line in log if line.strip()]
    return lines[-1][:300] if lines else "it said nothing"


def is_up(url):
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


def is_up_at_socket(path, page):
    """The same, of a server that listens on a Unix socket."""
    connection = http.client.HTTPConnection("localhost", timeout=2)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(2)
    try:
        connection.sock.connect(path)
        connection.request("GET", page)
        return connection.getresponse().status == 200
    except (http.client.HTTPException, OSError):
        return False
    finally:
        connection.close()


class Ports:
    """The well-known port if nobody has it, else any free one. Loopback only."""

    def __init__(self, say):
        self.say = say
        self.given = set()

    def take(self, purpose, preferred):
        if preferred not in self.given and is_free(preferred):
            self.given.add(preferred)
            return preferred
        for port in range(preferred + 1, preferred + 2000):
            if port not in self.given and is_free(port):
                self.given.add(port)
                self.say(f"port {preferred} is taken; {purpose} listens on {port}")
                return port
        raise Trouble(f"no free port for {purpose} between {preferred} and {preferred + 1999}")


def is_free(port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen(1)
        except OSError:
            return False
    return True
