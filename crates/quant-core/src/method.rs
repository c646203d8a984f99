//! The methods by name, each with the options that no other method has, and the roles that a
//! quantizer can have.
//!
//! The formula of a method, and what else is known of it, are in its file in [`crate::methods`].

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::{self, Display, Formatter},
    sync::{Mutex, PoisonError},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use crate::{
    options::{MethodOptions, OptionField, OptionInfo, OptionValue, method_options},
    text::name,
};

/// The tensor of a layer that is quantized.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// The input of a layer.
    Activation,
    /// The weight of a layer.
    Weight,
    /// The output of a layer.
    Output,
}

impl Role {
    /// All roles, in the order of their declaration.
    pub const ALL: [Role; 3] = [Role::Activation, Role::Weight, Role::Output];
}

impl Display for Role {
    /// Writes the role as recipes do.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&name(self))
    }
}

/// The factor that the signs of an XNOR activation are multiplied by: a mean of |x| within each
/// image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SignScale {
    /// No factor.
    #[default]
    None,
    /// The mean of |x| over the channels, one for each position.
    OverChannels,
    /// The mean of |x| over the positions, one for each channel.
    OverResolution,
}

impl OptionField for SignScale {
    fn to_value(&self) -> OptionValue {
        OptionValue::Text(name(self))
    }

    fn from_value(value: &OptionValue) -> Option<Self> {
        let all = [SignScale::None, SignScale::OverChannels, SignScale::OverResolution];
        all.into_iter().find(|scale| scale.to_value() == *value)
    }
}

method_options! {
    /// Options of XNOR.
    pub struct XnorOptions {
        /// What XNOR activations are multiplied by. By default it is nothing.
        pub sign_scale: SignScale = SignScale::None,
            OneOf(&["none", "over-channels", "over-resolution"]);
        /// Whether XNOR activations learn where their sign changes, one value per group (ReActNet's
        /// RSign). By default it changes at 0.
        pub shift: bool = false, Flag;
    }
}

method_options! {
    /// Options of FATNN.
    pub struct FatnnOptions {
        /// The initial slope of FATNN's pieces for weights. For activations it is this number
        /// divided by the boundary. By default it is 0.5.
        pub initial_slope: f64 = 0.5, Above(0.0), initial;
        /// Whether FATNN's values are multiplied by a least squares factor. By default they are
        /// not.
        pub closed_form: bool = false, Flag;
    }
}

method_options! {
    /// Options of LQ-Nets.
    pub struct LqNetsOptions {
        /// Where LQ-Nets' thresholds lie between two levels: 0 at the upper, 1 at the lower. By
        /// default they lie in the middle, at 0.5.
        pub threshold_position: f64 = 0.5, Within(0.0, 1.0);
        /// Whether LQ-Nets' basis is the running mean of all solutions, instead of a moving
        /// average. By default it is not.
        pub running_mean_basis: bool = false, Flag;
    }
}

method_options! {
    /// Options of TTQ.
    pub struct TtqOptions {
        /// TTQ's thresholds in units of a group's largest magnitude. By default they are 0.05.
        pub ternary_threshold: f64 = 0.05, Below(0.0, 1.0);
    }
}

/// Declares all methods: one line for each, with its name in files, and its options where it has
/// any of its own. [`crate::methods`] has a second line for each method.
macro_rules! methods {
    ($($(#[$doc:meta])* $variant:ident $(($options:ident))? = $name:literal,)*) => {
        /// The formula, with the options that belong to it.
        ///
        /// ```
        /// use quant_core::{FatnnOptions, Method};
        ///
        /// let method = Method::Fatnn(FatnnOptions { closed_form: true, ..Default::default() });
        /// assert_eq!(method.name(), "fatnn");
        /// assert_eq!(Method::named("lsq"), Some(Method::Lsq));
        /// ```
        #[derive(Debug, Clone, Copy, PartialEq)]
        pub enum Method {
            $($(#[$doc])* $variant $(($options))?,)*
            /// A method that a program outside this crate added with
            /// [`register`](crate::methods::register).
            Own(OwnName),
        }

        impl Method {
            /// All methods of this crate, with their default options.
            pub const ALL: &'static [Method] = &[$(Method::$variant $(($options::DEFAULT))?),*];

            /// Returns the name of the method in files, such as `lq-nets`.
            pub fn name(&self) -> &'static str {
                match self {
                    $(methods!(@any $variant $($options)?) => $name,)*
                    Method::Own(own) => own.0,
                }
            }

            /// Returns the options that no other method has.
            pub fn own_options(&self) -> &dyn MethodOptions {
                match self {
                    $(methods!(@bind options $variant $($options)?) =>
                        methods!(@options options $($options)?),)*
                    Method::Own(_) => &NoOptions,
                }
            }

            fn own_options_mut(&mut self) -> Option<&mut dyn MethodOptions> {
                match self {
                    $(methods!(@bind options $variant $($options)?) =>
                        methods!(@options_mut options $($options)?),)*
                    Method::Own(_) => None,
                }
            }
        }
    };
    (@any $variant:ident) => { Method::$variant };
    (@any $variant:ident $options:ident) => { Method::$variant(_) };
    (@bind $name:ident $variant:ident) => { Method::$variant };
    (@bind $name:ident $variant:ident $options:ident) => { Method::$variant($name) };
    (@options $name:ident) => { &NoOptions };
    (@options $name:ident $options:ident) => { $name };
    (@options_mut $name:ident) => { None };
    (@options_mut $name:ident $options:ident) => { Some($name) };
}

methods! {
    /// LSQ: learned step size quantization, in the form that learns a clipping value
    /// ([`crate::methods::lsq`]).
    Lsq = "lsq",
    /// LSQ as in its paper, which learns the step size ([`crate::methods::lsq_step`]).
    LsqStep = "lsq-step",
    /// LSQ+ with a learned offset ([`crate::methods::lsq_plus`]).
    LsqPlus = "lsq-plus",
    /// DoReFa-Net ([`crate::methods::dorefa`]).
    Dorefa = "dorefa",
    /// PACT: parameterized clipping activation ([`crate::methods::pact`]).
    Pact = "pact",
    /// XNOR-Net's signs ([`crate::methods::xnor`]).
    Xnor(XnorOptions) = "xnor",
    /// FATNN's learned thresholds ([`crate::methods::fatnn`]).
    Fatnn(FatnnOptions) = "fatnn",
    /// LQ-Nets' learned basis ([`crate::methods::lq_nets`]).
    LqNets(LqNetsOptions) = "lq-nets",
    /// TTQ: trained ternary quantization ([`crate::methods::ttq`]).
    Ttq(TtqOptions) = "ttq",
    /// APoT: additive powers of two ([`crate::methods::apot`]).
    Apot = "apot",
    /// N2UQ's learned thresholds with evenly spaced outputs ([`crate::methods::n2uq`]).
    N2uq = "n2uq",
}

/// The options of a method that has none of its own.
struct NoOptions;

impl MethodOptions for NoOptions {
    fn list(&self) -> Vec<OptionInfo> {
        Vec::new()
    }

    fn get(&self, _name: &str) -> Option<OptionValue> {
        None
    }

    fn set(&mut self, _name: &str, _value: &OptionValue) -> bool {
        false
    }
}

impl Method {
    /// XNOR with its default options.
    pub const XNOR: Method = Method::Xnor(XnorOptions::DEFAULT);
    /// FATNN with its default options.
    pub const FATNN: Method = Method::Fatnn(FatnnOptions::DEFAULT);
    /// LQ-Nets with its default options.
    pub const LQ_NETS: Method = Method::LqNets(LqNetsOptions::DEFAULT);
    /// TTQ with its default options.
    pub const TTQ: Method = Method::Ttq(TtqOptions::DEFAULT);

    /// Returns the method with this name and its default options, or `None` where there is none.
    /// Methods of the program itself are found once they are registered.
    pub fn named(name: &str) -> Option<Method> {
        let known = Self::ALL.iter().copied().find(|method| method.name() == name);
        known.or_else(|| own_names().get(name).map(|name| Method::Own(OwnName(name))))
    }

    /// Returns the names of all methods. Those of the program's own methods come last.
    pub fn names() -> Vec<&'static str> {
        let known = Self::ALL.iter().map(Method::name);
        known.chain(own_names().iter().copied()).collect()
    }

    /// Returns whether both methods have the same formula, whatever their options.
    pub fn is(&self, other: &Method) -> bool {
        self.name() == other.name()
    }

    /// Returns the value of one of the method's own options, or `None` where it has no option of
    /// this name.
    pub fn option(&self, name: &str) -> Option<OptionValue> {
        self.own_options().get(name)
    }

    /// Sets one of the method's own options. Returns whether the method has an option of this name
    /// that takes this kind of value. [`validate`](crate::QuantizerConfig::validate) checks the
    /// bounds.
    pub fn set_option(&mut self, name: &str, value: &OptionValue) -> bool {
        self.own_options_mut().is_some_and(|options| options.set(name, value))
    }

    /// Sets options by name, with values that were read from a file.
    ///
    /// # Errors
    /// A message about the first name that is not an option of this method, or the first value that
    /// the option does not take.
    pub fn set_options(&mut self, options: &BTreeMap<String, OptionValue>) -> Result<(), String> {
        options.iter().try_for_each(|(name, value)| {
            if self.set_option(name, value) { Ok(()) } else { Err(self.refusal(name, value)) }
        })
    }

    fn refusal(&self, name: &str, value: &OptionValue) -> String {
        let own = self.own_options().list();
        if let Some(option) = own.iter().find(|option| option.name == name) {
            return format!("{name} = {value}: expected {}", option.accepted);
        }
        let names: Vec<&str> = own.iter().map(|option| option.name).collect();
        let has = if names.is_empty() {
            "no options of its own".to_owned()
        } else {
            format!("the options {}", names.join(", "))
        };
        match Self::ALL.iter().find(|method| method.option(name).is_some()) {
            Some(owner) => format!("{name} is an option of the method {owner}; {self} has {has}"),
            None => format!("unknown field `{name}`; the method {self} has {has}"),
        }
    }

    /// Returns the options of all methods that belong to one method alone.
    pub fn all_options() -> Vec<OptionInfo> {
        Self::ALL.iter().flat_map(|method| method.own_options().list()).collect()
    }
}

impl Display for Method {
    /// Writes the method's name, as recipes do.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Method {
    /// Writes the method's name. The configuration that holds the method writes its options.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Method {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Method::named(&text).ok_or_else(|| {
            let names = Method::names().join("`, `");
            D::Error::custom(format!("unknown method `{text}`, expected one of `{names}`"))
        })
    }
}

/// The name of a method that a program outside this crate registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[doc(hidden)]
pub struct OwnName(&'static str);

static OWN_NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());

fn own_names() -> std::sync::MutexGuard<'static, BTreeSet<&'static str>> {
    OWN_NAMES.lock().unwrap_or_else(PoisonError::into_inner)
}

impl OwnName {
    /// Makes a name known to [`Method::named`].
    pub(crate) fn register(name: &'static str) -> Self {
        own_names().insert(name);
        Self(name)
    }

    /// Returns the name as text.
    pub fn get(self) -> &'static str {
        self.0
    }
}
