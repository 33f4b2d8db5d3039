//! `cargo xtask ebpf`: the program that the kernel runs, built from source.
//!
//! That needs a compiler with the source of `core`, and `bpf-linker` for the same LLVM. Two routes
//! lead there: a rustup nightly with `rust-src`, or the compiler packages of Debian and Ubuntu. The
//! first that is complete is taken; when none is, the first is completed that can be, which takes
//! root where packages are missing. The linker is kept in the user's cache folder, so a clean clone
//! need not build it again. The object names no folder of this machine, and the same sources and
//! compiler give the same bytes.

use std::env::{self, consts};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

const LINKER_VERSION: &str = "0.13.0";
const TARGET: &str = "bpfel-unknown-none";
/// What the agent embeds, and what the benches load beside it.
const OBJECTS: [&str; 2] = ["enforcer-ebpf", "enforcer-bench"];
const PACKAGES: [&str; 3] = ["rustc-web", "rust-web-src", "cargo-web"];

/// A compiler that can build `core` for BPF.
#[derive(Clone)]
struct Toolchain {
    rustc: PathBuf,
    cargo: PathBuf,
    /// Where its own libraries are; no path below it enters the object.
    sysroot: PathBuf,
    /// The LLVM that it and the linker must share.
    llvm: u32,
}

/// Builds the objects and returns where the agent's is; takes a second when nothing has changed.
pub(crate) fn build() -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("the package xtask has no folder above it")?;
    let (toolchain, linker) = tools()?;
    let built = compile(&toolchain, &linker, root)?;
    let [object, bench] = OBJECTS.map(|name| root.join(format!("target/ebpf/{name}.o")));
    for (name, object) in OBJECTS.iter().zip([&object, &bench]) {
        let built = built.join(name);
        write_if_changed(object, &fs::read(&built).context(built.display().to_string())?)?;
    }
    Ok(object)
}

/// A compiler and its linker, made complete if need be.
fn tools() -> Result<(Toolchain, PathBuf)> {
    let toolchains = find_toolchains()?;
    for toolchain in &toolchains {
        if let Some(linker) = find_linker(toolchain)? {
            return Ok((toolchain.clone(), linker));
        }
    }
    for toolchain in toolchains {
        match install_linker(&toolchain) {
            Ok(linker) => return Ok((toolchain, linker)),
            Err(error) => say(&format!("no linker for {}: {error:#}", toolchain.rustc.display())),
        }
    }
    let toolchain = install_toolchain()?;
    let linker = match find_linker(&toolchain)? {
        Some(linker) => linker,
        None => install_linker(&toolchain)?,
    };
    Ok((toolchain, linker))
}

// === toolchain ===

fn find_toolchains() -> Result<Vec<Toolchain>> {
    Ok(find_rustup_toolchain()?.into_iter().chain(find_packaged_toolchain()?).collect())
}

fn find_packaged_toolchain() -> Result<Option<Toolchain>> {
    let (rustc, cargo) = (Path::new("/usr/bin/rustc"), Path::new("/usr/bin/cargo"));
    if !rustc.exists() || !cargo.exists() {
        return Ok(None);
    }
    Toolchain::inspect(rustc, cargo)
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
    Toolchain::inspect(&rustc, &cargo)
}

/// By the packages of the system where we may, else by rustup.
fn install_toolchain() -> Result<Toolchain> {
    let packages = PACKAGES.join(" ");
    if is_root() && find_in_path("apt-get").is_some() && find_packaged_toolchain()?.is_none() {
        say(&format!("no compiler for BPF: apt-get install {packages}"));
        apt_get(&PACKAGES)?;
        return find_packaged_toolchain()?.context("the packages brought no source of `core`");
    }
    if let Some(rustup) = find_in_path("rustup")
        && find_rustup_toolchain()?.is_none()
    {
        say("no compiler for BPF: rustup toolchain install nightly --component rust-src");
        run(command(&rustup)
            .args(["toolchain", "install", "nightly", "--profile", "minimal"])
            .args(["--component", "rust-src"]))?;
        return find_rustup_toolchain()?.context("the nightly brought no source of `core`");
    }
    bail!(
        "nothing here can build for BPF\n\
         hint: as root on Debian or Ubuntu: apt-get install {packages} llvm-22-dev\n\
         hint: elsewhere: rustup toolchain install nightly --component rust-src, and \
         bpf-linker {LINKER_VERSION} on the path"
    )
}

impl Toolchain {
    /// `None` when it has no source of `core`.
    fn inspect(rustc: &Path, cargo: &Path) -> Result<Option<Self>> {
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
        Ok(Some(Self { rustc: rustc.into(), cargo: cargo.into(), sysroot, llvm }))
    }
}

// === linker ===

/// In the cache folder, else one of the same version and LLVM on the path.
fn find_linker(toolchain: &Toolchain) -> Result<Option<PathBuf>> {
    let cached = linker_home(toolchain)?.join("bin/bpf-linker");
    if cached.exists() {
        return Ok(Some(cached));
    }
    let Some(linker) = find_in_path("bpf-linker") else { return Ok(None) };
    let version = stdout(command(&linker).arg("--version"))?;
    Ok(fits(&version, toolchain.llvm).then_some(linker))
}

/// Whether `bpf-linker --version` names our version, and no other LLVM than the compiler's.
fn fits(version: &str, llvm: u32) -> bool {
    let mut words = version.split_whitespace();
    let ours = words.nth(1) == Some(LINKER_VERSION);
    let others = words.skip_while(|word| !word.contains("LLVM")).nth(1);
    let major = others.and_then(|llvm| llvm.split('.').next());
    ours && major.is_none_or(|major| major == llvm.to_string())
}

/// Builds it for the compiler's LLVM, which must be installed as a library.
fn install_linker(toolchain: &Toolchain) -> Result<PathBuf> {
    let (home, llvm) = (linker_home(toolchain)?, toolchain.llvm);
    let prefix = PathBuf::from(format!("/usr/lib/llvm-{llvm}"));
    if !prefix.join("bin/llvm-config").exists() {
        let package = format!("llvm-{llvm}-dev");
        if !is_root() || find_in_path("apt-get").is_none() {
            bail!("bpf-linker needs {package}\nhint: sudo apt-get install -y {package}");
        }
        say(&format!("no LLVM {llvm} for bpf-linker: apt-get install {package}"));
        apt_get(&[package.as_str()])?;
    }
    say(&format!("building bpf-linker {LINKER_VERSION} into {} (a minute)", home.display()));
    run(cargo(toolchain)
        .args(["install", "--quiet", "bpf-linker", "--version", LINKER_VERSION, "--locked"])
        .args(["--no-default-features", "--features", &format!("llvm-{llvm}")])
        .arg("--root")
        .arg(&home)
        .env("LLVM_PREFIX", &prefix)
        .env("PATH", path_with(&prefix.join("bin"))?))?;
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

/// The folder that they are in.
fn compile(toolchain: &Toolchain, linker: &Path, root: &Path) -> Result<PathBuf> {
    let target = root.join("target/ebpf-build");
    let mut build = cargo(toolchain);
    build
        .args(["build", "--quiet", "--release", "--locked", "-Z", "build-std=core"])
        .args(["--package", "enforcer-ebpf", "--bins", "--target", TARGET])
        .arg("--target-dir")
        .arg(&target)
        .env("CARGO_ENCODED_RUSTFLAGS", rustflags(toolchain, linker, root)?)
        // A panic is a loop that the kernel refuses, and every sum here wraps on purpose.
        .env("CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS", "false")
        .current_dir(root);
    run(&mut build).context(
        "building enforcer-ebpf\nhint: when it says that Cargo.lock needs an update, run `cargo metadata` first",
    )?;
    Ok(target.join(TARGET).join("release"))
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
        "-Ctarget-cpu=v3".into(),
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
    fn an_unchanged_object_is_not_written_again() {
        let folder = tempfile::tempdir().unwrap();
        let object = folder.path().join("ebpf/enforcer-ebpf.o");
        let written = |object: &Path| fs::metadata(object).unwrap().modified().unwrap();
        write_if_changed(&object, b"first").unwrap();
        let before = written(&object);

        write_if_changed(&object, b"first").unwrap();
        assert_eq!(written(&object), before);
        write_if_changed(&object, b"second").unwrap();
        assert_eq!(fs::read(&object).unwrap(), b"second");
    }

    #[test]
    fn a_linker_for_another_llvm_or_of_another_version_is_not_taken() {
        assert!(fits("bpf-linker 0.13.0", 22));
        assert!(fits("bpf-linker 0.13.0 (LLVM 22.1.8)", 22));
        assert!(!fits("bpf-linker 0.13.0 (LLVM 23.0.0)", 22));
        assert!(!fits("bpf-linker 0.12.0", 22));
        assert!(!fits("", 22));
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
