//! The ladder of places on one interface, and how the program gets from one to another.
//!
//! The first place that the interface has is taken. Under `auto` somebody else's XDP program is
//! left alone and traffic control is taken instead; a place that the policy names is taken or is an
//! error. A program that moves judges in its new place before it leaves the old one.

use std::error::Error;
use std::io;
use std::path::Path;

use aya::programs::ProgramError;

use crate::Attach;
use crate::bpf::Way;
use crate::error::AttachError;
use crate::interface::Hook;
use crate::links::{Ours, Places};
use crate::program::{EBUSY, EEXIST, ENODEV, EPERM, Loaded, NoLink, describe, errno};

/// Why one interface is not guarded.
pub(crate) enum Failure {
    /// It is not there any more.
    Gone,
    /// Somebody else's XDP program is there.
    Occupied,
    Named(Box<AttachError>),
}

impl From<AttachError> for Failure {
    fn from(error: AttachError) -> Self {
        Self::Named(Box::new(error))
    }
}

impl Attach {
    /// The places to try, in this order.
    pub(crate) const fn ladder(self) -> &'static [Hook] {
        match self {
            Self::Auto => &[Hook::Native, Hook::Generic, Hook::Tcx, Hook::Clsact],
            Self::Native => &[Hook::Native],
            Self::Generic => &[Hook::Generic],
            Self::Tcx => &[Hook::Tcx],
            Self::Clsact => &[Hook::Clsact],
        }
    }

    /// The same for packets that go out, which XDP never sees.
    const fn ladder_out(self) -> &'static [Hook] {
        match self {
            Self::Clsact => &[Hook::Clsact],
            Self::Auto | Self::Native | Self::Generic | Self::Tcx => &[Hook::Tcx, Hook::Clsact],
        }
    }
}

/// Replaces the program where it may stay, else puts it in the best place.
pub(crate) fn judge_incoming(places: &Places<'_>, loaded: &mut Loaded) -> Result<(), Failure> {
    let ours = places.ours(Way::In).map_err(AttachError::Interfaces)?;
    let ladder = loaded.attach.ladder();
    if let Some(stays) = ours.iter().find(|it| ladder.contains(&it.hook)) {
        let refused = |source| link_error(places, stays.hook, source);
        places.replace(stays, Way::In, loaded).map_err(refused)?;
        let others = ours.iter().filter(|it| it.hook != stays.hook);
        return Ok(remove_all(places, others, Way::In)?);
    }
    // Two XDP programs the kernel refuses, so one that moves between its two places is stood in
    // for meanwhile; everywhere else the new one comes first and the old one goes after it.
    let mut old = ours;
    if old.iter().any(|it| is_xdp(it.hook)) && ladder.iter().any(|hook| is_xdp(*hook)) {
        stand_in(places, loaded)?;
        let xdp: Vec<Ours> = old.extract_if(.., |it| is_xdp(it.hook)).collect();
        remove_all(places, xdp.iter(), Way::In)?;
        old = places.ours(Way::In).map_err(AttachError::Interfaces)?;
    }
    climb(places, loaded)?;
    Ok(remove_all(places, old.iter(), Way::In)?)
}

/// Takes the first place that the interface has.
fn climb(places: &Places<'_>, loaded: &mut Loaded) -> Result<(), Failure> {
    let (attach, interface) = (loaded.attach, &places.device.name);
    let mut refusal = None;
    let mut occupied = false;
    for &hook in attach.ladder() {
        if occupied && is_xdp(hook) {
            continue;
        }
        let source = match places.make(hook, Way::In, loaded) {
            Ok(()) => return Ok(()),
            Err(NoLink::Unpinned(source)) => {
                let path = places.pins.folder().to_owned();
                return Err(AttachError::Pins { path, source }.into());
            }
            Err(NoLink::Refused(source)) => source,
        };
        match errno(&source) {
            Some(ENODEV) => return Err(Failure::Gone),
            Some(EPERM) => return Err(link_error(places, hook, source).into()),
            Some(EBUSY | EEXIST) if is_xdp(hook) => {
                if attach != Attach::Auto {
                    return Err(Failure::Occupied);
                }
                let owner = places.device.program.map(|(_, id)| describe(id)).unwrap_or_default();
                tracing::warn!(interface, owner, "another XDP program is there and stays");
                occupied = true;
            }
            Some(_) | None => {
                let error: &dyn Error = &source;
                tracing::warn!(interface, %hook, error, "the interface refuses this place");
            }
        }
        refusal = Some((hook, source));
    }
    let (hook, source) = refusal.unwrap_or((Hook::Clsact, ProgramError::NotAttached));
    Err(link_error(places, hook, source).into())
}

/// Has traffic control judge for as long as XDP does not.
fn stand_in(places: &Places<'_>, loaded: &mut Loaded) -> Result<(), AttachError> {
    for hook in [Hook::Tcx, Hook::Clsact] {
        match places.make(hook, Way::In, loaded) {
            Ok(()) => return Ok(()),
            Err(refused) => {
                let interface = &places.device.name;
                tracing::warn!(interface, %hook, ?refused, "nothing stands in while XDP moves");
            }
        }
    }
    Ok(())
}

/// Makes what judges outgoing packets follow the policy.
pub(crate) fn judge_outgoing(
    places: &Places<'_>,
    loaded: &mut Loaded,
    wanted: bool,
) -> Result<(), AttachError> {
    let ours = places.ours(Way::Out).map_err(AttachError::Interfaces)?;
    if !wanted {
        return remove_all(places, ours.iter(), Way::Out);
    }
    let ladder = loaded.attach.ladder_out();
    if let Some(stays) = ours.iter().find(|it| ladder.contains(&it.hook)) {
        let refused = |source| link_error(places, stays.hook, source);
        places.replace(stays, Way::Out, loaded).map_err(refused)?;
        return remove_all(places, ours.iter().filter(|it| it.hook != stays.hook), Way::Out);
    }
    let mut refusal = None;
    for &hook in ladder {
        match places.make(hook, Way::Out, loaded) {
            Ok(()) => return remove_all(places, ours.iter(), Way::Out),
            Err(NoLink::Unpinned(source)) => {
                let path = places.pins.folder().to_owned();
                return Err(AttachError::Pins { path, source });
            }
            Err(NoLink::Refused(source)) => refusal = Some((hook, source)),
        }
    }
    let (hook, source) = refusal.unwrap_or((Hook::Clsact, ProgramError::NotAttached));
    Err(link_error(places, hook, source))
}

fn remove_all<'o>(
    places: &Places<'_>,
    mut ours: impl Iterator<Item = &'o Ours>,
    way: Way,
) -> Result<(), AttachError> {
    ours.try_for_each(|it| places.remove(it, way)).map_err(unusable(places.pins.folder()))
}

/// The error of a program that a place refuses.
pub(crate) fn link_error(places: &Places<'_>, hook: Hook, source: ProgramError) -> AttachError {
    let (interface, source) = (places.device.name.clone(), Box::new(source));
    match hook {
        Hook::Native => AttachError::Native { interface, source },
        Hook::Generic | Hook::Tcx | Hook::Clsact => AttachError::Link { interface, hook, source },
    }
}

const fn is_xdp(hook: Hook) -> bool {
    matches!(hook, Hook::Native | Hook::Generic)
}

fn unusable(path: &Path) -> impl FnOnce(io::Error) -> AttachError + use<> {
    let path = path.to_owned();
    move |source| AttachError::Pins { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_auto_has_more_than_the_place_that_the_policy_names() {
        for (attach, hook) in [
            (Attach::Native, Hook::Native),
            (Attach::Generic, Hook::Generic),
            (Attach::Tcx, Hook::Tcx),
            (Attach::Clsact, Hook::Clsact),
        ] {
            assert_eq!(attach.ladder(), [hook]);
            assert!(Attach::Auto.ladder().contains(&hook));
        }
        assert_eq!(Attach::Auto.ladder().len(), 4);
    }

    #[test]
    fn outgoing_packets_are_judged_where_the_policy_lets_us_be() {
        assert_eq!(Attach::Clsact.ladder_out(), [Hook::Clsact]);
        assert_eq!(Attach::Native.ladder_out(), [Hook::Tcx, Hook::Clsact]);
    }
}
