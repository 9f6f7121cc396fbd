//! The headers say what the library is: every function is declared with the types that it has, and no other is exported.
#![cfg(target_os = "linux")]
#![expect(clippy::expect_used, clippy::panic, reason = "a test fails by panic, in its helpers too")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The C type of each type that stands in a signature.
const TYPES: &[(&str, &str)] = &[
    ("*mut *mut Session", "struct cldc_session **"),
    ("*mut *mut File", "struct cldc_fh **"),
    ("*mut *mut Udp", "struct cldc_udp **"),
    ("*mut *mut c_char", "char **"),
    ("*mut Session", "struct cldc_session *"),
    ("*const Session", "const struct cldc_session *"),
    ("*mut File", "struct cldc_fh *"),
    ("*const File", "const struct cldc_fh *"),
    ("*mut SessionHandle", "struct ncld_sess *"),
    ("*mut FileHandle", "struct ncld_fh *"),
    ("*mut Read", "struct ncld_read *"),
    ("*mut Udp", "struct cldc_udp *"),
    ("*mut DirentCursor", "struct cld_dirent_cur *"),
    ("*const DirentCursor", "const struct cld_dirent_cur *"),
    ("*const CallOpts", "const struct cldc_call_opts *"),
    ("*mut NodeMetadata", "struct cldc_node_metadata *"),
    ("*const Ops", "const struct cldc_ops *"),
    ("*const Env", "const struct cldc_env *"),
    ("*const Options", "const struct cldc_options *"),
    ("*const Sequencer", "const struct cldc_sequencer *"),
    ("*mut Sequencer", "struct cldc_sequencer *"),
    ("*const HailLog", "struct hail_log *"),
    ("*const c_void", "const void *"),
    ("*mut c_void", "void *"),
    ("*const c_char", "const char *"),
    ("*mut c_char", "char *"),
    ("*const u8", "const uint8_t *"),
    ("*mut u8", "uint8_t *"),
    ("*mut usize", "size_t *"),
    ("*mut c_int", "int *"),
    ("EventCall", "event_call"),
    ("ErrCode", "enum cle_err_codes"),
    ("MsgOp", "enum cld_msg_op"),
    ("c_int", "int"),
    ("c_uint", "unsigned int"),
    ("c_long", "long"),
    ("c_ulong", "unsigned long"),
    ("c_ulonglong", "unsigned long long"),
    ("u32", "uint32_t"),
    ("u64", "uint64_t"),
    ("usize", "size_t"),
    ("bool", "bool"),
];

fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn c_type(rust: &str) -> &'static str {
    let found = TYPES.iter().find(|(name, _)| *name == rust.trim());
    found.unwrap_or_else(|| panic!("there is no C type for {rust}")).1
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("list the sources") {
        let path = entry.expect("list the sources").path();
        if path.is_dir() {
            sources(&path, found);
        } else {
            found.push(path);
        }
    }
}

/// The functions under names of C, as C declares them.
fn functions() -> Vec<(String, String)> {
    let mut files = Vec::new();
    sources(&package().join("src"), &mut files);
    let mut functions = Vec::new();
    for file in files {
        let text = fs::read_to_string(file).expect("read a source");
        for part in text.split("#[unsafe(no_mangle)]\npub(crate) extern \"C\" fn ").skip(1) {
            let signature =
                part.split(" {\n").next().and_then(|head| head.split(" {}\n").next()).expect("a body");
            let (name, rest) = signature.split_once('(').expect("parameters");
            let (parameters, result) = rest.rsplit_once(')').expect("the end of the parameters");
            let types: Vec<_> = parameters
                .split(',')
                .filter_map(|parameter| parameter.split_once(':'))
                .map(|(_, rust)| c_type(rust))
                .collect();
            let types = if types.is_empty() { "void".to_owned() } else { types.join(", ") };
            let result = result.trim().strip_prefix("->").map_or("void", c_type);
            functions.push((name.to_owned(), format!("{result} {name}({types});")));
        }
    }
    functions
}

/// A function that is declared otherwise in a header, or in none, is an error of the compiler.
#[test]
fn every_function_is_declared_as_it_is() {
    let functions = functions();
    assert!(functions.len() > 60, "{}", functions.len());
    let mut text = String::from("#include <ncld.h>\ntypedef void (*event_call)(void *, unsigned int);\n");
    for (name, declaration) in &functions {
        text += &format!("{declaration}\nvoid *use_{name} = (void *){name};\n");
    }
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("interface.c");
    // Without the declarations of the headers, those above would be the first.
    let undeclared: Vec<_> = functions.iter().filter(|(name, _)| !declared().contains(name)).collect();
    assert!(undeclared.is_empty(), "{undeclared:?}");
    fs::write(&file, text).expect("write a file");
    let output = Command::new("gcc")
        .args(["-std=c99", "-Werror", "-fsyntax-only", "-I"])
        .arg(package().join("include"))
        .arg(&file)
        .output()
        .expect("run gcc");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The names of the functions in the headers.
fn declared() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for header in ["cldc.h", "cldc_common.h", "cldc_udp.h", "ncld.h"] {
        let text = fs::read_to_string(package().join("include").join(header)).expect("read a header");
        for line in text.lines().filter(|line| line.starts_with(|first: char| first.is_ascii_lowercase())) {
            let Some((head, _)) = line.split_once('(') else { continue };
            if !head.starts_with("typedef") {
                names.extend(head.rsplit([' ', '*']).next().map(str::to_owned));
            }
        }
    }
    names
}

#[test]
fn the_shared_library_exports_what_is_declared_and_nothing_else() {
    let test = std::env::current_exe().expect("the test has a path");
    // Here cargo has put the one that belongs to this test.
    let library = test.parent().map(|folder| folder.join("libcldc.so")).expect("a folder");
    let output = Command::new("nm")
        .args(["-D", "--defined-only", "--format=posix"])
        .arg(&library)
        .output()
        .expect("run nm");
    let exported: BTreeSet<String> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
        .collect();
    assert_eq!(exported, declared(), "{}", library.display());

    let output = Command::new("readelf").arg("-d").arg(&library).output().expect("run readelf");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("soname: [libcldc.so.0.1]"), "{said}");
}

/// With `--gc-sections`: the members of the archive share pieces of code, and draw each other in.
#[test]
fn a_program_of_the_core_alone_gets_no_sockets_and_no_ncld() {
    let test = std::env::current_exe().expect("the test has a path");
    let folder = test.parent().expect("a folder");
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (source, program) = (scratch.join("core.c"), scratch.join("core"));
    let text = "#include <cldc.h>\nint main(void) { return cldc_new_sess(0, 0, 0, 0, 0, 0, 0, 0) + 22; }\n";
    fs::write(&source, text).expect("write a file");
    let output = Command::new("gcc")
        .arg("-I")
        .arg(package().join("include"))
        .arg(&source)
        .arg("-o")
        .arg(&program)
        .arg(folder.join("libcldc.a"))
        .args(["-lpthread", "-ldl", "-lm", "-Wl,--gc-sections"])
        .output()
        .expect("run gcc");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(Command::new(&program).status().expect("run the program").success());
    let output = Command::new("nm").arg(&program).output().expect("run nm");
    let symbols = String::from_utf8_lossy(&output.stdout);
    assert!(symbols.contains(" T cldc_new_sess"));
    let others: Vec<_> =
        symbols.lines().filter(|line| line.contains(" T ncld_") || line.contains(" T cldc_udp_")).collect();
    assert!(others.is_empty(), "{others:?}");
}
