//! What the figures were measured on.

use std::fmt;
use std::fs;
use std::thread;

use anyhow::{Context, Result};

/// The facts of a machine that figures depend on.
#[derive(Clone, Debug)]
pub struct Machine {
    cpu: String,
    cores: usize,
    kernel: String,
    memory_kib: u64,
    load: String,
}

impl Machine {
    /// This machine.
    pub fn read() -> Result<Self> {
        let cpus = fs::read_to_string("/proc/cpuinfo").context("/proc/cpuinfo")?;
        let memory = fs::read_to_string("/proc/meminfo").context("/proc/meminfo")?;
        let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
        let load = fs::read_to_string("/proc/loadavg").context("/proc/loadavg")?;
        let load = load.split(' ').next().unwrap_or_default().to_owned();
        Ok(Self {
            load,
            cpu: field(&cpus, "model name").unwrap_or("unknown CPU").to_owned(),
            cores: thread::available_parallelism()?.get(),
            kernel,
            memory_kib: field(&memory, "MemTotal")
                .and_then(|size| size.split(' ').next())
                .and_then(|size| size.parse().ok())
                .context("/proc/meminfo has no MemTotal")?,
        })
    }
}

/// The value of the first line with this name.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut fields = text.lines().filter_map(|line| line.split_once(':'));
    fields.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim())
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gib = self.memory_kib / (1024 * 1024);
        let Self { cpu, cores, kernel, load, .. } = self;
        write!(f, "{cpu}, {cores} cores, {gib} GiB, Linux {kernel}, load {load} at the start")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_a_kernel_cores_and_memory() {
        let machine = Machine::read().unwrap();

        assert!(machine.cores > 0);
        assert!(machine.memory_kib > 0);
        assert!(machine.to_string().contains("Linux "));
    }

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let text = "model\t\t: 106\nmodel name\t: Some CPU: fast\n";

        assert_eq!(field(text, "model name"), Some("Some CPU: fast"));
        assert_eq!(field(text, "name"), None);
    }
}
