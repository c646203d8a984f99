//! The fields of a recipe, each with the values that it takes, its bounds, its default and its
//! purpose. They come from the types and their documentation. The numbers of a recipe have to be
//! within these bounds, and changes of fields (`--set`) are checked with them. These modules do not
//! depend on recipes: they work for every type that has a schema.

pub(crate) mod change;
pub(crate) mod check;
pub(crate) mod choices;
pub(crate) mod node;
pub(crate) mod stand_ins;
pub(crate) mod words;
