//! One guarded interface: where packets are judged there, and why not in a better place.

use std::fs;
use std::path::Path;

use enforcer_admin::call::HookStatus;
use enforcer_kernel::Attach;

use super::netlink::{self, Xdp};
use super::{Finding, bad, good, note};

/// What is known of an interface.
#[derive(Clone, Debug, Default)]
struct Nic {
    name: String,
    mtu: u32,
    state: String,
    driver: Option<String>,
    /// What its driver can do with XDP; none: the kernel does not say.
    features: Option<u64>,
    /// The XDP program that it runs.
    xdp: Option<Xdp>,
}

/// `NETDEV_XDP_ACT_BASIC` and `NETDEV_XDP_ACT_RX_SG` of linux/netdev.h.
const BASIC: u64 = 1;
const RX_SG: u64 = 1 << 5;

/// What fits into one page beside the headroom of XDP: longer frames come in pieces.
const ONE_PAGE: u32 = 3_498;

pub(super) fn look(name: &str, attach: Attach, ours: Option<&HookStatus>) -> Vec<Finding> {
    let folder = Path::new("/sys/class/net").join(name);
    let Ok(mtu) = fs::read_to_string(folder.join("mtu")) else {
        return vec![bad(
            format!("there is no interface `{name}`"),
            format!("name one of: {}", interfaces().join(", ")),
        )];
    };
    let driver = fs::read_link(folder.join("device/driver")).ok();
    let nic = Nic {
        name: name.to_owned(),
        mtu: mtu.trim().parse().unwrap_or(0),
        state: fs::read_to_string(folder.join("operstate")).unwrap_or_default().trim().to_owned(),
        driver: driver.and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned())),
        features: netlink::xdp_features(name).ok().flatten(),
        xdp: netlink::xdp_program(name).ok().flatten(),
    };
    judge(&nic, attach, ours)
}

fn interfaces() -> Vec<String> {
    let entries = fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn judge(nic: &Nic, attach: Attach, ours: Option<&HookStatus>) -> Vec<Finding> {
    let Nic { name, mtu, state, .. } = nic;
    let mut findings = vec![good(format!("interface {name}: mtu {mtu}, {state}"))];
    findings.push(match ours {
        Some(hook) => seat(nic, attach, &hook.ingress),
        None => prospect(nic, attach),
    });
    let foreign = ours.into_iter().flat_map(|hook| &hook.foreign);
    findings.extend(foreign.map(|program| {
        note(
            format!("interface {name} also runs {program}"),
            Some("it may drop or change packets before or behind enforcer: see whose it is"),
        )
    }));
    findings
}

/// Where our program sits.
fn seat(nic: &Nic, attach: Attach, ingress: &str) -> Finding {
    let name = &nic.name;
    let wanted = match attach {
        Attach::Auto | Attach::Native => "xdp-native",
        Attach::Generic => "xdp-generic",
        Attach::Tcx => "tcx",
        Attach::Clsact => "clsact",
    };
    if ingress == "xdp-native" || ingress == wanted {
        return good(format!("interface {name}: packets are judged at {ingress}"));
    }
    if !["xdp-generic", "tcx", "clsact"].contains(&ingress) {
        return bad(
            format!("interface {name}: packets are judged {ingress}"),
            "enforcer kernel attach",
        );
    }
    match obstacle(nic) {
        Some((why, fix)) => note(
            format!("interface {name}: packets are judged at {ingress}, not in the driver: {why}"),
            Some(&fix),
        ),
        None => note(
            format!("interface {name}: packets are judged at {ingress}, not in the driver"),
            Some(&format!(
                "`enforcer kernel attach` tries again; some drivers want `ethtool -K {name} lro off`"
            )),
        ),
    }
}

/// Where it would sit.
fn prospect(nic: &Nic, attach: Attach) -> Finding {
    let name = &nic.name;
    match (attach, obstacle(nic)) {
        (Attach::Native, Some((why, fix))) => {
            bad(format!("interface {name} cannot be judged in the driver: {why}"), fix)
        }
        (Attach::Auto, Some((why, fix))) => {
            note(format!("interface {name} would be judged behind its driver: {why}"), Some(&fix))
        }
        (Attach::Auto | Attach::Native, None) if nic.features.is_some() => {
            good(format!("interface {name}: its driver can judge packets (xdp-native)"))
        }
        (_, _) => good(format!("interface {name}: nothing is attached yet")),
    }
}

/// Why not in the driver, and what to do.
fn obstacle(nic: &Nic) -> Option<(String, String)> {
    let name = &nic.name;
    if let Some(Xdp { program, native: true }) = nic.xdp {
        return Some((
            format!("XDP program {program} sits there"),
            format!(
                "unless it is enforcer's own: `ip link set dev {name} xdp off` if nobody needs it, or \
                 attach = \"tcx\" under [kernel]"
            ),
        ));
    }
    let features = nic.features?;
    let driver = nic.driver.as_deref().unwrap_or("without a name");
    if features & BASIC == 0 {
        return Some((
            format!("its driver ({driver}) has no XDP"),
            "nothing is weaker, only each packet costs more; another driver or card has XDP".into(),
        ));
    }
    if nic.mtu > ONE_PAGE && features & RX_SG == 0 {
        return Some((
            format!(
                "its driver ({driver}) takes no frames of more than a page, mtu is {}",
                nic.mtu
            ),
            format!("`ip link set dev {name} mtu {ONE_PAGE}`, then `enforcer kernel attach`"),
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::Grade;
    use super::*;

    #[test]
    fn a_place_behind_the_driver_is_told_with_its_cause_and_its_fix() {
        let without = Nic { features: Some(0), driver: Some("e1000".into()), ..nic() };
        let jumbo = Nic { mtu: 9_000, ..nic() };

        let slow = seat(&without, Attach::Auto, "xdp-generic");
        assert_eq!(slow.grade, Grade::Note);
        assert!(slow.what.ends_with("not in the driver: its driver (e1000) has no XDP"));
        let long = seat(&jumbo, Attach::Auto, "tcx");
        assert!(long.what.contains("mtu is 9000"), "{}", long.what);
        assert!(long.fix.unwrap().contains("mtu 3498"));
        let odd = seat(&nic(), Attach::Auto, "clsact");
        assert!(odd.fix.unwrap().contains("lro off"));
        assert_eq!(seat(&jumbo, Attach::Tcx, "tcx").grade, Grade::Good, "as the policy wants it");
        assert_eq!(seat(&nic(), Attach::Auto, "xdp-native").grade, Grade::Good);
    }

    #[test]
    fn an_interface_that_lost_its_program_is_bad() {
        let lost = seat(&nic(), Attach::Auto, "NOWHERE: somebody detached it");

        assert_eq!(lost.grade, Grade::Bad);
        assert_eq!(lost.fix.unwrap(), "enforcer kernel attach");
    }

    #[test]
    fn before_anything_is_attached_what_stands_in_the_way_is_told() {
        let taken = Nic { xdp: Some(Xdp { program: 17, native: true }), ..nic() };

        let refused = prospect(&taken, Attach::Native);
        assert_eq!(refused.grade, Grade::Bad);
        assert!(refused.what.contains("XDP program 17 sits there"), "{}", refused.what);
        assert_eq!(prospect(&taken, Attach::Auto).grade, Grade::Note);
        assert_eq!(prospect(&taken, Attach::Tcx).grade, Grade::Good);
        assert_eq!(prospect(&nic(), Attach::Native).grade, Grade::Good);
    }

    #[test]
    fn programs_of_others_are_named() {
        let hook = HookStatus {
            interface: "eth1".to_owned(),
            ingress: "xdp-native".to_owned(),
            egress: None,
            mtu: 1_500,
            foreign: vec!["tcx 17 (cilium)".to_owned()],
        };

        let findings = judge(&nic(), Attach::Auto, Some(&hook));

        assert_eq!(findings.last().unwrap().what, "interface eth1 also runs tcx 17 (cilium)");
    }

    #[test]
    fn the_loopback_interface_is_read_from_the_kernel() {
        let findings = look("lo", Attach::Auto, None);

        assert!(findings[0].what.starts_with("interface lo: mtu "), "{findings:?}");
        let nowhere = look("enf-nowhere", Attach::Auto, None);
        assert!(nowhere[0].fix.as_ref().unwrap().contains("lo"), "{nowhere:?}");
    }

    fn nic() -> Nic {
        Nic {
            name: "eth1".to_owned(),
            mtu: 1_500,
            state: "up".to_owned(),
            driver: Some("mlx5_core".to_owned()),
            features: Some(BASIC),
            xdp: None,
        }
    }
}
