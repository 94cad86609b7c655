//! One macro for enums that go into the store and into labels: each variant has a name and a stable number.
//!
//! The bridge defines its own with it. Numbers are written to databases: a variant may be added, its number never changes or is used again.

/// Defines a field-less enum with `ALL`, `as_str`, `parse`, `code` and `from_code`.
#[macro_export]
macro_rules! stored_enum {
    (
        $(#[$meta:meta])*
        pub enum $name:ident {
            $($(#[$doc:meta])* $variant:ident = $code:literal, $text:literal;)+
        }
    ) => {
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
        )]
        $(#[$meta])*
        pub enum $name {
            $($(#[$doc])* $variant,)+
        }

        impl $name {
            /// Every variant, in the order of definition.
            pub const ALL: [$name; [$($code),+].len()] = [$($name::$variant),+];

            /// The name used in labels, records and the API.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $($name::$variant => $text,)+
                }
            }

            /// The variant of that name.
            #[must_use]
            pub fn parse(text: &str) -> Option<$name> {
                match text {
                    $($text => Some($name::$variant),)+
                    _ => None,
                }
            }

            /// The stable number used in the store.
            #[must_use]
            pub const fn code(self) -> u8 {
                match self {
                    $($name::$variant => $code,)+
                }
            }

            /// The variant with that number.
            #[must_use]
            pub const fn from_code(code: u8) -> Option<$name> {
                match code {
                    $($code => Some($name::$variant),)+
                    _ => None,
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

pub(crate) use stored_enum;

#[cfg(test)]
mod tests {
    use crate::{Api, ThoughtSource, ToolKind, UsageSource};

    #[test]
    fn names_and_codes_round_trip() {
        macro_rules! check {
            ($($name:ident)+) => {$(
                for value in $name::ALL {
                    assert_eq!($name::parse(value.as_str()), Some(value), "{value}");
                    assert_eq!($name::from_code(value.code()), Some(value), "{value}");
                }
                assert_eq!($name::parse("no such name"), None);
                assert_eq!($name::from_code(255), None);
            )+};
        }
        check!(Api ThoughtSource ToolKind UsageSource);
    }

    #[test]
    fn stored_numbers_never_change() {
        assert_eq!(Api::ALL.map(Api::code), [1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(UsageSource::ALL.map(UsageSource::code), [0, 1, 2, 3]);
        assert_eq!(ToolKind::ALL.map(ToolKind::code), [1, 2, 3, 4]);
        assert_eq!(ThoughtSource::ALL.map(ThoughtSource::code), [1, 2, 3]);
    }
}
