"""`make demo`: the whole of Imp-Gateway on loopback, with the PRD's Payment API on it.

Builds, starts control plane, agent, Envoy and an upstream, creates everything through the public
REST API, prints what to try, and stops all of it on Ctrl-C. Python's standard library only.
"""

import argparse
import fcntl
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

sys.dont_write_bytecode = True

import payment_api  # noqa: E402
from processes import Children, Ports, Trouble, is_up, is_up_at_socket  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
STARTED = time.monotonic()


def say(text):
    print(f"[{time.monotonic() - STARTED:6.1f} s] {text}", flush=True)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="run every printed line, stop, exit 0 or 1")
    parser.add_argument("--directory", type=Path, default=ROOT / ".demo", help="state, logs, env")
    parser.add_argument("--binaries", type=Path, help="use these programs instead of building")
    options = parser.parse_args()
    options.directory = options.directory.resolve()
    return options


def build(binaries):
    """The folder that holds the programs; the development profile builds fastest."""
    if binaries:
        for name in ("imp-control", "imp-agent"):
            if not (binaries / name).is_file():
                raise Trouble(f"no {name} in {binaries}")
        return binaries.resolve()
    if not shutil.which("cargo"):
        raise Trouble("cargo is missing: install Rust 1.94 or newer (https://rustup.rs)")
    say("building (the first time takes some minutes)")
    packages = ["-p", "imp-control", "-p", "imp-agent", "-p", "imp-module"]
    command = ["cargo", "build", "--locked", *packages, "--lib", "--bins"]
    if subprocess.run(command, cwd=ROOT).returncode != 0:
        raise Trouble("the build failed; see above")
    return ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "debug"


def find_module(programs):
    """The module inside Envoy as cargo builds it. Without it, the agent decides about calls."""
    name = "libimp_module.so"
    built = [path for path in (programs / name, programs / "deps" / name) if path.is_file()]
    return max(built, key=lambda path: path.stat().st_mtime, default=None)


def who_decides(agent_admin):
    with urllib.request.urlopen(f"http://127.0.0.1:{agent_admin}/status", timeout=5) as answer:
        envoy = json.load(answer)["envoys"][0]
    who = "the module inside Envoy decides" if envoy["door"] == "module" else "the agent decides"
    return f"{who} about calls: {envoy['door_reason']}"


def find_envoy():
    tools = ROOT / "deploy/tools"
    if subprocess.run([tools / "install.sh"]).returncode != 0:
        raise Trouble("Envoy could not be installed; see above, or put an Envoy 1.40 on PATH")
    found = subprocess.run([tools / "envoy.sh"], capture_output=True, text=True)
    if found.returncode != 0:
        raise Trouble(f"no Envoy: {found.stderr.strip()}")
    return found.stdout.strip()


def socket_address(state):
    """Beside the agent's state, or, where that path is too long for a socket, in a folder of its own."""
    path = state / "xds.sock"
    if len(os.fsencode(path)) > 90:
        path = Path(tempfile.mkdtemp(prefix="imp-demo-")) / "xds.sock"
    return f"unix:{path}"


def start(children, folder, programs, envoy, ports):
    """Everything up and connected; returns the REST client and the sample."""
    rest_port = ports.take("the REST API", 8080)
    hub_port = ports.take("the agents' port", 8081)
    agent_admin = ports.take("the agent's admin", 18001)
    upstream_port = ports.take("the sample upstream", 18080)
    gateway_port = ports.take("the gateway", 10000)

    here = Path(__file__).resolve().parent
    children.start("upstream", [sys.executable, here / "upstream.py", upstream_port])
    token_file = folder / "admin-token"
    control = [programs / "imp-control", "--listen", f"127.0.0.1:{rest_port}"]
    control += ["--agent-listen", f"127.0.0.1:{hub_port}", "--data-dir", folder / "control"]
    control += ["--bootstrap-token-file", token_file, "--allow-upstream", "127.0.0.0/8"]
    children.start("control", control)
    url = f"http://127.0.0.1:{rest_port}"
    children.wait_for("the control plane", lambda: token_file.exists() and is_up(url + "/healthz"))
    say("the control plane is up")

    rest = payment_api.Rest(url, token_file.read_text().strip())
    cluster = payment_api.create_cluster(rest)
    agent = [programs / "imp-agent", "--control", f"http://127.0.0.1:{hub_port}"]
    xds = socket_address(folder / "agent")
    agent += ["--xds-listen", xds, "--admin-listen", f"127.0.0.1:{agent_admin}"]
    agent += ["--bind-address", "127.0.0.1", "--state-dir", folder / "agent"]
    agent += ["--allow-upstream", "127.0.0.0/8", "--deny-upstream", f"127.0.0.1:{rest_port}"]
    module = find_module(programs)
    if module:
        agent += ["--module", module]
    children.start("agent", agent, {"IMP_REGISTRATION_TOKEN": cluster["registration_token"]})
    children.wait_for("the agent", lambda: is_up(f"http://127.0.0.1:{agent_admin}/readyz"))
    say("the agent has registered and is connected")

    bootstrap = [programs / "imp-agent", "bootstrap", "--xds-listen", xds]
    envoy_admin = str(Path(xds.removeprefix("unix:")).with_name("envoy-admin.sock"))
    bootstrap += ["--envoy-admin", f"unix:{envoy_admin}"]
    config = subprocess.run([str(part) for part in bootstrap], capture_output=True, text=True)
    if config.returncode != 0:
        raise Trouble(f"imp-agent bootstrap: {config.stderr.strip()}")
    (folder / "envoy.yaml").write_text(config.stdout)
    command = [envoy, "-c", folder / "envoy.yaml", "--concurrency", 1, "--use-dynamic-base-id"]
    children.start("envoy", command + ["--log-level", "warning"])
    children.wait_for("Envoy", lambda: is_up_at_socket(envoy_admin, "/ready"))
    say("Envoy is up")

    sample = payment_api.create(rest, cluster["id"], upstream_port, gateway_port, say)
    wait_until_active(children, rest, sample)
    say(who_decides(agent_admin))
    return rest, sample


def wait_until_active(children, rest, sample):
    last = {}

    def active():
        last.update(rest.get(sample["publish_path"]))
        if last["status"] == "failed":
            raise Trouble(f"the publish failed: {json.dumps(last['last_error'])}")
        return last["status"] == "active"

    children.wait_for("the publish to become active", active)
    say(f"the publish is active: acknowledged by {last['nodes']['acked']} Envoy")


def environment(rest, sample):
    envoy = f"http://localhost:{sample['port']}"
    return {
        "IMP_URL": rest.base,
        "IMP_TOKEN": rest.token,
        "DEMO_ENVOY": envoy,
        "DEMO_URL": f"{envoy}/payments",
        "DEMO_API_KEY": sample["api_key"],
    }


def write_environment(path, values):
    lines = [f"{name}={shlex.quote(value)}" for name, value in values.items()]
    lines.append("export " + " ".join(values))
    with open(path, "w", encoding="utf-8", opener=lambda p, f: os.open(p, f, 0o600)) as out:
        out.write("\n".join(lines) + "\n")


def lines_to_try(values, limit):
    """(what it shows, the line, the code it ends with)"""
    quiet = "curl -s -o /dev/null -w '%{http_code}\\n'"
    key = f"-H 'X-API-Key: {values['DEMO_API_KEY']}'"
    url, envoy = values["DEMO_URL"], values["DEMO_ENVOY"]
    loop = f"for i in $(seq {limit + 20}); do {quiet} {key} {url}; done"
    return [
        ("with the key", f"curl -i {key} {url}", "200"),
        ("without it", f"curl -i {url}", "401"),
        ("no such route", f"curl -i {key} {envoy}/nothing-here", "404"),
        (f"more than the plan's {limit} calls a minute", loop, "429"),
    ]


def show(values, lines, directory):
    print(f"""
API docs      {values['IMP_URL']}/docs
Admin token   {values['IMP_TOKEN']}
Envoy         {values['DEMO_ENVOY']}
Shell         . {shlex.quote(os.path.relpath(directory / 'env'))}
""")
    for what, line, code in lines:
        print(f"# {what}: {code}\n{line}\n")
    print("Ctrl-C stops everything.", flush=True)


def check(lines):
    """Runs every printed line as a shell would and looks at the code that it ends with."""
    good = True
    for what, line, code in lines:
        done = subprocess.run(["bash", "-c", line], capture_output=True, text=True)
        output = done.stdout.strip()
        seen = output.split()[1] if output.startswith("HTTP/") else output[-3:]
        good = good and seen == code
        say(f"{'ok' if seen == code else 'WRONG'}: {what}: {seen}, wanted {code}")
    return good


def run(options, children):
    programs = build(options.binaries)
    envoy = find_envoy()
    folder = options.directory / "state"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    children.log_folder = str(folder)
    rest, sample = start(children, folder, programs, envoy, Ports(say))
    values = environment(rest, sample)
    write_environment(options.directory / "env", values)
    lines = lines_to_try(values, sample["limit"])
    if not is_up(values["IMP_URL"] + "/docs"):
        raise Trouble("the API docs do not answer")
    say("ready")
    show(values, lines, options.directory)
    if options.check:
        return 0 if check(lines) else 1
    while True:
        time.sleep(0.5)
        children.check()


def stop_on(signum, _frame):
    raise KeyboardInterrupt(signum)


def main():
    options = arguments()
    # SIGINT, too: a shell without job control starts what it puts in the background with it ignored.
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, stop_on)
    options.directory.mkdir(parents=True, exist_ok=True)
    children = Children(str(options.directory))
    with open(options.directory / "lock", "w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            print(f"demo: another one is running in {options.directory}", file=sys.stderr)
            return 1
        try:
            return run(options, children)
        except KeyboardInterrupt:
            say("stopping")
            return 0
        except Trouble as trouble:
            print(f"demo: {trouble}", file=sys.stderr)
            return 1
        finally:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            children.stop()


if __name__ == "__main__":
    sys.exit(main())
