//! Every fuzz target over its seeds, and over each seed cut short and with each bit flipped.
#![allow(clippy::unwrap_used, reason = "a test may fail by panic")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use cld_fuzz_bodies::TARGETS;

/// Longer seeds are run, but not altered bit by bit.
const ALTERED_UP_TO: usize = 512;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn no_target_has_a_finding_in_its_seeds_or_near_them() {
    for (name, body) in TARGETS {
        let seeds = files(&fuzz().join("seeds").join(name));
        assert!(!seeds.is_empty(), "fuzz/seeds/{name} has no file");
        body(b"");
        for seed in seeds {
            let mut data = fs::read(&seed).unwrap();
            println!("{}", seed.display());
            body(&data);
            if data.len() > ALTERED_UP_TO {
                continue;
            }
            for cut in 0..data.len() {
                body(data.get(..cut).unwrap());
            }
            for bit in 0..data.len() * 8 {
                let (byte, mask) = (bit / 8, 1 << (bit % 8));
                *data.get_mut(byte).unwrap() ^= mask;
                body(&data);
                *data.get_mut(byte).unwrap() ^= mask;
            }
        }
    }
}

#[test]
fn every_target_is_built_and_every_program_is_listed() {
    let listed: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let programs: BTreeSet<String> = files(&fuzz().join("fuzz_targets"))
        .iter()
        .map(|file| file.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(listed, programs);
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    for name in listed {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "fuzz/Cargo.toml has no [[bin]] {name}");
    }
}
