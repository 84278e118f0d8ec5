//! Who may what in a group. The one place where roles are compared; `docs/roles.md` shows the same table to people.
//!
//! | | owner | admin | member |
//! |---|---|---|---|
//! | send, reply, edit and delete one's own, leave | yes | yes | yes |
//! | delete others' messages | yes | yes | no |
//! | add people | yes | yes | no |
//! | remove members | yes | yes | no |
//! | remove admins and owners, change roles | yes | no | no |
//! | rename, change settings | yes | yes | no |
//!
//! In a 1:1 chat both are members, nobody is added or removed, and each deletes only their own.

/// A member's role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    Member,
    Admin,
    Owner,
}

impl Role {
    pub(crate) fn parse(name: &str) -> Option<Self> {
        match name {
            "member" => Some(Self::Member),
            "admin" => Some(Self::Admin),
            "owner" => Some(Self::Owner),
            _ => None,
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Admin => "admin",
            Self::Owner => "owner",
        }
    }

    pub(crate) fn may_delete_others_messages(self) -> bool {
        self >= Self::Admin
    }

    pub(crate) fn may_change_chat(self) -> bool {
        self >= Self::Admin
    }

    /// Nobody gives a role above their own.
    pub(crate) fn may_add(self, as_role: Self) -> bool {
        self >= Self::Admin && as_role <= self
    }

    pub(crate) fn may_remove(self, other: Self) -> bool {
        self == Self::Owner || (self == Self::Admin && other == Self::Member)
    }

    pub(crate) fn may_change_roles(self) -> bool {
        self == Self::Owner
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROLES: [Role; 3] = [Role::Owner, Role::Admin, Role::Member];

    type Rules = &'static [fn(Role) -> bool];

    /// Rows of a table: what may be done, and whether owners, admins and members may.
    fn table(text: &'static str, before: &str) -> Vec<(&'static str, Vec<bool>)> {
        let lines = text.lines().filter_map(|line| line.strip_prefix(before)).filter(|line| line.starts_with("| "));
        let rows = lines.skip(1).map(|line| {
            let mut cells = line.trim_matches('|').split('|').map(str::trim);
            (cells.next().unwrap_or_default(), cells.map(|cell| cell == "yes").collect())
        });
        rows.collect()
    }

    #[test]
    fn the_tables_say_what_is_compared_here() {
        let rules: [(&str, Rules); 6] = [
            ("send, reply, edit and delete one's own, leave", &[]),
            ("delete others' messages", &[Role::may_delete_others_messages]),
            ("add people", &[|role| role.may_add(Role::Member)]),
            ("remove members", &[|role| role.may_remove(Role::Member)]),
            (
                "remove admins and owners, change roles",
                &[|role| role.may_remove(Role::Admin), |role| role.may_remove(Role::Owner), Role::may_change_roles],
            ),
            ("rename, change settings", &[Role::may_change_chat]),
        ];
        let page = table(include_str!("../../../docs/roles.md"), "");
        assert_eq!(page, table(include_str!("roles.rs"), "//! "), "docs/roles.md, and this file's head");
        assert_eq!(page.len(), rules.len());
        for ((what, allowed), (row, rules)) in page.iter().zip(rules) {
            assert_eq!(*what, row);
            for rule in rules {
                assert_eq!(ROLES.map(rule).as_slice(), allowed.as_slice(), "{what}");
            }
        }
        assert_eq!(page[0].1, [true; 3], "whoever is in it");
    }

    #[test]
    fn nobody_gives_a_role_above_their_own() {
        let given = ROLES.map(|role| ROLES.map(|as_role| role.may_add(as_role)));
        assert_eq!(given, [[true, true, true], [false, true, true], [false, false, false]]);
    }
}
