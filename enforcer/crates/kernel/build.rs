//! Takes the BPF object along when it has been built.
//!
//! Without it the crate builds and tests on a plain stable compiler, and attaching says what to do.

use std::path::Path;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    println!("cargo::rustc-check-cfg=cfg(bpf_object)");
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let Some(root) = here.ancestors().nth(3) else {
        return Err(io::Error::other("this crate is not where the workspace has it"));
    };
    let folder = root.join("target/ebpf");
    // A folder that does not exist counts as changed at every build.
    fs::create_dir_all(&folder)?;
    println!("cargo::rerun-if-changed={}", folder.display());
    let Some(out) = env::var_os("OUT_DIR") else {
        return Err(io::Error::other("OUT_DIR is not set"));
    };
    match fs::copy(folder.join("enforcer-ebpf.o"), Path::new(&out).join("enforcer-ebpf.o")) {
        Ok(_) => println!("cargo::rustc-cfg=bpf_object"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    Ok(())
}
