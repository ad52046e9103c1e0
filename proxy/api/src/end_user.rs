//! The members by which a body names its end user, for the abuse monitoring of providers: where they stand, and
//! how the gateway writes a name of its own there.

use std::ops::Range;

#[cfg(test)]
mod tests;

/// A member that names the end user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserMember {
    /// `user`.
    User,
    /// `safety_identifier`, which replaces it in the undated API.
    SafetyIdentifier,
    /// Anthropic's `metadata.user_id`.
    Metadata,
}

/// Some of these members.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UserMembers(u8);

/// The end user to name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndUser<'a> {
    /// Its name: letters, digits and dashes.
    pub id: &'a str,
    /// The members to write where the body lacks them; what it has is replaced in any case.
    pub added: UserMembers,
}

/// Where a body names its end user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Users {
    /// The value of `user`.
    pub user: Option<Range<usize>>,
    /// The value of `safety_identifier`.
    pub safety_identifier: Option<Range<usize>>,
    /// Anthropic's `metadata`.
    pub metadata: Metadata,
}

/// `metadata` as the client sent it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Metadata {
    /// The member is missing.
    #[default]
    Absent,
    /// `null`, or what else is no object, at this range.
    NoObject(Range<usize>),
    /// An object without `user_id`.
    WithoutUser {
        /// Just after its brace.
        start: usize,
        /// The object has no members.
        empty: bool,
    },
    /// The value of its `user_id`.
    User(Range<usize>),
}

// === impl UserMember ===

impl UserMember {
    /// Every member, in the order in which they are declared.
    pub const ALL: [Self; 3] = [Self::User, Self::SafetyIdentifier, Self::Metadata];

    /// The top-level name in a body.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::SafetyIdentifier => "safety_identifier",
            Self::Metadata => "metadata",
        }
    }

    const fn bit(self) -> u8 {
        match self {
            Self::User => 1,
            Self::SafetyIdentifier => 2,
            Self::Metadata => 4,
        }
    }
}

// === impl UserMembers ===

impl UserMembers {
    /// Whether this one is among them.
    #[must_use]
    pub const fn has(self, member: UserMember) -> bool {
        self.0 & member.bit() != 0
    }

    /// The same with this one.
    #[must_use]
    pub const fn with(self, member: UserMember) -> Self {
        Self(self.0 | member.bit())
    }
}

impl FromIterator<UserMember> for UserMembers {
    fn from_iter<I: IntoIterator<Item = UserMember>>(members: I) -> Self {
        members.into_iter().fold(Self::default(), Self::with)
    }
}

// === impl Users ===

impl Users {
    /// Whether the body lacks this member.
    #[must_use]
    pub const fn lacks(&self, member: UserMember) -> bool {
        match member {
            UserMember::User => self.user.is_none(),
            UserMember::SafetyIdentifier => self.safety_identifier.is_none(),
            UserMember::Metadata => !matches!(self.metadata, Metadata::User(_)),
        }
    }

    /// The edits that name this end user; members to put in at the front come into `inserted`.
    pub(crate) fn edits(
        &self,
        end_user: EndUser<'_>,
        edits: &mut Vec<(Range<usize>, String)>,
        inserted: &mut Vec<String>,
    ) {
        let EndUser { id, added } = end_user;
        for (member, at) in [
            (UserMember::User, &self.user),
            (UserMember::SafetyIdentifier, &self.safety_identifier),
        ] {
            match at {
                Some(range) => edits.push((range.clone(), format!("\"{id}\""))),
                None if added.has(member) => {
                    inserted.push(format!("\"{}\":\"{id}\"", member.as_str()));
                }
                None => {}
            }
        }
        let adds = added.has(UserMember::Metadata);
        let named = format!("\"user_id\":\"{id}\"");
        match &self.metadata {
            Metadata::User(range) => edits.push((range.clone(), format!("\"{id}\""))),
            Metadata::WithoutUser { start, empty } if adds => {
                let comma = if *empty { "" } else { "," };
                edits.push((*start..*start, format!("{named}{comma}")));
            }
            Metadata::NoObject(range) if adds => {
                edits.push((range.clone(), format!("{{{named}}}")))
            }
            Metadata::Absent if adds => inserted.push(format!("\"metadata\":{{{named}}}")),
            Metadata::WithoutUser { .. } | Metadata::NoObject(_) | Metadata::Absent => {}
        }
    }
}
