//! What some tests need of the machine beyond Rust and a C compiler.

use std::process::{Command, Stdio};

/// Whether this program runs and succeeds. Where it does not, a test that needs it says so and checks nothing.
///
/// # Panics
/// Then, if the variable `CI` is set: there nothing may be left out.
#[must_use]
pub fn runs(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let runs = command.status().is_ok_and(|status| status.success());
    if !runs {
        let said = format!("this machine does not run '{program} {}'", arguments.join(" "));
        assert!(std::env::var_os("CI").is_none(), "{said}");
        println!("{said}: skipped");
    }
    runs
}
