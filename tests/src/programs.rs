//! Where the programs under test are: given by the environment, or built by the cargo that built the tests.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The `cld` program: `CLD_BIN`, or built once per test process.
#[must_use]
pub fn cld() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| find("CLD_BIN", "cld-server", "cld"))
}

/// The `cldcli` program: `CLDCLI_BIN`, or built once per test process.
#[must_use]
pub fn cldcli() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| find("CLDCLI_BIN", "cldcli", "cldcli"))
}

/// The top folder of the workspace.
#[must_use]
pub fn workspace() -> &'static Path {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest)
}

fn find(variable: &str, package: &str, program: &str) -> PathBuf {
    match std::env::var_os(variable) {
        Some(path) => PathBuf::from(path),
        None => build(package, program),
    }
}

/// Cargo's target folder, which the path of this program tells: TARGET/PROFILE/deps/NAME.
///
/// # Panics
/// If this program lies elsewhere.
#[must_use]
pub fn target() -> PathBuf {
    let program = std::env::current_exe().expect("the test program has a path");
    program.ancestors().nth(3).expect("tests lie in TARGET/PROFILE/deps").to_owned()
}

/// Builds with the tests' own profile and target folder.
fn build(package: &str, program: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the test program has a path");
    let profile_dir = test.parent().and_then(Path::parent).expect("tests lie in TARGET/PROFILE/deps");
    let profile = match profile_dir.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let output = Command::new(env!("CARGO"))
        .current_dir(workspace())
        .args(["build", "--quiet", "--message-format=json-render-diagnostics", "--profile", profile])
        .args(["-p", package, "--bin", program, "--target-dir"])
        .arg(target())
        .output()
        .expect("run cargo");
    let messages = String::from_utf8_lossy(&output.stdout);
    let built = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message.pointer("/target/name").is_some_and(|name| name == program))
        .find_map(|message| message.get("executable")?.as_str().map(PathBuf::from));
    match built {
        Some(path) if output.status.success() => path,
        _ => panic!("cannot build {program}: {}", String::from_utf8_lossy(&output.stderr)),
    }
}
