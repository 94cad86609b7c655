//! Whom a rule is about: users, groups and providers by pattern; and what shares one of its counters.

use std::sync::Arc;

use providers::Glob;
use serde::Deserialize;

/// Who asks for what, as far as rules can tell.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The user's name.
    pub user: &'a Arc<str>,
    /// The groups that the user's proof of identity names.
    pub groups: &'a [Arc<str>],
    /// The groups that the configuration puts the user in.
    pub listed: &'a [Arc<str>],
    /// The instance's name.
    pub provider: &'a Arc<str>,
}

impl<'a> Subject<'a> {
    /// Every group of the user, each once.
    pub fn groups(self) -> impl Iterator<Item = &'a Arc<str>> {
        let more = self.listed.iter().filter(|group| !self.groups.contains(group));
        self.groups.iter().chain(more)
    }
}

/// Whom a rule is about. What is left empty covers everyone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Scope {
    /// Names of users.
    pub users: Vec<Glob>,
    /// Names of groups.
    pub groups: Vec<Glob>,
    /// Names of instances.
    pub providers: Vec<Glob>,
}

impl Scope {
    /// Whether the rule is about `subject`: each of the three that is given must match.
    pub fn covers(&self, subject: Subject<'_>) -> bool {
        let named = |globs: &[Glob], name: &str| globs.is_empty() || globs.iter().any(|g| g.matches(name));
        named(&self.users, subject.user)
            && named(&self.providers, subject.provider)
            && (self.groups.is_empty() || subject.groups().any(|group| self.names_group(group)))
    }

    /// Whether `group` is one that the rule counts for.
    pub fn names_group(&self, group: &str) -> bool {
        self.groups.is_empty() || self.groups.iter().any(|glob| glob.matches(group))
    }
}

/// What shares one counter of a limit or budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Per {
    /// Everything that the rule covers, together.
    #[default]
    All,
    /// Each provider instance.
    Provider,
    /// Each group of a user.
    Group,
    /// Each user.
    User,
}

impl Per {
    /// The word for it in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Per::All => "all",
            Per::Provider => "provider",
            Per::Group => "group",
            Per::User => "user",
        }
    }

    /// For sentences: "at most 10 … for each user".
    pub const fn describe(self) -> &'static str {
        match self {
            Per::All => "in all",
            Per::Provider => "for each provider",
            Per::Group => "for each group",
            Per::User => "for each user",
        }
    }

    /// Whether the sender's own behaviour uses the counter up, rather than everyone's.
    pub const fn is_personal(self) -> bool {
        matches!(self, Per::User | Per::Group)
    }

    /// Calls `visit` with the name of every counter that `subject` uses under a rule of `scope`.
    ///
    /// # Errors
    /// The first error of `visit`.
    pub fn each<E>(
        self,
        scope: &Scope,
        subject: Subject<'_>,
        all: &Arc<str>,
        mut visit: impl FnMut(&Arc<str>) -> Result<(), E>,
    ) -> Result<(), E> {
        match self {
            Per::All => visit(all),
            Per::Provider => visit(subject.provider),
            Per::User => visit(subject.user),
            Per::Group => subject
                .groups()
                .filter(|group| scope.names_group(group))
                .try_for_each(visit),
        }
    }
}
