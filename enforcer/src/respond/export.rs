//! The networks that are blocked, each once and in order, by the page.

use enforcer_admin::call::{Exported, ListName, NETWORKS_PAGE};
use enforcer_admin::{Refusal, RefusalKind};
use enforcer_model::Prefix;

use super::{Claims, Responder, count};

impl Responder {
    /// The networks of one list, or of everything, behind `after`.
    pub(super) fn export(
        &self,
        list: Option<&ListName>,
        after: Option<Prefix>,
    ) -> Result<Exported, Refusal> {
        let claims = self.claims(self.parts.clock.now().wall);
        match list {
            None => Ok(page(all_behind(claims, after, NETWORKS_PAGE), claims.count())),
            Some(name) => {
                let found = claims.lists.get(name.as_str());
                let list = found.filter(|list| list.is_in_force(claims.now)).ok_or_else(|| {
                    Refusal::new(RefusalKind::NotFound, format!("there is no list `{name}`"))
                        .hint("`enforcer blocks` names every list")
                })?;
                let networks = list.networks.behind(after).take(NETWORKS_PAGE);
                Ok(page(networks.collect(), list.networks.len()))
            }
        }
    }
}

fn page(networks: Vec<Prefix>, total: usize) -> Exported {
    let next = networks.last().filter(|_| networks.len() == NETWORKS_PAGE).copied();
    Exported { networks: networks.into(), total: count(total), next }
}

/// The first `most` networks behind `after` of single decisions and lists together.
fn all_behind(claims: Claims<'_>, after: Option<Prefix>, most: usize) -> Vec<Prefix> {
    let singles = claims.singles.networks_after(after, claims.now).map(|(prefix, _)| prefix);
    let mut found: Vec<_> = singles.take(most).collect();
    for list in claims.lists.in_force(claims.now) {
        found.extend(list.networks.behind(after).take(most));
    }
    found.sort_unstable();
    found.dedup();
    found.truncate(most);
    found
}

#[cfg(test)]
mod tests {
    use enforcer_model::Expiry;

    use super::*;
    use crate::respond::lists::Lists;
    use crate::respond::singles::Singles;
    use crate::respond::testing::{at, block, list};

    #[test]
    fn pages_of_any_size_come_to_every_network_once_and_in_order() {
        let mut singles = Singles::default();
        singles.put(block(1, "192.0.2.1", Expiry::Never));
        singles.put(block(2, "2001:db8::/48", Expiry::Never));
        singles.put(block(3, "198.51.100.7", Expiry::At(at(5))));
        let mut lists = Lists::default();
        lists.put(list("a", 10, &["192.0.2.1", "10.0.0.0/24", "2001:db8::1"]));
        lists.put(list("b", 11, &["203.0.113.0/24", "10.0.0.0/24"]));
        let claims = Claims { singles: &singles, lists: &lists, now: at(9) };

        for most in 1..=7 {
            let (mut seen, mut after) = (Vec::new(), None);
            loop {
                let page = all_behind(claims, after, most);
                let Some(last) = page.last() else { break };
                after = Some(*last);
                seen.extend(page.iter().map(ToString::to_string));
            }
            assert_eq!(
                seen,
                ["10.0.0.0/24", "192.0.2.1", "203.0.113.0/24", "2001:db8::/48", "2001:db8::1"],
                "{most}"
            );
            assert_eq!(seen.len(), claims.count());
        }
    }
}
