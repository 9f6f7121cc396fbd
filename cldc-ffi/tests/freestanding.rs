//! `libcldc_bare` needs nothing but five functions of memory, cannot panic, is small, and works.
#![cfg(target_os = "linux")]
#![expect(clippy::expect_used, reason = "a test fails by panic, in its helpers too")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn success(output: &Output) -> String {
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}{errors}");
    said.into_owned()
}

/// Builds the library. The script fails if it is too large, can panic, or needs too much.
fn build() -> &'static Path {
    static OUT: OnceLock<PathBuf> = OnceLock::new();
    OUT.get_or_init(|| {
        let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bare");
        let output =
            Command::new(package().join("build-bare.sh")).arg(&out).output().expect("run build-bare.sh");
        println!("{}", success(&output));
        out
    })
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_program_without_a_c_library_opens_a_session() {
    let out = build();
    let program = out.join("freestanding");
    let output = Command::new("gcc")
        .args(["-std=c99", "-Os", "-Wall", "-Wextra", "-Werror", "-ffreestanding", "-nostdlib", "-static"])
        .args([
            "-fno-builtin",
            "-fno-tree-loop-distribute-patterns",
            "-fno-stack-protector",
            "-Wl,--gc-sections",
        ])
        .arg("-I")
        .arg(package().join("include"))
        .arg(package().join("tests/c/freestanding.c"))
        .arg(out.join("libcldc_bare.a"))
        .arg("-o")
        .arg(&program)
        .output()
        .expect("run gcc");
    success(&output);
    let undefined = Command::new("nm").arg("-u").arg(&program).output().expect("run nm");
    assert_eq!(success(&undefined).trim(), "");

    let output = Command::new(&program).output().expect("run the program");
    let said = success(&output);
    println!("{said}");
    let bytes = |what: &str| -> u64 {
        let line = said.lines().find_map(|line| line.strip_prefix(what)?.strip_suffix(" bytes"));
        line.and_then(|number| number.parse().ok()).expect(what)
    };
    // With a buffer for the datagram that comes in.
    assert!(bytes("session: ") + 1164 < 8192, "{said}");
    assert!(bytes("stack: ") < 8192, "{said}");
}

#[test]
fn only_the_declared_functions_can_be_seen() {
    let out = build();
    let output = Command::new("nm")
        .args(["-g", "--defined-only", "--format=posix"])
        .arg(out.join("cldc_bare.o"))
        .output()
        .expect("run nm");
    let seen: Vec<String> = success(&output)
        .lines()
        .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
        .collect();
    assert!(seen.iter().all(|name| name.starts_with("cldc_") || name.starts_with("cld_")), "{seen:?}");
    assert!(seen.len() > 30, "{seen:?}");
}
