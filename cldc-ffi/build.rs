//! Gives the shared library a name with a version, so that a program finds one that it can use.

fn main() {
    // While the version is 0.x, each minor version may change the interface.
    let (major, minor) = (env!("CARGO_PKG_VERSION_MAJOR"), env!("CARGO_PKG_VERSION_MINOR"));
    let version = if major == "0" { format!("0.{minor}") } else { major.to_owned() };
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|system| system == "linux") {
        println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libcldc.so.{version}");
    }
    println!("cargo:rerun-if-changed=build.rs");
}
