//! Names of users and groups, from the host's own files; numbers where there is no name.

use enforcer_model::Author;

const GROUP: &str = "enforcer";

/// The operator with user id `uid`, for the record.
pub(crate) fn operator(uid: u32) -> Author {
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = name_of(&users, uid).map_or_else(|| uid.to_string(), str::to_owned);
    Author::Operator { uid, name }
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
    fn users_and_groups_are_found_by_their_columns() {
        let users = "root:x:0:0:root:/root:/bin/bash\nana:x:1000:1000::/home/ana:/bin/sh\n";
        let groups = "root:x:0:\nenforcer:x:991:ana\n";

        assert_eq!(name_of(users, 1000), Some("ana"));
        assert_eq!(name_of(users, 7), None);
        assert_eq!(id_of(groups, "enforcer"), Some(991));
        assert_eq!(id_of(groups, "nobody"), None);
    }
}
