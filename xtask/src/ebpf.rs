//! `cargo xtask ebpf`: the program that the kernel runs, built from source.
//!
//! That needs a compiler with the source of `core`, and `bpf-linker` for the same LLVM. Two routes
//! lead there: a rustup nightly with `rust-src`, or the compiler packages of Debian and Ubuntu. The
//! first that is complete is taken; when none is, what is missing is installed where we may. The
//! linker is kept in the user's cache folder, so a clean clone need not build it again. The object
//! names no folder of this machine, and the same sources and compiler give the same bytes.

use std::env::{self, consts};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

const LINKER_VERSION: &str = "0.13.0";
const TARGET: &str = "bpfel-unknown-none";
const PACKAGES: [&str; 3] = ["rustc-web", "rust-web-src", "cargo-web"];

/// A compiler that can build `core` for BPF.
struct Toolchain {
    rustc: PathBuf,
    cargo: PathBuf,
    /// Where its own libraries are; no path below it enters the object.
    sysroot: PathBuf,
    /// The LLVM that it and the linker must share.
    llvm: u32,
    route: Route,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Route {
    Rustup,
    Debian,
}

/// Builds the object and returns where it is; takes a second when nothing has changed.
pub(crate) fn build() -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("the package xtask has no folder above it")?;
    let toolchain = match find_toolchain()? {
        Some(toolchain) => toolchain,
        None => install_toolchain()?,
    };
    let linker = match find_linker(&toolchain)? {
        Some(linker) => linker,
        None => install_linker(&toolchain)?,
    };
    let built = compile(&toolchain, &linker, root)?;
    let object = root.join("target/ebpf/enforcer-ebpf.o");
    write_if_changed(&object, &fs::read(&built).context(built.display().to_string())?)?;
    Ok(object)
}

// === toolchain ===

fn find_toolchain() -> Result<Option<Toolchain>> {
    if let Some(toolchain) = find_rustup_toolchain()? {
        return Ok(Some(toolchain));
    }
    let (rustc, cargo) = (Path::new("/usr/bin/rustc"), Path::new("/usr/bin/cargo"));
    if !rustc.exists() || !cargo.exists() {
        return Ok(None);
    }
    Toolchain::inspect(rustc, cargo, Route::Debian)
}

fn find_rustup_toolchain() -> Result<Option<Toolchain>> {
    let Some(rustup) = find_in_path("rustup") else { return Ok(None) };
    let which = |tool: &str| -> Result<Option<PathBuf>> {
        let output = command(&rustup)
            .args(["which", "--toolchain", "nightly", tool])
            .stderr(Stdio::null())
            .output()
            .with_context(|| format!("running {}", rustup.display()))?;
        let path = String::from_utf8(output.stdout).context("`rustup which` printed no text")?;
        Ok(output.status.success().then(|| PathBuf::from(path.trim())))
    };
    let (Some(rustc), Some(cargo)) = (which("rustc")?, which("cargo")?) else { return Ok(None) };
    Toolchain::inspect(&rustc, &cargo, Route::Rustup)
}

fn install_toolchain() -> Result<Toolchain> {
    if is_root() && find_in_path("apt-get").is_some() {
        say(&format!("no compiler for BPF: apt-get install {}", PACKAGES.join(" ")));
        apt_get(&PACKAGES)?;
    } else if let Some(rustup) = find_in_path("rustup") {
        say("no compiler for BPF: rustup toolchain install nightly with rust-src");
        run(command(&rustup).args([
            "toolchain",
            "install",
            "nightly",
            "--profile",
            "minimal",
            "--component",
            "rust-src",
        ]))?;
    } else {
        bail!(
            "no compiler here can build for BPF\n\
             hint: rustup toolchain install nightly --component rust-src\n\
             hint: or, as root on Debian or Ubuntu: apt-get install {}",
            PACKAGES.join(" ")
        );
    }
    find_toolchain()?.context("the compiler that was just installed cannot build `core`")
}

impl Toolchain {
    /// `None` when it has no source of `core`.
    fn inspect(rustc: &Path, cargo: &Path, route: Route) -> Result<Option<Self>> {
        let sysroot = PathBuf::from(stdout(command(rustc).args(["--print", "sysroot"]))?.trim());
        if !sysroot.join("lib/rustlib/src/rust/library/core/Cargo.toml").exists() {
            return Ok(None);
        }
        let version = stdout(command(rustc).arg("-vV"))?;
        let llvm = version
            .lines()
            .find_map(|line| line.strip_prefix("LLVM version: "))
            .and_then(|llvm| llvm.split('.').next())
            .and_then(|major| major.parse().ok())
            .with_context(|| format!("{} -vV names no LLVM version", rustc.display()))?;
        Ok(Some(Self { rustc: rustc.into(), cargo: cargo.into(), sysroot, llvm, route }))
    }
}

// === linker ===

/// In the cache folder, else one of the right version on the path.
fn find_linker(toolchain: &Toolchain) -> Result<Option<PathBuf>> {
    let cached = linker_home(toolchain)?.join("bin/bpf-linker");
    if cached.exists() {
        return Ok(Some(cached));
    }
    // Which LLVM a linker was built with it does not say; a rustup user followed its README.
    let Some(linker) = find_in_path("bpf-linker") else { return Ok(None) };
    let version = stdout(command(&linker).arg("--version"))?;
    let fits = toolchain.route == Route::Rustup
        && version.split_whitespace().nth(1) == Some(LINKER_VERSION);
    Ok(fits.then_some(linker))
}

fn install_linker(toolchain: &Toolchain) -> Result<PathBuf> {
    let home = linker_home(toolchain)?;
    let llvm = toolchain.llvm;
    let mut install = cargo(toolchain);
    install.args(["install", "--quiet", "bpf-linker", "--version", LINKER_VERSION, "--locked"]);
    install.arg("--root").arg(&home);
    if toolchain.route == Route::Debian {
        let prefix = PathBuf::from(format!("/usr/lib/llvm-{llvm}"));
        if !prefix.join("bin/llvm-config").exists() {
            let package = format!("llvm-{llvm}-dev");
            if !is_root() {
                bail!("bpf-linker needs {package}\nhint: sudo apt-get install -y {package}");
            }
            say(&format!("no LLVM {llvm} for bpf-linker: apt-get install {package}"));
            apt_get(&[package.as_str()])?;
        }
        let path = path_with(&prefix.join("bin"))?;
        install.env("LLVM_PREFIX", &prefix).env("PATH", path);
        install.args(["--no-default-features", "--features", &format!("llvm-{llvm}")]);
    }
    say(&format!("building bpf-linker {LINKER_VERSION} into {} (a minute)", home.display()));
    run(&mut install)?;
    Ok(home.join("bin/bpf-linker"))
}

fn linker_home(toolchain: &Toolchain) -> Result<PathBuf> {
    let cache = match env::var_os("XDG_CACHE_HOME").filter(|cache| !cache.is_empty()) {
        Some(cache) => PathBuf::from(cache),
        None => home()?.join(".cache"),
    };
    let llvm = toolchain.llvm;
    Ok(cache.join(format!("enforcer/bpf-linker-{LINKER_VERSION}-llvm{llvm}")))
}

// === object ===

fn compile(toolchain: &Toolchain, linker: &Path, root: &Path) -> Result<PathBuf> {
    let target = root.join("target/ebpf-build");
    let mut build = cargo(toolchain);
    build
        .args(["build", "--quiet", "--release", "--locked", "-Z", "build-std=core"])
        .args(["--package", "enforcer-ebpf", "--bin", "enforcer-ebpf", "--target", TARGET])
        .arg("--target-dir")
        .arg(&target)
        .env("CARGO_ENCODED_RUSTFLAGS", rustflags(toolchain, linker, root)?)
        // A panic is a loop that the kernel refuses, and every sum here wraps on purpose.
        .env("CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS", "false")
        .current_dir(root);
    run(&mut build).context(
        "building enforcer-ebpf\nhint: when it says that Cargo.lock needs an update, run `cargo metadata` first",
    )?;
    Ok(target.join(TARGET).join("release/enforcer-ebpf"))
}

fn rustflags(toolchain: &Toolchain, linker: &Path, root: &Path) -> Result<OsString> {
    let cargo_home = match env::var_os("CARGO_HOME") {
        Some(home) => PathBuf::from(home),
        None => home()?.join(".cargo"),
    };
    let library = toolchain.sysroot.join("lib/rustlib/src/rust");
    // Debian's is a link: paths below either name come out the same.
    let behind = library.canonicalize().context(library.display().to_string())?;
    let mut flags: Vec<OsString> = vec![
        "-Cdebuginfo=2".into(),
        "-Clink-arg=--btf".into(),
        format!("--cfg=bpf_target_arch=\"{}\"", consts::ARCH).into(),
        joined("-Clinker=", linker.as_os_str(), ""),
    ];
    for (from, to) in [
        (root, "/enforcer"),
        (cargo_home.as_path(), "/cargo"),
        (library.as_path(), "/rust"),
        (behind.as_path(), "/rust"),
    ] {
        flags.push(joined("--remap-path-prefix=", from.as_os_str(), &format!("={to}")));
    }
    Ok(flags.join(OsStr::new("\u{1f}")))
}

fn write_if_changed(object: &Path, bytes: &[u8]) -> Result<()> {
    if fs::read(object).is_ok_and(|before| before == bytes) {
        return Ok(());
    }
    let folder = object.parent().context("the object has no folder")?;
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    // Whole or not at all: a build of the agent may read it at this moment.
    let whole = object.with_extension("o.new");
    fs::write(&whole, bytes).with_context(|| whole.display().to_string())?;
    fs::rename(&whole, object).with_context(|| object.display().to_string())
}

// === commands ===

fn cargo(toolchain: &Toolchain) -> Command {
    let mut cargo = command(&toolchain.cargo);
    cargo.env("RUSTC", &toolchain.rustc);
    // The released compiler of a distribution can do what a nightly can, when it is asked to.
    cargo.env("RUSTC_BOOTSTRAP", "1");
    cargo.env("CARGO_RESOLVER_INCOMPATIBLE_RUST_VERSIONS", "fallback");
    cargo
}

/// A command without what an outer `cargo run` left in the environment: that names the compiler,
/// flags and folders of another build.
fn command(program: &Path) -> Command {
    const KEPT: [&str; 6] = [
        "CARGO_HOME",
        "CARGO_HTTP_",
        "CARGO_NET_",
        "CARGO_REGISTR",
        "CARGO_SOURCE_",
        "RUSTUP_HOME",
    ];
    let mut command = Command::new(program);
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        let foreign = ["CARGO", "RUST"].iter().any(|tool| text.starts_with(tool));
        if foreign && !KEPT.iter().any(|kept| text.starts_with(kept)) {
            command.env_remove(&name);
        }
    }
    command
}

fn apt_get(packages: &[&str]) -> Result<()> {
    let apt_get = |arguments: &[&str]| {
        let mut command = command(Path::new("apt-get"));
        command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
        command
    };
    run(&mut apt_get(&["update", "-qq"]))?;
    run(apt_get(&["install", "-y", "-qq", "--no-install-recommends"]).args(packages))
}

/// What it says goes to the person who started the task.
fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("running {command:?}"))?;
    if !status.success() {
        bail!("{} ended with {status}", command.get_program().display());
    }
    Ok(())
}

fn stdout(command: &mut Command) -> Result<String> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("running {command:?}"))?;
    if !output.status.success() {
        bail!("{} ended with {}", command.get_program().display(), output.status);
    }
    String::from_utf8(output.stdout).context("the command printed no text")
}

fn find_in_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

fn path_with(first: &Path) -> Result<OsString> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(first.to_path_buf()).chain(env::split_paths(&path));
    env::join_paths(folders).context("a folder on the path has a colon in its name")
}

fn home() -> Result<PathBuf> {
    env::var_os("HOME").map(PathBuf::from).context("HOME is not set")
}

fn is_root() -> bool {
    fs::metadata("/proc/self").map(|own| own.uid()).is_ok_and(|uid| uid == 0)
}

fn joined(before: &str, middle: &OsStr, after: &str) -> OsString {
    let mut whole = OsString::from(before);
    whole.push(middle);
    whole.push(after);
    whole
}

fn say(what: &str) {
    eprintln!("ebpf: {what}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unchanged_object_is_not_written_again() -> std::io::Result<()> {
        let folder = tempfile::tempdir()?;
        let object = folder.path().join("ebpf/enforcer-ebpf.o");
        write_if_changed(&object, b"first").unwrap();
        let before = fs::metadata(&object)?.modified()?;

        write_if_changed(&object, b"first").unwrap();
        let same = fs::metadata(&object)?.modified()?;
        write_if_changed(&object, b"second").unwrap();

        assert_eq!(before, same);
        assert_eq!(fs::read(&object)?, b"second");
        Ok(())
    }

    #[test]
    fn what_an_outer_cargo_left_behind_does_not_reach_the_build() {
        let inner = command(Path::new("true"));

        let removed: Vec<_> =
            inner.get_envs().filter(|(_, value)| value.is_none()).map(|(name, _)| name).collect();

        // A test always runs under cargo, which sets this.
        assert!(removed.contains(&OsStr::new("CARGO_MANIFEST_DIR")));
        assert!(!removed.contains(&OsStr::new("CARGO_HOME")));
    }
}
