//! The fields of a recipe: what each takes, its bounds, its default and what it is for, made from
//! the types and their documentation. Numbers of recipes are held to these bounds, and changes of
//! fields (`--set`) are checked by them. These files know no recipe: they serve every type that has
//! a schema.

pub(crate) mod change;
pub(crate) mod check;
pub(crate) mod choices;
pub(crate) mod place;
pub(crate) mod stand_ins;
pub(crate) mod words;
