//! Options that belong to one method alone. Each is declared once, and from this declaration it is
//! read from files, checked and documented.

use serde::{Deserialize, Serialize};

/// The value of an option, in the form that files write it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum OptionValue {
    /// The value `true` or `false`.
    Flag(bool),
    /// A number.
    Number(f64),
    /// The name of a choice.
    Text(String),
}

impl std::fmt::Display for OptionValue {
    /// Writes the value as files do, without quotes.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            OptionValue::Flag(flag) => write!(f, "{flag}"),
            OptionValue::Number(number) => write!(f, "{number}"),
            OptionValue::Text(text) => f.write_str(text),
        }
    }
}

/// The values that an option accepts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Accepted {
    /// The values `true` and `false`.
    Flag,
    /// Finite numbers above this number.
    Above(f64),
    /// Numbers from the first to the second, both included.
    Within(f64, f64),
    /// Numbers from the first, included, to the second, excluded.
    Below(f64, f64),
    /// One of these names.
    OneOf(&'static [&'static str]),
}

impl Accepted {
    /// Returns whether the option accepts this value.
    pub fn contains(&self, value: &OptionValue) -> bool {
        match (self, value) {
            (Accepted::Flag, OptionValue::Flag(_)) => true,
            (Accepted::Above(lowest), OptionValue::Number(number)) => {
                number.is_finite() && number > lowest
            }
            (Accepted::Within(lowest, highest), OptionValue::Number(number)) => {
                (lowest..=highest).contains(&number)
            }
            (Accepted::Below(lowest, highest), OptionValue::Number(number)) => {
                (lowest..highest).contains(&number)
            }
            (Accepted::OneOf(names), OptionValue::Text(text)) => names.contains(&text.as_str()),
            _ => false,
        }
    }
}

impl std::fmt::Display for Accepted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Accepted::Flag => f.write_str("true or false"),
            Accepted::Above(lowest) => write!(f, "a number above {lowest}"),
            Accepted::Within(lowest, highest) => write!(f, "a number from {lowest} to {highest}"),
            Accepted::Below(lowest, highest) => {
                write!(f, "a number from {lowest} to below {highest}")
            }
            Accepted::OneOf(names) => f.write_str(&names.join(", ")),
        }
    }
}

/// The description of an option.
#[derive(Debug, Clone, PartialEq)]
pub struct OptionInfo {
    /// The name in files.
    pub name: &'static str,
    /// The documentation, as one line.
    pub description: String,
    /// The value that is used where none is given.
    pub default: OptionValue,
    /// The values that the option accepts.
    pub accepted: Accepted,
    /// Whether only initial values depend on the option, and not what a quantizer computes from its
    /// parameters.
    pub only_initial: bool,
}

/// Options of a method, by name.
pub trait MethodOptions {
    /// Returns the descriptions of all options.
    fn list(&self) -> Vec<OptionInfo>;
    /// Returns the value of the option `name`, or `None` where there is no option of this name.
    fn get(&self, name: &str) -> Option<OptionValue>;
    /// Sets the option `name`. Returns whether there is an option of this name that takes a value
    /// of this kind.
    fn set(&mut self, name: &str, value: &OptionValue) -> bool;
}

/// The type of an option's field.
pub(crate) trait OptionField: Sized {
    fn to_value(&self) -> OptionValue;
    fn from_value(value: &OptionValue) -> Option<Self>;
}

impl OptionField for bool {
    fn to_value(&self) -> OptionValue {
        OptionValue::Flag(*self)
    }

    fn from_value(value: &OptionValue) -> Option<Self> {
        match value {
            OptionValue::Flag(flag) => Some(*flag),
            _ => None,
        }
    }
}

impl OptionField for f64 {
    fn to_value(&self) -> OptionValue {
        OptionValue::Number(*self)
    }

    fn from_value(value: &OptionValue) -> Option<Self> {
        match value {
            OptionValue::Number(number) => Some(*number),
            _ => None,
        }
    }
}

/// Declares the options of a method: fields with documentation, default and accepted values, and
/// the word `initial` where only initial values depend on the option.
macro_rules! method_options {
    (
        $(#[$doc:meta])*
        pub struct $options:ident {
            $(
                $(#[doc = $text:literal])*
                pub $field:ident: $type:ty = $default:expr, $accepted:ident $(($($bound:expr),*))?
                    $(, $initial:ident)?;
            )*
        }
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq)]
        pub struct $options {
            $($(#[doc = $text])* pub $field: $type,)*
        }

        impl $options {
            /// The options that are used where none are given.
            pub const DEFAULT: Self = Self { $($field: $default),* };
        }

        impl Default for $options {
            fn default() -> Self {
                Self::DEFAULT
            }
        }

        impl $crate::options::MethodOptions for $options {
            fn list(&self) -> Vec<$crate::options::OptionInfo> {
                let default = Self::DEFAULT;
                vec![$($crate::options::OptionInfo {
                    name: stringify!($field),
                    description: concat!($($text),*).trim().to_owned(),
                    default: $crate::options::OptionField::to_value(&default.$field),
                    accepted: $crate::options::Accepted::$accepted $(($($bound),*))?,
                    only_initial: method_options!(@only_initial $($initial)?),
                }),*]
            }

            fn get(&self, name: &str) -> Option<$crate::options::OptionValue> {
                match name {
                    $(stringify!($field) => {
                        Some($crate::options::OptionField::to_value(&self.$field))
                    })*
                    _ => None,
                }
            }

            fn set(&mut self, name: &str, value: &$crate::options::OptionValue) -> bool {
                match name {
                    $(stringify!($field) => {
                        match $crate::options::OptionField::from_value(value) {
                            Some(value) => {
                                self.$field = value;
                                true
                            }
                            None => false,
                        }
                    })*
                    _ => false,
                }
            }
        }
    };
    (@only_initial) => { false };
    (@only_initial initial) => { true };
}
pub(crate) use method_options;

/// Returns the names of fields of these types. A name that is no field does not compile.
macro_rules! field_names {
    ($($of:ty: $($field:ident),+);+) => {{
        $(const _: fn(&$of) = |options| {
            $(let _ = &options.$field;)+
        };)+
        &[$($(stringify!($field)),+),+]
    }};
}
pub(crate) use field_names;
