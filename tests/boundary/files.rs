//! Files that are no plugins, or not ours, or dangerous to load.

use super::{Listing, assert_sentence, bare, cargo_with, faulty, library_name, list, list_by, scratch};
use crate::support::{bin_dir, root, succeed};
use lacuna_abi::{ABI_MAJOR, ABI_MINOR};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Compiles a C file of tests/boundary into a library.
fn compile(source: &str, library: &Path, flags: &[&str]) {
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-w", "-o"]).arg(library).arg(root().join("tests/boundary").join(source));
    succeed(cc.args(flags).output().expect("`cc`, which rustc needs too"));
}

/// A library with our handshake that does something when it is loaded.
fn handshake(library: &Path, flags: &[&str]) {
    let (major, minor) = (format!("-DMAJOR={ABI_MAJOR}"), format!("-DMINOR={ABI_MINOR}"));
    let given = |name: &str| flags.iter().any(|f| f.starts_with(name));
    let mut all = flags.to_vec();
    all.extend((!given("-DMAJOR")).then_some(major.as_str()));
    all.extend((!given("-DMINOR")).then_some(minor.as_str()));
    compile("library.c", library, &all);
}

/// The faulty plugin without its symbol table and debug information: smaller, and more of it matters.
fn stripped() -> Vec<u8> {
    let small = scratch("stripped").join(format!("{}.so", std::process::id()));
    succeed(Command::new("strip").arg("-o").arg(&small).arg(faulty()).output().unwrap());
    let bytes = std::fs::read(&small).unwrap();
    std::fs::remove_file(small).unwrap();
    bytes
}

/// A generator of numbers that are the same each time.
fn numbers(seed: u64) -> impl FnMut() -> usize {
    let mut state = seed;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    }
}

fn assert_reasons(listing: &Listing, expected: &[(&str, &str)]) {
    assert_eq!(listing.plugins(), [""; 0]);
    assert_eq!(listing.failures().len(), expected.len(), "{:#}", listing.0);
    for (file, words) in expected {
        let reason = listing.reason(file);
        assert!(reason.contains(words), "{file}: {reason}");
    }
}

#[test]
fn what_is_no_library_or_not_ours_is_refused_before_it_is_loaded() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    // A constructor that would show that the library was loaded.
    let loud = "-DON_LOAD=abort()";
    std::fs::write(at("text.so"), "a text that was renamed\n").unwrap();
    std::fs::write(at("empty.so"), "").unwrap();
    std::fs::create_dir(at("folder.so")).unwrap();
    std::os::unix::fs::symlink("nowhere", at("link.so")).unwrap();
    compile("plain.c", &at("plain.so"), &[]);
    handshake(&at("other-major.so"), &["-DMAJOR=7", loud]);
    handshake(&at("provisional.so"), &["-DMAJOR=0", "-DMINOR=1", loud]);
    handshake(&at("abort.so"), &["-DFLAGS=0", loud]);
    handshake(&at("wrong-magic.so"), &["-DFIRST='K'", loud]);
    handshake(&at("small-size.so"), &["-DSIZE=20", loud]);
    handshake(&at("short.so"), &["-DSHORT", "-DNO_ROOT", "-Wl,-z,noseparate-code", loud]);
    handshake(&at("no-root.so"), &["-DNO_ROOT", loud]);
    handshake(&at("cpu.so"), &[loud]);
    let mut other_cpu = std::fs::read(at("cpu.so")).unwrap();
    let (aarch64, x86_64) = (0xb7, 0x3e);
    other_cpu[18] = if other_cpu[18] == aarch64 { x86_64 } else { aarch64 };
    std::fs::write(at("cpu.so"), &other_cpu).unwrap();
    handshake(&at("bits.so"), &[loud]);
    let mut other_bits = std::fs::read(at("bits.so")).unwrap();
    other_bits[4] = 1;
    std::fs::write(at("bits.so"), &other_bits).unwrap();

    handshake(&at("segments.so"), &[loud]);
    let mut grown = std::fs::read(at("segments.so")).unwrap();
    // The first program header that is to be loaded: its size in memory reaches over the next.
    let segment = (64..).step_by(56).find(|&at| grown[at..at + 4] == [1, 0, 0, 0]).unwrap();
    grown[segment + 40 + 3] = 1;
    std::fs::write(at("segments.so"), &grown).unwrap();

    let border = format!("this Lacuna has border {ABI_MAJOR}.{ABI_MINOR}.");
    let major = format!("it was built for plugin border 7.{ABI_MINOR}.0 (lacuna-sdk 9.8.7; six), {border}");
    let provisional = format!("it was built for plugin border 0.1.0 (lacuna-sdk 9.8.7; six), {border}");
    let expected = [
        ("text.so", "it is not a shared library"),
        ("empty.so", "it is empty"),
        ("link.so", "it cannot be read (No such file"),
        ("plain.so", "not a Lacuna plugin: plain.so has no symbol LACUNA_PLUGIN_MAGIC"),
        ("other-major.so", major.as_str()),
        ("provisional.so", provisional.as_str()),
        ("abort.so", "it was built with panic = \"abort\""),
        ("wrong-magic.so", "its handshake has the wrong bytes"),
        ("small-size.so", "its handshake has 20 bytes of at least 56"),
        ("short.so", "its handshake is cut off"),
        ("no-root.so", "it has no symbol LACUNA_PLUGIN_ROOT"),
        ("cpu.so", "it was built for another CPU ("),
        ("bits.so", "it is cut off or damaged"),
        ("segments.so", "it is damaged: its segments and sections do not fit together"),
    ];
    assert_reasons(&list(dir.path()), &expected);
}

#[test]
fn what_cannot_be_loaded_or_ends_its_process_is_refused_and_the_host_lives() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let on_load = |name: &str, code: &str| handshake(&at(name), &[&format!("-DON_LOAD={code}")]);
    handshake(&at("no-layout.so"), &[]);
    on_load("segv.so", "*(volatile int*)0 = 1");
    on_load("abort.so", "abort()");
    on_load("exit.so", "exit(0)");
    on_load("_exit.so", "_exit(0)");
    on_load("closes.so", "close(1); close(2)");
    // More than a pipe holds, no text, and no line end.
    on_load(
        "prints.so",
        "for (int i = 0; i < 100000; i++) { puts(\"noise\"); fputs(\"no\\xffise\", stderr); }",
    );
    handshake(&at("last-words.so"), &["-DON_EXIT=fputs(\"refused by whom: me\\n\", stderr)"]);
    handshake(&at("bad-end.so"), &["-DON_EXIT=abort()"]);
    handshake(&at("undefined.so"), &["-DNEEDS=missing_function"]);
    compile("plain.c", &at("libgone.so"), &[]);
    let folder = format!("-L{}", dir.path().display());
    handshake(&at("dependency.so"), &["-DNEEDS=helper", &folder, "-lgone"]);
    std::fs::remove_file(at("libgone.so")).unwrap();

    let expected = [
        ("no-layout.so", "it was built with another abi_stable"),
        ("segv.so", "it crashes: loading it in a child process ended with SIGSEGV"),
        ("abort.so", "it crashes: loading it in a child process ended with SIGABRT"),
        ("exit.so", "it ends the process that loads it (exit code 0)"),
        ("_exit.so", "it ends the process that loads it (exit code 0)"),
        ("closes.so", "it does not load"),
        ("prints.so", "it was built with another abi_stable"),
        ("last-words.so", "it was built with another abi_stable"),
        ("bad-end.so", "it crashes: loading it in a child process ended with SIGABRT"),
        // By the name that the user knows, not that of the copy which was opened.
        ("undefined.so", "/undefined.so: undefined symbol: missing_function"),
        ("dependency.so", "libgone.so: cannot open shared object file"),
    ];
    assert_reasons(&list(dir.path()), &expected);
}

#[test]
fn a_library_that_hangs_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    handshake(&dir.path().join("hangs.so"), &["-DON_LOAD=for (;;) sleep(1)"]);
    let mut command = bare(&["plugin", "list", "--plugin-dir"]);
    let listing = list_by(command.arg(dir.path()).env("LACUNA_PROBE_SECONDS", "1"));
    let reason = "it hangs: loading it in a child process took more than 1 s";
    assert_reasons(&listing, &[("hangs.so", reason)]);
}

#[test]
fn a_plugin_cut_off_anywhere_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, mut next) = (stripped(), numbers(1));
    for i in 0..20 {
        let percent = 1 + 98 * i / 19;
        let length = whole.len() * percent / 100 - next() % (whole.len() / 200);
        std::fs::write(dir.path().join(format!("cut-{percent:02}.so")), &whole[..length]).unwrap();
    }
    let listing = list(dir.path());
    assert_eq!((listing.plugins().len(), listing.failures().len()), (0, 20), "{:#}", listing.0);
    for failure in listing.failures() {
        let reason = failure["reason"].as_str().unwrap();
        assert_sentence(reason);
        assert!(reason.contains("it is cut off or damaged"), "{failure}");
    }
}

/// The plugin, damaged somehow.
fn damaged(whole: &[u8], i: usize, next: &mut impl FnMut() -> usize) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    match i % 5 {
        // Cut off anywhere.
        0 => bytes.truncate(next() % whole.len()),
        // Bits of the file's header and the program headers, which the dynamic linker believes.
        1 => bytes[next() % (64 + 10 * 56)] ^= 1 << (next() % 8),
        // Bits anywhere.
        2 => (0..=next() % 8).for_each(|_| bytes[next() % whole.len()] ^= 1 << (next() % 8)),
        // A page of zeros, as a disk that was full leaves it.
        3 => {
            let at = next() % (whole.len() - 4096);
            bytes[at..at + 4096].fill(0);
        }
        // Another symbol under the name of one of ours.
        _ => {
            let name: &[u8] =
                if next().is_multiple_of(2) { b"LACUNA_PLUGIN_MAGIC" } else { b"LACUNA_PLUGIN_ROOT" };
            for at in 0..whole.len() - name.len() {
                if &whole[at..at + name.len()] == name {
                    bytes[at + next() % name.len()] = b'A' + (next() % 26) as u8;
                }
            }
        }
    }
    bytes
}

#[test]
fn a_thousand_damaged_libraries_are_refused_or_reported_and_the_host_lives() {
    let (whole, mut next) = (stripped(), numbers(2));
    let (mut refused, mut used) = (0, 0);
    for batch in 0..10 {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("whole.so"), &whole).unwrap();
        for i in 0..100 {
            let bytes = damaged(&whole, i, &mut next);
            std::fs::write(dir.path().join(format!("damaged-{i:02}.so")), &bytes).unwrap();
        }
        // Those that load all the same have one name, and so are reported for that.
        let listing = list(dir.path());
        for failure in listing.failures() {
            let reason = failure["reason"].as_str().unwrap();
            assert_sentence(reason);
            if reason.contains("it is named") { used += 1 } else { refused += 1 }
        }
        assert!(listing.failures().len() >= 90, "batch {batch}: {:#}", listing.0);
    }
    println!("{refused} refused, {used} load");
    assert!(refused >= 500, "{refused}");
}

#[test]
fn a_file_that_may_not_be_read_says_so() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("secret.so");
    std::fs::write(&file, "x").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o000)).unwrap();
    if std::fs::read(&file).is_ok() {
        println!("skipped: root may read everything");
        return;
    }
    assert_reasons(&list(dir.path()), &[("secret.so", "it cannot be read (Permission denied")]);
}

/// The faulty plugin, built with `panic = "abort"`.
fn aborting() -> PathBuf {
    let build = ["build", "--example", "faulty"];
    succeed(cargo_with(("abort", "-C panic=abort"), &build).output().unwrap());
    scratch("abort").join(bin_dir().file_name().unwrap()).join("examples").join(library_name("faulty"))
}

#[test]
fn a_plugin_whose_panics_would_end_the_host_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(aborting(), dir.path().join("abort.so")).unwrap();
    let reason = "it was built with panic = \"abort\", so a panic in it would end Lacuna: \
                  build it with panic = \"unwind\"";
    assert_reasons(&list(dir.path()), &[("abort.so", reason)]);
    // Built with the other flag it is the same plugin, and is used.
    assert_eq!(list(faulty().parent().unwrap()).plugins(), ["faulty"]);
}
