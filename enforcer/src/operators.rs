//! Names of users and groups, from the host's own files; numbers where there is no name.

use std::net::IpAddr;

use enforcer_model::Author;

const GROUP: &str = "enforcer";

/// The operator with user id `uid`, for the record.
pub(crate) fn operator(uid: u32) -> Author {
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = name_of(&users, uid).map_or_else(|| uid.to_string(), str::to_owned);
    Author::Operator { uid, name }
}

/// The far end of the SSH session that process `pid` runs in, found in the environment of its
/// ancestors: `sudo` does not pass it on.
pub(crate) fn ssh_peer(pid: i32) -> Option<IpAddr> {
    const GENERATIONS: usize = 16;
    let parent = |pid: &i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        parent_of(&stat).filter(|parent| *parent > 1)
    };
    std::iter::successors(Some(pid), parent).take(GENERATIONS).find_map(|pid| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
        peer_of(&environment)
    })
}

/// The fourth field of `/proc/PID/stat`; the second, a name, may hold anything.
fn parent_of(stat: &str) -> Option<i32> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

fn peer_of(environment: &[u8]) -> Option<IpAddr> {
    let mut variables = environment.split(|byte| *byte == 0);
    let value = variables.find_map(|variable| variable.strip_prefix(b"SSH_CONNECTION="))?;
    std::str::from_utf8(value).ok()?.split_whitespace().next()?.parse().ok()
}

/// The group that may use the admin socket, when the host has it.
pub(crate) fn admin_group() -> Option<u32> {
    let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
    id_of(&groups, GROUP)
}

fn name_of(users: &str, uid: u32) -> Option<&str> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    })
}

fn id_of(groups: &str, name: &str) -> Option<u32> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name).then(|| fields.nth(1)?.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ssh_session_is_found_in_an_environment_and_parents_by_odd_names() {
        let environment = b"TERM=xterm\0SSH_CONNECTION=203.0.113.9 50022 10.0.0.2 22\0HOME=/\0";

        assert_eq!(peer_of(environment), Some("203.0.113.9".parse().unwrap()));
        assert_eq!(peer_of(b"TERM=xterm\0"), None);
        assert_eq!(parent_of("812 (od) d (na me) S 77 812 812 0"), Some(77));
    }

    #[test]
    fn users_and_groups_are_found_by_their_columns() {
        let users = "root:x:0:0:root:/root:/bin/bash\nana:x:1000:1000::/home/ana:/bin/sh\n";
        let groups = "root:x:0:\nenforcer:x:991:ana\n";

        assert_eq!(name_of(users, 1000), Some("ana"));
        assert_eq!(name_of(users, 7), None);
        assert_eq!(id_of(groups, "enforcer"), Some(991));
        assert_eq!(id_of(groups, "nobody"), None);
    }
}
