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
