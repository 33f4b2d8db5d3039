//! Signatures.
#![allow(missing_docs, clippy::all, clippy::todo, unused, clippy::allow_attributes_without_reason, clippy::allow_attributes)]
use std::path::Path;
use std::time::Duration;

use enforcer_model::{BlockId, Prefix, Source};

use crate::{Budget, Config, Mode};
use enforcer_ebpf::{Reason, Verdict};

pub struct Kernel(());
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry { pub id: BlockId, pub expires: Option<Duration>, pub observe: bool }
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Installed { pub prefix: Prefix, pub id: BlockId, pub remaining: Option<Duration>, pub observe: bool, pub packets: u64, pub bytes: u64, pub last_hit: Option<Duration> /* ago */ }
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface { pub name: String, pub attachment: Attachment }
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attachment { Attached { hook: Hook, program: u32 }, Detached, Missing }
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook { Generic, Native }
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counters { pub entries: Vec<Counter>, pub events_lost: u64 }
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counter { pub verdict: Verdict, pub reason: Reason, pub packets: u64, pub bytes: u64 }
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Swept { pub expired: usize }
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The first packet in a while that met a block.
    Blocked { source: Source, prefix: Prefix, id: BlockId, verdict: Verdict, age: Duration },
    /// A source went over its packet budget.
    BudgetExceeded { source: Source, verdict: Verdict, age: Duration },
}
pub struct Events(());
#[derive(Debug, thiserror::Error)]
#[error("")]
pub struct AttachError(());
#[derive(Debug, thiserror::Error)]
#[error("")]
pub struct OpenError(());
#[derive(Debug, thiserror::Error)]
#[error("")]
pub struct BlockError(());
#[derive(Debug, thiserror::Error)]
#[error("")]
pub struct MapError(());

pub fn object_sha256() -> Option<String> { todo!() }
impl AttachError { pub fn hint(&self) -> Option<String> { todo!() } }
impl OpenError { pub fn hint(&self) -> Option<String> { todo!() } }
impl BlockError { pub fn hint(&self) -> Option<String> { todo!() } }
impl MapError { pub fn hint(&self) -> Option<String> { todo!() } }
impl Kernel {
    pub fn attach(config: &Config, allow: &[Prefix]) -> Result<Self, AttachError> { todo!() }
    pub fn open_pinned(pins: &Path) -> Result<Self, OpenError> { todo!() }
    pub fn detach_pinned(pins: &Path) -> Result<usize, OpenError> { todo!() }
    pub fn block(&mut self, prefix: Prefix, entry: Entry) -> Result<Installed, BlockError> { todo!() }
    pub fn release(&mut self, prefix: Prefix) -> Result<Option<Installed>, BlockError> { todo!() }
    pub fn find(&self, prefix: Prefix) -> Result<Option<Installed>, MapError> { todo!() }
    pub fn blocks(&self) -> Result<Vec<Installed>, MapError> { todo!() }
    pub fn sweep(&mut self) -> Result<Swept, MapError> { todo!() }
    pub fn set_allow(&mut self, allow: &[Prefix]) -> Result<(), BlockError> { todo!() }
    pub fn set_mode(&mut self, mode: Mode) -> Result<(), MapError> { todo!() }
    pub fn set_budget(&mut self, budget: Option<Budget>) -> Result<(), MapError> { todo!() }
    pub fn mode(&self) -> Result<Mode, MapError> { todo!() }
    pub fn counters(&self) -> Result<Counters, MapError> { todo!() }
    pub fn interfaces(&self) -> Result<Vec<Interface>, MapError> { todo!() }
    pub fn reattach(&mut self) -> Result<Vec<Interface>, AttachError> { todo!() }
    pub fn take_events(&mut self) -> Result<Events, MapError> { todo!() }
    pub fn detach(self) -> Result<(), MapError> { todo!() }
}
impl Events { pub async fn next(&mut self) -> Option<Event> { todo!() } }
