//! The `cld` program. See [`cld_server::run`].

use std::process::ExitCode;

fn main() -> ExitCode {
    cld_server::run(std::env::args_os())
}
