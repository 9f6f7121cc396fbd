//! The programs of cldc-ffi/examples, written in C against `ncld.h` and `cldc.h`: compiled as C99 and as C++17, and run
//! against a single server, a cell of three, and through a network that loses packets.
#![expect(clippy::expect_used, reason = "a test fails by panic, in its helpers too")]

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::thread;

use cld_tests::cell::Cell;
use cld_tests::programs::{target, workspace};
use cld_tests::proxy::{Faults, Proxy};
use cld_tests::server::{Cld, Options};
use cld_tests::tools;

/// For so long the lock is left alone: past the first ping of a server, and more than a lease.
const IDLE: &str = "40";

/// The folder of the programs, with one folder for each compiler; nothing on a machine that cannot make them.
fn programs() -> Option<&'static Path> {
    static OUT: OnceLock<Option<PathBuf>> = OnceLock::new();
    let out = OUT.get_or_init(|| {
        if !tools::runs("make", &["--version"]) || !tools::runs("gcc", &["--version"]) {
            return None;
        }
        let target = target();
        let out = target.join("tmp/c");
        let output = Command::new("make")
            .arg("-C")
            .arg(workspace().join("cldc-ffi/examples"))
            .args(["-s", "programs"])
            .arg(format!("TARGET={}", target.display()))
            .arg(format!("OUT={}", out.display()))
            .env("CARGO", env!("CARGO"))
            .output()
            .expect("run make");
        success("make", &output);
        Some(out)
    });
    out.as_deref()
}

/// The programs of each compiler that the machine has.
fn compilers(programs: &Path) -> impl Iterator<Item = PathBuf> {
    ["gcc", "g++", "clang"].into_iter().map(|name| programs.join(name)).filter(|folder| folder.exists())
}

fn success(what: &str, output: &Output) {
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{what}: {}\n{said}{errors}", output.status);
}

/// A program with the server, a user, and its own arguments.
fn program(path: &Path, (host, port): (&str, u16), args: &[&str]) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=1", "240"]).arg(path).arg(host).arg(port.to_string());
    command.args(["tester", "tester"]).args(args);
    command
}

fn run(path: &Path, server: (&str, u16), args: &[&str]) {
    let output = program(path, server, args).output().expect("run the program");
    success(&format!("{} {args:?}", path.display()), &output);
}

/// The three programs in the manner of Hail's tests.
fn run_tests(compiler: &Path, host: &str, port: u16, idle: &str) {
    let name = compiler.file_name().and_then(|name| name.to_str()).expect("a compiler's name");
    thread::scope(|scope| {
        scope.spawn(|| {
            run(&compiler.join("test_session"), (host, port), &[]);
            run(&compiler.join("test_file"), (host, port), &[&format!("file-{name}")]);
        });
        scope.spawn(|| run(&compiler.join("test_lock"), (host, port), &[&format!("/lock-{name}"), idle]));
    });
}

fn host(address: SocketAddr) -> (String, u16) {
    (address.ip().to_string(), address.port())
}

#[test]
fn programs_of_every_compiler_work_with_a_single_server() {
    let Some(programs) = programs() else { return };
    let server = Cld::start();
    let (host, port) = host(server.address());
    for compiler in compilers(programs) {
        run(&compiler.join("test_core"), (&host, port), &["/core"]);
        run_tests(&compiler, &host, port, "1");
    }
}

#[test]
fn a_lock_lasts_while_its_program_idles() {
    let Some(programs) = programs() else { return };
    let server = Cld::start();
    let (host, port) = host(server.address());
    run_tests(&programs.join("gcc"), &host, port, IDLE);
}

#[test]
fn programs_work_with_a_cell_of_three_servers() {
    let Some(programs) = programs() else { return };
    let cell = Cell::start(3);
    let hosts: Vec<String> = cell.addresses().iter().map(ToString::to_string).collect();
    run_tests(&programs.join("gcc"), &hosts.join(","), 1, IDLE);
    // One address is enough, be it the master's or not.
    for (number, address) in cell.addresses().into_iter().enumerate() {
        let (host, port) = host(address);
        run(&programs.join("gcc/test_file"), (&host, port), &[&format!("one-{number}")]);
        run(&programs.join("gcc/test_core"), (&host, port), &[&format!("/core-{number}")]);
    }
}

#[test]
fn programs_work_through_a_network_that_loses_packets() {
    let Some(programs) = programs() else { return };
    let server = Options::new().behind_proxy().start();
    let proxy = Proxy::start(server.address());
    proxy.set_both(Faults { loss: 0.1, duplication: 0.05, reordering: 0.05, ..Faults::default() });
    let (host, port) = host(proxy.address());
    run_tests(&programs.join("gcc"), &host, port, IDLE);
    run(&programs.join("gcc/test_core"), (&host, port), &["/core"]);
}

#[test]
fn the_next_publisher_leads_when_the_first_is_done_and_the_watcher_sees_both() {
    let Some(programs) = programs() else { return };
    let server = Cld::start();
    let (host, port) = host(server.address());
    let start = |name: &str, args: &[&str], said: &str| -> (Child, BufReader<_>) {
        let mut child = program(&programs.join("gcc").join(name), (&host, port), args)
            .stdout(Stdio::piped())
            .spawn()
            .expect("run the program");
        let mut lines = BufReader::new(child.stdout.take().expect("it has an output"));
        assert_eq!(line(&mut lines), said);
        (child, lines)
    };
    let (mut watcher, mut seen) = start("watch", &["/leader", "2"], "watching");
    let (mut first, _first_lines) = start("publish", &["/leader", "one", "3"], "leading as one");
    let (mut second, mut second_lines) = start("publish", &["/leader", "two", "1"], "waiting");
    assert_eq!(line(&mut second_lines), "leading as two");
    assert_eq!(line(&mut seen), "version 2: one");
    assert_eq!(line(&mut seen), "version 3: two");
    for child in [&mut first, &mut second, &mut watcher] {
        assert!(child.wait().expect("wait for the program").success());
    }
}

fn line(lines: &mut impl BufRead) -> String {
    let mut line = String::new();
    lines.read_line(&mut line).expect("read what the program says");
    line.trim_end().to_owned()
}

#[test]
fn valgrind_finds_no_error() {
    let Some(programs) = programs() else { return };
    if !tools::runs("valgrind", &["--version"]) {
        return;
    }
    let server = Cld::start();
    let (host, port) = host(server.address());
    let kinds = "definite,indirect";
    for (name, args) in [("test_core", &["/core"][..]), ("test_file", &["f"]), ("test_lock", &["/l", "1"])] {
        let output = Command::new("timeout")
            .args(["--kill-after=1", "240", "valgrind", "--error-exitcode=9", "--leak-check=full"])
            .arg(format!("--show-leak-kinds={kinds}"))
            .arg(format!("--errors-for-leak-kinds={kinds}"))
            .arg(programs.join("gcc").join(name))
            .args([&host, &port.to_string(), "tester", "tester"])
            .args(args)
            .output()
            .expect("run valgrind");
        success(name, &output);
    }
}
